//! Biases and activation functions.

use candle_core::{Result, Tensor};

use super::cpu;
#[cfg(feature = "cuda")]
use super::cuda;

/// x + bias, in place: `x` [rows, n], `bias` [n].
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<()> {
    on_card!(x, cuda::add_bias(x, bias));
    cpu::add_bias(x, bias)
}

/// gelu(x + bias), in place: `x` [rows, n], `bias` [n].
pub fn bias_gelu(x: &Tensor, bias: &Tensor) -> Result<()> {
    on_card!(x, cuda::bias_gelu(x, bias));
    cpu::bias_gelu(x, bias)
}

/// gelu(x): `x` [rows, n].
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    on_card!(x, cuda::gelu(x));
    cpu::gelu(x)
}

/// silu(gate) · up: `x` [rows, 2n] holds the gate half, then the up half; the result is [rows, n].
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    on_card!(x, cuda::swiglu(x));
    cpu::swiglu(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn swiglu_takes_the_gate_first() {
        let x = Tensor::new(&[[0f32, 2.0, 3.0, 5.0]], &Device::Cpu).unwrap();
        let y = swiglu(&x).unwrap().to_vec2::<f32>().unwrap();
        let silu2 = 2.0 / (1.0 + (-2f32).exp());
        assert_eq!(y[0][0], 0.0);
        assert!((y[0][1] - silu2 * 5.0).abs() < 1e-5);
    }

    #[test]
    fn bias_is_added_in_place_to_every_row() {
        let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[10f32, 20.0], &Device::Cpu).unwrap();
        add_bias(&x, &b).unwrap();
        assert_eq!(x.to_vec2::<f32>().unwrap(), [[11.0, 22.0], [13.0, 24.0]]);
    }
}
