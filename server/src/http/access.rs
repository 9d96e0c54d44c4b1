//! Who may in. A browser on this machine can be made to talk to us by any page it visits: `Host` tells a name that was
//! re-pointed at us, `Origin` a page that is not ours.

use std::net::IpAddr;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HOST, HeaderMap, ORIGIN};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, web};

use super::proxy::Proxies;

/// The names and pages that are let in.
#[derive(Clone, Debug, Default)]
pub struct Access {
    hosts: Vec<String>,
    origins: Vec<String>,
    proxies: Proxies,
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
            origins: origins
                .iter()
                .map(|origin| origin.to_ascii_lowercase())
                .collect(),
        })
    }

    /// The client's own address.
    pub fn client(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        Some(self.proxies.client(peer, request.headers()))
    }

    /// Whether a request with these headers may in; else why not. `told` is the host as something more to be believed
    /// than the Host header has it: a trusted proxy.
    fn check(&self, headers: &HeaderMap, told: Option<&str>) -> Result<(), &'static str> {
        let mut hosts = headers.get_all(HOST);
        let host = match (told, hosts.next(), hosts.next()) {
            (Some(told), _, _) => Some(told),
            (None, Some(host), None) => host.to_str().ok(),
            _ => None,
        };
        let host = host.ok_or(HOST_MESSAGE)?.to_ascii_lowercase();
        if !self.host_is_fine(name_of(&host)) {
            return Err(HOST_MESSAGE);
        }
        let mut origins = headers.get_all(ORIGIN);
        match (origins.next(), origins.next()) {
            // No browser.
            (None, _) => Ok(()),
            (Some(origin), None) => {
                let origin = origin.to_str().map_err(|_| ORIGIN_MESSAGE)?;
                if self.origin_is_fine(&origin.to_ascii_lowercase(), &host) {
                    Ok(())
                } else {
                    Err(ORIGIN_MESSAGE)
                }
            }
            _ => Err(ORIGIN_MESSAGE),
        }
    }

    fn host_is_fine(&self, name: &str) -> bool {
        let literal = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(name);
        name == "localhost"
            || literal.parse::<IpAddr>().is_ok()
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

const HOST_MESSAGE: &str = "This server is not known by that name. Call it by localhost or its IP address, or start it with --allow-host NAME.\n";
const ORIGIN_MESSAGE: &str = "Pages from elsewhere may not use this server, unless it is started with --allow-origin ORIGIN.\n";

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rfind(':') {
        // The colons of an IPv6 address are in brackets.
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
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
            let refusal = HttpResponse::Forbidden()
                .content_type("text/plain; charset=utf-8")
                .body(message);
            Ok(request.into_response(refusal).map_into_right_body())
        }
    }
}

fn verdict(request: &HttpRequest) -> Result<(), &'static str> {
    let access = request
        .app_data::<web::Data<Access>>()
        .ok_or(HOST_MESSAGE)?;
    let peer = request.peer_addr().map(|peer| peer.ip());
    // HTTP/2 has the host in the request line instead of a header.
    let authority = request
        .uri()
        .authority()
        .filter(|_| !request.headers().contains_key(HOST))
        .map(|authority| authority.as_str());
    let told = access.proxies.host(peer, request.headers()).or(authority);
    access.check(request.headers(), told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

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
        ] {
            assert!(allowed(host, None), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            ":8080",
            "[::1].evil.example",
            "evil.example:127.0.0.1",
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
