//! Quantizing on the card against the CPU's.

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};
use glimpse_model::kernels::cuda::{Blocks, upload};
use glimpse_model::weights::{Format, fp8};

use super::support::{card, values};

const FORMATS: [Format; 3] = [Format::Q8_0, Format::Q4_0, Format::Q4K];

/// Normal values of many sizes; in some rows with one that stands out, in some of one sign, in one of zeros.
fn weights(rows: usize, k: usize, dtype: DType) -> Tensor {
    let normal = Tensor::randn(0f32, 0.02, (rows, k), &Device::Cpu).unwrap();
    let mut rows = normal.to_vec2::<f32>().unwrap();
    for (i, row) in rows.iter_mut().enumerate() {
        match i % 8 {
            1 => row[k / 2] = 7.5,
            2 => row.iter_mut().for_each(|x| *x = x.abs() + 0.01),
            3 => row.iter_mut().for_each(|x| *x *= 1e-4),
            4 => row.fill(0.0),
            5 => row.fill(-0.25),
            _ => {}
        }
    }
    let shape = (rows.len(), k);
    let plain = Tensor::from_vec(rows.concat(), shape, &Device::Cpu).unwrap();
    plain.to_dtype(dtype).unwrap()
}

/// The weights that come out are those of the CPU's blocks, each of them: the same quants with the same scales.
#[test]
fn the_card_quantizes_as_the_cpu_does() {
    let Some(device) = card() else { return };
    for format in FORMATS {
        for dtype in [DType::BF16, DType::F16, DType::F32] {
            let (rows, k) = (35, 768);
            let plain = weights(rows, k, dtype);
            let wide = plain.to_dtype(DType::F32).unwrap();
            let exact = QTensor::quantize(&wide, format.ggml().unwrap()).unwrap();
            let stored = exact.data().unwrap();
            let expected = Blocks::upload(&stored, format, (rows, k), &device).unwrap();

            // In two parts, as a weight of two tensors or of several slabs is.
            let got = Blocks::unwritten(format, (rows, k), &device).unwrap();
            for (from, len) in [(0, 3 * k), (3 * k, (rows - 3) * k)] {
                let part = plain.flatten_all().unwrap().narrow(0, from, len).unwrap();
                let part = part.contiguous().unwrap().to_device(&device).unwrap();
                got.quantize(from, &part).unwrap();
            }
            let (got, expected) = (plain_of(&got), plain_of(&expected));
            let same = got.iter().zip(&expected).filter(|(g, e)| g == e).count();
            assert_eq!(same, rows * k, "{format:?} from {dtype:?}");
            assert!(got.iter().any(|x| *x != 0.0));

            assert!(Blocks::unwritten(format, (2, 24), &device).is_err());
        }
    }
}

fn plain_of(blocks: &Blocks) -> Vec<f64> {
    values(&blocks.dense(DType::F16).unwrap())
}

/// 8-bit floats are those of the definition, each with its row's scale.
#[test]
fn the_card_makes_the_8_bit_floats_of_the_cpu() {
    let Some(device) = card() else { return };
    for dtype in [DType::BF16, DType::F16, DType::F32] {
        let (rows, k) = (35, 1376);
        let plain = weights(rows, k, dtype);
        let got = Blocks::unwritten(Format::Fp8, (rows, k), &device).unwrap();
        for (from, len) in [(0, 3 * k), (3 * k, (rows - 3) * k)] {
            let part = plain.flatten_all().unwrap().narrow(0, from, len).unwrap();
            let part = part.contiguous().unwrap().to_device(&device).unwrap();
            got.quantize(from, &part).unwrap();
        }
        let wide = plain.to_dtype(DType::F32).unwrap();
        let exact = wide.to_vec2::<f32>().unwrap();
        let (bytes, scales) = got.stored_fp8().unwrap();
        for (r, row) in exact.iter().enumerate() {
            let (expected, scale) = fp8::quantize(row);
            assert!(bytes[r * k..][..k] == expected, "row {r} from {dtype:?}");
            assert_eq!(
                scales[r].to_bits(),
                scale.to_bits(),
                "row {r} from {dtype:?}"
            );
        }
        // A part of a row has no scale of its own.
        let part = Tensor::zeros(k / 2, dtype, &device).unwrap();
        assert!(got.quantize(0, &part).is_err());
        assert!(got.write(0, &[0; 32]).is_err());
    }
}

/// A part that does not fit its place is refused, and nothing is written.
#[test]
fn a_part_beyond_the_end_is_refused() {
    let Some(device) = card() else { return };
    for format in FORMATS {
        let blocks = Blocks::unwritten(format, (4, 256), &device).unwrap();
        let part = Tensor::zeros(512, DType::BF16, &device).unwrap();
        assert!(blocks.quantize(0, &part).is_ok());
        assert!(blocks.quantize(3 * 256, &part).is_err());
        assert!(blocks.quantize(8, &part).is_err());
        let size = format.ggml().unwrap().type_size();
        assert!(blocks.write(4 * 256, &vec![0; size]).is_err());
        assert!(blocks.write(0, &vec![0; size + 1]).is_err());
    }
}

/// More bytes than the buffers of the way up hold, an odd number of them at the end.
#[test]
fn what_goes_up_comes_back() {
    let Some(device) = card() else { return };
    let bytes: Vec<u8> = (0..(37 << 20) + 13u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let up = upload(&bytes, DType::U8, &device).unwrap();
    assert!(up.to_vec1::<u8>().unwrap() == bytes);
    assert!(upload(&bytes, DType::F32, &device).is_err());
}

/// A weight that is made plain in several parts, with a bias and onto something, gives what one that is plain gives.
#[test]
fn a_product_in_parts_is_that_in_one() {
    let Some(device) = card() else { return };
    // As bf16 170 MB: two parts.
    let (rows, k) = (10_376, 8192);
    let blocks = Blocks::unwritten(Format::Q8_0, (rows, k), &device).unwrap();
    for from in 0..rows {
        let row = Tensor::randn(0f32, 0.02, k, &device).unwrap();
        blocks.quantize(from * k, &row).unwrap();
    }
    let dtype = DType::BF16;
    let random = |shape: &[usize]| {
        let x = Tensor::randn(0f32, 1.0, shape, &device).unwrap();
        x.to_dtype(dtype).unwrap()
    };
    let plain = blocks.dense(dtype).unwrap();
    for n in [1, 5, 40] {
        let (x, bias, onto) = (random(&[n, k]), random(&[rows]), random(&[n, rows]));
        let exact = x.matmul(&plain.t().unwrap()).unwrap();
        let close = |what: &str, got: &Tensor, exact: &Tensor| {
            for (g, e) in values(got).iter().zip(values(exact)) {
                assert!(
                    (g - e).abs() < 0.05 * (1.0 + e.abs()),
                    "{what}, {n} rows: {g}, not {e}"
                );
            }
        };
        let got = blocks.linear(&x, None).unwrap();
        close("plain", &got, &exact);
        let got = blocks.linear(&x, Some(&bias)).unwrap();
        close("with bias", &got, &exact.broadcast_add(&bias).unwrap());
        let sum = (&onto + &exact).unwrap();
        let got = blocks.linear_onto(onto.copy().unwrap(), &x).unwrap();
        close("onto", &got, &sum);
    }
}
