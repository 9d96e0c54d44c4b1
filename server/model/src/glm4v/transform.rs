//! From a picture's bytes to the floats that enter the vision tower.

use std::sync::LazyLock;

use api::Pixels;

/// Subtracted from each channel (R, G, B) after /255: CLIP's, as published with the model.
pub const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Each channel is divided by it, after the mean.
pub const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// The value of each byte in each channel, for a device that makes values of bytes by itself.
pub fn values() -> &'static [[f32; 256]; 3] {
    &TABLES
}

/// What enters the vision tower: [3, S, S], each byte /255, minus [`MEAN`], divided by [`STD`].
pub fn to_f32_chw(pixels: &Pixels) -> Vec<f32> {
    let mut out = vec![0.0; pixels.rgb().len()];
    write_f32_chw(pixels, &mut out);
    out
}

/// [`to_f32_chw`] into a buffer of the caller's; values beyond 3·S² are left as they are.
///
/// By table: 256 values for each channel are made once, by exactly torchvision's three steps.
pub fn write_f32_chw(pixels: &Pixels, out: &mut [f32]) {
    let plane = pixels.rgb().len() / 3;
    let (red, rest) = out.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    let [reds, greens, blues] = &*TABLES;
    let pixels = pixels.rgb().as_chunks::<3>().0;
    for (((&[r, g, b], red), green), blue) in pixels.iter().zip(red).zip(green).zip(blue) {
        *red = reds[usize::from(r)];
        *green = greens[usize::from(g)];
        *blue = blues[usize::from(b)];
    }
}

static TABLES: LazyLock<[[f32; 256]; 3]> = LazyLock::new(|| {
    std::array::from_fn(|channel| {
        std::array::from_fn(|byte| (byte as f32 / 255.0 - MEAN[channel]) / STD[channel])
    })
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_torchvisions() {
        let size = 24;
        let bytes = (0..Pixels::bytes(size)).map(|i| (i * 37 % 256) as u8);
        let pixels = Pixels::new(size, bytes.collect::<Vec<u8>>());
        let floats = to_f32_chw(&pixels);
        assert_eq!(floats.len(), 3 * 24 * 24);
        for (at, &byte) in pixels.rgb().iter().enumerate() {
            let (pixel, channel) = (at / 3, at % 3);
            let expected =
                (f64::from(byte) / 255.0 - f64::from(MEAN[channel])) / f64::from(STD[channel]);
            let found = f64::from(floats[channel * 24 * 24 + pixel]);
            assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
        }
    }
}
