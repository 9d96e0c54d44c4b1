use candle_core::{DType, Device};

use super::dequantized::FEW;
use super::*;

/// Against the dequantized weight in double precision, dequantized by candle; odd sizes, one row to many.
#[test]
fn a_product_is_that_of_the_dequantized_weight() {
    let device = Device::Cpu;
    for (format, k) in [
        (GgmlDType::Q8_0, 32),
        (GgmlDType::Q8_0, 1376),
        (GgmlDType::Q4_0, 96),
        (GgmlDType::Q4_0, 2080),
        (GgmlDType::Q4K, 256),
        (GgmlDType::Q4K, 2304),
    ] {
        for (rows, n) in [
            (1, 1),
            (2, 37),
            (3, 20),
            (FEW, 130),
            (FEW + 1, 65),
            (70, 129),
        ] {
            let weight = Tensor::randn(0.1f32, 0.5, (n, k), &device).unwrap();
            let weight = QTensor::quantize(&weight, format).unwrap();
            let x = Tensor::randn(0f32, 1.0, (rows, k), &device).unwrap();
            let got = quantized_product(&x, &weight).unwrap();
            let wide = weight.dequantize(&device).unwrap();
            let wide = wide.to_dtype(DType::F64).unwrap();
            let x = x.to_dtype(DType::F64).unwrap();
            let exact = x.matmul(&wide.t().unwrap()).unwrap();
            let off = (got.to_dtype(DType::F64).unwrap() - &exact).unwrap();
            let off = off.abs().unwrap().max_all().unwrap();
            let off = off.to_scalar::<f64>().unwrap();
            // Of sums of k products near 1/2, the worst of thousands.
            let bar = 4e-6 * (k as f64).sqrt();
            assert!(off < bar, "{format:?} {rows}×{k}×{n}: off by {off}");
        }
    }
}

/// 16-bit weights, of any width.
#[test]
fn a_product_with_a_narrow_weight_is_that_with_the_same_weight_in_f32() {
    let device = Device::Cpu;
    for dtype in [DType::BF16, DType::F16] {
        for (rows, n, k) in [(1, 3, 1), (2, 37, 147), (FEW, 130, 513), (33, 65, 1025)] {
            let weight = Tensor::randn(0f32, 0.5, (n, k), &device).unwrap();
            let weight = weight.to_dtype(dtype).unwrap();
            let x = Tensor::randn(0f32, 1.0, (rows, k), &device).unwrap();
            let got = product(&x, &weight).unwrap();
            let exact = product(&x, &weight.to_dtype(DType::F32).unwrap()).unwrap();
            let off = (got - exact).unwrap().abs().unwrap().max_all().unwrap();
            let off = off.to_scalar::<f32>().unwrap();
            assert!(
                off < 4e-6 * (k as f32).sqrt(),
                "{dtype:?} {rows}×{k}×{n}: {off}"
            );
        }
    }
}

/// What a row gives does not depend on the rows beside it: an answer is the same alone and beside fifteen others.
#[test]
fn a_row_alone_is_the_same_to_the_bit() {
    let device = Device::Cpu;
    for format in [GgmlDType::Q8_0, GgmlDType::Q4K] {
        let weight = Tensor::randn(0f32, 0.5, (75, 512), &device).unwrap();
        let weight = QTensor::quantize(&weight, format).unwrap();
        let x = Tensor::randn(0f32, 1.0, (FEW, 512), &device).unwrap();
        let rows = |x: &Tensor| {
            quantized_product(x, &weight)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap()
        };
        for (row, all) in rows(&x).iter().enumerate() {
            assert_eq!(
                &rows(&x.narrow(0, row, 1).unwrap())[0],
                all,
                "{format:?} {row}"
            );
        }
    }
}
