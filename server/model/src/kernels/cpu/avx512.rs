//! Products of few rows of f32 with a weight where it lies, by AVX-512: nothing is packed, each row of the weight is read
//! from memory once, and what a row gives does not depend on the rows beside it.

use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_fmadd_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_shuffle_f32x4, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
    _mm512_unpacklo_ps,
};

/// Rows of `x` and of the weight that are multiplied at once: their sums stay in registers.
const BLOCK: usize = 4;

/// Whether the processor can do it.
pub fn is_here() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// `put(r, c, sums)` gets the products of row r of `x` with the rows of `weight` from c on, up to four; both have rows of
/// `k`.
#[target_feature(enable = "avx512f")]
pub fn products(k: usize, x: &[f32], weight: &[f32], mut put: impl FnMut(usize, usize, &[f32])) {
    for (i, weight) in weight.chunks(BLOCK * k).enumerate() {
        for (j, x) in x.chunks(BLOCK * k).enumerate() {
            let sums = match (x.len() / k, weight.len() / k) {
                (4, 4) => sums::<4, 4>(x, weight, k),
                (3, 4) => sums::<3, 4>(x, weight, k),
                (2, 4) => sums::<2, 4>(x, weight, k),
                (1, 4) => sums::<1, 4>(x, weight, k),
                (rows, columns) => odd(rows, columns, x, weight, k),
            };
            for (r, sums) in sums[..x.len() / k].iter().enumerate() {
                put(j * BLOCK + r, i * BLOCK, &sums[..weight.len() / k]);
            }
        }
    }
}

/// [`sums`] of fewer rows of the weight.
#[target_feature(enable = "avx512f")]
fn odd(rows: usize, columns: usize, x: &[f32], weight: &[f32], k: usize) -> [[f32; BLOCK]; BLOCK] {
    let mut all = [[0f32; BLOCK]; BLOCK];
    for (all, x) in all.iter_mut().zip(x.chunks(k)).take(rows) {
        for (sum, w) in all.iter_mut().zip(weight.chunks(k)).take(columns) {
            *sum = sums::<1, 1>(x, w, k)[0][0];
        }
    }
    all
}

/// Each of R rows of `x` times each of C rows of `weight`, all of k.
#[target_feature(enable = "avx512f")]
#[inline]
fn sums<const R: usize, const C: usize>(
    x: &[f32],
    weight: &[f32],
    k: usize,
) -> [[f32; BLOCK]; BLOCK] {
    assert!(x.len() >= R * k && weight.len() >= C * k);
    let mut sums = [[_mm512_setzero_ps(); BLOCK]; BLOCK];
    let mut step = |at: usize, mask: u16| {
        // SAFETY: what the mask lets be read lies within a row, and the rows were checked above.
        unsafe {
            let w: [__m512; C] = std::array::from_fn(|c| {
                _mm512_maskz_loadu_ps(mask, weight.as_ptr().add(c * k + at))
            });
            for (r, sums) in sums[..R].iter_mut().enumerate() {
                let x = _mm512_maskz_loadu_ps(mask, x.as_ptr().add(r * k + at));
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm512_fmadd_ps(x, w, *sum);
                }
            }
        }
    };
    let whole = k / 16 * 16;
    for at in (0..whole).step_by(16) {
        step(at, u16::MAX);
    }
    if whole < k {
        step(whole, (1 << (k - whole)) - 1);
    }
    totals(sums)
}

/// The sum of each vector's lanes, all in the same order.
#[target_feature(enable = "avx512f")]
#[inline]
fn totals(sums: [[__m512; BLOCK]; BLOCK]) -> [[f32; BLOCK]; BLOCK] {
    let pair = |a, b| _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let four = |[a, b, c, d]: [__m512; BLOCK]| {
        let (ab, cd) = (_mm512_castps_pd(pair(a, b)), _mm512_castps_pd(pair(c, d)));
        let (low, high) = (_mm512_unpacklo_pd(ab, cd), _mm512_unpackhi_pd(ab, cd));
        _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high))
    };
    // Of each row now four quarters, in each of which there is a sum for each of its columns.
    let halves = |a, b| {
        let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
        let odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
        _mm512_add_ps(even, odd)
    };
    let [a, b, c, d] = sums.map(four);
    let all = halves(halves(a, b), halves(c, d));
    let mut out = [[0f32; BLOCK]; BLOCK];
    // SAFETY: sixteen floats lie there.
    unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr().cast(), u16::MAX, all) };
    out
}

/// `target` [rows, size] += `weights` [rows, n], whose rows are `stride` apart, · `values` [n, size].
#[target_feature(enable = "avx512f")]
pub fn mix(
    (rows, size): (usize, usize),
    weights: (&[f32], usize),
    values: &[f32],
    target: &mut [f32],
) {
    let mut row = 0;
    while row < rows {
        let at = (row, size);
        row += match rows - row {
            1 => mix_rows::<1>(at, weights, values, target),
            2 | 3 => mix_rows::<2>(at, weights, values, target),
            _ => mix_rows::<4>(at, weights, values, target),
        };
    }
}

/// [`mix`] for R rows; returns R.
#[target_feature(enable = "avx512f")]
#[inline]
fn mix_rows<const R: usize>(
    (row, size): (usize, usize),
    (weights, stride): (&[f32], usize),
    values: &[f32],
    target: &mut [f32],
) -> usize {
    /// Vectors of a row at once.
    const WIDE: usize = 4;
    let n = values.len() / size;
    assert!(
        n > 0 && weights.len() >= (row + R - 1) * stride + n && target.len() >= (row + R) * size
    );
    for at in (0..size).step_by(16 * WIDE) {
        let masks: [u16; WIDE] = std::array::from_fn(|v| match size.saturating_sub(at + 16 * v) {
            rest @ 0..16 => (1 << rest) - 1,
            _ => u16::MAX,
        });
        // SAFETY: what the masks let be read and written lies within rows, which were checked above.
        unsafe {
            let target = target.as_mut_ptr().wrapping_add(row * size + at);
            let place = |r: usize, v: usize| target.wrapping_add(r * size + 16 * v);
            let mut sums: [[__m512; WIDE]; R] = std::array::from_fn(|r| {
                std::array::from_fn(|v| _mm512_maskz_loadu_ps(masks[v], place(r, v)))
            });
            for i in 0..n {
                let value = values.as_ptr().wrapping_add(i * size + at);
                let value: [__m512; WIDE] = std::array::from_fn(|v| {
                    _mm512_maskz_loadu_ps(masks[v], value.wrapping_add(16 * v))
                });
                for (r, sums) in sums.iter_mut().enumerate() {
                    let weight = _mm512_set1_ps(*weights.get_unchecked((row + r) * stride + i));
                    for (sum, value) in sums.iter_mut().zip(value) {
                        *sum = _mm512_fmadd_ps(weight, value, *sum);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    _mm512_mask_storeu_ps(place(r, v), masks[v], sum);
                }
            }
        }
    }
    R
}
