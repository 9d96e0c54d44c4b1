//! The rotary embedding: which frequencies it has.

/// The rotary embedding's angles: interleaved pairs over the first `size` dimensions of each head.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// Per pair: base^(−2i/size).
    pub(super) inverse_frequencies: Vec<f64>,
}

impl Rotary {
    /// `size` rotating dimensions, `base` 10000 · rope_ratio.
    pub fn new(size: usize, base: f64) -> Self {
        let inverse_frequencies = (0..size / 2)
            .map(|i| base.powf(-((2 * i) as f64) / size as f64))
            .collect();
        Rotary {
            inverse_frequencies,
        }
    }

    /// Per pair, as the original has them: in f32.
    pub fn frequencies(&self) -> impl Iterator<Item = f32> {
        self.inverse_frequencies.iter().map(|f| *f as f32)
    }
}
