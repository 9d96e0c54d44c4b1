//! A file's checksum, as a hub gives it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// In lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// Of large files: SHA-256.
    Sha256(String),
    /// Of what lies in the repository itself: what git calls the blob, SHA-1 over its length and its bytes.
    Git(String),
}

/// Of what is read at once.
pub(crate) const BLOCK: usize = 1 << 20;

impl Checksum {
    /// The checksum that an ETag of the hub is, if it is one.
    pub fn of_etag(etag: &str) -> Option<Self> {
        let is_hex = etag
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match etag.len() {
            64 if is_hex => Some(Checksum::Sha256(etag.into())),
            40 if is_hex => Some(Checksum::Git(etag.into())),
            _ => None,
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Checksum::Sha256(text) | Checksum::Git(text) => text,
        }
    }

    /// Begins to sum a file of so many bytes.
    pub fn sum(&self, size: u64) -> Sum {
        match self {
            Checksum::Sha256(_) => Sum::Sha256(Sha256::new()),
            Checksum::Git(_) => Sum::Git(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }

    /// Whether a file has this sum and as many bytes.
    pub fn is_of(&self, path: &Path, size: u64) -> io::Result<bool> {
        let mut file = File::open(path)?;
        if file.metadata()?.len() != size {
            return Ok(false);
        }
        let mut sum = self.sum(size);
        sum.add_all(&mut file)?;
        Ok(sum.finish() == self.text())
    }
}

/// A sum of what has come so far.
#[derive(Clone)]
pub(crate) enum Sum {
    Sha256(Sha256),
    Git(Sha1),
}

impl Sum {
    pub fn add(&mut self, bytes: &[u8]) {
        match self {
            Sum::Sha256(sum) => sum.update(bytes),
            Sum::Git(sum) => sum.update(bytes),
        }
    }

    /// How many bytes there were.
    pub fn add_all(&mut self, from: &mut impl Read) -> io::Result<u64> {
        let mut block = vec![0; BLOCK];
        let mut all = 0;
        loop {
            match from.read(&mut block) {
                Ok(0) => return Ok(all),
                Ok(n) => {
                    self.add(&block[..n]);
                    all += n as u64;
                }
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Err(problem) => return Err(problem),
            }
        }
    }

    pub fn finish(self) -> String {
        match self {
            Sum::Sha256(sum) => hex(&sum.finalize()),
            Sum::Git(sum) => hex(&sum.finalize()),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_git_and_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "hello\n").unwrap();
        // git hash-object and sha256sum say so.
        for etag in [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ] {
            let sum = Checksum::of_etag(etag).unwrap();
            assert!(sum.is_of(&path, 6).unwrap());
            assert!(!sum.is_of(&path, 5).unwrap());
            std::fs::write(&path, "hellO\n").unwrap();
            assert!(!sum.is_of(&path, 6).unwrap());
            std::fs::write(&path, "hello\n").unwrap();
        }
    }

    #[test]
    fn what_is_no_sum_is_none() {
        for etag in [
            "",
            "abc",
            "../../../../../../../../../../../../../../x",
            &"G".repeat(64),
            &"A".repeat(40),
        ] {
            assert_eq!(Checksum::of_etag(etag), None, "{etag}");
        }
    }
}
