//! What the kernels that go over rows share: how wide their loads are, and how many blocks they have.

use candle_core::{DType, Result, bail};

use super::card::Launch;
use super::layout::Address;

/// What kernels are called that load rows of `n` from `addresses` as wide as those allow, 16 bytes or an element, and the
/// elements of a load.
pub fn width(dtype: DType, n: usize, addresses: &[Address]) -> (&'static str, usize) {
    let wide = 16 / dtype.size_in_bytes();
    let fits = n.is_multiple_of(wide) && addresses.iter().all(|a| a.is_multiple_of(16));
    if fits { ("wide", wide) } else { ("narrow", 1) }
}

/// The type that all of these are.
///
/// # Errors
/// They differ.
pub fn same_type(types: &[DType]) -> Result<DType> {
    match types.iter().all(|t| *t == types[0]) {
        true => Ok(types[0]),
        false => bail!("a kernel got tensors of different types, {types:?}"),
    }
}

/// A thread for every `width` columns, a block for some rows.
pub fn over_rows(rows: usize, n: usize, width: usize) -> Launch {
    const THREADS: usize = 256;
    /// Rows of one block, so that what is the same for each is read once.
    const ROWS: usize = 4;
    let columns = n.div_ceil(width);
    let threads = columns.next_multiple_of(32).min(THREADS);
    Launch::new(
        (columns.div_ceil(threads), rows.div_ceil(ROWS).min(65535), 1),
        threads,
    )
}
