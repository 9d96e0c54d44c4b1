//! A picture's file as it comes in, piece by piece, where a decoder process can see it without a copy.

use std::io;

#[cfg(target_os = "linux")]
use crate::process::SharedMemory;

/// Files up to so many bytes lie in memory of this process alone and are copied for a decoder process: that costs less
/// than memory that can be shared, of which there is only so much as the system gives file descriptors.
#[cfg(target_os = "linux")]
const SMALL: usize = 64 << 10;

/// A file's bytes, as far as they came.
#[derive(Debug, Default)]
pub struct FileBuffer {
    own: Vec<u8>,
    /// Where they lie once they are more than a few: [`Self::own`] is empty then.
    #[cfg(target_os = "linux")]
    shared: Option<(SharedMemory, usize)>,
}

impl FileBuffer {
    /// A whole file.
    pub fn of(bytes: Vec<u8>) -> Self {
        FileBuffer {
            own: bytes,
            ..Self::default()
        }
    }

    pub fn bytes(&self) -> &[u8] {
        #[cfg(target_os = "linux")]
        if let Some((memory, length)) = &self.shared {
            return &memory[..*length];
        }
        &self.own
    }

    /// Adds a piece at the end. `announced` is how long the file will be: no more than a promise, for which no memory is
    /// taken.
    ///
    /// # Errors
    /// If the system has no memory that can be shared, or the file is longer than what was announced first.
    pub fn push(&mut self, piece: &[u8], announced: u64) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            if self.shared.is_none() && self.own.len() + piece.len() > SMALL {
                self.share(usize::try_from(announced).map_err(io::Error::other)?)?;
            }
            if let Some((memory, length)) = &mut self.shared {
                let end = *length + piece.len();
                let room = memory.get_mut(*length..end);
                let room = room.ok_or(io::ErrorKind::InvalidInput)?;
                room.copy_from_slice(piece);
                *length = end;
                return Ok(());
            }
        }
        if self.own.capacity() == 0 {
            // The system gives memory only for pages that are written: a lie about the size costs nothing.
            let announced = usize::try_from(announced).unwrap_or(0);
            let _ = self.own.try_reserve_exact(announced);
        }
        self.own.extend_from_slice(piece);
        Ok(())
    }

    /// Moves the bytes to where another process can see them, with room for `announced` in all.
    #[cfg(target_os = "linux")]
    fn share(&mut self, announced: usize) -> io::Result<()> {
        let mut memory = SharedMemory::new(announced.max(self.own.len()).max(1))?;
        let length = self.own.len();
        memory[..length].copy_from_slice(&self.own);
        self.own = Vec::new();
        self.shared = Some((memory, length));
        Ok(())
    }

    /// The bytes as memory that can be given to another process, and how many there are.
    #[cfg(target_os = "linux")]
    pub(crate) fn shared(&mut self) -> io::Result<(&SharedMemory, usize)> {
        if self.shared.is_none() {
            self.share(0)?;
        }
        match &self.shared {
            Some((memory, length)) => Ok((memory, *length)),
            None => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_become_the_file() {
        let file: Vec<u8> = (0..300_000_u32).map(|i| ((i * i) >> 7) as u8).collect();
        for piece in [1000, 65_536, 70_000, 300_000] {
            let mut buffer = FileBuffer::default();
            for piece in file.chunks(piece) {
                buffer.push(piece, file.len() as u64).unwrap();
            }
            assert!(buffer.bytes() == file, "in pieces of {piece}");
        }
        let mut small = FileBuffer::default();
        small.push(b"123", u64::MAX).unwrap();
        assert_eq!(small.bytes(), b"123");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_longer_than_announced_is_refused() {
        let mut buffer = FileBuffer::default();
        buffer.push(&vec![1; 100_000], 100_000).unwrap();
        assert!(buffer.push(&[1; 100_000], 100_000).is_err());
        assert_eq!(buffer.bytes().len(), 100_000);
    }
}
