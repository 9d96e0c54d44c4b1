//! Who may in. A browser on this machine can be made to talk to us by any page it visits: `Host` tells a name that was
//! re-pointed at us, `Origin` a page that is not ours.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HOST, HeaderMap, ORIGIN};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, web};
use parking_lot::Mutex;

use super::caller::Refused;
use super::guests::Guests;
use super::login::has_key;
use super::proxy::{Proxies, passed_on};

/// Names that are logged when they are refused; what comes after those is not.
const MAX_LOGGED: usize = 64;
/// The longest name there is.
const MAX_NAME: usize = 253;

/// The names and pages that are let in.
#[derive(Debug, Default)]
pub struct Access {
    hosts: Vec<String>,
    origins: Vec<String>,
    proxies: Proxies,
    /// What this machine calls itself.
    own_name: Option<String>,
    /// What was logged already.
    logged: Mutex<HashSet<String>>,
    proxy_logged: AtomicBool,
}

/// Names that no public server answers to: what is below them is on this machine or in its network.
const LOCAL_DOMAINS: [&str; 3] = [".localhost", ".local", ".internal"];

/// Why a request is refused, and whose name is to blame.
#[derive(Debug, PartialEq)]
enum Refusal {
    Host(String),
    Origin(String),
}

impl Access {
    /// # Errors
    /// A sentence about a name or origin that is none.
    pub fn new(hosts: &[String], origins: &[String], proxies: Proxies) -> Result<Self, String> {
        for host in hosts {
            if host.is_empty() || host.contains(['/', ':', ' ']) {
                return Err(format!(
                    "--allow-host {host:?} is no name: give it without scheme and port, such as pictures.example.org"
                ));
            }
        }
        for origin in origins {
            let rest = origin
                .strip_prefix("https://")
                .or_else(|| origin.strip_prefix("http://"));
            if rest.is_none_or(|rest| rest.is_empty() || rest.contains('/')) {
                return Err(format!(
                    "--allow-origin {origin:?} is no origin: give scheme, name and port if any, such as https://example.org"
                ));
            }
        }
        Ok(Access {
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            proxies,
            own_name: own_name(),
            origins: origins
                .iter()
                .map(|origin| origin.to_ascii_lowercase())
                .collect(),
            logged: Mutex::default(),
            proxy_logged: AtomicBool::new(false),
        })
    }

    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// Whether a request with these headers may in. `told` is the host as something more to be believed than the Host
    /// header has it: a trusted proxy.
    fn check(&self, headers: &HeaderMap, told: Option<&str>) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST);
        let host = match (told, hosts.next(), hosts.next()) {
            (Some(told), _, _) => Some(told),
            (None, Some(host), None) => host.to_str().ok(),
            _ => None,
        };
        let host = host.unwrap_or_default().to_ascii_lowercase();
        if !name_of(&host).is_some_and(|name| self.host_is_fine(name)) {
            return Err(Refusal::Host(host));
        }
        self.check_origin(headers, &host)
    }

    /// Whether a page with these headers may in, if one sent them. `host` is what the server was called by.
    fn check_origin(&self, headers: &HeaderMap, host: &str) -> Result<(), Refusal> {
        let mut origins = headers.get_all(ORIGIN);
        let origin = match (origins.next(), origins.next()) {
            // No browser.
            (None, _) => return Ok(()),
            (Some(origin), None) => origin.to_str().unwrap_or_default().to_ascii_lowercase(),
            _ => String::new(),
        };
        if self.origin_is_fine(&origin, host) {
            Ok(())
        } else {
            Err(Refusal::Origin(origin))
        }
    }

    /// Logs what was refused, and what would let it in: once by name, and no more names than [`MAX_LOGGED`].
    fn log(&self, refusal: &Refusal) {
        let (Refusal::Host(name) | Refusal::Origin(name)) = refusal;
        let name: String = name.chars().take(MAX_NAME).collect();
        let mut logged = self.logged.lock();
        if logged.len() > MAX_LOGGED || !logged.insert(name.clone()) {
            return;
        }
        let last = logged.len() > MAX_LOGGED;
        drop(logged);
        if last {
            tracing::warn!("requests under many more names are refused: those are not logged");
            return;
        }
        match refusal {
            Refusal::Host(host) => {
                let name = name_of(host).unwrap_or(host);
                tracing::warn!(
                    host = name,
                    "refused a request for a name that is not this server's: if it is one, start with --allow-host {}, or behind a proxy let it pass on the Host that it was asked for",
                    plain(name).unwrap_or("NAME")
                );
            }
            Refusal::Origin(_) => tracing::warn!(
                origin = name,
                "refused a request of a page from elsewhere: if it may use this server, start with --allow-origin {}, or behind a proxy let it pass on the Host that it was asked for",
                plain(&name).unwrap_or("ORIGIN")
            ),
        }
    }

    /// Logs once that a proxy passes requests on that nobody said is one.
    fn log_proxy(&self, peer: IpAddr) {
        if self.proxy_logged.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(
            "a proxy at {peer} passes requests on, and is not trusted to tell for whom: all its clients share the limits of one. Start with --trusted-proxy {peer}"
        );
    }

    /// Whether the peer passes this request on for somebody else, and for whom.
    pub(super) fn passed_on(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        if self.proxies.trusts(peer) {
            return Some(self.proxies.client(peer, headers));
        }
        if passed_on(headers) && is_near(peer) {
            self.log_proxy(peer);
            return Some(peer).filter(|peer| peer.to_canonical().is_loopback());
        }
        None
    }

    fn host_is_fine(&self, name: &str) -> bool {
        let literal = match name.strip_prefix('[') {
            Some(rest) => rest
                .strip_suffix(']')
                .is_some_and(|rest| rest.parse::<Ipv6Addr>().is_ok()),
            None => name.parse::<Ipv4Addr>().is_ok(),
        };
        let is_local = |domain: &&str| name.strip_suffix(*domain).is_some_and(|it| !it.is_empty());
        literal
            || name == "localhost"
            || LOCAL_DOMAINS.iter().any(is_local)
            || self.own_name.as_deref() == Some(name)
            || self.hosts.iter().any(|host| host == name)
    }

    fn origin_is_fine(&self, origin: &str, host: &str) -> bool {
        let own = ["http://", "https://"]
            .iter()
            .filter_map(|scheme| Some((scheme, origin.strip_prefix(scheme)?)))
            .any(|(scheme, authority)| {
                let port = if *scheme == "http://" { ":80" } else { ":443" };
                authority.strip_suffix(port).unwrap_or(authority)
                    == host.strip_suffix(port).unwrap_or(host)
            });
        own || self.origins.iter().any(|allowed| allowed == origin)
    }
}

impl Refusal {
    /// What whoever sent the request is told.
    fn message(&self) -> String {
        match self {
            Refusal::Host(host) => match name_of(host).and_then(plain) {
                Some(name) => format!(
                    "This server is not known by the name {name}. Call it by localhost or its IP address, or start it with --allow-host {name}."
                ),
                None => "This server is not known by that name. Call it by localhost or its IP address, or start it with --allow-host NAME.".into(),
            },
            Refusal::Origin(origin) => format!(
                "Pages from elsewhere may not use this server, unless it is started with --allow-origin {}.",
                plain(origin).unwrap_or("ORIGIN")
            ),
        }
    }
}

/// A name or an origin that can be shown, and typed, as it is.
fn plain(text: &str) -> Option<&str> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-._:/[]".contains(&b);
    (!text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(fine)).then_some(text)
}

/// A host without its port, of which there is nothing else.
fn name_of(host: &str) -> Option<&str> {
    let end = match host.strip_prefix('[') {
        // The colons of an IPv6 address are in brackets.
        Some(rest) => rest.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let fine = match port.strip_prefix(':') {
        Some(port) => port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    (fine && !name.is_empty()).then_some(name)
}

/// Whether an address is on this machine or in a private network, where proxies are.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            // 100.64.0.0/10: what carriers and container networks use.
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// Refuses foreign hosts and origins with 403, on every route.
pub async fn check<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match verdict(request.request()) {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(message) => {
            let mut refusal = HttpResponse::Forbidden()
                .content_type("text/plain; charset=utf-8")
                .body(format!("{message}\n"));
            refusal.extensions_mut().insert(Refused {
                code: "forbidden",
                message,
                retry_after_ms: None,
            });
            Ok(request.into_response(refusal).map_into_right_body())
        }
    }
}

fn verdict(request: &HttpRequest) -> Result<(), String> {
    let access = request
        .app_data::<web::Data<Access>>()
        .ok_or("This server has no settings.")?;
    let peer = request.peer_addr().map(|peer| peer.ip());
    let told = access.proxies.host(peer, request.headers());
    let checked = match access.check(request.headers(), told) {
        // No page that was led here by a name knows the key.
        Err(Refusal::Host(_)) if shows_key(request) => access.check_origin(request.headers(), ""),
        checked => checked,
    };
    checked.map_err(|refusal| {
        access.log(&refusal);
        refusal.message()
    })
}

/// Whether a request brings a key, where one is needed.
fn shows_key(request: &HttpRequest) -> bool {
    let guests = request.app_data::<web::Data<Guests>>();
    guests.is_some_and(|guests| guests.needs_key() && has_key(request, guests))
}

/// What this machine calls itself, in lower case.
fn own_name() -> Option<String> {
    let mut name = [0u8; MAX_NAME + 1];
    // SAFETY: the buffer is as long as is said, and its last byte stays 0.
    let status = unsafe { libc::gethostname(name.as_mut_ptr().cast(), MAX_NAME) };
    let name = std::ffi::CStr::from_bytes_until_nul(&name).ok()?;
    let name = name.to_str().ok()?.to_ascii_lowercase();
    (status == 0 && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn allowed(host: &str, origin: Option<&str>) -> bool {
        let access = Access::new(
            &["Pictures.Example.org".into()],
            &["https://other.example".into()],
            Proxies::default(),
        )
        .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        access.check(&headers, None).is_ok()
    }

    #[test]
    fn hosts() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "192.168.1.7",
            "[::1]:8080",
            "[fe80::1]",
            "pictures.example.org",
            "pictures.example.org:443",
            "host.docker.internal:8080",
            "studio.local",
            "glimpse.localhost",
        ] {
            assert!(allowed(host, None), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            ".local",
            "local",
            "127.0.0.1.evil.example",
            "",
            ":8080",
            "[::1].evil.example",
            "evil.example:127.0.0.1",
            "localhost:1@evil.example",
            "localhost@evil.example",
            "user@localhost",
            "localhost:1:2",
            "localhost:",
            "localhost:http",
            "localhost:+80",
            "localhost:99999",
            "localhost/",
            "localhost ",
            "[::1]:1@evil.example",
            "[::1",
            "[127.0.0.1]",
            "::1",
            "[localhost]",
        ] {
            assert!(!allowed(host, None), "{host}");
        }
        assert!(Access::default().check(&HeaderMap::new(), None).is_err());
    }

    #[test]
    fn origins() {
        for (host, origin) in [
            ("localhost:8080", "http://localhost:8080"),
            ("127.0.0.1", "http://127.0.0.1"),
            ("127.0.0.1", "http://127.0.0.1:80"),
            ("pictures.example.org", "https://pictures.example.org"),
            ("localhost:8080", "https://other.example"),
        ] {
            assert!(allowed(host, Some(origin)), "{origin} at {host}");
        }
        for (host, origin) in [
            ("localhost:8080", "null"),
            ("localhost:8080", "http://localhost:8081"),
            ("localhost:8080", "http://evil.example"),
            ("localhost:8080", "http://localhost:8080.evil.example"),
            ("localhost:8080", "file://localhost:8080"),
            ("localhost:8080", ""),
        ] {
            assert!(!allowed(host, Some(origin)), "{origin} at {host}");
        }
    }

    #[test]
    fn refusals_name_what_would_let_in() {
        let message = |host: &str| Refusal::Host(host.into()).message();
        assert!(message("pictures.example:80").contains("--allow-host pictures.example."));
        assert!(message("<script>").contains("--allow-host NAME."));
        let message = |origin: &str| Refusal::Origin(origin.into()).message();
        assert!(message("https://a.example:8").contains("--allow-origin https://a.example:8."));
        assert!(message("null\"").contains("--allow-origin ORIGIN."));
    }

    #[test]
    fn what_is_logged_is_bounded() {
        let access = Access::default();
        for n in 0..1000 {
            access.log(&Refusal::Host(format!("{}{n}", "x".repeat(n))));
        }
        let logged = access.logged.lock();
        assert_eq!(logged.len(), MAX_LOGGED + 1);
        assert!(logged.iter().all(|name| name.len() <= MAX_NAME));
    }

    #[test]
    fn a_proxy_is_never_this_machine() {
        let passed_on = |proxies: Vec<crate::access::Network>, peer: &str, forwarded: bool| {
            let access = Access::new(&[], &[], Proxies::new(proxies)).unwrap();
            let mut headers = HeaderMap::new();
            if forwarded {
                let name = HeaderName::from_static("x-forwarded-for");
                headers.insert(name, HeaderValue::from_static("192.0.2.9"));
            }
            let address = access.passed_on(peer.parse().unwrap(), &headers);
            address.map(|address| address.to_string())
        };
        let trusted = || vec!["127.0.0.1".parse().unwrap()];
        assert_eq!(
            passed_on(trusted(), "127.0.0.1", true).unwrap(),
            "192.0.2.9"
        );
        assert_eq!(
            passed_on(trusted(), "127.0.0.1", false).unwrap(),
            "127.0.0.1"
        );
        assert_eq!(passed_on(vec![], "127.0.0.1", true).unwrap(), "127.0.0.1");
        assert_eq!(passed_on(vec![], "127.0.0.1", false), None);
        assert_eq!(passed_on(vec![], "10.0.0.1", true), None);
    }

    #[test]
    fn settings_that_are_none() {
        assert!(Access::new(&["http://x".into()], &[], Proxies::default()).is_err());
        assert!(Access::new(&[], &["example.org".into()], Proxies::default()).is_err());
        assert!(
            Access::new(
                &[],
                &["https://example.org/path".into()],
                Proxies::default()
            )
            .is_err()
        );
    }
}
