//! How weights are kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a product's weights are kept in, from the most exact to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantize {
    /// As the device computes them.
    None,
    /// Q8_0: 8.5 bits a weight.
    Q8,
    /// 8-bit floats with a scale for each row; on cards alone.
    Fp8,
    /// Q4_K: 4.5 bits a weight.
    Q4,
}

impl Quantize {
    /// All of them, by name.
    pub const NAMES: [&'static str; 4] = ["none", "q8", "fp8", "q4"];
}

impl fmt::Display for Quantize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Quantize::None => "none",
            Quantize::Q8 => "q8",
            Quantize::Fp8 => "fp8",
            Quantize::Q4 => "q4",
        })
    }
}

impl FromStr for Quantize {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "none" => Ok(Quantize::None),
            "q8" => Ok(Quantize::Q8),
            "fp8" => Ok(Quantize::Fp8),
            "q4" => Ok(Quantize::Q4),
            _ => Err("must be none, q8, fp8 or q4".into()),
        }
    }
}

/// What is asked for (`--quantize`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuantizeChoice {
    /// The most exact that the device has room for.
    #[default]
    Auto,
    Given(Quantize),
}

impl QuantizeChoice {
    /// All of them, by name.
    pub const NAMES: [&'static str; 5] = ["auto", "none", "q8", "fp8", "q4"];
}

impl fmt::Display for QuantizeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuantizeChoice::Auto => f.write_str("auto"),
            QuantizeChoice::Given(quantize) => quantize.fmt(f),
        }
    }
}

impl FromStr for QuantizeChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(QuantizeChoice::Auto),
            name => name.parse().map(QuantizeChoice::Given),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_as_they_are_written() {
        for name in Quantize::NAMES {
            assert_eq!(name.parse::<Quantize>().unwrap().to_string(), name);
        }
        for name in QuantizeChoice::NAMES {
            assert_eq!(name.parse::<QuantizeChoice>().unwrap().to_string(), name);
        }
        assert!("q5".parse::<Quantize>().is_err());
    }
}
