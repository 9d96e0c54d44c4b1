//! A file that another model, or the other hub's cache, has already.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Settings;
use crate::checksum::Checksum;
use crate::source::{File, Place};

/// Files that may be the same, in both caches: of its size, and under its checksum or its name.
pub(crate) fn candidates(settings: &Settings, file: &File, place: &Place) -> Vec<PathBuf> {
    let sum = file.checksum.text();
    let hugging_face = below(&settings.hugging_face.cache, 1)
        .into_iter()
        .map(|home| home.join("blobs").join(sum));
    let cache = &settings.model_scope.cache;
    let model_scope = match &file.checksum {
        // Its own layout and the earlier ones.
        Checksum::Sha256(_) => [
            below(&cache.join("models"), 1)
                .into_iter()
                .flat_map(|home| below(&home.join("snapshots"), 1))
                .collect(),
            below(&cache.join("models"), 2),
            below(&cache.join("hub/models"), 2),
            below(cache, 2),
            below(&cache.join("hub"), 2),
        ]
        .concat(),
        Checksum::Git(_) => vec![],
    };
    let model_scope = model_scope.into_iter().map(|home| home.join(&file.path));
    hugging_face
        .chain(model_scope)
        .filter(|path| *path != place.file)
        .filter(|path| fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() == file.size))
        .collect()
}

/// The folders so many levels below one.
fn below(folder: &Path, levels: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return vec![];
    };
    let folders = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir());
    match levels {
        0 | 1 => folders.collect(),
        _ => folders.flat_map(|it| below(&it, levels - 1)).collect(),
    }
}

/// Takes the first that is the same: one file under two names where that can be, so that no room is taken and either may be removed.
pub(crate) fn take(settings: &Settings, file: &File, place: &Place) -> Option<PathBuf> {
    candidates(settings, file, place).into_iter().find(|copy| {
        // The file itself, not a link to it, which would break when that is removed.
        let Ok(copy) = fs::canonicalize(copy) else {
            return false;
        };
        let is_same = |path: &Path| file.checksum.is_of(path, file.size).unwrap_or(false);
        if !is_same(&copy) {
            return false;
        }
        let _ = fs::remove_file(&place.incomplete);
        let taken = match fs::hard_link(&copy, &place.incomplete) {
            Ok(()) => true,
            // On another disk.
            Err(_) => fs::copy(&copy, &place.incomplete).is_ok() && is_same(&place.incomplete),
        };
        if !taken {
            let _ = fs::remove_file(&place.incomplete);
        }
        taken
    })
}
