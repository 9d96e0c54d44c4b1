//! What runs on several threads, and how its parts write their results.

use rayon::prelude::*;

/// Runs `f` on each chunk of `size` elements with its index: on several threads only where there is enough to do
/// (`cost` nanoseconds per element, roughly), since waking a thread costs more than a small row.
pub fn for_chunks(
    data: &mut [f32],
    size: usize,
    cost: usize,
    f: impl Fn(usize, &mut [f32]) + Sync,
) {
    const WORTH_WAKING: usize = 50_000;
    if data.len() * cost < WORTH_WAKING {
        data.chunks_mut(size)
            .enumerate()
            .for_each(|(i, chunk)| f(i, chunk));
    } else {
        data.par_chunks_mut(size)
            .enumerate()
            .for_each(|(i, chunk)| f(i, chunk));
    }
}

/// Results that tasks write in disjoint pieces.
pub struct Shared<'a> {
    start: *mut f32,
    len: usize,
    results: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: every use takes a disjoint piece.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// `results`, for as long as tasks write them.
    pub fn new(results: &'a mut [f32]) -> Self {
        Shared {
            start: results.as_mut_ptr(),
            len: results.len(),
            results: std::marker::PhantomData,
        }
    }

    /// The `len` results from `at` on.
    ///
    /// # Safety
    /// Nobody else reads or writes the piece meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, at: usize, len: usize) -> &mut [f32] {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: it is inside, and otherwise the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }

    /// Where the results from `at` on begin.
    pub fn at(&self, at: usize) -> *mut f32 {
        assert!(at <= self.len);
        // SAFETY: it is inside.
        unsafe { self.start.add(at) }
    }
}
