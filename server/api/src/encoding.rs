//! Commands and reports as bytes: MessagePack with named fields, so that a reader passes over those that it doesn't know.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version that is written. One that only adds what may be passed over keeps the number.
pub const VERSION: u32 = 1;

/// Why bytes are no message.
#[derive(Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The message is of a later version than [`VERSION`], and not to be understood without it.
    Newer(u32),
    /// What is wrong with them.
    Malformed(String),
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::Newer(version) => write!(
                f,
                "a message of version {version}, where up to {VERSION} is understood: update this side"
            ),
            DecodeError::Malformed(what) => write!(f, "no message: {what}"),
        }
    }
}

impl std::error::Error for DecodeError {}

#[derive(Serialize)]
struct Written<'a, T> {
    version: u32,
    message: &'a T,
}

#[derive(Deserialize)]
struct Read<T> {
    message: T,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// A [`Command`](crate::Command) or [`Report`](crate::Report) as bytes.
///
/// # Errors
/// None, of what this crate has; of a type of somebody else's, what its `Serialize` says.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, String> {
    let version = VERSION;
    rmp_serde::to_vec_named(&Written { version, message }).map_err(|error| error.to_string())
}

/// What [`encode`] wrote, of this version or another.
///
/// # Errors
/// If the bytes are no such message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    rmp_serde::from_slice::<Read<T>>(bytes)
        .map(|read| read.message)
        .map_err(|error| match rmp_serde::from_slice::<Version>(bytes) {
            Ok(Version { version }) if version > VERSION => DecodeError::Newer(version),
            _ => DecodeError::Malformed(error.to_string()),
        })
}

#[cfg(test)]
mod tests;
