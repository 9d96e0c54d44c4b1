//! Where the hubs and their caches are, as the hubs' own tools have it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Hub;

/// A hub, as this user reaches it.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where it answers, without a slash at the end.
    pub endpoint: String,
    pub token: Option<String>,
    pub cache: PathBuf,
}

/// Where the hubs are and where their caches lie.
#[derive(Clone, Debug)]
pub struct Settings {
    pub hugging_face: Site,
    pub model_scope: Site,
    /// Nothing is fetched.
    pub offline: bool,
    /// How long a connection may bring nothing.
    pub patience: Duration,
}

/// Mobile networks and far mirrors stand still for a while without being cut.
const PATIENCE: u64 = 30;

impl Settings {
    /// What the environment says: `HF_*` as huggingface_hub reads it, `MODELSCOPE_*` as modelscope does.
    pub fn from_environment() -> Self {
        Self::from(&|name| std::env::var(name).ok())
    }

    fn from(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let told = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let is_on = |name: &str| {
            told(name).is_some_and(|value| {
                ["1", "on", "yes", "true"].contains(&&*value.to_ascii_lowercase())
            })
        };
        let path = |name: &str| told(name).map(|value| expand(&value, variable));
        let home = PathBuf::from(told("HOME").unwrap_or_else(|| ".".into()));
        let caches = path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let hf_home = path("HF_HOME").unwrap_or_else(|| caches.join("huggingface"));
        let token = || {
            let file = path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
            told("HF_TOKEN")
                .or_else(|| told("HUGGING_FACE_HUB_TOKEN"))
                .or_else(|| std::fs::read_to_string(file).ok())
        };
        Settings {
            hugging_face: Site {
                endpoint: endpoint(told("HF_ENDPOINT"), "https://huggingface.co"),
                token: (!is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
                    .then(token)
                    .flatten()
                    .and_then(clean),
                cache: path("HF_HUB_CACHE")
                    .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
                    .unwrap_or_else(|| hf_home.join("hub")),
            },
            model_scope: Site {
                endpoint: endpoint(told("MODELSCOPE_ENDPOINT"), "https://modelscope.cn"),
                token: told("MODELSCOPE_API_TOKEN").and_then(clean),
                cache: path("MODELSCOPE_CACHE").unwrap_or_else(|| home.join(".cache/modelscope")),
            },
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            patience: Duration::from_secs(
                told("HF_HUB_DOWNLOAD_TIMEOUT")
                    .and_then(|seconds| seconds.trim().parse().ok())
                    .filter(|seconds| (1..=86_400).contains(seconds))
                    .unwrap_or(PATIENCE),
            ),
        }
    }

    pub(crate) fn site(&self, hub: Hub) -> &Site {
        match hub {
            Hub::HuggingFace => &self.hugging_face,
            Hub::ModelScope => &self.model_scope,
        }
    }
}

fn endpoint(told: Option<String>, usual: &str) -> String {
    let address = told.unwrap_or_else(|| usual.into());
    let address = address.trim().trim_end_matches('/');
    match address.contains("://") {
        true => address.into(),
        false => format!("https://{address}"),
    }
}

fn clean(token: String) -> Option<String> {
    let token: String = token.trim().replace(['\r', '\n'], "");
    (!token.is_empty()).then_some(token)
}

/// `~` and `$VARIABLE` in a path: a variable of a service's unit file goes through no shell.
fn expand(path: &str, variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let mut out = String::new();
    let mut rest = path;
    if let Some(below) = path.strip_prefix('~')
        && (below.is_empty() || below.starts_with('/'))
        && let Some(home) = variable("HOME")
    {
        out.push_str(&home);
        rest = below;
    }
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, end) = match after.strip_prefix('{').and_then(|it| it.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        match variable(name) {
            Some(value) if !name.is_empty() => out.push_str(&value),
            // Unknown: it stays as it is written.
            _ => out.push_str(&rest[at..at + 1 + end]),
        }
        rest = &after[end..];
    }
    out.push_str(rest);
    Path::new(&out).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Settings {
        Settings::from(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn the_caches_are_where_the_hubs_own_tools_have_them() {
        let cache = |variables: &[(&str, &str)]| {
            let all = [&[("HOME", "/home/a")], variables].concat();
            from(&all).hugging_face.cache.display().to_string()
        };
        assert_eq!(cache(&[]), "/home/a/.cache/huggingface/hub");
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(
            cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/h")]),
            "/home/a/h/hub"
        );
        assert_eq!(
            cache(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "$HOME/${HOME}/c")]),
            "/home/a//home/a/c"
        );
        assert_eq!(
            cache(&[("HF_HOME", "$NONE/h"), ("HF_HUB_CACHE", "")]),
            "$NONE/h/hub"
        );
        let settings = from(&[("HOME", "/home/a")]);
        assert_eq!(
            settings.model_scope.cache,
            Path::new("/home/a/.cache/modelscope")
        );
        let settings = from(&[
            ("MODELSCOPE_CACHE", "/m"),
            ("MODELSCOPE_ENDPOINT", "modelscope.ai/"),
        ]);
        assert_eq!(settings.model_scope.cache, Path::new("/m"));
        assert_eq!(settings.model_scope.endpoint, "https://modelscope.ai");
    }

    #[test]
    fn a_token_comes_from_its_variable_or_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("token"), "hf_file\r\n").unwrap();
        let token = |variables: &[(&str, &str)]| {
            from(&[&[("HF_HOME", home)], variables].concat())
                .hugging_face
                .token
        };
        assert_eq!(token(&[]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HF_TOKEN", " hf_a ")]).as_deref(), Some("hf_a"));
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(from(&[("HF_HOME", "/none")]).hugging_face.token, None);
    }

    #[test]
    fn offline_is_said_by_either_variable() {
        assert!(from(&[("HF_HUB_OFFLINE", "YES")]).offline);
        assert!(from(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!from(&[("HF_HUB_OFFLINE", "0")]).offline);
    }
}
