//! The rotary embedding's angles, and how they turn a head.

/// Per position and pair: cosine, sine.
pub fn angles(frequencies: &[f64], positions: &[u32]) -> Vec<(f32, f32)> {
    let pairs = frequencies.len();
    let mut angles = Vec::with_capacity(positions.len() * pairs);
    let mut last = None;
    for position in positions {
        if last == Some(position) {
            // A picture's vectors share a position.
            angles.extend_from_within(angles.len() - pairs..);
            continue;
        }
        last = Some(position);
        // The original multiplies in f32.
        angles.extend(frequencies.iter().map(|f| {
            let (sin, cos) = f64::from(*position as f32 * *f as f32).sin_cos();
            (cos as f32, sin as f32)
        }));
    }
    angles
}

/// Rotates each pair of a head by its angle.
#[inline(always)]
pub fn rotate(head: &mut [f32], angles: &[(f32, f32)]) {
    for (pair, (cos, sin)) in head.chunks_exact_mut(2).zip(angles) {
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * cos - b * sin;
        pair[1] = b * cos + a * sin;
    }
}
