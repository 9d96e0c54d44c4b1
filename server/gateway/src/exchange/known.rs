//! Pictures' texts that were read before: hashing a text takes a tenth of what reading it does.

use std::collections::{HashMap, VecDeque};

use super::pool::Namespace;

/// Texts that are kept; the one that was read longest ago goes.
const MAX: usize = 4096;

/// What tells texts apart: their BLAKE3.
pub type Digest = [u8; 32];

/// The SHA-256 of the files that texts are.
#[derive(Default)]
pub struct KnownTexts {
    /// Each namespace has its own: else timing would tell one what another sent.
    files: HashMap<(Namespace, Digest), [u8; 32]>,
    order: VecDeque<(Namespace, Digest)>,
}

impl KnownTexts {
    pub fn get(&self, namespace: Namespace, text: &Digest) -> Option<[u8; 32]> {
        self.files.get(&(namespace, *text)).copied()
    }

    pub fn put(&mut self, namespace: Namespace, text: Digest, sha256: [u8; 32]) {
        if self.files.insert((namespace, text), sha256).is_some() {
            return;
        }
        self.order.push_back((namespace, text));
        if self.order.len() > MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.files.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_knows_its_own_texts_and_not_too_many() {
        let namespace = |client| Namespace { client, user: 0 };
        let digest = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_le_bytes());
            digest
        };
        let mut texts = KnownTexts::default();
        texts.put(namespace(1), digest(0), [7; 32]);
        texts.put(namespace(1), digest(0), [7; 32]);
        assert_eq!(texts.get(namespace(1), &digest(0)), Some([7; 32]));
        assert_eq!(texts.get(namespace(2), &digest(0)), None);
        for number in 1..=MAX {
            texts.put(namespace(1), digest(number), [8; 32]);
        }
        assert_eq!(texts.get(namespace(1), &digest(0)), None);
        assert_eq!(texts.get(namespace(1), &digest(1)), Some([8; 32]));
        assert_eq!((texts.files.len(), texts.order.len()), (MAX, MAX));
    }
}
