//! Memory that two processes see: a picture's file, or the pixels made of it.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// Where a decoder process writes pixels. They are read where they were written, without a copy, and then the next ones go
/// there: to find new memory takes as long as to copy them.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<Shelf>>);

#[derive(Default)]
struct Shelf {
    /// Which place the process has now: it is told of one at a time.
    current: u64,
    /// That place, unless somebody has it.
    free: Option<MmapMut>,
}

/// A place that the process writes and one reader has. Dropped, it is there for the next pixels.
pub struct Place {
    number: u64,
    /// There until it is dropped.
    map: Option<MmapMut>,
    home: Places,
}

impl Places {
    /// A place of `length` bytes, at least one; `announce` gives the process a new one, where the one that it has won't do.
    ///
    /// # Errors
    /// If the system has no memory that can be shared, or what `announce` says.
    pub fn take(
        &self,
        length: usize,
        announce: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<Place> {
        let mut shelf = self.shelf();
        let free = shelf.free.take().filter(|map| map.len() == length);
        let map = match free {
            Some(map) => map,
            None => {
                let SharedMemory { file, map } = SharedMemory::new(length)?;
                announce(file.as_fd())?;
                shelf.current += 1;
                map
            }
        };
        Ok(Place {
            number: shelf.current,
            map: Some(map),
            home: self.clone(),
        })
    }

    /// Whether one of `length` bytes could be taken without finding new memory.
    pub fn has_free(&self, length: usize) -> bool {
        let shelf = self.shelf();
        shelf.free.as_ref().is_some_and(|map| map.len() == length)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Place {
    fn as_ref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shelf = self.home.shelf();
        if self.number == shelf.current {
            shelf.free = self.map.take();
        }
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
    fn a_place_that_is_free_again_is_the_next_one() {
        let places = Places::default();
        let mut told = 0;
        let mut take = |length| {
            let place = places.take(length, |_| {
                told += 1;
                Ok(())
            });
            (place.unwrap(), told)
        };
        let (first, _) = take(5000);
        drop(first);
        let (first, told) = take(5000);
        assert_eq!((first.as_ref().len(), told), (5000, 1));
        // Somebody has it.
        let (second, told) = take(5000);
        assert_eq!(told, 2);
        // By now the process has another.
        drop(first);
        assert!(places.shelf().free.is_none());
        drop(second);
        let (other, told) = take(6000);
        assert_eq!((other.as_ref().len(), told), (6000, 3));
    }

    #[test]
    fn nobody_can_change_its_length() {
        let memory = SharedMemory::new(100_000).unwrap();
        assert!(memory.file.set_len(10).is_err() && memory.file.set_len(200_000).is_err());
    }
}
