//! Layer norm and RMS norm.

use candle_core::{
    CpuStorage, CustomOp2, InplaceOp3, Layout, Result, Shape, Tensor, backend::BackendStorage, bail,
};

use super::cpu;
#[cfg(feature = "cuda")]
use super::cuda;

/// Layer norm over the last dimension: `x` [rows, n], `weight` [2, n] holds the scale, then the shift.
pub fn layer_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    on_card!(x, cuda::layer_norm(x, weight, eps));
    x.apply_op2_no_bwd(weight, &LayerNorm { eps: eps as f32 })
}

/// x + layer_norm(y), in place in `x`: `x`, `y` [rows, n], `weight` [2, n]. The post-norm residual of the vision tower.
pub fn add_layer_norm(x: &Tensor, y: &Tensor, weight: &Tensor, eps: f64) -> Result<()> {
    on_card!(x, cuda::add_layer_norm(x, y, weight, eps));
    x.inplace_op3(y, weight, &LayerNorm { eps: eps as f32 })
}

/// RMS norm over the last dimension: `x` [rows, n], `weight` [n].
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    on_card!(x, cuda::rms_norm(x, weight, eps));
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
        let (data, weight) = (cpu::as_f32(x, xl)?, cpu::as_f32(w, wl)?);
        let (scale, shift) = scale_and_shift(&weight, n)?;
        let mut out = vec![0f32; data.len()];
        cpu::for_chunks(&mut out, n, 1, |row, out| {
            cpu::vectorized(
                #[inline(always)]
                || self.row(out, &data[row * n..][..n], scale, shift, 0.0),
            )
        });
        Ok((cpu::from_f32(out, x.dtype())?, xl.shape().clone()))
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
        let (y, weight) = (cpu::as_f32(y, yl)?, cpu::as_f32(w, wl)?);
        let (scale, shift) = scale_and_shift(&weight, n)?;
        cpu::update_f32(x, xl, |x| {
            cpu::for_chunks(x, n, 1, |row, out| {
                cpu::vectorized(
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
        let (data, weight) = (cpu::as_f32(x, xl)?, cpu::as_f32(w, wl)?);
        let mut out = vec![0f32; data.len()];
        cpu::for_chunks(&mut out, n, 1, |row, out| {
            cpu::vectorized(
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
        Ok((cpu::from_f32(out, x.dtype())?, xl.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn norms_agree_with_their_definitions() {
        let device = Device::Cpu;
        let n = 37;
        let x = Tensor::randn(0.5f32, 2.0, (3, n), &device).unwrap();
        let y = Tensor::randn(-1f32, 3.0, (3, n), &device).unwrap();
        let w = Tensor::randn(0f32, 1.0, (2, n), &device).unwrap();
        let (xs, ys, ws) = (
            x.to_vec2::<f32>().unwrap(),
            y.to_vec2::<f32>().unwrap(),
            w.to_vec2::<f32>().unwrap(),
        );
        let normed = layer_norm(&y, &w, 1e-6).unwrap().to_vec2::<f32>().unwrap();
        let rms = rms_norm(&y, &w.get(0).unwrap(), 1e-6)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        let x = x.copy().unwrap();
        add_layer_norm(&x, &y, &w, 1e-6).unwrap();
        let added = x.to_vec2::<f32>().unwrap();
        for r in 0..3 {
            let row: Vec<f64> = ys[r].iter().map(|v| f64::from(*v)).collect();
            let mean = row.iter().sum::<f64>() / n as f64;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            let square = row.iter().map(|v| v * v).sum::<f64>() / n as f64;
            for c in 0..n {
                let (scale, shift) = (f64::from(ws[0][c]), f64::from(ws[1][c]));
                let ln = (row[c] - mean) / (variance + 1e-6).sqrt() * scale + shift;
                let rn = row[c] / (square + 1e-6).sqrt() * scale;
                assert!((f64::from(normed[r][c]) - ln).abs() < 1e-5);
                assert!((f64::from(rms[r][c]) - rn).abs() < 1e-5);
                assert!((f64::from(added[r][c]) - f64::from(xs[r][c]) - ln).abs() < 1e-5);
            }
        }
    }
}
