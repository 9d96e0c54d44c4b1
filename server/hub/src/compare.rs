//! Compares what the cache has of a model with what its hub has.

use std::path::Path;

use crate::http::Client;
use crate::needed::{OPTIONAL, TEXTS, weights};
use crate::pull::{each, open};
use crate::{Error, Hub, Name, Settings, Watch, hugging_face};

/// Hears nothing.
struct Quiet;

impl Watch for Quiet {}

/// The files of a model in the cache, `folder`, whose checksum is not that of the hub's file of the same revision; in the order in
/// which a model is read. Reads all of them.
///
/// # Errors
/// The hub could not be asked, or a file not be read.
pub fn compare(name: &Name, folder: &Path, settings: &Settings) -> Result<Vec<String>, Error> {
    let commit = folder.file_name().and_then(|it| it.to_str());
    // A branch may have moved on since.
    let revision = match (name.hub, commit) {
        (Hub::HuggingFace, Some(commit)) if hugging_face::is_commit(commit) => Some(commit.into()),
        _ => name.revision.clone(),
    };
    let name = Name {
        revision,
        ..name.clone()
    };
    let client = Client::new(&name, settings, &Quiet)?;
    let source = open(&client)?;
    let weights = weights(folder).map_err(|why| client.odd(&why))?;
    let texts = TEXTS.into_iter().chain(OPTIONAL).map(String::from);
    let there = texts.filter(|text| folder.join(text).is_file());
    let files: Vec<String> = there.chain(weights).collect();
    let differs = |file: &String| {
        let path = folder.join(file);
        let failed = |problem| Error::file("read", &path, &problem);
        let same = match source.describe(file)? {
            Some(it) => it.checksum.is_of(&path, it.size).map_err(failed)?,
            None => false,
        };
        Ok((!same).then(|| file.clone()))
    };
    let found = each(&client, &files, differs, &mut || {})?;
    Ok(found.into_iter().flatten().collect())
}
