//! What models are in the caches, and how one is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::hugging_face::{self, is_commit};
use crate::settings::Site;
use crate::{Code, Error, Hub, Name, Settings, lock, model_scope, needed, shared};

/// A model in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// As it is asked for.
    pub name: String,
    pub hub: Hub,
    /// Branches and tags, and commits that have no such name.
    pub revisions: Vec<String>,
    /// Bytes of all revisions, and of what was begun.
    pub bytes: u64,
    /// A file without which none of its revisions can be served, if they can't.
    pub lacks: Option<String>,
    pub folder: PathBuf,
}

/// All models of both caches, by name.
pub fn models(settings: &Settings) -> Vec<Cached> {
    let mut all = of_hugging_face(&settings.hugging_face);
    all.extend(of_model_scope(&settings.model_scope));
    all.sort_by(|a, b| (a.hub, &a.name, &a.folder).cmp(&(b.hub, &b.name, &b.folder)));
    all
}

fn of_hugging_face(site: &Site) -> Vec<Cached> {
    let mut found = Vec::new();
    for folder in folders(&site.cache) {
        let Some(name) =
            name_of(&folder).and_then(|it| it.strip_prefix("models--").map(String::from))
        else {
            continue;
        };
        let snapshots = folders(&folder.join("snapshots"));
        let commits: Vec<String> = snapshots.iter().filter_map(|it| name_of(it)).collect();
        let refs = refs(&folder);
        let mut revisions: Vec<String> = refs.keys().cloned().collect();
        let unnamed = commits
            .into_iter()
            .filter(|commit| !refs.values().any(|it| it == commit));
        revisions.extend(unnamed);
        found.push(Cached {
            name: name.replace("--", "/"),
            hub: Hub::HuggingFace,
            revisions,
            bytes: size(&folder.join("blobs"), true) + size(&folder.join("snapshots"), false),
            lacks: lacking(&snapshots),
            folder,
        });
    }
    found
}

fn of_model_scope(site: &Site) -> Vec<Cached> {
    let mut found = Vec::new();
    let mut add = |name: String, folder: PathBuf, snapshots: &[PathBuf], revisions: Vec<String>| {
        found.push(Cached {
            name: format!("ms:{name}"),
            hub: Hub::ModelScope,
            revisions,
            bytes: size(&folder, false),
            lacks: lacking(snapshots),
            folder,
        });
    };
    for folder in folders(&site.cache.join("models")) {
        let snapshots = folders(&folder.join("snapshots"));
        match name_of(&folder).and_then(|it| it.split_once("--").map(|(a, b)| format!("{a}/{b}"))) {
            Some(name) if !snapshots.is_empty() => {
                let revisions = snapshots.iter().filter_map(|it| name_of(it)).collect();
                add(name, folder, &snapshots, revisions);
            }
            _ => {}
        }
    }
    let earlier = ["models", "hub/models", "", "hub"].map(|it| site.cache.join(it));
    for owner in earlier.iter().flat_map(|it| folders(it)) {
        for folder in folders(&owner) {
            let names = name_of(&owner).zip(name_of(&folder));
            if let Some((owner, name)) = names.filter(|_| folder.join("config.json").is_file()) {
                let name = format!("{owner}/{}", name.replace("___", "."));
                add(name, folder.clone(), &[folder], vec![]);
            }
        }
    }
    found
}

/// Removes a model from its cache, or one revision of it, and gives the bytes that are free by that. What other revisions or
/// models need stays.
///
/// # Errors
/// It is not there, is being fetched, or can't be removed.
pub fn remove(name: &Name, settings: &Settings) -> Result<u64, Error> {
    let site = settings.site(name.hub);
    match name.hub {
        Hub::HuggingFace => {
            let mut names = name.aliases().into_iter();
            let known = names.find(|name| hugging_face::home(site, name).is_dir());
            let known = known.ok_or_else(|| absent(name, site))?;
            remove_hugging_face(&known, site)
        }
        Hub::ModelScope => remove_model_scope(name, site),
    }
}

fn absent(name: &Name, site: &Site) -> Error {
    let cache = site.cache.display();
    let message = format!("{name} is not in {cache}: `glimpse models` lists what is there");
    Error::new(Code::NotFound, message)
}

fn remove_hugging_face(name: &Name, site: &Site) -> Result<u64, Error> {
    let home = hugging_face::home(site, name);
    let failed = |problem: io::Error| Error::file("removed", &home, &problem);
    let locks = home.file_name().unwrap_or_default();
    let held = hold(name, files(&site.cache.join(".locks").join(locks)))?;
    let snapshots = folders(&home.join("snapshots"));
    // Which files are whose, by the first link alone: the second leads to what other models have too.
    let blobs_of = |snapshot: &PathBuf| -> BTreeSet<PathBuf> {
        let links = files(snapshot)
            .into_iter()
            .filter_map(|it| fs::read_link(it).ok());
        let names = links.filter_map(|it| it.file_name().map(Into::into));
        names
            .map(|it: PathBuf| home.join("blobs").join(it))
            .collect()
    };
    let (going, gone): (BTreeSet<PathBuf>, Vec<PathBuf>) = match &name.revision {
        None => (
            files(&home.join("blobs")).into_iter().collect(),
            vec![home.clone()],
        ),
        Some(revision) => {
            let refs = refs(&home);
            let commit = match is_commit(revision) {
                true => revision,
                false => refs.get(revision).ok_or_else(|| absent(name, site))?,
            };
            let is_it = |it: &&PathBuf| name_of(it).as_ref() == Some(commit);
            let (it, others): (Vec<_>, Vec<_>) = snapshots.iter().partition(is_it);
            let [snapshot] = it[..] else {
                return Err(absent(name, site));
            };
            if others.is_empty() {
                let whole = Name {
                    revision: None,
                    ..name.clone()
                };
                drop(held);
                return remove_hugging_face(&whole, site);
            }
            let kept: BTreeSet<PathBuf> = others.into_iter().flat_map(blobs_of).collect();
            let going: BTreeSet<PathBuf> = blobs_of(snapshot).difference(&kept).cloned().collect();
            let names = refs.iter().filter(|(_, it)| *it == commit);
            let mut gone = vec![snapshot.clone()];
            gone.extend(names.map(|(it, _)| home.join("refs").join(it)));
            gone.extend(going.iter().cloned());
            (going, gone)
        }
    };
    let cache = std::path::absolute(&site.cache).map_err(failed)?;
    let absolute = |it: &PathBuf| std::path::absolute(it).unwrap_or_else(|_| it.clone());
    let targets: BTreeSet<PathBuf> = going
        .iter()
        .filter_map(|it| shared::target(&cache, &absolute(it)))
        .collect();
    let mut freed: u64 = going.iter().map(|it| own_size(it)).sum();
    for path in gone {
        remove_path(&path).map_err(|problem| Error::file("removed", &path, &problem))?;
    }
    for target in targets {
        freed += shared::sweep(&cache, &target)
            .map_err(|problem| Error::file("removed", &target, &problem))?;
    }
    Ok(freed)
}

fn remove_model_scope(name: &Name, site: &Site) -> Result<u64, Error> {
    let gone: Vec<PathBuf> = match &name.revision {
        None => model_scope::homes(site, name),
        Some(revision) => vec![
            model_scope::home(site, name)
                .join("snapshots")
                .join(revision),
        ],
    };
    let gone: Vec<PathBuf> = gone.into_iter().filter(|it| it.is_dir()).collect();
    if gone.is_empty() {
        return Err(absent(name, site));
    }
    let all: Vec<PathBuf> = gone.iter().flat_map(|it| files_below(it)).collect();
    let names = all.iter().filter_map(|it| name_of(it));
    let locks = names.map(|it| {
        let file = it.strip_suffix(".incomplete").unwrap_or(&it);
        model_scope::lock(site, name, file)
    });
    let _held = hold(name, locks.filter(|it| it.exists()).collect())?;
    let freed = all.iter().map(|it| own_size(it)).sum();
    for path in gone {
        remove_path(&path).map_err(|problem| Error::file("removed", &path, &problem))?;
    }
    Ok(freed)
}

/// Holds all that is locked while something is fetched, so that nothing is.
fn hold(name: &Name, locks: Vec<PathBuf>) -> Result<Vec<lock::Held>, Error> {
    let mut all = Vec::new();
    // A name may stand in several folders, and its lock is one.
    let locks: BTreeSet<PathBuf> = locks.into_iter().collect();
    for path in locks {
        match lock::try_hold(&path, 0o664) {
            Ok(Some(held)) => all.push(held),
            Ok(None) => {
                let message = format!("{name} is being fetched by another process: end that first");
                return Err(Error::new(Code::Busy, message));
            }
            Err(problem) => return Err(Error::file("locked", &path, &problem)),
        }
    }
    Ok(all)
}

fn remove_path(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(it) if it.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(problem) => Err(problem),
    };
    match removed {
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Branches and tags, and the commit that each is.
fn refs(home: &Path) -> BTreeMap<String, String> {
    let folder = home.join("refs");
    files_below(&folder)
        .into_iter()
        .filter_map(|path| {
            let name = path.strip_prefix(&folder).ok()?.to_str()?.to_owned();
            Some((name, fs::read_to_string(path).ok()?.trim().to_owned()))
        })
        .collect()
}

/// What the first of these folders lacks that lacks least: nothing, if one is whole.
fn lacking(snapshots: &[PathBuf]) -> Option<String> {
    let mut lacks = snapshots.iter().map(|it| needed::lacking(it));
    match lacks.next() {
        None => Some("config.json".into()),
        Some(None) => None,
        Some(first) => match lacks.any(|it| it.is_none()) {
            true => None,
            false => first,
        },
    }
}

fn name_of(path: &Path) -> Option<String> {
    path.file_name()?.to_str().map(Into::into)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut all: Vec<PathBuf> = entries.filter_map(|it| Some(it.ok()?.path())).collect();
    all.sort();
    all
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut all = entries(folder);
    all.retain(|it| it.is_dir());
    all
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = entries(folder);
    all.retain(|it| !it.is_dir());
    all
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let below = folders(folder).into_iter();
    // A link may lead back up.
    let below = below.filter(|it| !it.is_symlink());
    let mut all: Vec<PathBuf> = below.flat_map(|it| files_below(&it)).collect();
    all.extend(files(folder));
    all
}

/// Bytes of a folder's files; with those that links lead to, or without.
fn size(folder: &Path, follow: bool) -> u64 {
    let files = files_below(folder).into_iter();
    let files = files.filter(|it| follow || !it.is_symlink());
    files
        .map(|it| fs::metadata(it).map_or(0, |it| it.len()))
        .sum()
}

/// Bytes that are free once a file is gone: none of what also lies elsewhere.
fn own_size(path: &Path) -> u64 {
    let Ok(it) = fs::symlink_metadata(path) else {
        return 0;
    };
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&it) > 1 {
        return 0;
    }
    match it.is_file() {
        true => it.len(),
        false => 0,
    }
}
