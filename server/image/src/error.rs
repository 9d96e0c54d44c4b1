//! What can be wrong with a picture, in sentences for the person who sent it.

use serde::{Deserialize, Serialize};
use wire::ErrorCode;

use super::{Format, MAX_SIDE};

/// Why a picture can't be used. `Display` says what happened and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ImageError {
    /// No picture, or of a kind that is not read.
    #[error("{what} Send a JPEG, PNG, WebP, GIF, BMP or TIFF picture.")]
    Unsupported { what: String },
    /// Cut off or damaged.
    #[error(
        "This {} picture is cut off or damaged: {what}. Send it again, or another copy of it.",
        .format.as_str().to_uppercase()
    )]
    Broken { format: Format, what: String },
    /// More pixels than allowed, by its header.
    #[error(
        "This picture has {width} × {height} pixels; at most {} megapixels, and {MAX_SIDE} to a side, are read here. \
         Make it smaller and send it again.",
        *.max_pixels as f64 / 1e6
    )]
    TooLarge {
        width: u32,
        height: u32,
        max_pixels: u64,
    },
}

impl ImageError {
    /// The stable code on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            ImageError::Unsupported { .. } => ErrorCode::ImageUnsupported,
            ImageError::Broken { .. } => ErrorCode::ImageBroken,
            ImageError::TooLarge { .. } => ErrorCode::ImageTooLarge,
        }
    }

    pub(super) fn broken(format: Format, what: impl std::fmt::Display) -> Self {
        let what = what.to_string().trim_end_matches('.').to_owned();
        ImageError::Broken { format, what }
    }

    /// For bytes that begin like none of our formats: names what they are, where that is plain.
    pub(super) fn unknown(bytes: &[u8]) -> Self {
        let brand = bytes.get(4..8).filter(|b| b == b"ftyp");
        let brand = brand.and(bytes.get(8..12));
        let what = match (bytes, brand) {
            ([], _) => "The file is empty.",
            (_, Some(b"avif" | b"avis")) => "AVIF pictures can't be read here.",
            (_, Some(b"heic" | b"heix" | b"hevc" | b"heim" | b"mif1" | b"msf1")) => {
                "HEIC pictures can't be read here; a phone's settings can make it take JPEGs (\"most compatible\")."
            }
            (_, Some(_)) => "This is a video, not a picture.",
            ([b'%', b'P', b'D', b'F', ..], _) => "This is a PDF, not a picture.",
            _ => "This is no picture that can be read here.",
        };
        ImageError::Unsupported { what: what.into() }
    }

    /// From the `image` crate's decoders.
    pub(super) fn from_decoder(format: Format, error: ::image::ImageError) -> Self {
        use ::image::ImageError as E;
        match error {
            E::Unsupported(error) => ImageError::Unsupported {
                what: format!(
                    "This kind of {} can't be read here ({error}).",
                    format.as_str().to_uppercase()
                ),
            },
            E::Limits(_) => Self::broken(format, "it asks for more memory than its size explains"),
            error => Self::broken(format, error),
        }
    }
}
