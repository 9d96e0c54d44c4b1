//! Attention: the vision tower's (every position sees every other) and the decoder's, over the cache's pages.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use super::cache::Arena;
use super::cpu;
#[cfg(feature = "cuda")]
use super::cuda;
use super::plan::Plan;

/// Rotates the keys of the new entries and writes keys and values into the arena.
///
/// `qkv` is [rows, (heads + 2 · kv_heads) · head_size]: queries, keys, values.
pub fn store_kv(arena: &Arena, layer: usize, qkv: &Tensor, plan: &Plan) -> Result<()> {
    on_card!(qkv, cuda::store_kv(arena, layer, qkv, &plan.0));
    cpu::store_kv(arena, layer, qkv, &plan.0)
}

/// Causal attention of the new entries over the cache: [rows, heads · head_size]. The queries in `qkv` are rotated on
/// the way; the new entries' own keys and values must be in the arena ([`store_kv`]). Scale 1/√head_size.
pub fn paged_attention(
    qkv: &Tensor,
    arena: &Arena,
    layer: usize,
    heads: usize,
    plan: &Plan,
) -> Result<Tensor> {
    on_card!(
        qkv,
        cuda::paged_attention(qkv, arena, layer, heads, &plan.0)
    );
    cpu::paged_attention(qkv, arena, layer, heads, &plan.0)
}

/// Full attention of the queries of `rows`: `qkv` is [n, 3 · heads · head_size], queries, keys, values; the result
/// [rows, heads · head_size]. Scale 1/√head_size.
///
/// # Errors
/// `rows` are not all among the n.
pub fn vision_attention(qkv: &Tensor, heads: usize, rows: Range<usize>) -> Result<Tensor> {
    if rows.end > qkv.dim(0)? {
        bail!("queries {rows:?} of {}", qkv.dim(0)?)
    }
    on_card!(qkv, cuda::vision_attention(qkv, heads, rows));
    cpu::vision_attention(qkv, heads, rows)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::plan::Span;
    use super::super::rotary::Rotary;
    use super::*;

    /// Attention by its definition, in double precision: q, k, v as rows of one head; row i sees `visible(i)` keys.
    fn reference(
        q: &[Vec<f64>],
        k: &[Vec<f64>],
        v: &[Vec<f64>],
        visible: impl Fn(usize) -> usize,
    ) -> Vec<Vec<f64>> {
        let scale = 1.0 / (q[0].len() as f64).sqrt();
        q.iter()
            .enumerate()
            .map(|(i, q)| {
                let weights: Vec<f64> = k[..visible(i)]
                    .iter()
                    .map(|k| (q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() * scale).exp())
                    .collect();
                let sum: f64 = weights.iter().sum();
                (0..v[0].len())
                    .map(|d| weights.iter().zip(v).map(|(w, v)| w * v[d]).sum::<f64>() / sum)
                    .collect()
            })
            .collect()
    }

    fn columns(rows: &[Vec<f32>], at: usize, size: usize) -> Vec<Vec<f64>> {
        rows.iter()
            .map(|r| r[at..at + size].iter().map(|x| f64::from(*x)).collect())
            .collect()
    }

    #[test]
    fn vision_attention_sees_everything() {
        for (n, heads, size) in [(1, 1, 4), (7, 3, 10), (131, 2, 112)] {
            let qkv = Tensor::randn(0f32, 1.5, (n, 3 * heads * size), &Device::Cpu).unwrap();
            let rows = qkv.to_vec2::<f32>().unwrap();
            let out = vision_attention(&qkv, heads, 0..n)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap();
            for h in 0..heads {
                let part = |i: usize| columns(&rows, (i * heads + h) * size, size);
                let exact = reference(&part(0), &part(1), &part(2), |_| n);
                for (r, exact) in exact.iter().enumerate() {
                    for d in 0..size {
                        assert!((f64::from(out[r][h * size + d]) - exact[d]).abs() < 2e-5);
                    }
                }
            }
        }
    }

    /// Two sequences, prefilled in pieces and decoded side by side on scattered pages, against the definition.
    #[test]
    fn paged_attention_is_causal_attention_whatever_the_pieces() {
        let (heads, kv_heads, size, layer) = (6, 2, 12, 1);
        let width = (heads + 2 * kv_heads) * size;
        let rotary = Rotary::new(size / 2, 10000.0);
        let arena = Arena::new(8, 2, kv_heads, size, DType::F32, &Device::Cpu).unwrap();
        let lengths = [150, 70];
        let pages = [vec![5, 2, 7], vec![0, 6]];
        let inputs: Vec<Vec<Vec<f32>>> = lengths
            .iter()
            .map(|n| {
                Tensor::randn(0f32, 1.0, (*n, width), &Device::Cpu)
                    .unwrap()
                    .to_vec2()
                    .unwrap()
            })
            .collect();
        let mut outputs: Vec<Vec<Vec<f32>>> = vec![vec![], vec![]];
        // (sequence, from, to): prefill, prefill beside decode, decode beside decode.
        let passes: [&[(usize, usize, usize)]; 5] = [
            &[(0, 0, 67)],
            &[(0, 67, 68), (1, 0, 40)],
            &[(1, 40, 69), (0, 68, 149)],
            &[(0, 149, 150), (1, 69, 70)],
            &[],
        ];
        for pass in passes.iter().filter(|p| !p.is_empty()) {
            let spans: Vec<Span> = pass
                .iter()
                .map(|(s, from, to)| Span {
                    start: *from,
                    len: to - from,
                    pages: pages[*s].clone(),
                })
                .collect();
            let positions: Vec<u32> = pass
                .iter()
                .flat_map(|(_, from, to)| (*from as u32)..(*to as u32))
                .collect();
            let rows: Vec<f32> = pass
                .iter()
                .flat_map(|(s, from, to)| inputs[*s][*from..*to].concat())
                .collect();
            let qkv = Tensor::from_vec(rows, (positions.len(), width), &Device::Cpu).unwrap();
            let plan = Plan::new(spans, &positions, &rotary).unwrap();
            store_kv(&arena, layer, &qkv, &plan).unwrap();
            let out = paged_attention(&qkv, &arena, layer, heads, &plan).unwrap();
            let mut out = out.to_vec2::<f32>().unwrap().into_iter();
            for (s, from, to) in *pass {
                outputs[*s].extend(out.by_ref().take(to - from));
            }
        }
        for (s, n) in lengths.iter().enumerate() {
            let rotated = |at: usize| -> Vec<Vec<f64>> {
                let mut part = columns(&inputs[s], at, size);
                for (position, row) in part.iter_mut().enumerate() {
                    for i in 0..size / 4 {
                        let angle =
                            position as f64 * 10000f64.powf(-((2 * i) as f64) / (size / 2) as f64);
                        let (a, b) = (row[2 * i], row[2 * i + 1]);
                        row[2 * i] = a * angle.cos() - b * angle.sin();
                        row[2 * i + 1] = b * angle.cos() + a * angle.sin();
                    }
                }
                part
            };
            for h in 0..heads {
                let kv = h / (heads / kv_heads);
                let exact = reference(
                    &rotated(h * size),
                    &rotated((heads + kv) * size),
                    &columns(&inputs[s], (heads + kv_heads + kv) * size, size),
                    |i| i + 1,
                );
                for (r, exact) in exact.iter().enumerate().take(*n) {
                    for d in 0..size {
                        let got = f64::from(outputs[s][r][h * size + d]);
                        assert!(
                            (got - exact[d]).abs() < 2e-5,
                            "sequence {s} row {r} head {h}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_copied_page_is_a_page_of_its_own() {
        let arena = Arena::new(3, 1, 1, 4, DType::F32, &Device::Cpu).unwrap();
        let rotary = Rotary::new(2, 10000.0);
        let write = |page: u32, fill: f32| {
            let span = Span {
                start: 0,
                len: 1,
                pages: vec![page],
            };
            let plan = Plan::new(vec![span], &[0], &rotary).unwrap();
            let qkv = Tensor::full(fill, (1, 12), &Device::Cpu).unwrap();
            store_kv(&arena, 0, &qkv, &plan).unwrap();
        };
        let first = |page: usize| {
            arena
                .data
                .get(page)
                .unwrap()
                .flatten_all()
                .unwrap()
                .get(0)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        write(1, 3.0);
        arena.copy_page(1, 2).unwrap();
        write(1, 5.0);
        assert_eq!((first(0), first(1), first(2)), (1.0, 5.0, 3.0));
        // To the host's memory and back, to another place.
        let mut host = arena.host(2).unwrap();
        arena.page_out(1, &mut host, 1).unwrap();
        write(1, 7.0);
        arena.page_in(&host, 1, 0).unwrap();
        assert_eq!((first(0), first(1), first(2)), (5.0, 7.0, 3.0));
        assert!(arena.page_out(3, &mut host, 0).is_err());
        assert!(arena.page_out(0, &mut host, 2).is_err());
        assert!(arena.page_in(&host, 2, 0).is_err());
    }
}
