//! The model's square of pixels, and the floats made of it.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Subtracted from each channel (R, G, B) after /255: CLIP's, as published with the model.
pub const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Each channel is divided by it, after the mean.
pub const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// A square of 8-bit RGB, [S, S, 3] with channels last, upright.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    size: u32,
    data: Vec<u8>,
    counted: Counted,
}

/// Whatever counts the memory, for as long as it lives. It makes no difference to what the pixels are.
#[derive(Clone, Default)]
struct Counted(Option<Arc<dyn Any + Send + Sync>>);

impl PartialEq for Counted {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Counted {}

impl fmt::Debug for Counted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_some() { "yes" } else { "no" })
    }
}

impl Pixels {
    /// `data` is `size` × `size` × 3 bytes.
    pub fn new(size: u32, data: Vec<u8>) -> Self {
        assert_eq!(data.len(), Self::bytes(size));
        let counted = Counted::default();
        Self {
            size,
            data,
            counted,
        }
    }

    /// How many bytes a square of `size` × `size` has.
    pub fn bytes(size: u32) -> usize {
        size as usize * size as usize * 3
    }

    /// Keeps `by` until the pixels are freed.
    pub fn counted(mut self, by: Arc<dyn Any + Send + Sync>) -> Self {
        self.counted = Counted(Some(by));
        self
    }

    /// S: the side, in pixels.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The bytes: [S, S, 3], rows from the top, R G B.
    pub fn rgb(&self) -> &[u8] {
        &self.data
    }

    /// The value of each byte in each channel, for a device that makes values of bytes by itself.
    pub fn values() -> &'static [[f32; 256]; 3] {
        &TABLES
    }

    /// What enters the vision tower: [3, S, S], each byte /255, minus [`MEAN`], divided by [`STD`].
    pub fn to_f32_chw(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.data.len()];
        self.write_f32_chw(&mut out);
        out
    }

    /// [`Self::to_f32_chw`] into a buffer of the caller's; values beyond 3·S² are left as they are.
    ///
    /// By table: 256 values for each channel are made once, by exactly torchvision's three steps.
    pub fn write_f32_chw(&self, out: &mut [f32]) {
        let plane = self.data.len() / 3;
        let (red, rest) = out.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let [reds, greens, blues] = &*TABLES;
        let pixels = self.data.as_chunks::<3>().0;
        for (((&[r, g, b], red), green), blue) in pixels.iter().zip(red).zip(green).zip(blue) {
            *red = reds[usize::from(r)];
            *green = greens[usize::from(g)];
            *blue = blues[usize::from(b)];
        }
    }
}

static TABLES: LazyLock<[[f32; 256]; 3]> = LazyLock::new(|| {
    std::array::from_fn(|channel| {
        std::array::from_fn(|byte| (byte as f32 / 255.0 - MEAN[channel]) / STD[channel])
    })
});
