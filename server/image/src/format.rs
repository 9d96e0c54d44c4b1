//! The formats of pictures.

use serde::{Deserialize, Serialize};

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
    Tiff,
    Heic,
    Avif,
}

impl Format {
    /// All that are read.
    pub const ALL: [Format; 8] = [
        Format::Jpeg,
        Format::Png,
        Format::WebP,
        Format::Gif,
        Format::Bmp,
        Format::Tiff,
        Format::Heic,
        Format::Avif,
    ];

    /// The name on the wire: `jpeg`, `png`, `webp`, `gif`, `bmp`, `tiff`, `heic`, `avif`.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Jpeg => "jpeg",
            Format::Png => "png",
            Format::WebP => "webp",
            Format::Gif => "gif",
            Format::Bmp => "bmp",
            Format::Tiff => "tiff",
            Format::Heic => "heic",
            Format::Avif => "avif",
        }
    }
}

/// The brands of a file made of boxes, as films and HEIC are: its own first, then those that it is compatible with.
pub(crate) fn brands(bytes: &[u8]) -> &[[u8; 4]] {
    let Some(&[l0, l1, l2, l3, b'f', b't', b'y', b'p']) = bytes.first_chunk() else {
        return &[];
    };
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    // Between the two stands a version.
    let end = length.min(bytes.len()).min(256);
    bytes.get(8..end).unwrap_or_default().as_chunks().0
}
