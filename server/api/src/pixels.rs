//! The square of pixels that a model sees.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A square of 8-bit RGB, [S, S, 3] with channels last, upright. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Pixels {
    size: u32,
    data: Bytes,
}

/// Pixels of as many bytes as their sender says, yet to be checked.
#[derive(Deserialize)]
struct Unchecked {
    size: u32,
    data: Bytes,
}

impl TryFrom<Unchecked> for Pixels {
    type Error = String;

    fn try_from(Unchecked { size, data }: Unchecked) -> Result<Self, String> {
        // In wide numbers, since anybody may have written them.
        match u64::from(size) * u64::from(size) * 3 == data.len() as u64 {
            true => Ok(Pixels { size, data }),
            false => Err(format!(
                "{} bytes are no {size} × {size} pixels",
                data.len()
            )),
        }
    }
}

/// Bytes, and what counts their memory for as long as they live.
struct Counted {
    data: Bytes,
    _by: Arc<dyn Any + Send + Sync>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Pixels {
    /// `data` is `size` × `size` × 3 bytes.
    pub fn new(size: u32, data: impl Into<Bytes>) -> Self {
        let data = data.into();
        assert_eq!(data.len(), Self::bytes(size));
        Self { size, data }
    }

    /// How many bytes a square of `size` × `size` has.
    pub fn bytes(size: u32) -> usize {
        size as usize * size as usize * 3
    }

    /// Keeps `by` until the bytes are freed.
    pub fn counted(self, by: Arc<dyn Any + Send + Sync>) -> Self {
        let data = Bytes::from_owner(Counted {
            data: self.data,
            _by: by,
        });
        Self { data, ..self }
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
