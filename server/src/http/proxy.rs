//! Behind a proxy: who the client is, if the proxy is one that we believe.

use std::net::IpAddr;
use std::str::FromStr;

use actix_web::http::header::{HeaderMap, HeaderName};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// An address, or a network written as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    bits: u128,
    mask: u128,
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        bits(address) & self.mask == self.bits & self.mask
    }
}

/// As IPv6, so that both kinds are compared alike.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || "must be an IP address, or a network such as 10.0.0.0/8".to_string();
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| problem())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length: u32 =
            length.map_or(Ok(most), |length| length.parse().map_err(|_| problem()))?;
        if length > most {
            return Err(problem());
        }
        let mask = (!0u128).checked_shl(most - length).unwrap_or(0);
        // An IPv4 network is one within ::ffff:0:0/96.
        let mask = if address.is_ipv4() {
            mask | !0 << 32
        } else {
            mask
        };
        Ok(Network {
            bits: bits(address),
            mask,
        })
    }
}

/// The proxies whose word on the client is taken.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Vec<Network>);

impl Proxies {
    pub fn new(networks: Vec<Network>) -> Self {
        Proxies(networks)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The client: of the addresses that the request passed, the last that is no trusted proxy.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        let hops: Vec<&str> = headers
            .get_all(&FORWARDED_FOR)
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        for hop in hops.into_iter().rev() {
            if !self.trusts(client) {
                break;
            }
            match hop.parse() {
                Ok(address) => client = address,
                Err(_) => break,
            }
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
        assert_eq!(client("10.0.0.1", "nonsense"), "10.0.0.1");
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
