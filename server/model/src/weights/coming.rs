//! Shards that are on their way: each can be used as soon as it lies whole in the folder.

use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};

use super::folder::Folder;
use super::shards::{Contents, INDEX, Shard, told};
use super::spec::Inventory;
use crate::LoadError;

/// A folder's shards, filled by whoever fetches them, and waited for by whoever loads them.
pub struct Coming {
    folder: Folder,
    asked: Inventory,
    contents: Contents,
    /// One for each file, in that order.
    shards: Vec<OnceLock<Shard>>,
    /// Of all files.
    bytes: u64,
    /// Why nothing comes any more.
    failed: Mutex<Option<String>>,
    changed: Condvar,
}

impl Coming {
    /// The shards of a folder that has its index by now, if it is going to have one; they hold `bytes` in all.
    ///
    /// # Errors
    /// An index that makes no sense.
    pub fn new(folder: &Folder, asked: Inventory, bytes: u64) -> Result<Arc<Self>, LoadError> {
        let contents = match folder.optional(INDEX)? {
            Some(index) => Contents::of_index(&index)?,
            None => Contents::one_file(),
        };
        Ok(Arc::new(Coming {
            folder: folder.clone(),
            asked,
            shards: contents.files.iter().map(|_| OnceLock::new()).collect(),
            contents,
            bytes,
            failed: Mutex::new(None),
            changed: Condvar::new(),
        }))
    }

    /// Bytes of all shards.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Those that have come.
    pub fn there(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter_map(OnceLock::get)
    }

    /// A file lies whole in the folder. What is wrong with it ends the waiting.
    pub fn arrived(&self, file: &str) {
        let Some(place) = self.contents.files.iter().position(|name| name == file) else {
            return;
        };
        let opened = Shard::open(&self.folder, file).and_then(|shard| {
            let shard = self.shards[place].get_or_init(|| shard);
            // Once all are there, what none of them has is missing.
            let there: Vec<&Shard> = match self.there().count() == self.shards.len() {
                true => self.there().collect(),
                false => vec![shard],
            };
            told(self.contents.compare(&there, &self.asked))
        });
        match opened {
            Ok(()) => {
                // Whoever looks for it either sees it or hears this.
                drop(self.failed.lock());
                self.changed.notify_all();
            }
            Err(problem) => self.fail(problem.0),
        }
    }

    /// Nothing comes any more.
    pub fn fail(&self, why: String) {
        self.failed.lock().get_or_insert(why);
        self.changed.notify_all();
    }

    /// Waits until the file is there that holds a tensor, if any does.
    ///
    /// # Errors
    /// Why it does not come.
    pub fn wait_for(&self, tensor: &str) -> Result<(), LoadError> {
        let Some(file) = self.contents.file_of(tensor) else {
            return Ok(());
        };
        let Some(place) = self.contents.files.iter().position(|name| name == file) else {
            return Ok(());
        };
        let mut failed = self.failed.lock();
        loop {
            if let Some(why) = &*failed {
                return Err(LoadError(why.clone()));
            }
            if self.shards[place].get().is_some() {
                return Ok(());
            }
            self.changed.wait(&mut failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::checkpoint::{Checkpoint, folder};

    const FROM: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/data/checkpoints/two-groups-bf16"
    );
    const SHARDS: [&str; 3] = [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
    ];
    /// Of the first shard, and of the last.
    const FIRST: &str = "transformer.embedding.word_embeddings.weight";
    const LAST: &str = "transformer.vision.boi";

    fn bring(file: &str, to: &Path) {
        fs::copy(Path::new(FROM).join(file), to.join(file)).unwrap();
    }

    /// A folder with all but the shards, and its checkpoint.
    fn begun(name: &str) -> (std::path::PathBuf, Checkpoint, Arc<Coming>) {
        let to = std::env::temp_dir().join(format!("glimpse-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(&to).unwrap();
        for text in [
            "config.json",
            "tokenizer.model",
            "tokenizer_config.json",
            INDEX,
        ] {
            bring(text, &to);
        }
        let (checkpoint, coming) = Checkpoint::coming(&folder(&to), 100_000).unwrap();
        (to, checkpoint, coming)
    }

    fn shape(tensor: &str) -> Vec<usize> {
        let known = Checkpoint::open(&folder(Path::new(FROM))).unwrap();
        let asked = crate::glm4v::inventory(&known.config).unwrap();
        let specs = asked.specs.iter();
        let spec = specs.into_iter().find(|spec| spec.name == tensor);
        spec.unwrap().shape.clone()
    }

    #[test]
    fn a_tensor_is_waited_for_and_no_other_file() {
        let (to, checkpoint, coming) = begun("waited-for");
        let (said, heard) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                for tensor in [FIRST, LAST] {
                    let source = checkpoint.weights().source(tensor, &shape(tensor));
                    said.send(source.map(|it| it.stored().unwrap().len()))
                        .unwrap();
                }
            });
            assert!(heard.recv_timeout(Duration::from_millis(50)).is_err());
            for shard in [SHARDS[1], SHARDS[0]] {
                bring(shard, &to);
                coming.arrived(shard);
            }
            assert!(heard.recv().unwrap().unwrap() > 0);
            assert!(heard.recv_timeout(Duration::from_millis(50)).is_err());
            bring(SHARDS[2], &to);
            coming.arrived(SHARDS[2]);
            assert!(heard.recv().unwrap().unwrap() > 0);
        });
        fs::remove_dir_all(to).unwrap();
    }

    #[test]
    fn whoever_waits_hears_that_nothing_comes_any_more() {
        let (to, checkpoint, coming) = begun("nothing-more");
        let ends = |why: &str| {
            let failed = checkpoint.weights().source(LAST, &shape(LAST));
            let failed = failed.err().map(|error| error.0).unwrap();
            assert!(failed.contains(why), "{failed}");
        };
        thread::scope(|scope| {
            scope.spawn(|| ends("the line is cut"));
            coming.fail("the line is cut".into());
        });
        // The first reason stays.
        coming.fail("another".into());
        ends("the line is cut");
        fs::remove_dir_all(to).unwrap();
    }

    #[test]
    fn a_file_that_is_none_ends_the_waiting() {
        let (to, checkpoint, coming) = begun("no-shard");
        fs::write(to.join(SHARDS[2]), [0; 100]).unwrap();
        coming.arrived(SHARDS[2]);
        let failed = checkpoint
            .weights()
            .source(FIRST, &shape(FIRST))
            .err()
            .unwrap();
        assert!(failed.0.contains(SHARDS[2]), "{}", failed.0);
        // What the index does not name is nobody's.
        coming.arrived("README.md");
        fs::remove_dir_all(to).unwrap();
    }
}
