//! The square of pixels that a model sees.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

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
}
