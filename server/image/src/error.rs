//! What can be wrong with a picture, in sentences for the person who sent it.

use api::ErrorCode;
use serde::{Deserialize, Serialize};

use super::{Format, MAX_SIDE};

const JPEG_2000: &str = "This is a JPEG 2000 picture, which can't be read here.";

/// Why a picture can't be used. `Display` says what happened and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ImageError {
    /// No picture, or of a kind that is not read.
    #[error("{what} Send a JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF picture.")]
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
    /// More memory or work than one picture may take, whatever its size.
    #[error(
        "{what} takes more memory and time than a picture may here. {remedy}, and send it again."
    )]
    TooDear { what: String, remedy: String },
    /// A region of which nothing lies in the picture. Width and height are the upright picture's.
    #[error(
        "Nothing of that region lies in this picture of {width} × {height} pixels: give it in pixels from the upper left corner."
    )]
    Outside { width: u32, height: u32 },
}

impl ImageError {
    /// The stable code on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            ImageError::Unsupported { .. } => ErrorCode::ImageUnsupported,
            ImageError::Broken { .. } => ErrorCode::ImageBroken,
            ImageError::TooLarge { .. } | ImageError::TooDear { .. } => ErrorCode::ImageTooLarge,
            ImageError::Outside { .. } => ErrorCode::BadMessage,
        }
    }

    pub(super) fn broken(format: Format, what: impl std::fmt::Display) -> Self {
        let what = what.to_string().trim_end_matches('.').to_owned();
        ImageError::Broken { format, what }
    }

    /// The error for bytes that begin like none of the formats that are read: names what they are, where that is plain.
    pub(super) fn unknown(bytes: &[u8]) -> Self {
        let brands = super::brands(bytes);
        let is = |names: &[&[u8; 4]]| brands.iter().any(|brand| names.contains(&brand));
        let what = match bytes {
            [] => "The file is empty.",
            _ if is(&[b"mif1", b"msf1"]) => {
                "This is a HEIF picture of a kind that can't be read here."
            }
            _ if is(&[b"jp2 ", b"jpx ", b"jpm "]) => JPEG_2000,
            _ if !brands.is_empty() => "This is a video, not a picture.",
            [0, 0, 0, 12, b'j', b'P', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => JPEG_2000,
            [0, 0, 0, 12, b'J', b'X', b'L', ..] | [0xff, 0x0a, ..] => {
                "This is a JPEG XL picture, which can't be read here."
            }
            [b'8', b'B', b'P', b'S', ..] => "This is a Photoshop file, which can't be read here.",
            [b'%', b'P', b'D', b'F', ..] => "This is a PDF, not a picture.",
            _ => "This is no picture that can be read here.",
        };
        ImageError::Unsupported { what: what.into() }
    }

    /// The error for a camera's raw file.
    pub(super) fn raw() -> Self {
        ImageError::Unsupported {
            what: "This is a camera's raw file: the camera's own program can save it as a picture."
                .into(),
        }
    }

    /// The error for what a decoder couldn't make sense of: its own words are for the log, not for whoever sent the picture.
    pub(super) fn damaged(format: Format, error: impl std::fmt::Display) -> Self {
        let error = error.to_string();
        tracing::debug!(format = format.as_str(), %error, "a picture is damaged");
        let is_short = [
            "remature",
            "nexpected end",
            "fill whole buffer",
            "EOF",
            "not enough",
        ]
        .iter()
        .any(|word| error.contains(word));
        let what = match is_short {
            true => "part of its data is missing",
            false => "part of its data makes no sense",
        };
        Self::broken(format, what)
    }

    /// The error for a picture of a kind that a decoder doesn't know; its own words are for the log.
    pub(super) fn unsupported(format: Format, error: impl std::fmt::Display) -> Self {
        tracing::debug!(format = format.as_str(), %error, "a picture is of a kind that isn't read");
        ImageError::Unsupported {
            what: format!(
                "This is a kind of {} that can't be read here: another program can save it as an ordinary one.",
                format.as_str().to_uppercase()
            ),
        }
    }

    /// The error for one of the `image` crate's decoders.
    pub(super) fn from_decoder(format: Format, error: ::image::ImageError) -> Self {
        use ::image::ImageError as E;
        match error {
            E::Unsupported(error) => Self::unsupported(format, error),
            E::Limits(_) => Self::broken(format, "it asks for more memory than its size explains"),
            error => Self::damaged(format, error),
        }
    }
}
