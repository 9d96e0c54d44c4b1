//! Where a checkpoint's files come from: a folder, or the binary itself.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::LoadError;

/// A folder in the published format.
#[derive(Clone, Debug)]
pub enum Folder {
    OnDisk(PathBuf),
    /// Names and contents compiled into the binary.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// A file's bytes; those of a file on disk are mapped, so that only what is touched is read.
pub enum FileBytes {
    Mapped(Mmap),
    Static(&'static [u8]),
}

impl FileBytes {
    /// What was read of `range` need not stay in memory: the file has it. Without this a checkpoint would be there
    /// twice once it is loaded, as pages of the files and as tensors.
    pub fn release(&self, range: std::ops::Range<usize>) {
        #[cfg(unix)]
        if let FileBytes::Mapped(map) = self {
            // SAFETY: the map is shared and only read, so a page dropped here comes back from the file unchanged.
            // Failing costs memory only.
            let _ = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.len(),
                )
            };
        }
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            FileBytes::Mapped(map) => map,
            FileBytes::Static(bytes) => bytes,
        }
    }
}

impl Folder {
    /// What to call the model: the folder's name.
    pub fn name(&self) -> String {
        match self {
            Folder::OnDisk(path) => path
                .canonicalize()
                .ok()
                .as_deref()
                .unwrap_or(path)
                .file_name()
                .map_or_else(
                    || "model".into(),
                    |name| name.to_string_lossy().into_owned(),
                ),
            Folder::Embedded(_) => "glimpse-demo".into(),
        }
    }

    /// A file that the folder may lack.
    pub fn optional(&self, name: &str) -> Result<Option<FileBytes>, LoadError> {
        match self {
            Folder::Embedded(files) => Ok(files
                .iter()
                .find(|(file, _)| *file == name)
                .map(|(_, bytes)| FileBytes::Static(bytes))),
            Folder::OnDisk(folder) => map(&folder.join(name)),
        }
    }

    /// A file that the folder must have.
    pub fn file(&self, name: &str) -> Result<FileBytes, LoadError> {
        self.optional(name)?.ok_or_else(|| {
            LoadError(match self {
                Folder::OnDisk(folder) if !folder.is_dir() => format!(
                    "the model folder {} does not exist: give --model the folder that holds config.json and the \
                     *.safetensors files",
                    folder.display()
                ),
                _ => format!(
                    "{name} is missing from {}: download it again with all its files",
                    self.place()
                ),
            })
        })
    }

    /// What to call the place in a sentence.
    pub fn place(&self) -> String {
        match self {
            Folder::OnDisk(folder) => format!("the model folder {}", folder.display()),
            Folder::Embedded(_) => "the embedded demo checkpoint".into(),
        }
    }
}

fn map(path: &Path) -> Result<Option<FileBytes>, LoadError> {
    let failed = |e: io::Error| {
        LoadError(format!(
            "{} cannot be read ({e}): check that it is a file and its permissions",
            path.display()
        ))
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    if file.metadata().map_err(failed)?.len() == 0 {
        return Ok(Some(FileBytes::Static(&[])));
    }
    // SAFETY: the folder is the operator's; a file cut short while it is mapped ends the process with SIGBUS, as for
    // every program that maps its weights.
    let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
    Ok(Some(FileBytes::Mapped(map)))
}
