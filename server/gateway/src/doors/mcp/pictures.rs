//! The picture that a tool's call names.

use glimpse_image::Region;
use wire::ErrorCode;

use super::Mcp;
use super::kept;
use crate::doors::body::Body;
use crate::doors::data_url;
use crate::doors::incoming::short_of_memory;
use crate::exchange::{Namespace, Picture, Source};
use api::Failure;

/// How a picture is named.
#[derive(Debug, PartialEq)]
enum Name<'a> {
    /// What follows `data:`.
    Data(&'a str),
    /// An http or https address.
    Address(&'a str),
    /// What an earlier result called it.
    Handle(&'a str),
    /// A file beneath the root.
    Path(&'a str),
}

impl Name<'_> {
    fn of(text: &str) -> Name<'_> {
        if let Some(data) = data_url::strip_scheme(text, "data:") {
            return Name::Data(data);
        }
        let is = |scheme| data_url::strip_scheme(text, scheme).is_some();
        if is("http://") || is("https://") {
            return Name::Address(text);
        }
        if kept::is_handle(text) {
            return Name::Handle(text);
        }
        Name::Path(text)
    }
}

impl Mcp {
    /// The picture of that name, or a region of it. It takes as long as it takes, on the thread that asks. `body` is the request's that names it.
    ///
    /// # Errors
    /// Why it can't be had.
    pub fn picture(
        &self,
        name: &str,
        region: Option<Region>,
        namespace: Namespace,
        body: &Body,
    ) -> Result<Picture, Failure> {
        let shared = &self.exchanges.hub.shared;
        let (file, sha256) = match Name::of(name.trim()) {
            Name::Data(data) => data_url::decode(data, &body.share, shared)?,
            Name::Address(url) if self.fetcher.is_on() => {
                self.fetcher.fetch(url, &body.share, shared)?
            }
            Name::Address(_) => return Err(unfetched()),
            Name::Handle(handle) => {
                let kept = self.kept.find(namespace, handle);
                let kept = kept.ok_or_else(|| gone(handle))?;
                let file = kept.take(&body.share, shared);
                (file.ok_or_else(short_of_memory)?, kept.sha256)
            }
            Name::Path(path) => {
                let root = self.root.as_ref().ok_or_else(|| unread(path))?;
                root.read(path, &body.share, shared)?
            }
        };
        Ok(Picture {
            source: Source::File(file),
            sha256,
            region,
            turn: 0,
            upload_ms: body.started.elapsed().as_secs_f64() * 1e3,
        })
    }
}

fn unfetched() -> Failure {
    let message = "This server fetches no pictures: give a data URL, data:image/jpeg;base64,… or have the server started with --fetch-images.";
    Failure::new(ErrorCode::ImageUnsupported, message)
}

fn unread(path: &str) -> Failure {
    let shown: String = path.chars().take(80).collect();
    let message = format!(
        "{shown:?} is no data URL and no handle of an earlier result, and this server reads no files: have it started with --root DIR to name those beneath it."
    );
    Failure::new(ErrorCode::ImageUnsupported, message)
}

fn gone(handle: &str) -> Failure {
    let message =
        format!("The picture {handle} is not kept any more: give it anew, as it was given first.");
    Failure::new(ErrorCode::ImageGone, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let handle = kept::handle(&[7; 32]);
        for (text, name) in [
            (
                "data:image/png;base64,AA==",
                Name::Data("image/png;base64,AA=="),
            ),
            ("DATA:,", Name::Data(",")),
            (
                "https://example.org/a.png",
                Name::Address("https://example.org/a.png"),
            ),
            ("HTTP://example.org", Name::Address("HTTP://example.org")),
            (handle.as_str(), Name::Handle(&handle)),
            ("cats/one.jpg", Name::Path("cats/one.jpg")),
            ("picture_1.png", Name::Path("picture_1.png")),
            ("file:///etc/passwd", Name::Path("file:///etc/passwd")),
            ("", Name::Path("")),
        ] {
            assert_eq!(Name::of(text), name);
        }
    }
}
