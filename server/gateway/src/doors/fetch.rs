//! Pictures from elsewhere, by their http(s) addresses: only where the operator named the hosts, and never from a network that
//! only this machine reaches.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use parking_lot::Mutex;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::header::LOCATION;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body as Reply};
use wire::ErrorCode;

use super::incoming::Share;
use crate::intake::retry;
use crate::session::{File, Shared};
use api::Failure;

/// How long a picture may take to come, its redirects included.
const PATIENCE: Duration = Duration::from_secs(15);
const MAX_REDIRECTS: usize = 4;
/// Pictures that are fetched at once.
const MAX_AT_ONCE: usize = 16;

/// The hosts that pictures are fetched from.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// Any, as far as its address is one of the internet's.
    any: bool,
    /// In lower case; one that begins with a dot stands for all names below it.
    names: HashSet<String>,
}

impl Hosts {
    /// Hosts as the command line has them: names, `.example.org` for all below it, `*` for any, or addresses.
    ///
    /// # Errors
    /// A sentence about one that is none of these.
    pub fn new(list: &[String]) -> Result<Self, String> {
        let mut hosts = Hosts::default();
        for host in list {
            if host == "*" {
                hosts.any = true;
            } else if host.is_empty() || host.contains(['/', ' ', '*']) {
                return Err(format!(
                    "--fetch-images {host:?} is no host: give a name such as pictures.example.org, .example.org for all below it, or * for any"
                ));
            } else {
                hosts.names.insert(host.to_ascii_lowercase());
            }
        }
        Ok(hosts)
    }

    fn is_empty(&self) -> bool {
        !self.any && self.names.is_empty()
    }

    /// Whether pictures are fetched from a host of this name.
    fn allow(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let below = host.match_indices('.').map(|(at, _)| &host[at..]);
        self.any
            || self.names.contains(&host)
            || below.into_iter().any(|domain| self.names.contains(domain))
    }

    /// Whether the host is an address that was named itself: the operator knows what is there.
    fn names_address(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.parse::<IpAddr>().is_ok() && self.names.contains(host)
    }
}

/// Fetches pictures.
pub struct Fetcher {
    hosts: Hosts,
    agent: Agent,
    running: Mutex<usize>,
}

/// One of the fetches that run.
struct Turn<'a>(&'a Mutex<usize>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
    }
}

impl Fetcher {
    pub fn new(hosts: Hosts) -> Self {
        let config = Config::builder()
            .timeout_global(Some(PATIENCE))
            // Each hop is judged here.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .proxy(None)
            .user_agent(concat!("glimpse/", env!("CARGO_PKG_VERSION")))
            .build();
        let resolver = PublicResolver {
            hosts: hosts.clone(),
            inner: DefaultResolver::default(),
        };
        Fetcher {
            agent: Agent::with_parts(config, DefaultConnector::default(), resolver),
            hosts,
            running: Mutex::new(0),
        }
    }

    /// Whether anything is fetched at all.
    pub fn is_on(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// The file at an address, and its SHA-256. It takes as long as it takes, on the thread that asks.
    ///
    /// # Errors
    /// `image_unsupported` where it may not be or can't be fetched, `upload_too_large`, `busy`.
    pub fn fetch(
        &self,
        url: &str,
        share: &Share,
        shared: &Shared,
    ) -> Result<(File, [u8; 32]), Failure> {
        let _turn = self.turn()?;
        let reply = self.follow(url)?;
        let reader = reply
            .into_with_config()
            .limit(shared.limits.upload_bytes + 1)
            .reader();
        let broken = |problem: io::Error| unfetched(&problem.to_string());
        share.read(reader, "The picture", broken, shared)
    }

    fn turn(&self) -> Result<Turn<'_>, Failure> {
        let mut running = self.running.lock();
        if *running >= MAX_AT_ONCE {
            let message = "The server fetches as many pictures as it may: try again in a moment.";
            return Err(Failure::new(ErrorCode::Busy, message).retry_after(retry::UPLOADS));
        }
        *running += 1;
        Ok(Turn(&self.running))
    }

    /// What an address leads to.
    fn follow(&self, url: &str) -> Result<Reply, Failure> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let uri: Uri = url.parse().map_err(|_| unfetched("its address is none"))?;
            let scheme = uri.scheme_str().unwrap_or_default();
            if !["http", "https"].contains(&scheme) {
                return Err(unfetched("its address is neither http nor https"));
            }
            let host = uri.host().unwrap_or_default();
            if uri.authority().is_some_and(|it| it.as_str().contains('@'))
                || !self.hosts.allow(host)
            {
                return Err(unfetched(
                    "this server fetches none from there; whoever runs it can name the host in --fetch-images",
                ));
            }
            let answer = self.agent.get(&url).call();
            let answer = answer.map_err(|problem| unfetched(&reason(&problem)))?;
            let status = answer.status();
            if status.is_success() {
                return Ok(answer.into_body());
            }
            let next = answer
                .headers()
                .get(LOCATION)
                .filter(|_| status.is_redirection());
            let Some(next) = next.and_then(|next| next.to_str().ok()) else {
                return Err(unfetched(&format!("the answer was {}", status.as_u16())));
            };
            url = join(&uri, next);
        }
        Err(unfetched("it was sent on too often"))
    }
}

/// Where a redirect leads. A relative path that does not begin with a slash is taken from the root: no server that means to be
/// found sends one.
fn join(from: &Uri, to: &str) -> String {
    if to.contains("://") {
        return to.to_owned();
    }
    let scheme = from.scheme_str().unwrap_or("https");
    if let Some(rest) = to.strip_prefix("//") {
        return format!("{scheme}://{rest}");
    }
    let authority = from.authority().map_or("", |it| it.as_str());
    format!("{scheme}://{authority}/{}", to.trim_start_matches('/'))
}

fn unfetched(why: &str) -> Failure {
    let message = format!("The picture could not be fetched: {why}.");
    Failure::new(ErrorCode::ImageUnsupported, message)
}

/// A problem in words that tell nothing of the network here.
fn reason(problem: &ureq::Error) -> String {
    match problem {
        ureq::Error::HostNotFound => {
            "its host was not found, or only has addresses that are not the internet's".into()
        }
        ureq::Error::Timeout(_) => "it took too long".into(),
        ureq::Error::ConnectionFailed | ureq::Error::Io(_) => "its host can't be reached".into(),
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            "its host has no certificate that is known".into()
        }
        _ => "its host did not answer as HTTP has it".into(),
    }
}

/// Looks names up once, and gives no address that only this machine or its network reaches. What is connected to is what was
/// looked up here.
struct PublicResolver {
    hosts: Hosts,
    inner: DefaultResolver,
}

impl fmt::Debug for PublicResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicResolver")
    }
}

impl Resolver for PublicResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let named = uri
            .host()
            .is_some_and(|host| self.hosts.names_address(host));
        let mut public = self.empty();
        let may = |address: &&SocketAddr| named || is_public(address.ip());
        found
            .iter()
            .filter(may)
            .for_each(|address| public.push(*address));
        if public.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        Ok(public)
    }
}

/// Whether an address is one of the internet's: not this machine's, nor its network's, nor kept for something else (IANA's
/// special-purpose registries).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xfe == 18))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // What carries an IPv4 address reaches what that does: NAT64 and 6to4.
    let carried = match (a, b) {
        (0x64, 0xff9b) => Some(address.to_bits() as u32),
        (0x2002, _) => Some((address.to_bits() >> 80) as u32),
        _ => None,
    };
    if let Some(bits) = carried {
        return is_public_v4(Ipv4Addr::from_bits(bits));
    }
    // 2000::/3 is what is given out; within it, 2001::/23 is special and 2001:db8::/32 for documentation.
    a & 0xe000 == 0x2000 && !(a == 0x2001 && (b < 0x200 || b == 0xdb8)) && a != 0x3fff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_hosts_are_asked() {
        let list = ["Pictures.example.org", ".example.net", "192.0.2.1"].map(String::from);
        let hosts = Hosts::new(&list).unwrap();
        for host in ["pictures.example.org", "a.example.net", "a.b.EXAMPLE.net"] {
            assert!(hosts.allow(host), "{host}");
        }
        for host in [
            "example.org",
            "example.net",
            "badexample.net",
            "",
            "pictures.example.org.evil.example",
        ] {
            assert!(!hosts.allow(host), "{host}");
        }
        assert!(hosts.names_address("192.0.2.1") && !hosts.names_address("192.0.2.2"));
        assert!(Hosts::new(&["*".into()]).unwrap().allow("anything.example"));
        assert!(Hosts::new(&["https://example.org".into()]).is_err());
        assert!(Hosts::default().is_empty());
    }

    #[test]
    fn no_address_of_this_network_is_public() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001::1",
            "2001:db8::1",
            "64:ff9b:1::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "93.184.216.34",
            "2606:4700::1111",
            "64:ff9b::101:101",
            "2a00:1450::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let from: Uri = "https://a.example/x/y?z".parse().unwrap();
        assert_eq!(join(&from, "http://b.example/"), "http://b.example/");
        assert_eq!(join(&from, "//c.example/d"), "https://c.example/d");
        assert_eq!(join(&from, "/e"), "https://a.example/e");
    }
}
