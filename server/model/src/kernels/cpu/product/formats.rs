//! How weights of fewer than 32 bits are kept, and how they are dequantized to f32. Blocks of 4 or 8 bits are ggml's.

/// Weights as they are kept, in blocks of one or more.
pub trait Format {
    /// Weights in a block.
    const LEN: usize;
    /// Bytes of a block.
    const BYTES: usize;

    /// Writes the [`Self::LEN`] weights of a block of [`Self::BYTES`] bytes.
    fn dequantize(block: &[u8], out: &mut [f32]);

    /// Writes the weights of whole blocks.
    #[inline(always)]
    fn dequantize_all(blocks: &[u8], out: &mut [f32]) {
        let blocks = blocks.chunks_exact(Self::BYTES);
        for (block, out) in blocks.zip(out.chunks_exact_mut(Self::LEN)) {
            Self::dequantize(block, out);
        }
    }
}

/// bf16, one by one.
pub struct Bf16;

/// f16, one by one.
pub struct F16;

/// A scale, and 32 whole numbers of 8 bits.
pub struct Q8_0;

/// A scale, and 32 numbers of 4 bits, 8 too large; byte i holds the ith and the one 16 after it.
pub struct Q4_0;

/// Two scales, eight pairs of 6-bit scale and minimum, and 256 numbers of 4 bits in eight runs of 32.
pub struct Q4K;

/// An f16's value; never infinite here. By way of no denormal number, which would take the processor a hundred times as long:
/// the scales of small weights are such in f16.
#[inline(always)]
fn half(low: u8, high: u8) -> f32 {
    let bits = u32::from(u16::from_le_bytes([low, high]));
    let wide = (bits & 0x7fff) << 13;
    let normal = f32::from_bits(wide + (112 << 23));
    let small = f32::from_bits(wide + (113 << 23)) - f32::from_bits(113 << 23);
    let size = if bits & 0x7c00 == 0 { small } else { normal };
    f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
}

impl Format for Bf16 {
    const LEN: usize = 1;
    const BYTES: usize = 2;

    #[inline(always)]
    fn dequantize(block: &[u8], out: &mut [f32]) {
        out[0] = f32::from_bits(u32::from(u16::from_ne_bytes([block[0], block[1]])) << 16);
    }
}

impl Format for F16 {
    const LEN: usize = 1;
    const BYTES: usize = 2;

    #[inline(always)]
    fn dequantize(block: &[u8], out: &mut [f32]) {
        let [low, high] = u16::from_ne_bytes([block[0], block[1]]).to_le_bytes();
        out[0] = half(low, high);
    }
}

impl Format for Q8_0 {
    const LEN: usize = 32;
    const BYTES: usize = 34;

    #[inline(always)]
    fn dequantize(block: &[u8], out: &mut [f32]) {
        let scale = half(block[0], block[1]);
        for (o, q) in out.iter_mut().zip(&block[2..]) {
            *o = f32::from(*q as i8) * scale;
        }
    }
}

impl Format for Q4_0 {
    const LEN: usize = 32;
    const BYTES: usize = 18;

    #[inline(always)]
    fn dequantize(block: &[u8], out: &mut [f32]) {
        let scale = half(block[0], block[1]);
        let (low, high) = out.split_at_mut(16);
        for ((l, h), q) in low.iter_mut().zip(high).zip(&block[2..]) {
            *l = f32::from((q & 15) as i8 - 8) * scale;
            *h = f32::from((q >> 4) as i8 - 8) * scale;
        }
    }
}

impl Format for Q4K {
    const LEN: usize = 256;
    const BYTES: usize = 144;

    #[inline(always)]
    fn dequantize(block: &[u8], out: &mut [f32]) {
        let (scale, least) = (half(block[0], block[1]), half(block[2], block[3]));
        let packed = &block[4..16];
        let pair = |run: usize| {
            let (s, m) = if run < 4 {
                (packed[run] & 63, packed[run + 4] & 63)
            } else {
                (
                    packed[run + 4] & 15 | packed[run - 4] >> 6 << 4,
                    packed[run + 4] >> 4 | packed[run] >> 6 << 4,
                )
            };
            (scale * f32::from(s), least * f32::from(m))
        };
        let runs = block[16..].chunks_exact(32).zip(out.chunks_exact_mut(64));
        for (i, (quants, out)) in runs.enumerate() {
            let ((s0, m0), (s1, m1)) = (pair(2 * i), pair(2 * i + 1));
            let (low, high) = out.split_at_mut(32);
            for ((l, h), q) in low.iter_mut().zip(high).zip(quants) {
                *l = f32::from(q & 15) * s0 - m0;
                *h = f32::from(q >> 4) * s1 - m1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_of_every_size_are_read() {
        for bits in (0..=u16::MAX).filter(|b| b & 0x7c00 != 0x7c00) {
            let [low, high] = bits.to_le_bytes();
            assert_eq!(half(low, high), half::f16::from_bits(bits).to_f32());
        }
    }
}
