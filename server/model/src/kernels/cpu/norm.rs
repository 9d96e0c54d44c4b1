//! Layer norm and RMS norm on the CPU.

use candle_core::{
    CpuStorage, CustomOp2, InplaceOp3, Layout, Result, Shape, Tensor, backend::BackendStorage, bail,
};

use super::storage::{as_f32, from_f32, update_f32};
use super::tasks::for_chunks;
use super::vector::vectorized;

/// Layer norm over the last dimension.
pub fn layer_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    x.apply_op2_no_bwd(weight, &LayerNorm { eps: eps as f32 })
}

/// x + layer_norm(y), in place in `x`.
pub fn add_layer_norm(x: &Tensor, y: &Tensor, weight: &Tensor, eps: f64) -> Result<()> {
    x.inplace_op3(y, weight, &LayerNorm { eps: eps as f32 })
}

/// RMS norm over the last dimension.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    x.apply_op2_no_bwd(weight, &RmsNorm { eps: eps as f32 })
}

struct LayerNorm {
    eps: f32,
}

impl LayerNorm {
    /// `out` = `out` · keep + norm(x).
    #[inline(always)]
    fn row(&self, out: &mut [f32], x: &[f32], scale: &[f32], shift: &[f32], keep: f32) {
        let n = x.len() as f32;
        let mean = sum(x, |x| x) / n;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / n;
        let inverse = 1.0 / (variance + self.eps).sqrt();
        for (((o, x), w), b) in out.iter_mut().zip(x).zip(scale).zip(shift) {
            *o = *o * keep + ((x - mean) * inverse).mul_add(*w, *b);
        }
    }
}

/// The sum of `f` over `x`, in 16 independent lanes: vectorises, and errs less than a running sum.
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(*x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|x| f(*x)).sum::<f32>()
}

fn scale_and_shift(weight: &[f32], n: usize) -> Result<(&[f32], &[f32])> {
    if weight.len() != 2 * n {
        bail!("a layer norm over {n} has a weight of {}", weight.len())
    }
    Ok(weight.split_at(n))
}

impl CustomOp2 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, n) = xl.shape().dims2()?;
        let (data, weight) = (as_f32(x, xl)?, as_f32(w, wl)?);
        let (scale, shift) = scale_and_shift(&weight, n)?;
        let mut out = vec![0f32; data.len()];
        for_chunks(&mut out, n, 1, |row, out| {
            vectorized(
                #[inline(always)]
                || self.row(out, &data[row * n..][..n], scale, shift, 0.0),
            )
        });
        Ok((from_f32(out, x.dtype())?, xl.shape().clone()))
    }
}

impl InplaceOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "add-layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        xl: &Layout,
        y: &CpuStorage,
        yl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<()> {
        let (_, n) = yl.shape().dims2()?;
        let (y, weight) = (as_f32(y, yl)?, as_f32(w, wl)?);
        let (scale, shift) = scale_and_shift(&weight, n)?;
        update_f32(x, xl, |x| {
            for_chunks(x, n, 1, |row, out| {
                vectorized(
                    #[inline(always)]
                    || self.row(out, &y[row * n..][..n], scale, shift, 1.0),
                )
            })
        })
    }
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, n) = xl.shape().dims2()?;
        let (data, weight) = (as_f32(x, xl)?, as_f32(w, wl)?);
        let mut out = vec![0f32; data.len()];
        for_chunks(&mut out, n, 1, |row, out| {
            vectorized(
                #[inline(always)]
                || {
                    let x = &data[row * n..][..n];
                    let mean_square = sum(x, |x| x * x) / n as f32;
                    let inverse = 1.0 / (mean_square + self.eps).sqrt();
                    for ((o, x), w) in out.iter_mut().zip(x).zip(&*weight) {
                        *o = x * inverse * w;
                    }
                },
            )
        });
        Ok((from_f32(out, x.dtype())?, xl.shape().clone()))
    }
}
