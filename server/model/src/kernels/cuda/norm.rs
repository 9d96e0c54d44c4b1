//! Layer norm and RMS norm on the card.

use candle_core::{Result, Tensor, bail};

use super::card::{Launch, at, params, type_name, unwritten};
use super::rows::{same_type, width};

fn norm(kernel: &str, out: &Tensor, y: &Tensor, weight: &Tensor, eps: f64) -> Result<()> {
    /// What a warp's threads keep in registers, and what a block's do.
    const SHORT: usize = 2048;
    const LONGEST: usize = 8192;
    const THREADS: usize = 256;
    let (rows, n) = y.dims2()?;
    let weights = if kernel == "rms_norm" { n } else { 2 * n };
    if weight.elem_count() != weights || out.elem_count() != y.elem_count() || n > LONGEST {
        bail!(
            "{kernel} of {:?} with a weight of {:?}; rows of up to {LONGEST} are served",
            y.shape(),
            weight.shape()
        )
    }
    let ((out_at, a, gpu), (y_at, b, _), (weight_at, c, _)) = (at(out)?, at(y)?, at(weight)?);
    let dtype = same_type(&[a, b, c])?;
    let (name, elements) = width(dtype, n, &[out_at, y_at, weight_at]);
    let (name, blocks) = match n {
        ..=SHORT if elements > 1 => ("short", rows.div_ceil(THREADS / 32)),
        _ => (name, rows),
    };
    let name = format!("{kernel}_{}_{name}", type_name(dtype)?);
    // SAFETY: out and y are [rows, n], the weight as long as the kernel takes it.
    unsafe {
        gpu.launch(
            &name,
            Launch::new((blocks, 1, 1), THREADS),
            params![out_at, y_at, weight_at, rows as i32, n as i32, eps as f32],
        )
    }
}

/// Layer norm: `weight` [2, n].
pub fn layer_norm(y: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let out = unwritten(&at(y)?.2, y.shape(), y.dtype())?;
    norm("layer_norm", &out, y, weight, eps).map(|()| out)
}

/// x += layer_norm(y), in place.
pub fn add_layer_norm(x: &Tensor, y: &Tensor, weight: &Tensor, eps: f64) -> Result<()> {
    norm("add_layer_norm", x, y, weight, eps)
}

/// RMS norm: `weight` [n].
pub fn rms_norm(y: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let out = unwritten(&at(y)?.2, y.shape(), y.dtype())?;
    norm("rms_norm", &out, y, weight, eps).map(|()| out)
}
