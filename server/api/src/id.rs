//! Names that nobody has to hand out: 128 random bits, so that two machines never give the same one.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            /// The id of these bits.
            pub const fn new(bits: u128) -> Self {
                $name(bits)
            }

            /// One that nobody else has.
            pub fn random() -> Self {
                $name(rand::random())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_bytes(&self.0.to_be_bytes())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_bytes(Bits).map($name)
            }
        }
    )*};
}

ids! {
    /// A client's session.
    SessionId;
    /// A conversation of a session: what [`Command::ForgetConversation`](crate::Command::ForgetConversation) frees.
    ConversationId;
    /// A question.
    RequestId;
}

/// 16 bytes, the most significant first.
struct Bits;

impl<'de> Visitor<'de> for Bits {
    type Value = u128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("16 bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<u128, E> {
        let bytes = bytes.try_into();
        let bytes = bytes.map_err(|_| E::invalid_length(0, &self))?;
        Ok(u128::from_be_bytes(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<u128, A::Error> {
        let mut bits = 0;
        for at in 0..16 {
            let byte: Option<u8> = bytes.next_element()?;
            let byte = byte.ok_or_else(|| A::Error::invalid_length(at, &self))?;
            bits = bits << 8 | u128::from(byte);
        }
        Ok(bits)
    }
}
