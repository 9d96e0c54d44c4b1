//! Who asks, as far as shares go: an API key, or where there is none an address.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// An API key, told by its SHA-256: the key itself is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// The id of an API key, which is given as clients send it.
    pub fn of(key: &str) -> Self {
        KeyId(Sha256::digest(key).into())
    }

    /// Whether both are the same; takes as long if they are not.
    pub fn is(&self, other: &KeyId) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        std::hint::black_box(pairs.fold(0, |all, (a, b)| all | (a ^ b))) == 0
    }
}

/// One client, however many connections and sessions it opens: what is shared out is shared among these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    Key(KeyId),
    Address(IpAddr),
}

impl Client {
    /// Whoever connects from this address. Everyone in an IPv6 network of 64 bits is one: a single machine has all of it.
    pub fn at(address: IpAddr) -> Self {
        Client::Address(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (!0 << 64)).into(),
            address => address,
        })
    }

    /// A number of its own, for where no more than that need be known.
    pub fn number(&self) -> u128 {
        match self {
            Client::Key(KeyId(digest)) => {
                let mut first = [0; 16];
                first.copy_from_slice(&digest[..16]);
                u128::from_be_bytes(first)
            }
            Client::Address(IpAddr::V4(address)) => address.to_ipv6_mapped().to_bits(),
            Client::Address(IpAddr::V6(address)) => address.to_bits(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_ipv6_network_is_one_client() {
        let at = |address: &str| Client::at(address.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.1").number(), at("192.0.2.2").number());
    }

    #[test]
    fn keys_are_told_apart() {
        let (one, other) = (KeyId::of("one"), KeyId::of("other"));
        assert!(one.is(&KeyId::of("one")) && !one.is(&other));
        assert_ne!(Client::Key(one).number(), Client::Key(other).number());
    }
}
