//! Biases and activation functions on the card.

use candle_core::{DType, Result, Tensor, bail};

use super::card::{Gpu, at, params, type_name, unwritten};
use super::layout::Address;
use super::rows::{over_rows, same_type, width};

/// Launches a kernel that takes two addresses, rows and n, as wide as those allow.
///
/// # Safety
/// There lies what the kernel expects of so many rows of n.
unsafe fn of_two(
    gpu: &Gpu,
    kernel: &str,
    dtype: DType,
    both: [Address; 2],
    rows: usize,
    n: usize,
) -> Result<()> {
    let (name, width) = width(dtype, n, &both);
    let name = format!("{kernel}_{}_{name}", type_name(dtype)?);
    let launch = over_rows(rows, n, width);
    // SAFETY: the caller's.
    unsafe {
        gpu.launch(
            &name,
            launch,
            params![both[0], both[1], rows as i32, n as i32],
        )
    }
}

fn with_bias(kernel: &str, x: &Tensor, bias: &Tensor) -> Result<()> {
    let n = bias.dim(0)?;
    if x.dim(candle_core::D::Minus1)? != n {
        bail!("a bias of {n} for {:?}", x.shape())
    }
    let ((x_at, x_type, gpu), (bias_at, bias_type, _)) = (at(x)?, at(bias)?);
    let dtype = same_type(&[x_type, bias_type])?;
    let rows = x.elem_count() / n;
    // SAFETY: x is [rows, n], the bias [n].
    unsafe { of_two(&gpu, kernel, dtype, [x_at, bias_at], rows, n) }
}

/// x + bias, in place.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<()> {
    with_bias("add_bias", x, bias)
}

/// gelu(x + bias), in place.
pub fn bias_gelu(x: &Tensor, bias: &Tensor) -> Result<()> {
    with_bias("bias_gelu", x, bias)
}

/// A new [rows, n] from `x` [rows, width] by a kernel that takes (x, out, rows, n).
fn mapped(kernel: &str, x: &Tensor, n: usize) -> Result<Tensor> {
    let rows = x.dim(0)?;
    let (x_at, dtype, gpu) = at(x)?;
    let out = unwritten(&gpu, (rows, n), dtype)?;
    let both = [x_at, at(&out)?.0];
    // SAFETY: the callers give a kernel that reads x [rows, its width] and writes [rows, n].
    unsafe { of_two(&gpu, kernel, dtype, both, rows, n)? };
    Ok(out)
}

/// gelu(x): `x` [rows, n].
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    mapped("gelu", x, x.dim(1)?)
}

/// silu(gate) · up: `x` [rows, 2n].
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    mapped("swiglu", x, x.dim(1)? / 2)
}
