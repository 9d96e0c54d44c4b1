//! Passes over a whole vocabulary of logits, fast enough for every token: the largest, the k largest, their weights, a
//! draw among these, and what is more probable than the one drawn.

use super::TextError;

/// Independent sums or maxima, so that the compiler can keep them in vector registers.
const LANES: usize = 16;
/// Values that a lane's f32 sum and each lane's maximum go over: [`LANES`] of 16 each.
pub(super) const BLOCK: usize = 16 * LANES;

/// A function over a whole table, compiled for AVX2 too and run so where the processor has it. Both give the same
/// results: the order of the sums is fixed, by [`LANES`].
macro_rules! vectorized {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) -> $ret:ty $body:block) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) -> $ret {
            #[inline(always)]
            fn pass($($arg: $type),*) -> $ret $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($arg: $type),*) -> $ret {
                    pass($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2.
                    return unsafe { wide($($arg),*) };
                }
            }
            pass($($arg),*)
        }
    };
}

/// The largest logit, once none is NaN; and in `maxima` each lane's largest, block by block.
pub(super) fn scan(logits: &[f32], maxima: &mut Vec<f32>) -> Result<f32, TextError> {
    maxima.clear();
    maxima.resize(logits.len().div_ceil(BLOCK) * LANES, f32::NEG_INFINITY);
    let (max, nan) = lane_maxima(logits, maxima);
    if nan {
        return Err(TextError::Logits("a NaN among them"));
    }
    match max {
        f32::INFINITY => Err(TextError::Logits("an infinite one among them")),
        f32::NEG_INFINITY => Err(TextError::Logits("every token is ruled out")),
        max => Ok(max),
    }
}

vectorized! {
    /// Fills `maxima`, [`LANES`] for each block; the largest of all, and whether there is a NaN.
    fn lane_maxima(logits: &[f32], maxima: &mut [f32]) -> (f32, bool) {
        let mut largest = [f32::NEG_INFINITY; LANES];
        let mut nan = [0u32; LANES];
        for (block, maxima) in logits.chunks(BLOCK).zip(maxima.as_chunks_mut::<LANES>().0) {
            let mut max = [f32::NEG_INFINITY; LANES];
            let (rows, rest) = block.as_chunks::<LANES>();
            for row in rows {
                for lane in 0..LANES {
                    max[lane] = if row[lane] > max[lane] { row[lane] } else { max[lane] };
                    nan[lane] |= u32::from(row[lane].is_nan());
                }
            }
            for (lane, &logit) in rest.iter().enumerate() {
                max[lane] = max[lane].max(logit);
                nan[lane] |= u32::from(logit.is_nan());
            }
            *maxima = max;
            for lane in 0..LANES {
                largest[lane] = if max[lane] > largest[lane] { max[lane] } else { largest[lane] };
            }
        }
        (largest.into_iter().fold(f32::NEG_INFINITY, f32::max), nan != [0; LANES])
    }
}

/// The ids of the `k` largest logits (k ≥ 1) and of all that equal the last of them, in order of id.
///
/// The k-th largest of `maxima` bounds the k-th largest logit from below, and few logits reach that bound.
pub(super) fn top(logits: &[f32], maxima: &[f32], k: usize, ids: &mut Vec<u32>) {
    let bound = if k <= maxima.len() {
        kth(&mut maxima.to_vec(), k)
    } else {
        f32::NEG_INFINITY
    };
    ids.clear();
    let blocks = logits.chunks(BLOCK).zip(maxima.chunks(LANES)).enumerate();
    for (index, (block, _)) in blocks.filter(|(_, (_, max))| max.iter().any(|&max| max >= bound)) {
        let found = (index * BLOCK..)
            .zip(block)
            .filter(|(_, logit)| **logit >= bound);
        ids.extend(found.map(|(id, _)| id as u32));
    }
    if k < ids.len() {
        let least = kth(
            &mut ids
                .iter()
                .map(|&id| logits[id as usize])
                .collect::<Vec<_>>(),
            k,
        );
        ids.retain(|&id| logits[id as usize] >= least);
    }
}

fn kth(values: &mut [f32], k: usize) -> f32 {
    *values
        .select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a))
        .1
}

/// The weights of `logits`, e^((logit - max) · scale), and their sums block by block.
pub(super) fn weigh(
    logits: &[f32],
    max: f32,
    scale: f32,
    weights: &mut Vec<f32>,
    sums: &mut Vec<f64>,
) {
    weights.resize(logits.len(), 0.0);
    sums.resize(logits.len().div_ceil(BLOCK), 0.0);
    exponentiate(logits, max, scale, weights, sums);
}

vectorized! {
    fn exponentiate(logits: &[f32], max: f32, scale: f32, weights: &mut [f32], sums: &mut [f64]) -> () {
        let blocks = logits.chunks(BLOCK).zip(weights.chunks_mut(BLOCK));
        for ((logits, weights), total) in blocks.zip(sums) {
            for (weight, logit) in weights.iter_mut().zip(logits) {
                *weight = exp((logit - max) * scale);
            }
            *total = sum(weights);
        }
    }
}

vectorized! {
    /// Keeps the candidates more probable than `drawn`, and of its equals those before it.
    pub(super) fn keep_before(drawn: usize, weights: &mut [f32], sums: &mut [f64]) -> () {
        let least = weights[drawn];
        for (index, (block, total)) in weights.chunks_mut(BLOCK).zip(sums).enumerate() {
            let (before, after) = block.split_at_mut(drawn.saturating_sub(index * BLOCK).min(block.len()));
            for weight in before {
                *weight = if *weight >= least { *weight } else { 0.0 };
            }
            for weight in after {
                *weight = if *weight > least { *weight } else { 0.0 };
            }
            *total = sum(block);
        }
    }
}

/// The index at which the running sum of the weights passes `share` (from 0 to below 1) of the whole.
pub(super) fn pick(weights: &[f32], sums: &[f64], share: f64) -> usize {
    let mut left = share * sums.iter().sum::<f64>();
    for (index, (block, &total)) in weights.chunks(BLOCK).zip(sums).enumerate() {
        if left >= total {
            left -= total;
            continue;
        }
        for (at, &weight) in (index * BLOCK..).zip(block) {
            if left < f64::from(weight) {
                return at;
            }
            left -= f64::from(weight);
        }
    }
    // Rounding left a little over: the last candidate takes it.
    weights
        .iter()
        .rposition(|&weight| weight > 0.0)
        .unwrap_or(0)
}

#[inline(always)]
fn sum(weights: &[f32]) -> f64 {
    let mut lanes = [0f32; LANES];
    let (rows, rest) = weights.as_chunks::<LANES>();
    for row in rows {
        for lane in 0..LANES {
            lanes[lane] += row[lane];
        }
    }
    for (lane, weight) in lanes.iter_mut().zip(rest) {
        *lane += weight;
    }
    // In halves: each addition of the lanes one by one would wait for the one before.
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    f64::from(lanes[0])
}

/// e^x for x ≤ 0, to about 2e-7 of the value, and 0 below e^-87: the library's is called once a value, this compiles to
/// vector instructions. e^x = 2^n · e^r, with n the whole part of x / ln 2.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5 · 2^23: adding it leaves a small number, rounded, in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let y = if x > -87.0 { x } else { -87.0 };
    let shifted = y * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (y - n * LN_2_HIGH) - n * LN_2_LOW;
    let series = 1.0 / 720.0 + r * (1.0 / 5040.0);
    let series = 1.0 / 24.0 + r * (1.0 / 120.0 + r * series);
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * series)));
    let value = f32::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 23));
    if x > -87.0 { value } else { 0.0 }
}
