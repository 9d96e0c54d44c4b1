//! The Hugging Face hub, and the cache of huggingface_hub:
//!
//! ```text
//! models--owner--name/blobs/<etag>                       a file's bytes
//! models--owner--name/snapshots/<commit>/<file>          a link to them
//! models--owner--name/refs/<branch or tag>               the commit that it is
//! .locks/models--owner--name/<etag>.lock                 locked by whoever fetches the blob
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use crate::checksum::Checksum;
use crate::http::{Client, Method};
use crate::settings::Site;
use crate::source::{File, Place, Source};
use crate::{Code, Error, Name, needed};

/// What marks the folder as one that backups leave out, as huggingface_hub writes it.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by huggingface_hub.
# For information about cache directory tags, see:
#\thttps://bford.info/cachedir/
";

/// One revision of a model there.
pub(crate) struct HuggingFace<'a> {
    client: &'a Client<'a>,
    commit: String,
    /// All files of the revision.
    names: Vec<String>,
    /// The model's folder in the cache.
    home: PathBuf,
    folder: PathBuf,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// A model's folder in the cache.
pub(crate) fn home(site: &Site, name: &Name) -> PathBuf {
    site.cache
        .join(format!("models--{}--{}", name.owner, name.name))
}

pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && matches!(Checksum::of_etag(revision), Some(Checksum::Git(_)))
}

/// The folder of a revision that lies whole in the cache, under any name that its owner had.
pub(crate) fn find(site: &Site, name: &Name) -> Option<PathBuf> {
    let folders = name.aliases().into_iter().filter_map(|name| {
        let home = home(site, &name);
        let commit = match name.revision() {
            commit if is_commit(commit) => commit.to_owned(),
            branch => fs::read_to_string(home.join("refs").join(branch)).ok()?,
        };
        Some(home.join("snapshots").join(commit.trim()))
    });
    folders
        .into_iter()
        .find(|folder| needed::lacking(folder).is_none())
}

impl<'a> HuggingFace<'a> {
    pub fn open(client: &'a Client<'a>) -> Result<Self, Error> {
        let name = client.name;
        let path = ["api", "models", &name.owner, &name.name, "revision"];
        let url = client.url(&[&path[..], &[name.revision()]].concat());
        let revision: Revision = client.json(&url)?;
        if !is_commit(&revision.sha) {
            return Err(client.odd("a revision that is no commit"));
        }
        let home = home(client.site, name);
        Ok(HuggingFace {
            client,
            folder: home.join("snapshots").join(&revision.sha),
            commit: revision.sha,
            names: revision
                .siblings
                .into_iter()
                .map(|it| it.rfilename)
                .collect(),
            home,
        })
    }

    fn resolve(&self, path: &str) -> Url {
        let name = self.client.name;
        self.client
            .url(&[&name.owner, &name.name, "resolve", &self.commit, path])
    }

    fn blob(&self, file: &File) -> PathBuf {
        self.home.join("blobs").join(file.checksum.text())
    }

    /// Writes so that whoever reads it meanwhile reads the old or the new.
    fn write_ref(&self) -> io::Result<()> {
        let revision = self.client.name.revision();
        let path = self.home.join("refs").join(revision);
        if revision == self.commit || fs::read_to_string(&path).is_ok_and(|it| it == self.commit) {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(&self.home);
        fs::create_dir_all(parent)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = parent.join(format!("{name}.{}.tmp", std::process::id()));
        fs::write(&temporary, &self.commit)?;
        fs::rename(&temporary, &path)
    }
}

impl Source for HuggingFace<'_> {
    fn describe(&self, path: &str) -> Result<Option<File>, Error> {
        if !self.names.iter().any(|name| name == path) {
            return Ok(None);
        }
        let url = self.resolve(path);
        let said = self
            .client
            .persist(|_| Ok(self.client.ask(Method::Head, &url, 0)?.said))?;
        let (Some(etag), Some(size), Some(_)) = (said.etag, said.size, said.commit) else {
            return Err(self
                .client
                .odd(&format!("nothing that says which version of {path} it has")));
        };
        let checksum = Checksum::of_etag(&etag).ok_or_else(|| {
            let message = format!(
                "{} gives no checksum of {path}, only {etag:?}: use another mirror",
                self.client.site.endpoint
            );
            Error::new(Code::Unusable, message)
        })?;
        Ok(Some(File {
            path: path.into(),
            size,
            checksum,
        }))
    }

    fn url(&self, file: &File) -> Url {
        self.resolve(&file.path)
    }

    fn place(&self, file: &File) -> Place {
        let etag = file.checksum.text();
        let locks = self.client.site.cache.join(".locks");
        let home = self.home.file_name().unwrap_or_default();
        Place {
            file: self.blob(file),
            incomplete: self.home.join("blobs").join(format!("{etag}.incomplete")),
            lock: locks.join(home).join(format!("{etag}.lock")),
        }
    }

    fn has(&self, file: &File) -> io::Result<bool> {
        // Where there are no links, the file itself lies in the snapshot. A link leads on into the store that models share.
        let places = [self.blob(file), self.folder.join(&file.path)];
        Ok(places
            .iter()
            .any(|path| fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() == file.size)))
    }

    fn publish(&self, file: &File) -> Result<(), Error> {
        let pointer = self.folder.join(&file.path);
        let blob = self.blob(file);
        let failed = |problem: io::Error| Error::file("written", &pointer, &problem);
        if fs::metadata(&pointer).is_ok_and(|it| it.len() == file.size) {
            return Ok(());
        }
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let tag = self.client.site.cache.join("CACHEDIR.TAG");
        if !tag.exists() {
            // A cache without it is as good.
            let _ = fs::write(tag, TAG);
        }
        let _ = fs::remove_file(&pointer);
        let target = Path::new("../../blobs").join(file.checksum.text());
        match link(&target, &pointer) {
            Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // A file system without links.
            Err(_) => fs::rename(&blob, &pointer).map_err(failed),
            Ok(()) => Ok(()),
        }
    }

    fn finish(&self) -> Result<(), Error> {
        self.write_ref()
            .map_err(|problem| Error::file("written", &self.home.join("refs"), &problem))
    }

    fn folder(&self) -> &Path {
        &self.folder
    }
}

#[cfg(unix)]
fn link(target: &Path, pointer: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, pointer)
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
