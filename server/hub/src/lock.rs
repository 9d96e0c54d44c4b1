//! Locks between processes, on the very files that the hubs' own tools lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// A lock that is held; it ends with this.
pub(crate) struct Held(#[expect(dead_code, reason = "the lock is the open file's")] File);

/// Takes a lock, if nobody has it.
pub(crate) fn try_hold(path: &Path, mode: u32) -> io::Result<Option<Held>> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = match open(path, OpenOptions::new().create_new(true)) {
        Ok(file) => {
            // Other users of the same cache wait for it too, whatever this one's umask is.
            set_mode(&file, mode);
            file
        }
        Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => {
            open(path, &mut OpenOptions::new())?
        }
        Err(problem) => return Err(problem),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(Held(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        // Without locks a file may be fetched twice, but what is fetched is right: it is checked.
        Err(TryLockError::Error(problem)) if problem.kind() == io::ErrorKind::Unsupported => {
            Ok(Some(Held(file)))
        }
        Err(TryLockError::Error(problem)) => Err(problem),
    }
}

#[cfg(unix)]
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // Whoever else may write there could make this one write elsewhere.
    let no_links = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    options
        .read(true)
        .write(true)
        .custom_flags(no_links)
        .open(path)
}

#[cfg(not(unix))]
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.read(true).write(true).open(path)
}

/// What can't be set is left as it is.
pub(crate) fn set_mode(file: &File, mode: u32) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let _ = file.set_permissions(fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = (file, mode);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.lock");
        let held = try_hold(&path, 0o664).unwrap();
        assert!(held.is_some());
        assert!(try_hold(&path, 0o664).unwrap().is_none());
        drop(held);
        assert!(try_hold(&path, 0o664).unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_is_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.lock");
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(try_hold(&path, 0o664).is_err());
        assert!(!folder.path().join("elsewhere").exists());
    }
}
