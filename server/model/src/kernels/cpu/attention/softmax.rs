//! The weights of an attention.

use crate::kernels::cpu::vector::exp;

/// e^x, but 0 where it could not change a sum that holds a 1: products with denormals take the processor a hundred
/// times as long.
#[inline(always)]
fn weight(x: f32) -> f32 {
    if x < -60.0 { 0.0 } else { exp(x) }
}

/// softmax(x · scale), in place.
#[inline(always)]
pub fn softmax(x: &mut [f32], scale: f32) {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    let most = lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0f32; 16];
    let (chunks, rest) = x.as_chunks_mut::<16>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = weight((*x - most) * scale);
            *sum += *x;
        }
    }
    let mut sum = sums.iter().sum::<f32>();
    for x in rest {
        *x = weight((*x - most) * scale);
        sum += *x;
    }
    let inverse = 1.0 / sum;
    x.iter_mut().for_each(|x| *x *= inverse);
}
