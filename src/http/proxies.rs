//! Proxies: which address a request comes from, where proxies that are trusted are between it and us.
//!
//! What a header says is believed only as far as it was written by somebody who is trusted: the right-most address that is
//! no trusted proxy's is the client's. Whatever is left of it anybody may have written.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use warp::http::HeaderMap;
use warp::http::header;

use crate::config::network;
use crate::config::network::Network;
use crate::connection::client_address::ClientAddress;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Those whose word is taken.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Arc<[Network]>);

impl Proxies {
    /// Proxies in these networks.
    pub fn new(trusted: &[Network]) -> Self {
        Self(trusted.into())
    }

    /// Where the request comes from. What cannot be read, or says one thing here and another there, counts for nothing:
    /// then it is the peer, as it is without a trusted proxy.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.forwarded(peer, headers).unwrap_or_else(|| network::plain(peer))
    }

    /// The same, where it is another one than the peer.
    pub fn forwarded(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let peer = network::plain(peer);
        if !self.trust(peer) {
            return None;
        }
        let plain = values(headers, X_FORWARDED_FOR);
        let standard = values(headers, header::FORWARDED.as_str());
        match (
            plain.as_deref().map(|lines| self.last(lines, listed)),
            standard.as_deref().map(|lines| self.last(lines, forwarded)),
        ) {
            (Some(Some(one)), None) | (None, Some(Some(one))) => Some(one),
            (Some(Some(one)), Some(Some(other))) if one == other => Some(one),
            _ => None,
        }
    }

    /// Where a connection comes from, for its log lines.
    pub fn client_address(&self, peer: SocketAddr, headers: &HeaderMap) -> ClientAddress {
        ClientAddress { peer, forwarded: self.forwarded(peer.ip(), headers) }
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The right-most address that is no trusted proxy's; if all are, the left-most. `None` if one cannot be read.
    fn last(&self, lines: &str, read: impl Fn(&str) -> Option<IpAddr>) -> Option<IpAddr> {
        let mut last = None;
        for hop in lines.rsplit(',') {
            let address = network::plain(read(hop.trim())?);
            last = Some(address);
            if !self.trust(address) {
                break;
            }
        }
        last
    }
}

/// All lines of a header as one, if there are any and all can be read.
fn values(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(name).iter();
    let lines: Vec<_> = lines.map(|line| line.to_str().unwrap_or("unreadable")).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// An element of `X-Forwarded-For`: an address, some write a port behind it.
fn listed(hop: &str) -> Option<IpAddr> {
    if let Ok(address) = hop.parse() {
        return Some(address);
    }
    if let Ok(address) = hop.parse::<SocketAddr>() {
        return Some(address.ip()).filter(|_| !hop.contains('%'));
    }
    hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// An element of `Forwarded` (RFC 7239 §4): parameters, of which one is `for`. A comma in a quoted text is no address's.
fn forwarded(hop: &str) -> Option<IpAddr> {
    let mut pairs = hop.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    let node = node.trim();
    let node = node.strip_prefix('"').map_or(Some(node), |quoted| quoted.strip_suffix('"'))?;
    listed(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proxies in `10.0.0.0/8` and `fd00::/8`.
    fn client(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| Network::parse(text).unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        Proxies::new(&trusted).client(peer.parse().unwrap(), &headers).to_string()
    }

    fn listed_behind_a_proxy(value: &str) -> String {
        client("10.0.0.1", &[("x-forwarded-for", value)])
    }

    #[test]
    fn xff_01_the_right_most_hop_that_is_not_trusted_is_the_client() {
        for (value, expected) in [
            ("203.0.113.7", "203.0.113.7"),
            ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
            ("198.51.100.1, 203.0.113.7, 10.9.9.9", "203.0.113.7"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
            ("203.0.113.7:1234", "203.0.113.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("garbage, 203.0.113.7", "203.0.113.7"),
        ] {
            assert_eq!(listed_behind_a_proxy(value), expected, "{value}");
        }
        assert_eq!(client("::ffff:10.0.0.1", &[("x-forwarded-for", "203.0.113.7")]), "203.0.113.7");
        let lines = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.7, 10.9.9.9")];
        assert_eq!(client("10.0.0.1", &lines), "203.0.113.7", "lines are one list");
    }

    #[test]
    fn xff_01_a_stranger_is_not_believed_and_neither_is_what_cannot_be_read() {
        assert_eq!(client("203.0.113.9", &[("x-forwarded-for", "198.51.100.1")]), "203.0.113.9");
        assert_eq!(client("203.0.113.9", &[("forwarded", "for=198.51.100.1")]), "203.0.113.9");
        for value in [
            "",
            "unknown",
            "fe80::1%eth0",
            "[fe80::1%1]:80",
            "203.0.113.7, x",
            "203.0.113.7, 10.0.0.2, ",
            "1.2.3",
            "\u{fffd}",
        ] {
            let mut headers = HeaderMap::new();
            headers.append("x-forwarded-for", warp::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
            let proxies = Proxies::new(&[Network::parse("10.0.0.0/8").unwrap()]);
            assert_eq!(
                proxies.client([10, 0, 0, 1].into(), &headers),
                IpAddr::from([10, 0, 0, 1]),
                "{value:?}"
            );
        }
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn xff_01_forwarded_is_read_too_and_two_headers_have_to_agree() {
        for (value, expected) in [
            ("for=203.0.113.7", "203.0.113.7"),
            ("proto=https;For=203.0.113.7;by=10.0.0.1", "203.0.113.7"),
            ("for=198.51.100.1, for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("for=203.0.113.7, for=10.9.9.9", "203.0.113.7"),
            ("for=_hidden", "10.0.0.1"),
            ("for=unknown", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
            ("for=\"203.0.113.7", "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[("forwarded", value)]), expected, "{value}");
        }
        let both = |listed: &str| {
            client("10.0.0.1", &[("forwarded", "for=203.0.113.7"), ("x-forwarded-for", listed)])
        };
        assert_eq!(
            (both("203.0.113.7").as_str(), both("198.51.100.1").as_str()),
            ("203.0.113.7", "10.0.0.1")
        );
    }
}
