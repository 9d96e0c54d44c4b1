//! `glimpse pull` and `glimpse models`: models by their names, in the hubs' caches.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use engine::Engine;
use hub::{Error, FileProgress, Hub, Model, Name, Progress, Settings, Watch, human};
use indicatif::ProgressBar;
use model::LoadError;
use model::checkpoint::{self, Checkpoint};
use model::weights::Coming;
use parking_lot::Mutex;

use crate::loading;

/// Between two lines, where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Fetches the model of this name, and prints its folder.
///
/// # Errors
/// A sentence for the user.
pub fn run(name: &str) -> Result<(), String> {
    let folder = match Model::told(name) {
        Model::Folder(path) if path.is_dir() => {
            let path = path.display();
            return Err(format!("{path} is a folder: give it to --model as it is"));
        }
        Model::Folder(_) => {
            let wrong = name.parse::<Name>().err();
            return Err(wrong.map_or_else(String::new, |it| it.to_string()));
        }
        // A full disk is no reason to panic.
        Model::Named(name) => fetch(&name, |line| drop(writeln!(io::stderr(), "{line}")))
            .map_err(|problem| problem.to_string())?,
    };
    // Whoever reads it may have gone.
    let _ = writeln!(io::stdout(), "{}", folder.display());
    Ok(())
}

/// Fetches a model, and tells how far that is: on a terminal, or else `line` by line.
fn fetch(name: &Name, line: fn(&str)) -> Result<PathBuf, Error> {
    let shown = Shown::new(name, line);
    let folder = hub::pull(name, &Settings::from_environment(), &shown);
    shown.finish();
    folder
}

/// A model that comes from its hub while others go on.
pub struct Download {
    /// Who is told how far it is, once there is somebody.
    engine: Arc<OnceLock<Engine>>,
}

/// What there is of a model to start with.
pub struct Begun {
    pub checkpoint: Checkpoint,
    /// Of one that was not whole in the cache.
    pub download: Option<Download>,
}

impl Download {
    /// From now on `engine` is told how far it is.
    pub fn tell(&self, engine: &Engine) {
        // It is told once.
        let _ = self.engine.set(engine.clone());
    }
}

/// Opens the model of this name: as the cache has it, without asking anybody; or else as soon as its texts are there, while its
/// weights come. `glimpse pull` looks for a newer one.
///
/// # Errors
/// A sentence about what could not be fetched, or makes no sense.
pub fn begin(name: &Name) -> Result<Begun, LoadError> {
    let settings = Settings::from_environment();
    if let Some(folder) = hub::find(name, &settings) {
        let checkpoint = Checkpoint::open(&checkpoint::folder(&folder))?;
        return Ok(Begun {
            checkpoint: named(checkpoint, name),
            download: None,
        });
    }
    let (begun, first) = mpsc::channel();
    let engine = Arc::new(OnceLock::new());
    let background = Background {
        shown: Shown::new(name, |line| tracing::info!("{line}")),
        name: name.clone(),
        begun,
        coming: OnceLock::new(),
        engine: engine.clone(),
        last: Mutex::default(),
    };
    thread::Builder::new()
        .name("download".into())
        .spawn(move || background.run(&settings))
        .map_err(|problem| LoadError(format!("the model can't be fetched ({problem})")))?;
    let ended = || Err(LoadError("the download ended without a word".into()));
    let checkpoint = first.recv().unwrap_or_else(|_| ended())?;
    Ok(Begun {
        checkpoint,
        download: Some(Download { engine }),
    })
}

/// Calls a model by its name: its folder is called by its commit.
pub fn named(mut checkpoint: Checkpoint, name: &Name) -> Checkpoint {
    checkpoint.name = format!("{}/{}", name.owner, name.name);
    checkpoint
}

fn not_fetched(name: &Name, problem: &Error) -> String {
    match name.hub {
        // As it is written it can be no folder's.
        Hub::ModelScope => format!("{name} could not be fetched: {problem}"),
        Hub::HuggingFace => {
            format!(
                "there is no folder {name}, and no model of that name could be fetched: {problem}"
            )
        }
    }
}

/// A download beside others, and who waits for what comes of it.
struct Background {
    shown: Shown,
    name: Name,
    /// Takes the checkpoint, as soon as there is one.
    begun: mpsc::Sender<Result<Checkpoint, LoadError>>,
    /// Who loads the weights.
    coming: OnceLock<Arc<Coming>>,
    engine: Arc<OnceLock<Engine>>,
    last: Mutex<api::Download>,
}

impl Background {
    fn run(self, settings: &Settings) {
        let ended = hub::pull(&self.name, settings, &self);
        self.shown.finish();
        // Whoever is gone wants to know nothing.
        match (ended, self.coming.get()) {
            (Ok(_), Some(_)) => self.tell(None),
            (Ok(folder), None) => {
                let checkpoint = Checkpoint::open(&checkpoint::folder(&folder));
                let _ = self.begun.send(checkpoint.map(|it| named(it, &self.name)));
            }
            (Err(problem), Some(coming)) => {
                let last = self.last.lock().clone();
                self.tell(Some(api::Download {
                    bytes_per_second: 0.0,
                    error: Some(problem.code.to_string()),
                    ..last
                }));
                coming.fail(format!(
                    "the model could not be fetched to its end: {problem}; what came is kept, and the next start goes on with it"
                ));
            }
            (Err(problem), None) => {
                let problem = LoadError(not_fetched(&self.name, &problem));
                let _ = self.begun.send(Err(problem));
            }
        }
    }

    fn tell(&self, download: Option<api::Download>) {
        if let Some(engine) = self.engine.get() {
            engine.tell_download(download);
        }
    }
}

impl Watch for Background {
    fn described(&self, folder: &Path, files: &[FileProgress]) {
        let bytes = files.iter().map(|file| file.size).sum();
        let begun = Checkpoint::coming(&checkpoint::folder(folder), bytes);
        let begun = begun.map(|(checkpoint, coming)| {
            let _ = self.coming.set(coming);
            named(checkpoint, &self.name)
        });
        let _ = self.begun.send(begun);
    }

    fn whole(&self, file: &str, path: &Path) {
        self.shown.whole(file, path);
        if let Some(coming) = self.coming.get() {
            coming.arrived(file);
        }
    }

    fn progress(&self, progress: &Progress) {
        self.shown.progress(progress);
        let download = api::Download {
            bytes: progress.bytes,
            total: progress.total,
            bytes_per_second: progress.bytes_per_second,
            error: None,
        };
        *self.last.lock() = download.clone();
        self.tell(Some(download));
    }

    fn note(&self, note: &str) {
        self.shown.note(note);
    }
}

/// The folder that `--model` means: one that is there, or else that of the model of this name: as the cache has it, without
/// asking anybody, or fetched. `glimpse pull` looks for a newer one.
///
/// # Errors
/// A sentence about what could not be fetched.
pub fn folder(model: &Path) -> Result<PathBuf, String> {
    let Some(Model::Named(name)) = model.to_str().map(Model::told) else {
        return Ok(model.to_path_buf());
    };
    let found = hub::find(&name, &Settings::from_environment());
    let log = |line: &str| tracing::info!("{line}");
    found
        .map_or_else(|| fetch(&name, log), Ok)
        .map_err(|problem| not_fetched(&name, &problem))
}

/// Lists what is in the caches, or removes the model of the name that is given.
///
/// # Errors
/// A sentence for the user.
pub fn models(remove: Option<&str>) -> Result<(), String> {
    let settings = Settings::from_environment();
    if let Some(name) = remove {
        let name: Name = name.parse().map_err(|problem: Error| problem.to_string())?;
        let freed = hub::remove(&name, &settings).map_err(|problem| problem.to_string())?;
        println!("removed {name}: {} are free again", human(freed));
        return Ok(());
    }
    let all = hub::models(&settings);
    if all.is_empty() {
        println!(
            "no models in {} or {}: fetch one with `glimpse pull zai-org/glm-4v-9b`",
            settings.hugging_face.cache.display(),
            settings.model_scope.cache.display()
        );
        return Ok(());
    }
    let rows = all.iter().map(|it| {
        let state = match &it.lacks {
            None => "whole".to_owned(),
            Some(file) => format!("lacks {file}"),
        };
        [
            it.name.clone(),
            human(it.bytes),
            it.revisions.join(", "),
            state,
        ]
    });
    let head = ["NAME", "SIZE", "REVISIONS", "STATE"].map(String::from);
    let rows: Vec<_> = [head].into_iter().chain(rows).collect();
    let width = |column: usize| {
        let lengths = rows.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or_default()
    };
    let [name, size, revisions] = [0, 1, 2].map(width);
    for [a, b, c, d] in &rows {
        println!("{a:<name$}  {b:>size$}  {c:<revisions$}  {d}");
    }
    Ok(())
}

/// What is told of a download: by a bar on a terminal, in lines elsewhere.
struct Shown {
    what: String,
    bar: Option<ProgressBar>,
    /// Takes a line where there is no bar.
    line: fn(&str),
    told: Mutex<Instant>,
}

impl Shown {
    fn new(name: &Name, line: fn(&str)) -> Self {
        let look = "{prefix} {bar:32} {bytes} of {total_bytes}, {msg}";
        Shown {
            what: name.to_string(),
            bar: loading::bar(look, |bar| bar.with_prefix(name.to_string())),
            line,
            told: Mutex::new(Instant::now()),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// A line, above the bar if there is one.
    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => (self.line)(line),
        }
    }
}

impl Watch for Shown {
    fn whole(&self, file: &str, _: &Path) {
        self.line(&format!("{}: {file} is whole", self.what));
    }

    fn progress(&self, progress: &Progress) {
        let pace = pace(progress);
        if let Some(bar) = &self.bar {
            bar.set_length(progress.total);
            bar.set_position(progress.bytes);
            bar.set_message(pace);
            return;
        }
        let mut told = self.told.lock();
        if told.elapsed() >= EVERY {
            *told = Instant::now();
            let (bytes, total) = (human(progress.bytes), human(progress.total));
            self.line(&format!("{}: {bytes} of {total}, {pace}", self.what));
        }
    }

    fn note(&self, note: &str) {
        self.line(&format!("{}: {note}", self.what));
    }
}

/// "31.0 MiB/s, 14 min left".
fn pace(progress: &Progress) -> String {
    let rate = format!("{}/s", human(progress.bytes_per_second as u64));
    let Some(left) = progress.left else {
        return rate;
    };
    let seconds = left.as_secs();
    let left = match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    };
    format!("{rate}, {left} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_reads_well() {
        let at = |rate: f64, left: Option<u64>| {
            pace(&Progress {
                bytes: 0,
                total: 0,
                bytes_per_second: rate,
                left: left.map(Duration::from_secs),
                files: vec![],
            })
        };
        assert_eq!(at(32_505_856.0, Some(840)), "31.0 MiB/s, 14 min left");
        assert_eq!(at(0.0, None), "0 bytes/s");
        assert_eq!(at(1.0, Some(20_000)), "1 bytes/s, 5 h left");
    }
}
