//! ModelScope, and its cache: `models/owner--name/snapshots/<revision>/<file>`, and the layouts of its earlier versions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::Url;

use crate::checksum::{Checksum, hex};
use crate::http::Client;
use crate::settings::Site;
use crate::source::{File, Place, Source};
use crate::{Code, Error, Name, needed};

/// One revision of a model there.
pub(crate) struct ModelScope<'a> {
    client: &'a Client<'a>,
    files: Vec<Listed>,
    folder: PathBuf,
}

#[derive(Deserialize)]
struct Reply {
    #[serde(rename = "Data")]
    data: Option<Files>,
    #[serde(rename = "Message", default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Files {
    #[serde(rename = "Files", default)]
    files: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Path")]
    path: String,
    #[serde(rename = "Size", default)]
    size: u64,
    #[serde(rename = "Sha256", default)]
    sha256: Option<String>,
}

/// Folders of a model that earlier versions of its tools made, and which they still use where there are any.
fn earlier(site: &Site, name: &Name) -> Vec<PathBuf> {
    let Name { owner, name, .. } = name;
    let escaped = name.replace('.', "___");
    let cache = &site.cache;
    vec![
        cache.join("models").join(owner).join(&escaped),
        cache.join("hub/models").join(owner).join(&escaped),
        cache.join(owner).join(name),
        cache.join("hub").join(owner).join(name),
    ]
}

fn snapshot(site: &Site, name: &Name) -> PathBuf {
    home(site, name).join("snapshots").join(name.revision())
}

/// A model's folder in the cache.
pub(crate) fn home(site: &Site, name: &Name) -> PathBuf {
    let folder = format!("{}--{}", name.owner, name.name);
    site.cache.join("models").join(folder)
}

/// All folders that may hold a model.
pub(crate) fn homes(site: &Site, name: &Name) -> Vec<PathBuf> {
    [vec![home(site, name)], earlier(site, name)].concat()
}

/// What its own tools lock while they fetch a file.
pub(crate) fn lock(site: &Site, name: &Name, file: &str) -> PathBuf {
    let repository = name.repository();
    let key = [
        "modelscope-hub-download-lock-v2",
        "file",
        "model",
        &repository,
        file,
    ];
    let digest = hex(&Sha256::digest(key.join("\0")));
    site.cache.join(".lock").join(format!("file_{digest}.lock"))
}

/// The folder of a revision that lies whole in the cache.
pub(crate) fn find(site: &Site, name: &Name) -> Option<PathBuf> {
    // The earlier layouts know one revision.
    let earlier = match &name.revision {
        None => earlier(site, name),
        Some(_) => vec![],
    };
    [vec![snapshot(site, name)], earlier]
        .concat()
        .into_iter()
        .find(|folder| needed::lacking(folder).is_none())
}

impl<'a> ModelScope<'a> {
    pub fn open(client: &'a Client<'a>) -> Result<Self, Error> {
        let name = client.name;
        let mut url = client.url(&[
            "api",
            "v1",
            "models",
            &name.owner,
            &name.name,
            "repo",
            "files",
        ]);
        url.query_pairs_mut()
            .append_pair("Revision", name.revision())
            .append_pair("Recursive", "True");
        let reply: Reply = client.json(&url)?;
        let Some(data) = reply.data else {
            let message = reply.message.unwrap_or_default();
            let endpoint = &client.site.endpoint;
            return Err(Error::new(
                Code::NotFound,
                format!("{endpoint} has no model {name} ({message}): check the name"),
            ));
        };
        // What its own tools go on with is gone on with.
        let mut known = earlier(client.site, name).into_iter().take(2);
        let known =
            known.find(|folder| fs::read_dir(folder).is_ok_and(|mut all| all.next().is_some()));
        Ok(ModelScope {
            client,
            files: data.files,
            folder: known.unwrap_or_else(|| snapshot(client.site, name)),
        })
    }
}

impl Source for ModelScope<'_> {
    fn describe(&self, path: &str) -> Result<Option<File>, Error> {
        let Some(file) = self.files.iter().find(|file| file.path == path) else {
            return Ok(None);
        };
        let sum = file
            .sha256
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        match Checksum::of_etag(&sum) {
            Some(checksum @ Checksum::Sha256(_)) => Ok(Some(File {
                path: path.into(),
                size: file.size,
                checksum,
            })),
            _ => Err(Error::new(
                Code::Unusable,
                format!(
                    "{} gives no checksum of {path}: try again later",
                    self.client.site.endpoint
                ),
            )),
        }
    }

    fn url(&self, file: &File) -> Url {
        let name = self.client.name;
        let mut url = self
            .client
            .url(&["api", "v1", "models", &name.owner, &name.name, "repo"]);
        url.query_pairs_mut()
            .append_pair("Revision", name.revision())
            .append_pair("FilePath", &file.path);
        url
    }

    fn place(&self, file: &File) -> Place {
        Place {
            file: self.folder.join(&file.path),
            incomplete: self.folder.join(format!("{}.incomplete", file.path)),
            lock: lock(self.client.site, self.client.name, &file.path),
        }
    }

    fn has(&self, file: &File) -> io::Result<bool> {
        // A branch moves on under the same names.
        match file
            .checksum
            .is_of(&self.folder.join(&file.path), file.size)
        {
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other,
        }
    }

    fn publish(&self, _: &File) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&self) -> Result<(), Error> {
        Ok(())
    }

    fn folder(&self) -> &Path {
        &self.folder
    }
}
