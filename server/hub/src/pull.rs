//! Fetches a model: what there is to know of it first, then its weights, several files at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::fetch::Fetch;
use crate::http::Client;
use crate::hugging_face::{self, HuggingFace};
use crate::model_scope::{self, ModelScope};
use crate::needed::{INDEX, ONE_FILE, OPTIONAL, TEXTS, lacking, shards, weights};
use crate::progress::{Count, FileProgress, Pace, Progress, left};
use crate::source::{File, Source};
use crate::{Code, Error, Hub, Name, Settings, Watch, copies, human};

/// Files at once: one connection seldom fills a line, and more than a few are a burden to a hub.
const AT_ONCE: usize = 4;
const TICK: Duration = Duration::from_millis(200);

/// The folder of a model that lies whole in its hub's cache. Asks nobody.
pub fn find(name: &Name, settings: &Settings) -> Option<PathBuf> {
    match name.hub {
        Hub::HuggingFace => hugging_face::find(&settings.hugging_face, name),
        Hub::ModelScope => model_scope::find(&settings.model_scope, name),
    }
}

/// Brings a model into its hub's cache, as the hub has it now, and gives its folder. What is there is not fetched again, and what
/// was begun is gone on with.
///
/// # Errors
/// A sentence that says what to do, with a code that stays.
pub fn pull(name: &Name, settings: &Settings, watch: &dyn Watch) -> Result<PathBuf, Error> {
    if settings.offline {
        return match find(name, settings) {
            Some(folder) => Ok(known(folder, watch)),
            None => Err(Error::new(
                Code::Offline,
                format!(
                    "{name} is not whole in {}, and HF_HUB_OFFLINE says to fetch nothing: run `glimpse pull {name}` without it, or \
                     copy the cache from a machine that has it",
                    settings.site(name.hub).cache.display()
                ),
            )),
        };
    }
    let client = Client::new(name, settings, watch)?;
    let source = match open(&client) {
        Ok(source) => source,
        // What is there may be old, but it is whole.
        Err(error) if error.code.is_passing() => match find(name, settings) {
            Some(folder) => {
                watch.note(&format!(
                    "{}; going on with what is in the cache",
                    error.message
                ));
                return Ok(known(folder, watch));
            }
            None => return Err(error),
        },
        Err(error) => return Err(error),
    };
    let pull = Pull {
        client: &client,
        source: &*source,
        settings,
    };
    pull.run()?;
    source.finish()?;
    Ok(source.folder().to_path_buf())
}

/// The revision that a client asks about, on its hub.
pub(crate) fn open<'a>(client: &'a Client<'a>) -> Result<Box<dyn Source + 'a>, Error> {
    match client.name.hub {
        Hub::HuggingFace => HuggingFace::open(client).map(|it| Box::new(it) as _),
        Hub::ModelScope => ModelScope::open(client).map(|it| Box::new(it) as _),
    }
}

/// Tells of a folder that nothing has to be done for.
fn known(folder: PathBuf, watch: &dyn Watch) -> PathBuf {
    // It is whole, and so is its index.
    let weights = weights(&folder).unwrap_or_default();
    let texts = TEXTS.into_iter().chain(OPTIONAL).map(String::from);
    for file in texts.chain(weights) {
        let path = folder.join(&file);
        if path.is_file() {
            watch.whole(&file, &path);
        }
    }
    folder
}

/// A file, and what the cache has of it.
struct Planned {
    file: File,
    whole: AtomicBool,
    count: Count,
}

impl Planned {
    fn progress(&self) -> FileProgress {
        FileProgress {
            name: self.file.path.clone(),
            bytes: self.count.here(),
            size: self.file.size,
            whole: self.whole.load(Ordering::Relaxed),
        }
    }
}

struct Pull<'a> {
    client: &'a Client<'a>,
    source: &'a dyn Source,
    settings: &'a Settings,
}

impl Pull<'_> {
    fn run(&self) -> Result<(), Error> {
        let texts: Vec<&str> = TEXTS.into_iter().chain(OPTIONAL).collect();
        let texts = self.plan(&texts)?;
        let found = |name: &str| texts.iter().any(|it| it.file.path == name);
        if let Some(missing) = TEXTS.into_iter().find(|name| !found(name)) {
            return Err(self.unusable(&format!("it has no {missing}")));
        }
        self.fetch(&texts, &[])?;
        let weights = match found(INDEX) {
            true => {
                let path = self.source.folder().join(INDEX);
                let index = fs::read(&path).map_err(|e| Error::file("read", &path, &e))?;
                shards(&index).map_err(|why| self.unusable(&format!("of its {INDEX}, {why}")))?
            }
            false => vec![ONE_FILE.into()],
        };
        let names: Vec<&str> = weights.iter().map(String::as_str).collect();
        let weights = self.plan(&names)?;
        let described = |name: &&&str| weights.iter().any(|it| it.file.path == **name);
        if let Some(missing) = names.iter().find(|name| !described(name)) {
            return Err(self.unusable(&format!("it has no {missing}")));
        }
        self.check_room(&weights)?;
        let files: Vec<FileProgress> = weights.iter().map(Planned::progress).collect();
        self.client.watch.described(self.source.folder(), &files);
        self.fetch(&weights, &texts)?;
        match lacking(self.source.folder()) {
            Some(missing) => Err(self.unusable(&format!("{missing} is gone from the cache"))),
            None => Ok(()),
        }
    }

    fn unusable(&self, why: &str) -> Error {
        let name = self.client.name;
        Error::new(
            Code::Unusable,
            format!(
                "{name} is not a model that can be served ({why}): give one in the form of zai-org/glm-4v-9b"
            ),
        )
    }

    /// What the hub and the cache have of these files; those that the hub has not are left out.
    fn plan(&self, names: &[&str]) -> Result<Vec<Planned>, Error> {
        let described = each(self.client, names, |name| self.describe(name), &mut || {})?;
        Ok(described.into_iter().flatten().collect())
    }

    fn describe(&self, name: &str) -> Result<Option<Planned>, Error> {
        let Some(file) = self.source.describe(name)? else {
            return Ok(None);
        };
        let place = self.source.place(&file);
        let whole = self.source.has(&file);
        let whole = whole.map_err(|e| Error::file("read", &place.file, &e))?;
        let count = Count::default();
        count.at(match whole {
            true => file.size,
            false => fs::metadata(&place.incomplete).map_or(0, |it| it.len().min(file.size)),
        });
        Ok(Some(Planned {
            file,
            whole: AtomicBool::new(whole),
            count,
        }))
    }

    /// Whether the disk holds what is to come.
    fn check_room(&self, files: &[Planned]) -> Result<(), Error> {
        let missing = files.iter().filter(|it| !it.whole.load(Ordering::Relaxed));
        let wanted = missing.map(|it| {
            let place = self.source.place(&it.file);
            // It is linked, or else the disk says so when it is full.
            match copies::candidates(self.settings, &it.file, &place).is_empty() {
                true => it.file.size.saturating_sub(it.count.here()),
                false => 0,
            }
        });
        let wanted = wanted.fold(0, u64::saturating_add);
        let folder = self.source.folder();
        let Some(free) = free(folder) else {
            return Ok(());
        };
        if wanted <= free {
            return Ok(());
        }
        let variable = match self.client.name.hub {
            Hub::HuggingFace => "HF_HOME",
            Hub::ModelScope => "MODELSCOPE_CACHE",
        };
        Err(Error::new(
            Code::DiskFull,
            format!(
                "{} are still to be fetched, and {} has room for {}: make room, or point {variable} at a larger disk",
                human(wanted),
                self.client.site.cache.display(),
                human(free)
            ),
        ))
    }

    /// Fetches files, telling of all: of `others` too, which are there.
    fn fetch(&self, files: &[Planned], others: &[Planned]) -> Result<(), Error> {
        let watch = self.client.watch;
        let folder = self.source.folder();
        let fetch = Fetch {
            client: self.client,
            source: self.source,
            settings: self.settings,
        };
        let mut pace = Pace::new(Instant::now());
        let mut tell = || {
            let came = files.iter().map(|it| it.count.came.load(Ordering::Relaxed));
            let pace = pace.at(Instant::now(), came.sum());
            // Nobody has asked for a bar of files that are there in a moment.
            if !others.is_empty() {
                watch.progress(&progress(others.iter().chain(files), pace));
            }
        };
        tell();
        let work = |planned: &Planned| {
            let file = &planned.file;
            match planned.whole.load(Ordering::Relaxed) {
                true => self.source.publish(file)?,
                false => fetch.fetch(file, &planned.count)?,
            }
            planned.whole.store(true, Ordering::Relaxed);
            watch.whole(&file.path, &folder.join(&file.path));
            Ok(())
        };
        each(self.client, files, work, &mut tell)?;
        tell();
        Ok(())
    }
}

/// Does the work for each, several at once; the first that fails ends all. Meanwhile `tick` is called now and then.
pub(crate) fn each<T: Sync, R: Send>(
    client: &Client<'_>,
    items: &[T],
    work: impl Fn(&T) -> Result<R, Error> + Sync,
    tick: &mut dyn FnMut(),
) -> Result<Vec<R>, Error> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let done: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let (alive, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(items.len()) {
            let alive = alive.clone();
            let (next, failed, done, work) = (&next, &failed, &done, &work);
            scope.spawn(move || {
                let _alive = alive;
                while !client.is_stopped() {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(item), Some(place)) = (items.get(at), done.get(at)) else {
                        break;
                    };
                    match work(item) {
                        Ok(result) => *held(place) = Some(result),
                        Err(error) => {
                            // Before others hear of it, and fail for that alone.
                            held(failed).get_or_insert(error);
                            client.stop();
                        }
                    }
                }
            });
        }
        drop(alive);
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(TICK) {
            tick();
        }
    });
    match held(&failed).take() {
        Some(error) => Err(error),
        None => Ok(done.iter().filter_map(|it| held(it).take()).collect()),
    }
}

/// Nothing is left half done where a thread panics, so that what it held is good.
fn held<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn progress<'a>(files: impl Iterator<Item = &'a Planned>, pace: f64) -> Progress {
    let files: Vec<FileProgress> = files.map(Planned::progress).collect();
    let sum = |of: fn(&FileProgress) -> u64| files.iter().map(of).fold(0, u64::saturating_add);
    let (bytes, total) = (sum(|it| it.bytes), sum(|it| it.size));
    Progress {
        bytes,
        total,
        bytes_per_second: pace,
        left: left(bytes, total, pace),
        files,
    }
}

/// Room for this user on the disk of a folder that need not be there yet.
fn free(folder: &Path) -> Option<u64> {
    let mut known = folder.ancestors().filter(|it| it.exists());
    let disk = rustix::fs::statvfs(known.next()?).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
