//! Memory that two processes see: a picture's file, or the pixels made of it.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memmap2::{Mmap, MmapMut, MmapOptions};
use rustix::fs::{MemfdFlags, SealFlags};

/// Bytes without a name in any file system. Their number never changes, so that no process can make another fail by
/// cutting them short.
#[derive(Debug)]
pub struct SharedMemory {
    file: File,
    map: MmapMut,
}

impl SharedMemory {
    /// `length` bytes (at least one), all zero; the system gives memory for them as they are written.
    ///
    /// # Errors
    /// If the system has no file descriptors or address space left.
    pub fn new(length: usize) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("glimpse-picture", flags)?);
        file.set_len(length as u64)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        // SAFETY: of bytes any value is fine, whatever a decoder that was taken over makes of them.
        let map = unsafe { MmapOptions::new().len(length).map_mut(&file)? };
        Ok(SharedMemory { file, map })
    }
}

impl Deref for SharedMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl DerefMut for SharedMemory {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A decoder's view of a file, `length` bytes long.
///
/// # Errors
/// If there is no address space for it.
pub fn view(memory: OwnedFd, length: usize) -> io::Result<Mmap> {
    // SAFETY: its owner has written all of it, and its length is sealed.
    unsafe {
        MmapOptions::new()
            .len(length)
            .populate()
            .map(&File::from(memory))
    }
}

/// A decoder's place for pixels, `length` bytes long. Its memory is found at once: page by page that would take longer
/// than what is written there.
///
/// # Errors
/// If there is no address space for it.
pub fn place(memory: OwnedFd, length: usize) -> io::Result<MmapMut> {
    // SAFETY: nobody else writes it, and its length is sealed.
    unsafe {
        MmapOptions::new()
            .len(length)
            .populate()
            .map_mut(&File::from(memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_writes_the_other_sees() {
        let mut memory = SharedMemory::new(100_000).unwrap();
        memory.fill(7);
        let fd = || memory.as_fd().try_clone_to_owned().unwrap();
        let seen = view(fd(), 100_000).unwrap();
        let mut written = place(fd(), 100_000).unwrap();
        assert!(seen.iter().all(|byte| *byte == 7));
        written.fill(9);
        assert!(memory.iter().chain(&*seen).all(|byte| *byte == 9));
    }

    #[test]
    fn nobody_can_change_its_length() {
        let memory = SharedMemory::new(100_000).unwrap();
        assert!(memory.file.set_len(10).is_err() && memory.file.set_len(200_000).is_err());
    }
}
