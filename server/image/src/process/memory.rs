//! Memory that two processes see: a picture's file, and behind it the pixels made of it.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};

/// Where the second part may begin: a multiple of every system's page size.
const ALIGNMENT: usize = 64 << 10;

/// Bytes without a name in any file system. It can grow but never shrink, so that no process can make another fail by
/// cutting it short.
#[derive(Debug)]
pub struct SharedMemory {
    file: File,
    first: MmapMut,
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
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::SEAL)?;
        // SAFETY: the memory is this process's alone until a decoder gets it, which reads it and writes behind it; whatever
        // else a decoder that was taken over does to it, it stays bytes, of which any value is fine.
        let first = unsafe { MmapOptions::new().len(length).map_mut(&file)? };
        Ok(SharedMemory { file, first })
    }

    /// The first part.
    pub fn bytes(&self) -> &[u8] {
        &self.first
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.first
    }

    /// Where a second part begins.
    fn second_at(&self) -> usize {
        self.first.len().next_multiple_of(ALIGNMENT)
    }

    /// Makes a second part of `length` bytes, all zero; told is where it begins.
    ///
    /// # Errors
    /// If the system has no address space left.
    pub fn grow(&mut self, length: usize) -> io::Result<(Mapped, usize)> {
        let at = self.second_at();
        self.file.set_len((at + length) as u64)?;
        let mut options = MmapOptions::new();
        // SAFETY: as in `new`.
        let map = unsafe { options.offset(at as u64).len(length).map_mut(&self.file)? };
        Ok((Mapped(map), at))
    }

    /// Has the system find the second part's memory now, so that whoever writes it first need not wait for that.
    pub fn prepare(&self, length: usize) -> io::Result<()> {
        let at = self.second_at() as u64;
        Ok(rustix::fs::fallocate(
            &self.file,
            FallocateFlags::empty(),
            at,
            length as u64,
        )?)
    }

    /// Gives the first part's memory back, whoever else still sees it.
    pub fn free_first(&mut self) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let length = self.second_at() as u64;
        Ok(rustix::fs::fallocate(&self.file, flags, 0, length)?)
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The second part, which stays when the first is gone.
pub struct Mapped(MmapMut);

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A decoder's view: the file, and the place for the pixels.
pub struct View {
    pub file: memmap2::Mmap,
    pub pixels: MmapMut,
}

impl View {
    /// # Errors
    /// If there is no address space for it.
    pub fn new(memory: OwnedFd, file: usize, pixels: (usize, usize)) -> io::Result<Self> {
        let memory = File::from(memory);
        let (at, length) = pixels;
        // SAFETY: nobody writes the file any more, and the pixels are written here alone.
        unsafe {
            Ok(View {
                file: MmapOptions::new().len(file).map(&memory)?,
                pixels: MmapOptions::new()
                    .offset(at as u64)
                    .len(length)
                    .map_mut(&memory)?,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_part_outlives_the_first() {
        let mut memory = SharedMemory::new(100_000).unwrap();
        memory.bytes_mut().fill(7);
        let (second, at) = memory.grow(5000).unwrap();
        memory.prepare(5000).unwrap();
        let fd = memory.as_fd().try_clone_to_owned().unwrap();
        let mut view = View::new(fd, 100_000, (at, 5000)).unwrap();
        assert!(view.file.iter().all(|byte| *byte == 7));
        view.pixels.fill(9);
        memory.free_first().unwrap();
        assert!(view.file.iter().all(|byte| *byte == 0));
        drop((memory, view));
        assert!(second.len() == 5000 && second.iter().all(|byte| *byte == 9));
    }

    #[test]
    fn nobody_can_cut_it_short() {
        let memory = SharedMemory::new(100_000).unwrap();
        assert!(memory.file.set_len(10).is_err());
    }
}
