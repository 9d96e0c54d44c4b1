//! Passes over a whole vocabulary of logits, fast enough for every token: the largest, the k largest, and candidates to
//! draw from, first all and then those more probable than the one drawn.

use std::f32::consts::LN_2;

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
            let (pairs, odd) = rows.as_chunks::<2>();
            // Of two rows first: a lane's maximum waits for the one before.
            for [a, b] in pairs {
                for lane in 0..LANES {
                    let larger = if a[lane] > b[lane] { a[lane] } else { b[lane] };
                    max[lane] = if larger > max[lane] { larger } else { max[lane] };
                    nan[lane] |= u32::from(a[lane].is_nan() | b[lane].is_nan());
                }
            }
            let rest = odd.iter().flatten().chain(rest);
            for (lane, &logit) in rest.enumerate() {
                let lane = lane % LANES;
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
    find_at_least(bound, logits, maxima, ids);
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

vectorized! {
    /// Adds the ids of the logits that are at least `bound`, in order.
    fn find_at_least(bound: f32, logits: &[f32], maxima: &[f32], ids: &mut Vec<u32>) -> () {
        let reaches = |values: &[f32]| values.iter().fold(false, |any, &value| any | (value >= bound));
        let blocks = logits.chunks(BLOCK).zip(maxima.chunks(LANES)).enumerate();
        for (index, (block, _)) in blocks.filter(|(_, (_, maxima))| reaches(maxima)) {
            let rows = (index * BLOCK..).step_by(LANES).zip(block.chunks(LANES));
            for (first, row) in rows.filter(|(_, row)| reaches(row)) {
                let found = (first..).zip(row).filter(|(_, logit)| **logit >= bound);
                ids.extend(found.map(|(id, _)| id as u32));
            }
        }
    }
}

fn kth(values: &mut [f32], k: usize) -> f32 {
    *values
        .select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a))
        .1
}

/// What is drawn from: candidates with weights that are their probabilities times some constant.
#[derive(Default)]
pub(super) struct Candidates {
    weights: Vec<f32>,
    /// The weight of each block's candidates that are left.
    sums: Vec<f64>,
    /// Left are those more probable than this one, and of its equals those before it; all if there is none.
    bound: Option<usize>,
}

impl Candidates {
    /// All of `logits`, of which `max` is the largest, with weights 2^((logit - max) · scale).
    pub(super) fn fill(&mut self, logits: &[f32], max: f32, scale: f32) {
        self.weights.resize(logits.len(), 0.0);
        self.sums.resize(logits.len().div_ceil(BLOCK), 0.0);
        self.bound = None;
        exponentiate(logits, max, scale, &mut self.weights, &mut self.sums);
    }

    /// The weight of all that are left.
    pub(super) fn total(&self) -> f64 {
        self.sums.iter().sum()
    }

    /// Leaves the candidates more probable than `drawn`, which is one of those that are left, and of its equals those
    /// before it.
    pub(super) fn keep_before(&mut self, drawn: usize) {
        self.bound = Some(drawn);
        sum_before(drawn, &self.weights, &mut self.sums);
    }

    /// The one of those left at which the running sum of their weights passes `share` (from 0 to below 1) of the whole.
    pub(super) fn pick(&self, share: f64) -> usize {
        let bound = self.bound.map(|bound| (self.weights[bound], bound));
        let is_left = |at: usize, weight: f32| {
            bound.is_none_or(|(least, bound)| weight > least || weight == least && at < bound)
        };
        let mut left = share * self.total();
        for (index, (block, &total)) in self.weights.chunks(BLOCK).zip(&self.sums).enumerate() {
            if left >= total {
                left -= total;
                continue;
            }
            for (at, &weight) in (index * BLOCK..).zip(block) {
                if is_left(at, weight) {
                    if left < f64::from(weight) {
                        return at;
                    }
                    left -= f64::from(weight);
                }
            }
        }
        // Rounding left a little over: the last candidate takes it.
        let mut candidates = self.weights.iter().enumerate();
        candidates
            .rposition(|(at, &weight)| weight > 0.0 && is_left(at, weight))
            .unwrap_or(0)
    }
}

vectorized! {
    fn exponentiate(logits: &[f32], max: f32, scale: f32, weights: &mut [f32], sums: &mut [f64]) -> () {
        let blocks = logits.chunks(BLOCK).zip(weights.chunks_mut(BLOCK));
        for ((logits, weights), total) in blocks.zip(sums) {
            let mut lanes = [0f32; LANES];
            let (rows, rest) = weights.as_chunks_mut::<LANES>();
            let (logits, logits_rest) = logits.as_chunks::<LANES>();
            for (row, logits) in rows.iter_mut().zip(logits) {
                for lane in 0..LANES {
                    row[lane] = exp2((logits[lane] - max) * scale);
                    lanes[lane] += row[lane];
                }
            }
            for ((lane, weight), logit) in lanes.iter_mut().zip(rest).zip(logits_rest) {
                *weight = exp2((logit - max) * scale);
                *lane += *weight;
            }
            *total = total_of(lanes);
        }
    }
}

vectorized! {
    /// For each block, the sum of the weights larger than that at `bound`, and of its equals those before it.
    fn sum_before(bound: usize, weights: &[f32], sums: &mut [f64]) -> () {
        let least = weights[bound];
        for (index, (block, total)) in weights.chunks(BLOCK).zip(sums).enumerate() {
            // As many of the block as lie before the bound.
            let before = bound.saturating_sub(index * BLOCK).min(block.len());
            let (before, after) = block.split_at(before);
            // What is not less than a positive number is more than the next one below it.
            *total = sum_over(least.next_down(), before) + sum_over(least, after);
        }
    }
}

/// The sum of a block's weights that are more than `bound`.
#[inline(always)]
fn sum_over(bound: f32, weights: &[f32]) -> f64 {
    let kept = |weight: f32| if weight > bound { weight } else { 0.0 };
    let mut lanes = [0f32; LANES];
    let (rows, rest) = weights.as_chunks::<LANES>();
    for row in rows {
        for lane in 0..LANES {
            lanes[lane] += kept(row[lane]);
        }
    }
    for (lane, &weight) in lanes.iter_mut().zip(rest) {
        *lane += kept(weight);
    }
    total_of(lanes)
}

#[inline(always)]
fn total_of(mut lanes: [f32; LANES]) -> f64 {
    // In halves: each addition of the lanes one by one would wait for the one before.
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    f64::from(lanes[0])
}

/// 2^x for x ≤ 0, to about 2e-7 of the value from 2^-126 up, less than that below, and 0 from 2^-127 down: the library's
/// is called once a value, this compiles to vector instructions. 2^x = 2^n · 2^f, with n the whole number nearest to x;
/// the series has 2^f's value and slope at 0, degree 5, and the least relative error over f from -1/2 to 1/2: 1.0e-7.
#[inline(always)]
pub(super) fn exp2(x: f32) -> f32 {
    /// 1.5 · 2^23: adding it leaves a small number, rounded, in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// The bits of 1.0 with 127 taken from the exponent are those of 0.
    const LEAST: f32 = -127.0;
    let x = if x > LEAST { x } else { LEAST };
    let shifted = x + ROUND;
    let f = x - (shifted - ROUND);
    let series = 0.009_669_71 + f * 0.001_330_066_4;
    let series = 0.240_222_81 + f * (0.055_505_585 + f * series);
    let series = 1.0 + f * (LN_2 + f * series);
    f32::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 23))
}
