//! Behind a proxy: who the client is, if the proxy is one that we believe.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, VIA};
use ipnet::IpNet;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What proxies add to a request, and programs on this machine do not.
static ADDED: [HeaderName; 6] = [
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
    FORWARDED,
    VIA,
];

/// An address, or a network written as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// An IPv4 address is also one within ::ffff:0:0/96.
    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let as_v6 = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        self.0.contains(&address) || self.0.contains(&IpAddr::V6(as_v6))
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.parse::<IpNet>().ok();
        let network = network.or_else(|| text.parse::<IpAddr>().map(IpNet::from).ok());
        let problem = || "must be an IP address, or a network such as 10.0.0.0/8".to_owned();
        network.map(Network).ok_or_else(problem)
    }
}

/// The proxies whose word on the client is taken.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Vec<Network>);

impl Proxies {
    pub fn new(networks: Vec<Network>) -> Self {
        Proxies(networks)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The client: of the addresses that the request passed, the last that is no trusted proxy. Where the proxies tell
    /// none that can be read, it is the last of them that was told of.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        for hop in hops(headers).iter().rev() {
            if !self.trusts(client) {
                break;
            }
            let Some(address) = node(hop) else { break };
            client = address;
        }
        client
    }

    /// The host that the client asked for, as a trusted proxy tells it.
    pub fn host<'a>(&self, peer: Option<IpAddr>, headers: &'a HeaderMap) -> Option<&'a str> {
        if !self.trusts(peer?) {
            return None;
        }
        headers.get(&FORWARDED_HOST)?.to_str().ok()
    }
}

/// Whether a proxy passed the request on, by what such add to it.
pub fn passed_on(headers: &HeaderMap) -> bool {
    ADDED.iter().any(|name| headers.contains_key(name))
}

/// Where the request came by, in order: from X-Forwarded-For, or if there is none from Forwarded (RFC 7239).
fn hops(headers: &HeaderMap) -> Vec<String> {
    let parts = |name: &HeaderName| -> Vec<String> {
        headers
            .get_all(name)
            .flat_map(|value| {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                text.split(',').map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    };
    let told = parts(&FORWARDED_FOR);
    if !told.is_empty() {
        return told;
    }
    let from = |element: &String| {
        let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
        let mut from = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
        from.next().map_or(String::new(), |(_, node)| node.into())
    };
    parts(&FORWARDED).iter().map(from).collect()
}

/// An address as proxies write it: with a port or without, IPv6 in brackets or not, in quotes or not.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"').trim();
    let (address, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        // A zone is of the proxy's own machine.
        let address = address.split('%').next().unwrap_or_default();
        (IpAddr::V6(address.parse::<Ipv6Addr>().ok()?), port)
    } else if let Ok(address) = text.parse() {
        return Some(address);
    } else {
        let (address, _) = text.split_once(':')?;
        (IpAddr::V4(address.parse().ok()?), &text[address.len()..])
    };
    let fine = port.strip_prefix(':').is_none_or(|port| {
        !port.is_empty()
            && port
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    });
    (fine && (port.is_empty() || port.starts_with(':'))).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn networks() {
        let within = |network: &str, address: &str| {
            network
                .parse::<Network>()
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(within("10.0.0.0/8", "10.255.0.1"));
        assert!(!within("10.0.0.0/8", "11.0.0.1"));
        assert!(within("127.0.0.1", "127.0.0.1") && !within("127.0.0.1", "127.0.0.2"));
        assert!(within("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(within("0.0.0.0/0", "1.2.3.4") && !within("0.0.0.0/0", "2001:db8::1"));
        assert!(
            within("2001:db8::/32", "2001:db8:1::1") && !within("2001:db8::/32", "2001:db9::1")
        );
        assert!(within("::/0", "1.2.3.4"));
        for text in ["", "proxy", "10.0.0.0/33", "10.0.0.0/x", "10.0.0/8"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let client = |peer: &str, forwarded: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(
                FORWARDED_FOR.clone(),
                HeaderValue::from_str(forwarded).unwrap(),
            );
            proxies.client(peer.parse().unwrap(), &headers).to_string()
        };
        assert_eq!(client("10.0.0.1", "192.0.2.9"), "192.0.2.9");
        assert_eq!(
            client("10.0.0.1", "1.1.1.1, 192.0.2.9, 10.0.0.2"),
            "192.0.2.9"
        );
        assert_eq!(client("192.0.2.1", "1.1.1.1"), "192.0.2.1");
        assert_eq!(client("192.0.2.1", "1.1.1.1:80"), "192.0.2.1");
        // What can't be read is the proxy's own.
        for unread in [
            "nonsense",
            "unknown",
            "",
            "1.1.1.1, unknown",
            "_hidden",
            "1.1.1.1:80:80",
            "[::1",
            "1.1.1.1:",
        ] {
            assert_eq!(client("10.0.0.1", unread), "10.0.0.1", "{unread}");
        }
        assert_eq!(client("10.0.0.1", "1.1.1.1, unknown, 10.0.0.2"), "10.0.0.2");
        for (told, address) in [
            ("192.0.2.9:4711", "192.0.2.9"),
            (" \"192.0.2.9:4711\" ", "192.0.2.9"),
            ("2001:db8::9", "2001:db8::9"),
            ("[2001:db8::9]", "2001:db8::9"),
            ("[2001:db8::9]:4711", "2001:db8::9"),
            ("\"[2001:db8::9]:4711\"", "2001:db8::9"),
            ("[fe80::9%eth0]:4711", "fe80::9"),
            ("1.1.1.1, 192.0.2.9:80, 10.0.0.2:81", "192.0.2.9"),
        ] {
            assert_eq!(client("10.0.0.1", told), address, "{told}");
        }
        let mut headers = HeaderMap::new();
        assert!(!passed_on(&headers));
        headers.insert(
            FORWARDED,
            HeaderValue::from_static(
                "for=1.1.1.1, For=\"[2001:db8::9]:80\";proto=https, host=x;for=10.0.0.3",
            ),
        );
        assert!(passed_on(&headers));
        let far = |headers: &HeaderMap| proxies.client("10.0.0.1".parse().unwrap(), headers);
        assert_eq!(far(&headers).to_string(), "2001:db8::9");
        // A client's own Forwarded counts for nothing beside what the proxy says.
        headers.insert(FORWARDED_FOR.clone(), HeaderValue::from_static("192.0.2.9"));
        assert_eq!(far(&headers).to_string(), "192.0.2.9");
        headers.insert(
            FORWARDED_FOR.clone(),
            HeaderValue::from_bytes(b"\xff, 192.0.2.8").unwrap(),
        );
        assert_eq!(far(&headers).to_string(), "192.0.2.8");
        let mut headers = HeaderMap::new();
        headers.insert(
            FORWARDED_HOST.clone(),
            HeaderValue::from_static("pictures.example"),
        );
        assert_eq!(
            proxies.host("10.0.0.1".parse().ok(), &headers),
            Some("pictures.example")
        );
        assert_eq!(proxies.host("192.0.2.1".parse().ok(), &headers), None);
    }
}
