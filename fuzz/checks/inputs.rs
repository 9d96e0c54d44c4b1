//! What a fuzz target begins with, and what it has learnt and found on this machine, to be run again without a fuzzer.

use std::path::{Path, PathBuf};

/// More of what was learnt than this is thinned out evenly, so that it takes seconds.
const MOST: usize = 5000;

/// Every input of a target with its file, those of `seeds` (folders in the repository) first.
pub fn inputs(target: &str, seeds: &[&str]) -> Vec<(PathBuf, Vec<u8>)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().find(|up| up.join("fuzz/seeds").is_dir());
    let root = root.expect("the tests run in the repository");
    let files = |folder: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(root.join(folder));
        let mut files: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect();
        files.retain(|path| path.is_file());
        files.sort();
        files
    };
    let mut all: Vec<_> = seeds.iter().flat_map(|folder| files(folder)).collect();
    assert!(!all.is_empty(), "{target} has no seeds in {seeds:?}");
    all.extend(files(&format!("fuzz/artifacts/{target}")));
    let learnt = files(&format!("fuzz/corpus/{target}"));
    all.extend(learnt.iter().step_by(learnt.len() / MOST + 1).cloned());
    all.into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (path, bytes)
        })
        .collect()
}
