//! Products with plain weights by cuBLASLt: the bias as their epilogue, the residual as what they add to.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::card::{Gpu, Operands, ProductShape, at};
use super::layout::Address;

/// A weight [out, in], where it lies.
#[derive(Clone, Copy)]
pub struct Plain {
    pub at: Address,
    pub dtype: DType,
    pub out: usize,
    pub inp: usize,
}

impl Plain {
    /// Where `weight` [out, in] lies.
    pub fn of(weight: &Tensor) -> Result<Self> {
        let ((out, inp), (at, dtype, _)) = (weight.dims2()?, at(weight)?);
        Ok(Plain {
            at,
            dtype,
            out,
            inp,
        })
    }

    /// The rows of x and y, and y's columns, where x [rows, in] makes `n` columns of `y` from `first` on.
    ///
    /// # Errors
    /// The sizes don't fit each other.
    pub fn sizes(&self, y: &Tensor, first: usize, n: usize, x: &Tensor) -> Result<(usize, usize)> {
        let ((rows, inp), (y_rows, stride)) = (x.dims2()?, y.dims2()?);
        if y_rows != rows || inp != self.inp || first + n > stride {
            bail!(
                "a product of {:?} with {}×{} into columns from {first} of {:?}",
                x.shape(),
                self.out,
                self.inp,
                y.shape()
            )
        }
        Ok((rows, stride))
    }
}

/// cuBLASLt's fast algorithms want rows of 16-byte multiples.
fn regular(dtype: DType, inp: usize, out: usize, addresses: &[Address]) -> bool {
    matches!(dtype, DType::BF16 | DType::F16)
        && inp.is_multiple_of(8)
        && out.is_multiple_of(8)
        && addresses.iter().all(|a| a.is_multiple_of(16))
}

/// The columns of `y` [rows, n] from `first` on, as many as `weight` has rows: x · weightᵀ + bias, or where `adds` says so
/// what is there and that. `bias` is all of y's. False, and nothing done, where cuBLASLt has no fast way.
pub fn columns(
    y: &Tensor,
    first: usize,
    x: &Tensor,
    weight: Plain,
    bias: Option<&Tensor>,
    adds: bool,
) -> Result<bool> {
    let (rows, stride) = weight.sizes(y, first, weight.out, x)?;
    let ((x_at, dtype, gpu), (y_at, y_type, _)) = (at(x)?, at(y)?);
    let size = dtype.size_in_bytes();
    let from = |address: Address| address + (first * size) as Address;
    let bias_at = bias.map(at).transpose()?.map(|(b, _, _)| from(b));
    let y_at = from(y_at);
    if bias.is_some_and(|b| b.dims() != [stride]) {
        bail!("the bias of {stride} columns has another shape")
    }
    let addresses = [x_at, weight.at, y_at, bias_at.unwrap_or_default()];
    if weight.dtype != dtype
        || y_type != dtype
        || !stride.is_multiple_of(8)
        || !regular(dtype, weight.inp, weight.out, &addresses)
    {
        return Ok(false);
    }
    let shape = ProductShape {
        rows,
        out: weight.out,
        inp: weight.inp,
        dtype,
        bias: bias.is_some(),
        adds,
        stride,
    };
    let operands = Operands {
        x: x_at,
        weight: weight.at,
        bias: bias_at,
        y: y_at,
    };
    // SAFETY: these shapes were compared above, and all lives on this stream.
    unsafe { gpu.blas.lock().product(&gpu.stream, shape, operands)? };
    Ok(true)
}

/// Ends the measuring of algorithms on `device`: new shapes take what was found for those alike, or the library's own
/// choice.
///
/// # Errors
/// If the device is no card.
pub fn stop_measuring(device: &Device) -> Result<()> {
    Gpu::of(device.as_cuda_device()?)?.blas.lock().settle();
    Ok(())
}
