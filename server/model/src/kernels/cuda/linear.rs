//! Products with plain weights on the card, and what follows them: which way is the fast one.

use candle_core::{Result, Tensor};

use super::activation::{add_bias, bias_gelu, swiglu};
use super::card::{at, unwritten};
use super::plain::{self, Plain};
use super::product;
use crate::kernels::then::Then;

/// What `then` says of a product that is there.
pub fn after(then: Then<'_>, product: Tensor) -> Result<Tensor> {
    match then {
        Then::Gelu { bias } => bias_gelu(&product, bias).map(|()| product),
        Then::Swiglu => swiglu(&product),
    }
}

/// x · weightᵀ + bias: `x` [rows, in], `weight` [out, in].
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let x = &x.contiguous()?;
    let (_, dtype, gpu) = at(x)?;
    let y = unwritten(&gpu, (x.dim(0)?, weight.dim(0)?), dtype)?;
    if plain::columns(&y, 0, x, Plain::of(weight)?, bias, false)? {
        return Ok(y);
    }
    let y = x.matmul(&weight.t()?)?;
    if let Some(bias) = bias {
        add_bias(&y, bias)?;
    }
    Ok(y)
}

/// What `then` says of `x` [rows, in] and `weight` [out, in].
pub fn linear_then(x: &Tensor, weight: &Tensor, then: Then<'_>) -> Result<Tensor> {
    let x = &x.contiguous()?;
    let plain = Plain::of(weight)?;
    if product::pays(x, plain.out, then)? {
        let (_, dtype, gpu) = at(x)?;
        let n = plain.out / product::weights_of_a_column(then);
        let y = unwritten(&gpu, (x.dim(0)?, n), dtype)?;
        if product::columns(&y, 0, x, plain, then)? {
            return Ok(y);
        }
    }
    after(then, linear(x, weight, None)?)
}

/// onto + x · weightᵀ, in place of `onto` [rows, out].
pub fn linear_onto(onto: Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if plain::columns(&onto, 0, x, Plain::of(weight)?, None, true)? {
        return Ok(onto);
    }
    onto + x.matmul(&weight.t()?)?
}
