//! The page.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, HeaderName,
    HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use actix_web::{Error, HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// A file of the page, as it is and, where that is worth it, compressed.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// The file's path below `/`.
    pub name: &'static str,
    pub plain: &'static [u8],
    pub brotli: Option<&'static [u8]>,
    pub gzip: Option<&'static [u8]>,
}

/// The page's files as they are served.
pub struct Page {
    assets: HashMap<&'static str, Asset>,
    /// The Content-Security-Policy.
    policy: HeaderValue,
}

/// Shown where the page would be, if it was not built.
const NO_PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Glimpse</title>\
<h1>Glimpse is running, without its page</h1>\
<p>This binary was built before the page was. Run <code>make serve</code>, which builds both; \
the socket is at <code>/ws</code>.</p></html>";

/// One file of the page.
struct Asset {
    kind: &'static str,
    file: File,
    etag: String,
    immutable: bool,
}

impl Page {
    /// The page of these files; of none, a page that says how to build them.
    ///
    /// # Errors
    /// If the page's own scripts can't be named in a header.
    pub fn new(files: &[File]) -> io::Result<Self> {
        let asset = |file: &File| Asset {
            kind: kind(file.name),
            etag: format!(
                "W/\"{}\"",
                BASE64_STANDARD.encode(&Sha256::digest(file.plain)[..12])
            ),
            immutable: is_hashed(file.name),
            file: *file,
        };
        let assets: HashMap<_, _> = files.iter().map(|file| (file.name, asset(file))).collect();
        let index = assets.get("index.html").map(|asset| asset.file.plain);
        let policy = policy(&String::from_utf8_lossy(index.unwrap_or_default()));
        Ok(Page {
            assets,
            policy: HeaderValue::from_str(&policy).map_err(io::Error::other)?,
        })
    }
}

/// The media type by the name's ending.
fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// `glimpse-0123456789abcdef.js` and the like: whose content never changes under its name.
fn is_hashed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split(['-', '.', '_']).any(|part| {
        part.len() >= 8
            && part.bytes().all(|byte| byte.is_ascii_hexdigit())
            && part.bytes().any(|byte| byte.is_ascii_digit())
    })
}

/// The Content-Security-Policy: nothing but our own, and the scripts and styles that stand in the page itself by their hashes.
fn policy(index: &str) -> String {
    let scripts = hashes(index, "script");
    let styles = hashes(index, "style");
    format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'{scripts}; style-src 'self'{styles}; \
         img-src 'self' blob: data:; connect-src 'self'; worker-src 'self'; font-src 'self'; \
         manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The sources that allow what stands in each `element` of the page itself.
fn hashes(index: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}"), format!("</{element}>"));
    let mut sources = String::new();
    for rest in index.split(&open).skip(1) {
        let Some((tag, rest)) = rest.split_once('>') else {
            continue;
        };
        let Some((text, _)) = rest.split_once(&close) else {
            continue;
        };
        if !tag.contains("src=") {
            let hash = BASE64_STANDARD.encode(Sha256::digest(text));
            sources.push_str(&format!(" 'sha256-{hash}'"));
        }
    }
    sources
}

/// The page's files. Only what is embedded can be had, so no path leads anywhere else.
pub async fn show(request: HttpRequest, page: web::Data<Page>) -> HttpResponse {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return HttpResponse::MethodNotAllowed()
            .insert_header(("Allow", "GET, HEAD"))
            .finish();
    }
    let path = match request.path() {
        "/" => "index.html",
        path => path.trim_start_matches('/'),
    };
    let Some(asset) = page.assets.get(path) else {
        return if path == "index.html" {
            HttpResponse::Ok()
                .content_type("text/html; charset=utf-8")
                .insert_header((CACHE_CONTROL, "no-cache"))
                .body(NO_PAGE)
        } else {
            HttpResponse::NotFound()
                .content_type("text/plain; charset=utf-8")
                .body("There is nothing here. The page is at /, the socket at /ws.\n")
        };
    };
    let cache = if asset.immutable {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let known = request
        .headers()
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == asset.etag));
    let mut response = if known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((CACHE_CONTROL, cache))
        .insert_header((ETAG, asset.etag.as_str()))
        .insert_header((VARY, "Accept-Encoding"));
    if known {
        return response.finish();
    }
    response.content_type(asset.kind);
    let accepted = request
        .headers()
        .get(ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    for (name, encoded) in [("br", asset.file.brotli), ("gzip", asset.file.gzip)] {
        if let Some(encoded) = encoded
            && accepts(accepted, name)
        {
            return response
                .insert_header((CONTENT_ENCODING, name))
                .body(Pieces(encoded));
        }
    }
    response.body(Pieces(asset.file.plain))
}

/// A file in pieces: what is not sent yet is not copied for each who reads slowly.
struct Pieces(&'static [u8]);

const PIECE: usize = 16 << 10;

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let (piece, rest) = self.0.split_at(self.0.len().min(PIECE));
        self.0 = rest;
        Poll::Ready((!piece.is_empty()).then_some(Ok(Bytes::from_static(piece))))
    }
}

/// Whether an Accept-Encoding header takes this encoding: by its name, or by `*` if it is not named.
fn accepts(header: &str, encoding: &str) -> bool {
    let mut any = false;
    for part in header.split(',') {
        let mut words = part.split(';').map(str::trim);
        let name = words.next().unwrap_or_default();
        let refused = words.any(|word| {
            word.strip_prefix("q=")
                .is_some_and(|weight| weight.parse() == Ok(0.0))
        });
        if name.eq_ignore_ascii_case(encoding) {
            return !refused;
        }
        any |= name == "*" && !refused;
    }
    any
}

/// What every answer carries.
pub async fn security_headers<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let page = request.app_data::<web::Data<Page>>().cloned();
    let mut response = next.call(request).await?;
    let headers = response.headers_mut();
    if let Some(page) = page {
        headers.insert(CONTENT_SECURITY_POLICY, page.policy.clone());
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "permissions-policy",
            "camera=(self), microphone=(), geolocation=()",
        ),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashed_names() {
        assert!(is_hashed("glimpse-0123456789abcdef.js"));
        assert!(is_hashed("assets/glimpse-6fd21b9e8c31_bg.wasm"));
        for path in [
            "index.html",
            "favicon.svg",
            "samples/facade.jpg",
            "manifest.webmanifest",
        ] {
            assert!(!is_hashed(path), "{path}");
        }
    }

    #[test]
    fn encodings() {
        assert!(accepts("gzip, deflate, br, zstd", "br"));
        assert!(accepts("*", "br"));
        assert!(!accepts("*, br;q=0", "br"));
        assert!(!accepts("gzip;q=0.0", "gzip"));
        assert!(!accepts("", "gzip"));
        assert!(accepts("br;q=0.5", "br"));
    }

    #[test]
    fn what_stands_in_the_page_is_allowed_by_its_hash_alone() {
        let policy = policy(
            "<style>p {}</style><script src=\"/a.js\"></script><script type=\"module\">go()</script>",
        );
        let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
        let (script, style) = (hash("go()"), hash("p {}"));
        assert!(policy.contains(&format!("'wasm-unsafe-eval' 'sha256-{script}';")));
        assert!(policy.contains(&format!("style-src 'self' 'sha256-{style}';")));
        assert_eq!(policy.matches("sha256-").count(), 2);
        assert!(!policy.contains("unsafe-inline"));
    }
}
