//! The large buffers of a picture's way, kept between pictures: fresh ones cost a page fault for every 4 KiB, which for
//! a 12-megapixel photo is more than its resize.

use std::sync::{Mutex, PoisonError};

use fast_image_resize::Resizer;
use turbojpeg::Decompressor;

/// Sets kept for the next pictures; more at once work, they are just not kept.
pub(super) const KEPT: usize = 4;
/// A buffer larger than this (a 20-megapixel photo) is not kept.
const KEPT_BYTES: usize = 64 << 20;

static POOL: Mutex<Vec<Scratch>> = Mutex::new(Vec::new());

/// What one picture needs on its way.
#[derive(Default)]
pub(super) struct Scratch {
    /// The picture as decoded: the decoder's own channels and depth; then RGB.
    pub decoded: Vec<u8>,
    /// RGB where it can't be made in place, and what lies between the two passes of the resize.
    pub between: Vec<u8>,
    pub resizer: Resizer,
    #[cfg(target_arch = "x86_64")]
    pub taps: super::resize::Taps,
    pub jpeg: Option<Decompressor>,
}

impl Scratch {
    /// A used one, or a new one.
    pub fn take() -> Self {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        pool.pop().unwrap_or_default()
    }

    /// Returns the buffers to the pool, for the next picture.
    pub fn give_back(mut self) {
        for buffer in [&mut self.decoded, &mut self.between] {
            if buffer.capacity() > KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < KEPT {
            pool.push(self);
        }
    }
}
