//! `TrustedProxies`: finds the client's address when trusted proxies are between the client and Tidegate.
//!
//! A header is trusted only as far as trusted proxies wrote it: the rightmost address that is not a trusted proxy is
//! the client. The client can have written everything to the left of it.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;

use warp::http::HeaderMap;
use warp::http::header;

use crate::config::network;
use crate::config::network::Network;
use crate::connection::client_address::ClientAddress;
use crate::net::peer::Peer;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// What limits per address use for the clients of a Unix socket whose proxy names no address.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The networks of the trusted proxies.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[Network]>);

impl TrustedProxies {
    pub fn new(trusted: &[Network]) -> Self {
        Self(trusted.into())
    }

    /// The client's address. Without a trusted proxy, or with unreadable or contradictory headers, it is the peer.
    pub fn client(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        self.forwarded(peer, headers).unwrap_or_else(|| peer.ip().map_or(NO_ADDRESS, network::plain))
    }

    /// The client's address as trusted proxies report it; `None` if there is none, or if it is unreadable or ambiguous.
    /// A Unix socket is always that of a trusted proxy.
    pub fn forwarded(&self, peer: Peer, headers: &HeaderMap) -> Option<IpAddr> {
        if peer.ip().is_some_and(|peer| !self.trusts(network::plain(peer))) {
            return None;
        }
        let plain = joined_lines(headers, X_FORWARDED_FOR);
        let standard = joined_lines(headers, header::FORWARDED.as_str());
        match (
            plain.as_deref().map(|lines| self.rightmost_untrusted(lines, parse_address)),
            standard.as_deref().map(|lines| self.rightmost_untrusted(lines, parse_forwarded)),
        ) {
            (Some(Some(one)), None) | (None, Some(Some(one))) => Some(one),
            (Some(Some(one)), Some(Some(other))) if one == other => Some(one),
            _ => None,
        }
    }

    /// The addresses of a connection, for its log lines.
    pub fn client_address(&self, peer: Peer, headers: &HeaderMap) -> ClientAddress {
        ClientAddress { peer, forwarded: self.forwarded(peer, headers) }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The rightmost address that is not a trusted proxy; if all are, the leftmost. `None` if one is unreadable.
    fn rightmost_untrusted(&self, lines: &str, read: impl Fn(&str) -> Option<IpAddr>) -> Option<IpAddr> {
        let mut last = None;
        for hop in lines.rsplit(',') {
            let address = network::plain(read(hop.trim())?);
            last = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        last
    }
}

/// All lines of a header as one list (RFC 9110 §5.3); `None` without any. A line that is not ASCII becomes an element
/// that no parser accepts.
fn joined_lines(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(name).iter();
    let lines: Vec<_> = lines.map(|line| line.to_str().unwrap_or("unreadable")).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// An element of `X-Forwarded-For`: an address, with a port or without.
fn parse_address(hop: &str) -> Option<IpAddr> {
    if let Ok(address) = hop.parse() {
        return Some(address);
    }
    if let Ok(address) = hop.parse::<SocketAddr>() {
        return Some(address.ip()).filter(|_| !hop.contains('%'));
    }
    hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// The parameter `for` of an element of `Forwarded` (RFC 7239 §4). Commas in quoted strings are not supported: no
/// address has one.
fn parse_forwarded(hop: &str) -> Option<IpAddr> {
    let mut pairs = hop.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    let node = node.trim();
    let node = node.strip_prefix('"').map_or(Some(node), |quoted| quoted.strip_suffix('"'))?;
    parse_address(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client's address, with trusted proxies in `10.0.0.0/8` and `fd00::/8`.
    fn client(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| Network::parse(text).unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        TrustedProxies::new(&trusted)
            .client(peer.parse::<IpAddr>().map_or(Peer::Unix, |ip| SocketAddr::new(ip, 1).into()), &headers)
            .to_string()
    }

    fn client_behind_a_proxy(value: &str) -> String {
        client("10.0.0.1", &[("x-forwarded-for", value)])
    }

    #[test]
    fn xff_01_the_peer_of_a_unix_socket_is_trusted() {
        assert_eq!(
            client("unix", &[("x-forwarded-for", "198.51.100.1, 203.0.113.7, 10.9.9.9")]),
            "203.0.113.7"
        );
        assert_eq!(client("unix", &[]), "0.0.0.0");
    }

    #[test]
    fn xff_01_the_rightmost_untrusted_hop_is_the_client() {
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
            assert_eq!(client_behind_a_proxy(value), expected, "{value}");
        }
        assert_eq!(client("::ffff:10.0.0.1", &[("x-forwarded-for", "203.0.113.7")]), "203.0.113.7");
        let lines = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.7, 10.9.9.9")];
        assert_eq!(client("10.0.0.1", &lines), "203.0.113.7", "lines are one list");
    }

    #[test]
    fn xff_01_headers_from_untrusted_peers_and_unreadable_headers_are_ignored() {
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
            let proxies = TrustedProxies::new(&[Network::parse("10.0.0.0/8").unwrap()]);
            assert_eq!(
                proxies.client(SocketAddr::from(([10, 0, 0, 1], 1)).into(), &headers),
                IpAddr::from([10, 0, 0, 1]),
                "{value:?}"
            );
        }
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn xff_01_forwarded_counts_too_and_both_headers_must_agree() {
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
