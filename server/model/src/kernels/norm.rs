//! Layer norm and RMS norm.

use candle_core::{Result, Tensor};

use super::cpu;
#[cfg(feature = "cuda")]
use super::cuda;

/// Layer norm over the last dimension: `x` [rows, n], `weight` [2, n] holds the scale, then the shift.
pub fn layer_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    on_card!(x, cuda::layer_norm(x, weight, eps));
    cpu::layer_norm(x, weight, eps)
}

/// x + layer_norm(y), in place in `x`: `x`, `y` [rows, n], `weight` [2, n]. The post-norm residual of the vision tower.
pub fn add_layer_norm(x: &Tensor, y: &Tensor, weight: &Tensor, eps: f64) -> Result<()> {
    on_card!(x, cuda::add_layer_norm(x, y, weight, eps));
    cpu::add_layer_norm(x, y, weight, eps)
}

/// RMS norm over the last dimension: `x` [rows, n], `weight` [n].
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    on_card!(x, cuda::rms_norm(x, weight, eps));
    cpu::rms_norm(x, weight, eps)
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
