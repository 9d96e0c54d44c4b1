//! What a model is called on a hub.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Code, Error};

/// Where models are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hub {
    HuggingFace,
    ModelScope,
}

impl Hub {
    /// What a name begins with there.
    fn prefix(self) -> &'static str {
        match self {
            Hub::HuggingFace => "",
            Hub::ModelScope => "ms:",
        }
    }

    /// The branch that is meant where none is named.
    pub(crate) fn main_branch(self) -> &'static str {
        match self {
            Hub::HuggingFace => "main",
            Hub::ModelScope => "master",
        }
    }
}

/// A model's name: `owner/name[@revision]`, or `ms:owner/name[@revision]` on ModelScope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub hub: Hub,
    pub owner: String,
    pub name: String,
    /// A branch, a tag or a commit; the hub's main branch if none is given.
    pub revision: Option<String>,
}

/// What a user calls a model: the place of a folder, or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    Folder(PathBuf),
    Named(Name),
}

/// Owners that have been renamed, and who they are now: under either name a hub gives the same models.
const RENAMED: [(&str, &str); 1] = [("THUDM", "zai-org")];

impl Name {
    pub(crate) fn revision(&self) -> &str {
        self.revision
            .as_deref()
            .unwrap_or_else(|| self.hub.main_branch())
    }

    /// `owner/name`.
    pub(crate) fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The same model under every name that its owner had, this one first.
    pub(crate) fn aliases(&self) -> Vec<Name> {
        let other = RENAMED.iter().find_map(|(old, new)| match &*self.owner {
            owner if owner == *old => Some(*new),
            owner if owner == *new => Some(*old),
            _ => None,
        });
        let renamed = other
            .filter(|_| self.hub == Hub::HuggingFace)
            .map(|owner| Name {
                owner: owner.into(),
                ..self.clone()
            });
        [self.clone()].into_iter().chain(renamed).collect()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/{}", self.hub.prefix(), self.owner, self.name)?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (hub, rest) = match text.strip_prefix(Hub::ModelScope.prefix()) {
            Some(rest) => (Hub::ModelScope, rest),
            None => (Hub::HuggingFace, text),
        };
        let (repository, revision) = match rest.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (rest, None),
        };
        let bad = || {
            Error::new(
                Code::BadName,
                format!(
                    "{text:?} is neither a folder that exists nor the name of a model: give owner/name, owner/name@revision, \
                     or ms:owner/name for ModelScope"
                ),
            )
        };
        let (owner, name) = repository.split_once('/').ok_or_else(bad)?;
        // Both become parts of a folder's name, and a revision a path.
        if ![owner, name].into_iter().all(is_part) || !revision.is_none_or(is_revision) {
            return Err(bad());
        }
        Ok(Name {
            hub,
            owner: owner.into(),
            name: name.into(),
            revision: revision.map(Into::into),
        })
    }
}

fn is_part(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=96).contains(&text.len())
        && text.chars().all(known)
        && !text.starts_with(['.', '-'])
        && !["--", ".."].into_iter().any(|it| text.contains(it))
}

fn is_revision(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    let part = |part: &str| {
        !part.is_empty()
            && part.chars().all(known)
            && !part.starts_with(['.', '-'])
            && !part.contains("..")
    };
    text.len() <= 200 && text.split('/').all(part)
}

impl Model {
    /// What `text` means: a path that exists is never taken for a name, and what can't be a name is a path.
    pub fn told(text: &str) -> Model {
        let path = Path::new(text);
        match text.parse() {
            Ok(name) if !path.exists() => Model::Named(name),
            _ => Model::Folder(path.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_read_and_written_alike() {
        for text in [
            "zai-org/glm-4v-9b",
            "THUDM/glm-4v-9b@refs/pr/7",
            "a/b@0123456789abcdef0123456789abcdef01234567",
            "ms:ZhipuAI/glm-4v-9b",
            "ms:ZhipuAI/glm-4v-9b@v1.0+2",
        ] {
            assert_eq!(name(text).to_string(), text);
        }
        assert_eq!(name("ms:a/b").revision(), "master");
        assert_eq!(name("a/b").revision(), "main");
    }

    #[test]
    fn nothing_that_leads_elsewhere_is_a_name() {
        for text in [
            "", "glm", "a/", "/b", "a/b/c", "./a/b", "../a", "a/..", "a/.b", "a--b/c", "-a/b",
            "a/b@", "a/b@../x", "a/b@x/", "a/b@/x", "a/b@.x", "a/b@x//y", "a\\b/c", "a/b c",
            "hf:a/b", "a/b@-x",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_renamed_owner_has_both_names() {
        let names = |text: &str| -> Vec<String> {
            let all = name(text).aliases();
            all.iter().map(ToString::to_string).collect()
        };
        assert_eq!(names("THUDM/x@v1"), ["THUDM/x@v1", "zai-org/x@v1"]);
        assert_eq!(names("zai-org/x"), ["zai-org/x", "THUDM/x"]);
        assert_eq!(names("ms:THUDM/x"), ["ms:THUDM/x"]);
        assert_eq!(names("a/x"), ["a/x"]);
    }

    #[test]
    fn a_path_that_exists_is_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let text = path.to_str().unwrap();
        assert_eq!(Model::told(text), Model::Folder(path.clone()));
        // From the crate's folder, where cargo runs tests.
        assert_eq!(
            Model::told("src/name.rs"),
            Model::Folder("src/name.rs".into())
        );
        assert_eq!(Model::told("no/such"), Model::Named(name("no/such")));
        assert_eq!(Model::told("glm-4v-9b"), Model::Folder("glm-4v-9b".into()));
    }
}
