//! Biases and activation functions on the CPU.

use candle_core::{
    CpuStorage, CustomOp1, InplaceOp2, Layout, Result, Shape, Tensor, backend::BackendStorage,
};

use super::storage::{as_f32, from_f32, update_f32};
use super::tasks::for_chunks;
use super::vector::{exp, vectorized};

/// x + bias, in place.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<()> {
    x.inplace_op2(bias, &Bias { gelu: false })
}

/// gelu(x + bias), in place.
pub fn bias_gelu(x: &Tensor, bias: &Tensor) -> Result<()> {
    x.inplace_op2(bias, &Bias { gelu: true })
}

/// gelu(x).
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.apply_op1_no_bwd(&Gelu)
}

/// silu(gate) · up.
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    x.apply_op1_no_bwd(&SwiGlu)
}

/// GELU in its erf form, x/2 · (1 + erf(x/√2)). The error function is Abramowitz & Stegun 7.1.26 (|ε| ≤ 1.5e-7).
#[inline(always)]
fn gelu_one(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / z.mul_add(0.327_591_1, 1.0);
    let mut p = 1.061_405_4_f32;
    for c in [-1.453_152, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        p = p.mul_add(t, c);
    }
    // 1 − erf(z), cut off where it is below 1e-16: a denormal here would slow the next product a hundredfold.
    let tail = if z > 6.0 { 0.0 } else { p * t * exp(-z * z) };
    // For x < 0, 1 + erf = tail: no cancellation.
    0.5 * x * if x < 0.0 { tail } else { 2.0 - tail }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    // Below −60 the result is under 1e-24: 0, and no denormal.
    if x < -60.0 { 0.0 } else { x / (1.0 + exp(-x)) }
}

struct Bias {
    gelu: bool,
}

impl InplaceOp2 for Bias {
    fn name(&self) -> &'static str {
        if self.gelu { "bias-gelu" } else { "add-bias" }
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, xl: &Layout, b: &CpuStorage, bl: &Layout) -> Result<()> {
        let bias = as_f32(b, bl)?;
        let gelu = self.gelu;
        update_f32(x, xl, |x| {
            for_chunks(x, bias.len(), if gelu { 2 } else { 1 }, |_, row| {
                vectorized(
                    #[inline(always)]
                    || {
                        if gelu {
                            row.iter_mut()
                                .zip(&*bias)
                                .for_each(|(x, b)| *x = gelu_one(*x + b));
                        } else {
                            row.iter_mut().zip(&*bias).for_each(|(x, b)| *x += b);
                        }
                    },
                )
            })
        })
    }
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = as_f32(x, layout)?.into_owned();
        for_chunks(&mut out, 4096, 2, |_, chunk| {
            vectorized(
                #[inline(always)]
                || chunk.iter_mut().for_each(|x| *x = gelu_one(*x)),
            )
        });
        Ok((from_f32(out, x.dtype())?, layout.shape().clone()))
    }
}

struct SwiGlu;

impl CustomOp1 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        let n = width / 2;
        let data = as_f32(x, layout)?;
        let mut out = vec![0f32; rows * n];
        for_chunks(&mut out, n, 2, |row, out| {
            let (gate, up) = data[row * width..][..width].split_at(n);
            vectorized(
                #[inline(always)]
                || {
                    for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
                        *o = silu(*g) * u;
                    }
                },
            )
        });
        Ok((from_f32(out, x.dtype())?, Shape::from((rows, n))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// erf by its Taylor series in double precision; enough terms for |x| ≤ 5.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn gelu_is_the_erf_form() {
        for i in -500..=500 {
            let x = i as f32 / 100.0;
            let exact = 0.5 * f64::from(x) * (1.0 + erf(f64::from(x) / 2f64.sqrt()));
            assert!((f64::from(gelu_one(x)) - exact).abs() < 6e-7, "gelu({x})");
        }
        for i in -3000..=3000 {
            let x = i as f32 / 100.0;
            for y in [gelu_one(x), silu(x * 4.0)] {
                assert!(y == 0.0 || y.is_normal(), "a denormal at {x}");
            }
        }
        assert_eq!(gelu_one(30.0), 30.0);
        assert_eq!(gelu_one(-30.0), 0.0);
    }
}
