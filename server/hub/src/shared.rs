//! The store of huggingface_hub that models share: `blobs/<2 digits>/<hash>` in the cache, with links to it in the models' own
//! `blobs/`, and beside each file a list of those links, `<hash>.refs`.
//!
//! It is read through the links. A file of it goes when its last link does: a list is only a hint, so that each line is
//! looked after, and without one the file stays.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::lock;

/// Says that the folder is such a store, of the one version there is.
const MARKER: (&str, &str) = (".huggingface-shared-blobs", "1\n");

/// The store of a cache, if it has one.
fn store(cache: &Path) -> Option<PathBuf> {
    let store = cache.join("blobs");
    let marker = store.join(MARKER.0);
    let is = is_file(&marker) && fs::read_to_string(marker).is_ok_and(|text| text == MARKER.1);
    is.then_some(store)
}

/// A file itself, not a link to one.
fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.is_file())
}

/// What a model's blob links to in the store, if it is such a link.
pub(crate) fn target(cache: &Path, blob: &Path) -> Option<PathBuf> {
    let target = link(cache, blob).ok()??;
    is_file(&target).then_some(target)
}

/// The same of a link whose file may be gone.
///
/// # Errors
/// It can't be said whether it is a link.
fn link(cache: &Path, blob: &Path) -> io::Result<Option<PathBuf>> {
    let is_link = match fs::symlink_metadata(blob) {
        Ok(it) => it.is_symlink(),
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => false,
        Err(problem) => return Err(problem),
    };
    let Some(parent) = blob.parent().filter(|_| is_link) else {
        return Ok(None);
    };
    let path = straight(&parent.join(fs::read_link(blob)?));
    let inside = path.strip_prefix(cache.join("blobs")).ok();
    let parts: Vec<_> = inside.into_iter().flatten().collect();
    let [prefix, hash] = parts[..] else {
        return Ok(None);
    };
    let (Some(prefix), Some(hash)) = (prefix.to_str(), hash.to_str()) else {
        return Ok(None);
    };
    let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    Ok((is_hash && hash.get(..2) == Some(prefix)).then_some(path))
}

/// A path without `..`, by its text alone.
fn straight(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// Removes a file of the store if nothing links to it any more, and gives its size if so.
///
/// # Errors
/// What the disk says; the file is there then.
pub(crate) fn sweep(cache: &Path, file: &Path) -> io::Result<u64> {
    if store(cache).is_none() {
        return Ok(0);
    }
    let beside = |suffix: &str| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        file.with_file_name(format!("{name}{suffix}"))
    };
    let _held = loop {
        match lock::try_hold(&beside(".lock"), 0o666)? {
            Some(held) => break held,
            // It is held for a moment only.
            None => thread::sleep(Duration::from_millis(50)),
        }
    };
    let list = beside(".refs");
    if !is_file(&list) {
        return Ok(0);
    }
    let text = fs::read_to_string(&list)?;
    let mut links = Vec::new();
    for line in text.lines() {
        let Some(blob) = blob(line).map(|it| cache.join(it)) else {
            continue;
        };
        if link(cache, &blob)?.is_some_and(|it| it == file) && !links.contains(&line) {
            links.push(line);
        }
    }
    if links.is_empty() {
        let size = fs::symlink_metadata(file)?.len();
        fs::remove_file(file)?;
        fs::remove_file(&list)?;
        return Ok(size);
    }
    links.sort_unstable();
    let temporary = beside(&format!(".refs.{}.tmp", std::process::id()));
    let lines: String = links.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&temporary, lines)?;
    let written = File::open(&temporary)?;
    lock::set_mode(&written, 0o666);
    written.sync_all()?;
    fs::rename(&temporary, &list)?;
    Ok(0)
}

/// A line of a list: the path of a model's blob, and no other.
fn blob(line: &str) -> Option<&Path> {
    let path = Path::new(line);
    let parts: Vec<_> = path.components().collect();
    let [
        Component::Normal(home),
        Component::Normal(blobs),
        Component::Normal(_),
    ] = parts[..]
    else {
        return None;
    };
    let kinds = ["models--", "datasets--", "spaces--", "kernels--"];
    let home = home.to_str()?;
    let known = kinds.into_iter().any(|kind| home.starts_with(kind));
    (known && blobs == "blobs").then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_blobs_alone() {
        assert!(blob("models--a--b/blobs/x").is_some());
        for line in [
            "",
            "/models--a--b/blobs/x",
            "../models--a--b/blobs/x",
            "models--a--b/snapshots/x",
            "x/blobs/y",
            "models--a--b/blobs/../x",
        ] {
            assert!(blob(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_path_is_straightened_by_its_text() {
        assert_eq!(straight(Path::new("/a/b/../../c/./d")), Path::new("/c/d"));
    }
}
