//! Which files of a model are read, and so fetched.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The file that says which shard holds which tensor.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The weights of a model that has no index.
pub(crate) const ONE_FILE: &str = "model.safetensors";

/// What there must be beside the weights.
pub(crate) const TEXTS: [&str; 3] = ["config.json", "tokenizer_config.json", "tokenizer.model"];
/// What there may be.
pub(crate) const OPTIONAL: [&str; 2] = ["generation_config.json", INDEX];

/// The shards that an index names, each once.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn shards(index: &[u8]) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).map_err(|problem| problem.to_string())?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    // They become places in the cache.
    match names.iter().find(|name| !is_plain(name)) {
        Some(bad) => Err(format!("it names the file {bad:?}")),
        None if names.is_empty() => Err("it names no file".into()),
        None => Ok(names),
    }
}

/// The weights of the model in a folder: the shards of its index, or else one file.
///
/// # Errors
/// What is wrong with its index.
pub(crate) fn weights(folder: &Path) -> Result<Vec<String>, String> {
    match fs::read(folder.join(INDEX)) {
        Ok(index) => shards(&index),
        Err(_) => Ok(vec![ONE_FILE.into()]),
    }
}

fn is_plain(name: &str) -> bool {
    name.ends_with(".safetensors")
        && !name.starts_with('.')
        && !name.contains(['/', '\\', '\0'])
        && name.len() < 200
}

/// What a folder lacks to be served, if anything. Whatever lies in a cache under its name is whole, since it is put there so.
pub(crate) fn lacking(folder: &Path) -> Option<String> {
    let there = |name: &str| folder.join(name).is_file();
    if let Some(text) = TEXTS.into_iter().find(|name| !there(name)) {
        return Some(text.into());
    }
    match weights(folder) {
        Ok(weights) => weights.into_iter().find(|name| !there(name)),
        Err(_) => Some(INDEX.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_its_shards_once() {
        let index = br#"{"metadata":{},"weight_map":{"a":"m-2.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}}"#;
        assert_eq!(
            shards(index).unwrap(),
            ["m-1.safetensors", "m-2.safetensors"]
        );
    }

    #[test]
    fn no_index_names_a_place_elsewhere() {
        for bad in [
            "../x.safetensors",
            "/x.safetensors",
            ".x.safetensors",
            "a/b.safetensors",
            "config.json",
            "",
        ] {
            let index = serde_json::json!({ "weight_map": { "a": bad } });
            assert!(shards(index.to_string().as_bytes()).is_err(), "{bad}");
        }
        assert!(shards(b"{\"weight_map\":{}}").is_err());
        assert!(shards(b"[]").is_err());
    }

    #[test]
    fn a_folder_is_whole_with_all_that_its_index_names() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let lacks = || lacking(folder.path());
        for name in TEXTS {
            assert_eq!(lacks().as_deref(), Some(name));
            write(name, "");
        }
        assert_eq!(lacks().as_deref(), Some(ONE_FILE));
        write(ONE_FILE, "");
        assert_eq!(lacks(), None);
        write(INDEX, r#"{"weight_map":{"a":"a.safetensors"}}"#);
        assert_eq!(lacks().as_deref(), Some("a.safetensors"));
        write("a.safetensors", "");
        assert_eq!(lacks(), None);
    }
}
