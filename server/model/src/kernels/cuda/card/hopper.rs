//! Which kernels a Hopper card uses.

use std::sync::atomic::{AtomicU8, Ordering};

/// When the kernels of hopper.cu are used, where the card has them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hopper {
    WhereFast = 0,
    /// For measuring what they bring, and for tests.
    Never = 1,
    /// Also for sizes that another kernel is faster for: for tests.
    Always = 2,
}

static HOPPER: AtomicU8 = AtomicU8::new(Hopper::WhereFast as u8);

/// Says when the kernels of hopper.cu are used, from now on and on all cards.
pub fn use_hopper(when: Hopper) {
    HOPPER.store(when as u8, Ordering::Relaxed);
}

impl Hopper {
    /// When the kernels of hopper.cu are used now.
    pub fn now() -> Self {
        match HOPPER.load(Ordering::Relaxed) {
            0 => Hopper::WhereFast,
            1 => Hopper::Never,
            _ => Hopper::Always,
        }
    }
}
