//! The sizes of a product.

use candle_core::{Result, Shape, bail};

/// The sizes of x · weightᵀ: rows of x, columns of the result, and how many products a sum has.
///
/// # Errors
/// The rows of the two differ in length.
pub fn sizes(x: &Shape, weight: &Shape) -> Result<(usize, usize, usize)> {
    let ((rows, k), (n, width)) = (x.dims2()?, weight.dims2()?);
    if width != k {
        bail!("a product of rows of {k} with a weight of rows of {width}")
    }
    Ok((rows, n, k))
}
