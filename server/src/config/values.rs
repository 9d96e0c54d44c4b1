//! The kinds of values that settings have.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

impl Switch {
    pub fn is_on(self) -> bool {
        self == Switch::On
    }
}

/// One of these names, which `T` reads.
pub fn one_of<T, const N: usize>(names: [&'static str; N]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

/// What decodes JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImageDecoder {
    /// libjpeg-turbo, the fastest.
    Turbojpeg,
    /// Rust only.
    Portable,
}

impl From<ImageDecoder> for glimpse_image::Decoder {
    fn from(decoder: ImageDecoder) -> Self {
        match decoder {
            ImageDecoder::Turbojpeg => Self::TurboJpeg,
            ImageDecoder::Portable => Self::Portable,
        }
    }
}

/// What becomes of all pictures of a conversation but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EarlierPictures {
    /// The request is refused.
    Refuse,
    /// A line of text takes their places.
    Drop,
}

impl From<EarlierPictures> for gateway::doors::openai::EarlierPictures {
    fn from(pictures: EarlierPictures) -> Self {
        match pictures {
            EarlierPictures::Refuse => Self::Refuse,
            EarlierPictures::Drop => Self::Drop,
        }
    }
}

/// A number of bytes, written as `1048576`, `1MiB`, `64KiB`, `2GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "KiB" | "K" => 1 << 10,
            "MiB" | "M" => 1 << 20,
            "GiB" | "G" => 1 << 30,
            _ => {
                return Err(
                    "must be a number of bytes such as 1048576, 64KiB, 1MiB or 2GiB".into(),
                );
            }
        };
        number
            .parse()
            .ok()
            .and_then(|number: u64| number.checked_mul(factor))
            .filter(|bytes| *bytes <= wire::MAX_INTEGER)
            .map(Bytes)
            .ok_or_else(|| "must be a number of bytes such as 1048576, 64KiB, 1MiB or 2GiB".into())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (factor, unit) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if self.0 > 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_as_they_are_written() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("64KiB", 65_536),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        for text in ["", "-1", "1.5MiB", "MiB", "99999999999GiB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }
}
