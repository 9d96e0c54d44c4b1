//! Each kernel against its definition in double precision, odd sizes included.

use candle_core::cpu::erf::erf_f64;
use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};
use glimpse_model::glm4v::transform;
use glimpse_model::kernels::cuda::{Blocks, Hopper};
use glimpse_model::kernels::{self, Arena, PAGE, Plan, Rotary, Span, Then};
use glimpse_model::weights::{Format, fp8};

use super::support::{TYPES, card, close, poison, random, tolerance, values, with_hopper};

/// Plain weights [rows, k] on the card in a format, and what they stand for there.
fn kept(plain: &Tensor, format: Format, device: &Device) -> (Blocks, Vec<f64>) {
    let shape = plain.dims2().unwrap();
    let Some(ggml) = format.ggml() else {
        let blocks = Blocks::unwritten(format, shape, device).unwrap();
        blocks
            .quantize(0, &plain.to_device(device).unwrap())
            .unwrap();
        let mut rounded = plain.flatten_all().unwrap().to_vec1().unwrap();
        fp8::round(&mut rounded, shape.1);
        return (blocks, rounded.into_iter().map(f64::from).collect());
    };
    let blocks = QTensor::quantize(plain, ggml).unwrap();
    let exact = values(&blocks.dequantize(&Device::Cpu).unwrap());
    let blocks = Blocks::upload(&blocks.data().unwrap(), format, shape, device).unwrap();
    (blocks, exact)
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf_f64(x / 2f64.sqrt()))
}

#[test]
fn activations_and_norms() {
    let Some(device) = card() else { return };
    for dtype in TYPES {
        let t = tolerance(dtype);
        for (rows, n) in [(1, 1), (3, 37), (130, 64), (5, 1792), (2, 4099), (9, 8192)] {
            let (x, xs) = random(&[rows, n], 2.0, dtype, &device);
            let (bias, bs) = random(&[n], 1.0, dtype, &device);
            let (w, ws) = random(&[2, n], 1.0, dtype, &device);
            let with_bias: Vec<f64> = (0..rows * n).map(|i| xs[i] + bs[i % n]).collect();

            let y = x.copy().unwrap();
            kernels::add_bias(&y, &bias).unwrap();
            close("add_bias", &values(&y), &with_bias, t);
            let y = x.copy().unwrap();
            kernels::bias_gelu(&y, &bias).unwrap();
            let exact: Vec<f64> = with_bias.iter().map(|x| gelu(*x)).collect();
            close("bias_gelu", &values(&y), &exact, t);
            poison(rows * n, dtype, &device);
            let exact: Vec<f64> = xs.iter().map(|x| gelu(*x)).collect();
            close("gelu", &values(&kernels::gelu(&x).unwrap()), &exact, t);

            let (both, bothes) = random(&[rows, 2 * n], 6.0, dtype, &device);
            poison(rows * n, dtype, &device);
            let exact: Vec<f64> = (0..rows * n)
                .map(|i| {
                    let (gate, up) = (i / n * 2 * n + i % n, i / n * 2 * n + n + i % n);
                    bothes[gate] / (1.0 + (-bothes[gate]).exp()) * bothes[up]
                })
                .collect();
            close(
                "swiglu",
                &values(&kernels::swiglu(&both).unwrap()),
                &exact,
                t,
            );

            let (mut layer, mut rms) = (vec![], vec![]);
            for row in xs.chunks(n) {
                let mean = row.iter().sum::<f64>() / n as f64;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
                let square = row.iter().map(|x| x * x).sum::<f64>() / n as f64;
                for (i, x) in row.iter().enumerate() {
                    layer.push((x - mean) / (variance + 1e-5).sqrt() * ws[i] + ws[n + i]);
                    rms.push(x / (square + 1e-5).sqrt() * ws[i]);
                }
            }
            poison(rows * n, dtype, &device);
            let y = kernels::layer_norm(&x, &w, 1e-5).unwrap();
            close("layer_norm", &values(&y), &layer, t);
            let (onto, ontos) = random(&[rows, n], 1.0, dtype, &device);
            kernels::add_layer_norm(&onto, &x, &w, 1e-5).unwrap();
            let exact: Vec<f64> = layer.iter().zip(&ontos).map(|(a, b)| a + b).collect();
            close("add_layer_norm", &values(&onto), &exact, t);
            poison(rows * n, dtype, &device);
            let scale = w.get(0).unwrap();
            let y = kernels::rms_norm(&x, &scale, 1e-5).unwrap();
            close("rms_norm", &values(&y), &rms, t);
        }
    }
}

/// softmax(q · kᵀ / √size) · v of one query over the given keys and values.
fn attend(q: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<f64> {
    let scale = 1.0 / (q.len() as f64).sqrt();
    let dot = |k: &Vec<f64>| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() * scale;
    let scores: Vec<f64> = keys.iter().map(dot).collect();
    let most = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    (0..q.len())
        .map(|d| {
            weights
                .iter()
                .zip(values)
                .map(|(w, v)| w * v[d])
                .sum::<f64>()
                / sum
        })
        .collect()
}

/// Both with Hopper's own kernels, where the card has them, and without.
#[test]
fn attention() {
    let Some(device) = card() else { return };
    for hopper in [Hopper::Never, Hopper::WhereFast] {
        let _hopper = with_hopper(hopper);
        vision_attention(&device);
        paged_attention(&device);
    }
}

/// Rows that a head is checked in.
const CHECKED: usize = 16;

fn vision_attention(device: &Device) {
    // On Hopper heads of 112 are computed by blocks of 128 rows, and those cut by keys that fill no whole round of the
    // card's processors: all, none and some of them here.
    let shapes = [
        (1, 1, 64),
        (65, 3, 64),
        (1, 1, 112),
        (64, 2, 112),
        (130, 40, 112),
        (577, 3, 112),
        (1300, 14, 112),
        (6401, 2, 112),
        (131, 5, 6),
        (40, 2, 80),
    ];
    for dtype in TYPES {
        for (n, heads, size) in shapes {
            let hidden = heads * size;
            let (qkv, all) = random(&[n, 3 * hidden], 1.5, dtype, device);
            let part = |row: usize, part: usize, head: usize| {
                all[row * 3 * hidden + part * hidden + head * size..][..size].to_vec()
            };
            for rows in [0..n, n / 3..n - n / 4] {
                poison(rows.len() * hidden, dtype, device);
                let got = kernels::vision_attention(&qkv, heads, rows.clone()).unwrap();
                let got = values(&got);
                for head in 0..heads {
                    let keys: Vec<_> = (0..n).map(|r| part(r, 1, head)).collect();
                    let mixed: Vec<_> = (0..n).map(|r| part(r, 2, head)).collect();
                    let step = rows.len().div_ceil(CHECKED);
                    for row in rows.clone().step_by(step).chain([rows.end - 1]) {
                        let exact = attend(&part(row, 0, head), &keys, &mixed);
                        let at = (row - rows.start) * hidden + head * size;
                        let what = format!("{dtype:?} {n}×{heads}×{size}, row {row}");
                        close(&what, &got[at..][..size], &exact, tolerance(dtype));
                    }
                }
            }
        }
    }
}

/// Two sequences on scattered pages, prefilled in pieces and decoded side by side.
fn paged_attention(device: &Device) {
    for dtype in TYPES {
        for (heads, kv_heads, size) in [(32, 2, 128), (6, 2, 64), (4, 1, 48), (6, 2, 12)] {
            let (layers, layer, lengths) = (2, 1, [700, 70]);
            let width = (heads + 2 * kv_heads) * size;
            let rotary = Rotary::new(size / 2, 10000.0);
            let arena = Arena::new(16, layers, kv_heads, size, dtype, device).unwrap();
            let pages = [vec![5, 2, 7, 11, 0, 3, 14, 8, 1, 12, 15], vec![9, 6]];
            let inputs = lengths.map(|n| random(&[n, width], 1.2, dtype, device));
            let mut outputs = [vec![], vec![]];
            let passes: [&[(usize, usize, usize)]; 4] = [
                &[(0, 0, 67)],
                &[(0, 67, 68), (1, 0, 40)],
                &[(1, 40, 69), (0, 68, 699)],
                &[(0, 699, 700), (1, 69, 70)],
            ];
            for pass in passes {
                let spans = pass.iter().map(|(s, from, to)| Span {
                    start: *from,
                    len: to - from,
                    pages: pages[*s].clone(),
                });
                let positions: Vec<u32> = pass
                    .iter()
                    .flat_map(|(_, from, to)| (*from as u32)..(*to as u32))
                    .collect();
                let parts: Vec<Tensor> = pass
                    .iter()
                    .map(|(s, from, to)| inputs[*s].0.narrow(0, *from, to - from).unwrap())
                    .collect();
                let qkv = Tensor::cat(&parts, 0).unwrap();
                let plan = Plan::new(spans.collect(), &positions, &rotary).unwrap();
                kernels::store_kv(&arena, layer, &qkv, &plan).unwrap();
                poison(positions.len() * heads * size, dtype, device);
                let out = kernels::paged_attention(&qkv, &arena, layer, heads, &plan).unwrap();
                let mut out = values(&out).into_iter();
                for (s, from, to) in pass {
                    outputs[*s].extend(out.by_ref().take((to - from) * heads * size));
                }
            }
            for (s, n) in lengths.into_iter().enumerate() {
                let part =
                    |row: usize, head: usize| &inputs[s].1[row * width + head * size..][..size];
                let rotated = |row: usize, head: usize| {
                    let mut x = part(row, head).to_vec();
                    for i in 0..size / 4 {
                        let frequency = 10000f64.powf(-((2 * i) as f64) / (size / 2) as f64);
                        let (sin, cos) = (row as f64 * frequency).sin_cos();
                        let (a, b) = (x[2 * i], x[2 * i + 1]);
                        (x[2 * i], x[2 * i + 1]) = (a * cos - b * sin, b * cos + a * sin);
                    }
                    x
                };
                for head in 0..heads {
                    let kv = head / (heads / kv_heads);
                    let keys: Vec<_> = (0..n).map(|r| rotated(r, heads + kv)).collect();
                    let mixed: Vec<_> = (0..n)
                        .map(|r| part(r, heads + kv_heads + kv).to_vec())
                        .collect();
                    for row in (0..n).step_by(29).chain([n - 1]) {
                        let exact = attend(&rotated(row, head), &keys[..=row], &mixed[..=row]);
                        let got = &outputs[s][(row * heads + head) * size..][..size];
                        let what = format!("{dtype:?}, sequence {s}, row {row}, head {head}");
                        // Queries and keys are rounded once more behind the rotation.
                        close(&what, got, &exact, 2.0 * tolerance(dtype));
                    }
                }
            }
        }
    }
}

fn product(x: &[f64], w: &[f64], k: usize, out: usize) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    x.chunks(k)
        .flat_map(|x| (0..out).map(move |o| dot(x, &w[o * k..][..k])))
        .collect()
}

#[test]
fn products() {
    let Some(device) = card() else { return };
    for dtype in TYPES {
        for (rows, k, out) in [
            (1, 8, 8),
            (3, 37, 5),
            (130, 588, 96),
            (20, 4096, 64),
            (7, 64, 12),
        ] {
            let (x, xs) = random(&[rows, k], 1.0, dtype, &device);
            let (w, ws) = random(&[out, k], 1.0 / (k as f64).sqrt(), dtype, &device);
            let (bias, bs) = random(&[out], 1.0, dtype, &device);
            let (onto, ontos) = random(&[rows, out], 1.0, dtype, &device);
            let plain = product(&xs, &ws, k, out);
            for round in 0..2 {
                poison(rows * out, dtype, &device);
                let y = kernels::linear(&x, &w, Some(&bias)).unwrap();
                let exact: Vec<f64> = (0..rows * out).map(|i| plain[i] + bs[i % out]).collect();
                let what = format!("{dtype:?} {rows}×{k} by {out}, round {round}");
                close(&what, &values(&y), &exact, tolerance(dtype));
                let y = kernels::linear_onto(onto.copy().unwrap(), &x, &w).unwrap();
                let exact: Vec<f64> = plain.iter().zip(&ontos).map(|(a, b)| a + b).collect();
                close(&what, &values(&y), &exact, tolerance(dtype));
            }
            let ids = [out as u32 - 1, 0, 2];
            poison(3 * k, dtype, &device);
            let rows = values(&kernels::gather(&w, &ids).unwrap());
            let exact: Vec<f64> = ids
                .iter()
                .flat_map(|id| ws[*id as usize * k..][..k].to_vec())
                .collect();
            close("gather", &rows, &exact, 0.0);
        }
    }
}

/// gelu(x · wᵀ + bias) and the SwiGLU of x · wᵀ, for `x` [rows, k] and weights `ws` [2n, k].
fn check_what_follows(
    what: &str,
    (rows, k, n): (usize, usize, usize),
    ws: &[f64],
    (dtype, tolerance): (DType, f64),
    device: &Device,
    then: impl Fn(&Tensor, Then<'_>) -> candle_core::Result<Tensor>,
) {
    let (x, xs) = random(&[rows, k], 1.0, dtype, device);
    let (bias, bs) = random(&[2 * n], 1.0, dtype, device);
    let plain = product(&xs, ws, k, 2 * n);
    poison(rows * 2 * n, dtype, device);
    let got = values(&then(&x, Then::Gelu { bias: &bias }).unwrap());
    let biases = bs.iter().cycle();
    let exact: Vec<f64> = plain.iter().zip(biases).map(|(y, b)| gelu(y + b)).collect();
    close(&format!("{what}, GELU"), &got, &exact, tolerance);
    poison(rows * n, dtype, device);
    let got = values(&then(&x, Then::Swiglu).unwrap());
    let of_row = |row: &[f64]| {
        let (gate, up) = row.split_at(n);
        let both = gate.iter().zip(up);
        both.map(|(g, u)| g / (1.0 + (-g).exp()) * u)
            .collect::<Vec<_>>()
    };
    let exact: Vec<f64> = plain.chunks(2 * n).flat_map(of_row).collect();
    close(&format!("{what}, SwiGLU"), &got, &exact, tolerance);
}

/// By Hopper's kernel for a product and what follows it, and one after the other.
#[test]
fn products_and_what_follows() {
    let Some(device) = card() else { return };
    for hopper in [Hopper::Never, Hopper::Always] {
        let _hopper = with_hopper(hopper);
        // Hopper's tiles are of 272 rows by 256 weights.
        for (rows, k, n) in [
            (1, 8, 8),
            (3, 37, 5),
            (130, 72, 264),
            (272, 64, 128),
            (300, 448, 1000),
            (545, 136, 520),
        ] {
            let spread = 1.5 / (k as f64).sqrt();
            for dtype in TYPES {
                let (w, ws) = random(&[2 * n, k], spread, dtype, &device);
                check_what_follows(
                    &format!("{dtype:?} {rows}×{k} by {n}"),
                    (rows, k, n),
                    &ws,
                    (dtype, tolerance(dtype)),
                    &device,
                    |x, then| kernels::linear_then(x, &w, then),
                );
            }
            // Blocks are of up to 256 weights.
            let k = k.next_multiple_of(256);
            // Many rows are multiplied with rounded weights: less spread, so that gate · up magnifies less of that.
            let spread = 0.8 / (k as f32).sqrt();
            for format in [Format::Q8_0, Format::Q4K, Format::Fp8] {
                let plain = Tensor::randn(0f32, spread, (2 * n, k), &Device::Cpu).unwrap();
                let (w, ws) = kept(&plain, format, &device);
                check_what_follows(
                    &format!("{format:?} {rows}×{k} by {n}"),
                    (rows, k, n),
                    &ws,
                    (DType::BF16, 2.0 * tolerance(DType::BF16)),
                    &device,
                    |x, then| w.linear_then(x, then),
                );
            }
        }
    }
}

/// Sizes at which each pair of Hopper's blocks makes several tiles, in several bands of columns, of weights that are plain and of
/// those that are made so in parts: as one after the other, which other tests compare with double precision.
#[test]
fn many_products_and_what_follows() {
    let Some(device) = card() else { return };
    let ways = |what: &str, tolerance: f64, then: &dyn Fn() -> candle_core::Result<Tensor>| {
        let [apart, at_once] = [Hopper::Never, Hopper::Always].map(|hopper| {
            let _hopper = with_hopper(hopper);
            poison(1 << 24, DType::BF16, &device);
            values(&then().unwrap())
        });
        close(what, &at_once, &apart, tolerance);
    };
    for dtype in [DType::BF16, DType::F16] {
        // What one after the other rounds in between counts twice.
        let tolerance = 2.0 * tolerance(dtype);
        let normal = |shape: &[usize], deviation| {
            let x = Tensor::randn(0f32, deviation, shape, &device).unwrap();
            x.to_dtype(dtype).unwrap()
        };
        for (rows, k, n) in [(1701, 4096, 3000), (6401, 1792, 1544), (820, 4096, 8192)] {
            let what = format!("{dtype:?} {rows}×{k} by {n}");
            // Not from the tensor's first row on.
            let x = normal(&[rows + 1, k], 1.0).narrow(0, 1, rows).unwrap();
            let deviation = 1.0 / (k as f32).sqrt();
            let (w, bias) = (normal(&[2 * n, k], deviation), normal(&[2 * n], 1.0));
            ways(&format!("{what}, GELU"), tolerance, &|| {
                kernels::linear_then(&x, &w, Then::Gelu { bias: &bias })
            });
            ways(&format!("{what}, SwiGLU"), tolerance, &|| {
                kernels::linear_then(&x, &w, Then::Swiglu)
            });
            // The last of these are more than are made plain at a time.
            let blocks = Blocks::unwritten(Format::Q4K, (2 * n, k), &device).unwrap();
            blocks.quantize(0, &w).unwrap();
            ways(&format!("{what}, GELU of blocks"), tolerance, &|| {
                blocks.linear_then(&x, Then::Gelu { bias: &bias })
            });
            ways(&format!("{what}, SwiGLU of blocks"), tolerance, &|| {
                blocks.linear_then(&x, Then::Swiglu)
            });
        }
    }
}

#[test]
fn weights_in_blocks() {
    let Some(device) = card() else { return };
    for dtype in [DType::BF16, DType::F16] {
        for (format, rows, k) in [
            (Format::Q8_0, 40, 96),
            (Format::Q8_0, 17, 4096),
            (Format::Q4_0, 24, 13696),
            (Format::Q4K, 16, 256),
            (Format::Q4K, 33, 4096),
            (Format::Fp8, 40, 96),
            (Format::Fp8, 17, 4096),
            (Format::Fp8, 24, 13696),
        ] {
            // So that all sums, and what rounding does to them, are of one size.
            let spread = 3.0 / (k as f32).sqrt();
            let plain = Tensor::randn(0f32, spread, (rows, k), &Device::Cpu).unwrap();
            let (weight, exact) = kept(&plain, format, &device);
            poison(rows * k, dtype, &device);
            let what = format!("{format:?} {rows}×{k}");
            close(
                &what,
                &values(&weight.dense(dtype).unwrap()),
                &exact,
                tolerance(dtype),
            );
            let ids = [3, 0, rows as u32 - 1];
            let got = values(&weight.gather(&ids, dtype).unwrap());
            let chosen: Vec<f64> = ids
                .iter()
                .flat_map(|id| exact[*id as usize * k..][..k].to_vec())
                .collect();
            close(&what, &got, &chosen, tolerance(dtype));
            let (bias, bs) = random(&[rows], 1.0, dtype, &device);
            for m in [1, 5, 20, 50, 70] {
                let what = format!("{what}, {m} rows of {dtype:?}");
                let (x, xs) = random(&[m, k], 1.0, dtype, &device);
                let (onto, ontos) = random(&[m, rows], 1.0, dtype, &device);
                let plain = product(&xs, &exact, k, rows);
                poison(m * rows, dtype, &device);
                let y = values(&weight.linear(&x, Some(&bias)).unwrap());
                let with_bias: Vec<f64> = (0..m * rows).map(|i| plain[i] + bs[i % rows]).collect();
                close(&what, &y, &with_bias, 2.0 * tolerance(dtype));
                let y = values(&weight.linear_onto(onto, &x).unwrap());
                let with_onto: Vec<f64> = plain.iter().zip(&ontos).map(|(a, b)| a + b).collect();
                close(&what, &y, &with_onto, 2.0 * tolerance(dtype));
            }
        }
    }
}

#[test]
fn patches_are_cut_by_their_definition() {
    let Some(device) = card() else { return };
    let (size, patch) = (42, 14);
    let bytes: Vec<u8> = (0..3 * size * size).map(|i| (i * 37 % 251) as u8).collect();
    let of = transform::values();
    let grid = size / patch;
    let exact: Vec<f32> = (0..bytes.len())
        .map(|i| {
            let (p, channel) = (i / (3 * patch * patch), i / (patch * patch) % 3);
            let (y, x) = (i / patch % patch, i % patch);
            let pixel = (p / grid * patch + y) * size + p % grid * patch + x;
            of[channel][usize::from(bytes[3 * pixel + channel])]
        })
        .collect();
    let exact = Tensor::new(exact, &Device::Cpu).unwrap();
    for dtype in TYPES {
        poison(bytes.len(), dtype, &device);
        let got = kernels::cuda::patches(&bytes, of, size, patch, dtype, &device).unwrap();
        assert_eq!(got.dims(), [grid * grid, 3 * patch * patch]);
        assert_eq!(values(&got), values(&exact.to_dtype(dtype).unwrap()));
    }
}

#[test]
fn a_copied_page_is_a_page_of_its_own() {
    let Some(device) = card() else { return };
    let arena = Arena::new(3, 1, 1, 64, DType::BF16, &device).unwrap();
    let rotary = Rotary::new(32, 10000.0);
    let (qkv, _) = random(&[2, 3 * 64], 1.0, DType::BF16, &device);
    let plan = |start, page| {
        let span = Span {
            start,
            len: 1,
            pages: vec![page],
        };
        Plan::new(vec![span], &[start as u32], &rotary).unwrap()
    };
    let row = |i| qkv.narrow(0, i, 1).unwrap().contiguous().unwrap();
    kernels::store_kv(&arena, 0, &row(0), &plan(0, 1)).unwrap();
    arena.copy_page(1, 2).unwrap();
    let answer = |page| {
        kernels::store_kv(&arena, 0, &row(1), &plan(1, page)).unwrap();
        values(&kernels::paged_attention(&row(1), &arena, 0, 1, &plan(1, page)).unwrap())
    };
    assert_eq!(answer(1), answer(2));
    assert!(arena.copy_page(1, 3).is_err());
    assert_eq!(PAGE, 64);
}
