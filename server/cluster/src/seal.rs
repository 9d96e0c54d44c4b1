//! Nothing that is kept can be read without its session's key.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};

/// Bytes of a key.
const KEY: usize = 32;

/// A session's key: AES-256 in Galois/counter mode (NIST SP 800-38D), each text under a nonce of 96 random bits.
#[derive(Clone)]
pub struct Key {
    bytes: [u8; KEY],
    cipher: LessSafeKey,
}

impl Key {
    /// One that nobody else has.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn random() -> Result<Self, String> {
        let mut bytes = [0; KEY];
        getrandom::fill(&mut bytes).map_err(|problem| problem.to_string())?;
        Ok(Key::of(bytes))
    }

    /// The key that a secret stands for.
    pub fn derived(secret: &[u8]) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"glimpse: keys of sessions\n");
        digest.update(secret);
        Key::of(digest.finalize().into())
    }

    /// The key of these bytes.
    pub fn of(bytes: [u8; KEY]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &bytes);
        // The algorithm's keys have this many bytes.
        let key = key.unwrap_or_else(|_| unreachable!("a key of {KEY} bytes"));
        Key {
            bytes,
            cipher: LessSafeKey::new(key),
        }
    }

    /// The text so that only who has the key can read it, and only as what it is `about`.
    ///
    /// # Errors
    /// If the system has no randomness, or the text is too long.
    pub fn seal(&self, about: &[u8], text: &[u8]) -> Result<Vec<u8>, String> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|problem| problem.to_string())?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + text.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(text);
        let tag = self.cipher.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(about),
            &mut sealed[NONCE_LEN..],
        );
        let tag = tag.map_err(|_| "a text is too long to be sealed".to_owned())?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// A text that was sealed with this key as what it is `about`; `None` if it was not.
    pub fn open(&self, about: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let nonce = *sealed.first_chunk::<NONCE_LEN>()?;
        let opened = self.cipher.open_within(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(about),
            &mut sealed,
            NONCE_LEN..,
        );
        let length = opened.ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

/// A process's half of the keys that it has in common with others (X25519, RFC 7748). It lives in the process's memory alone, so
/// that what was sent can't be read from what a server keeps once one of both is over.
#[derive(Clone)]
pub struct Half(StaticSecret);

/// What others are told of a [`Half`].
pub type PublicHalf = [u8; KEY];

impl Half {
    /// One that nobody else has.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn random() -> Result<Self, String> {
        let mut bytes = [0; KEY];
        getrandom::fill(&mut bytes).map_err(|problem| problem.to_string())?;
        Ok(Half(StaticSecret::from(bytes)))
    }

    pub fn public(&self) -> PublicHalf {
        PublicKey::from(&self.0).to_bytes()
    }

    /// The key that this process has in common with another one.
    pub fn with(&self, other: PublicHalf) -> Key {
        let shared = self.0.diffie_hellman(&PublicKey::from(other));
        let mut halves = [self.public(), other];
        halves.sort_unstable();
        let mut digest = Sha256::new();
        digest.update(b"glimpse: what two processes say\n");
        digest.update(shared.as_bytes());
        digest.update(halves.concat());
        Key::of(digest.finalize().into())
    }
}

/// How sessions' keys are written where gateways share them.
#[derive(Clone, Default)]
pub struct Wrapping(pub Option<Key>);

impl Wrapping {
    /// The keys of one session, the one in use first.
    ///
    /// # Errors
    /// Those of [`Key::seal`].
    pub fn wrap(&self, about: &[u8], keys: &[Key]) -> Result<Vec<u8>, String> {
        let bytes: Vec<u8> = keys.iter().flat_map(|key| key.bytes).collect();
        match &self.0 {
            Some(secret) => secret.seal(about, &bytes),
            None => Ok(bytes),
        }
    }

    /// Keys that were wrapped with the same secret; `None` if they were not.
    pub fn unwrap(&self, about: &[u8], wrapped: Vec<u8>) -> Option<Vec<Key>> {
        let bytes = match &self.0 {
            Some(secret) => secret.open(about, wrapped)?,
            None => wrapped,
        };
        let (keys, rest) = bytes.as_chunks::<KEY>();
        (rest.is_empty() && !keys.is_empty()).then(|| keys.iter().copied().map(Key::of).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_what_it_sealed_and_only_as_that() {
        let (key, other) = (Key::random().unwrap(), Key::random().unwrap());
        let sealed = key.seal(b"a", b"two boats").unwrap();
        assert!(!sealed.windows(4).any(|it| it == b"boat"));
        assert_eq!(key.open(b"a", sealed.clone()).unwrap(), b"two boats");
        assert!(key.open(b"b", sealed.clone()).is_none());
        assert!(other.open(b"a", sealed.clone()).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open(b"a", changed).is_none(), "{at}");
        }
        assert!(key.open(b"a", sealed[..NONCE_LEN + 3].to_vec()).is_none());
        assert!(key.open(b"a", Vec::new()).is_none());
        // Not even that two texts are one.
        assert_ne!(key.seal(b"a", b"two boats").unwrap(), sealed);
        assert_eq!(key.open(b"a", key.seal(b"a", b"").unwrap()).unwrap(), b"");
    }

    #[test]
    fn two_processes_have_a_key_that_a_third_has_not() {
        let [one, other, third] = std::array::from_fn(|_| Half::random().unwrap());
        let sealed = one.with(other.public()).seal(b"", b"two boats").unwrap();
        let opened = other.with(one.public()).open(b"", sealed.clone());
        assert_eq!(opened.unwrap(), b"two boats");
        assert!(third.with(one.public()).open(b"", sealed).is_none());
    }

    #[test]
    fn keys_are_wrapped_with_the_fleets_secret() {
        let keys = [Key::random().unwrap(), Key::random().unwrap()];
        let bare = Wrapping::default();
        let secret = |text: &[u8]| Wrapping(Some(Key::derived(text)));
        for wrapping in [&bare, &secret(b"one")] {
            let wrapped = wrapping.wrap(b"a", &keys).unwrap();
            let read = wrapping.unwrap(b"a", wrapped).unwrap();
            assert_eq!(read.len(), 2);
            assert!(
                read.iter()
                    .zip(&keys)
                    .all(|(one, other)| one.bytes == other.bytes)
            );
        }
        let wrapped = secret(b"one").wrap(b"a", &keys).unwrap();
        assert!(secret(b"two").unwrap(b"a", wrapped.clone()).is_none());
        assert!(bare.unwrap(b"a", wrapped).is_none());
        assert!(bare.unwrap(b"a", vec![]).is_none());
    }
}
