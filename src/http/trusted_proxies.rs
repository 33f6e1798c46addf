//! `TrustedProxies`: finds the client's address when trusted proxies are between the client and Tidegate.
//!
//! A header is trusted only as far as trusted proxies wrote it: the rightmost address that is not a trusted proxy is
//! the client. The client can have written everything to the left of it, so lists are read from the right, and a stray
//! quote on the left hides nothing.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use warp::http::HeaderMap;
use warp::http::header;

use crate::config::network;
use crate::config::network::Network;
use crate::connection::client_address::ClientAddress;
use crate::net::peer::Peer;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_REAL_IP: &str = "x-real-ip";

/// The networks of the trusted proxies.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[Network]>);

/// What the headers of a request say about the client's address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forwarded {
    /// The peer is not a trusted proxy, so its headers are not read.
    Untrusted,
    /// The peer is a trusted proxy, and the request has none of the headers.
    Absent,
    /// The peer is a trusted proxy, and the headers are unreadable or contradict each other.
    Ambiguous,
    /// The client's address.
    Address(IpAddr),
}

impl TrustedProxies {
    pub fn new(trusted: &[Network]) -> Self {
        Self(trusted.into())
    }

    /// The client's address. Without a trusted proxy, or with unreadable or contradictory headers, it is the peer.
    pub fn client(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        self.forwarded(peer, headers).unwrap_or_else(|| peer.limited_address())
    }

    /// The client's address as trusted proxies report it; `None` if there is none, or if it is unreadable or ambiguous.
    pub fn forwarded(&self, peer: Peer, headers: &HeaderMap) -> Option<IpAddr> {
        match self.read(peer, headers) {
            Forwarded::Address(address) => Some(address),
            Forwarded::Untrusted | Forwarded::Absent | Forwarded::Ambiguous => None,
        }
    }

    /// What the headers of a request from this peer say. All headers that are present must name the same client.
    pub fn read(&self, peer: Peer, headers: &HeaderMap) -> Forwarded {
        if !self.trusts_peer(peer) {
            return Forwarded::Untrusted;
        }
        let plain = joined_lines(headers, X_FORWARDED_FOR);
        let standard = joined_lines(headers, header::FORWARDED.as_str());
        let lists = [
            plain.map(|lines| self.rightmost_untrusted(lines.rsplit(',').map(parse_address))),
            standard
                .map(|lines| self.rightmost_untrusted(ElementsFromRight(Some(&lines)).map(parse_forwarded))),
        ];
        let has_list = lists.iter().any(Option::is_some);
        // A proxy behind another one often writes that proxy here, which adds nothing to a list.
        let single = joined_lines(headers, X_REAL_IP).map(|line| parse_address(&line).map(network::plain));
        let single =
            single.filter(|address| !has_list || address.is_none_or(|address| !self.trusts(address)));
        let mut addresses = lists.into_iter().chain([single]).flatten();
        match addresses.next() {
            None => Forwarded::Absent,
            Some(Some(first)) if addresses.all(|other| other == Some(first)) => Forwarded::Address(first),
            Some(_) => Forwarded::Ambiguous,
        }
    }

    /// The addresses of a connection, for its log lines.
    pub fn client_address(&self, peer: Peer, headers: &HeaderMap) -> ClientAddress {
        ClientAddress { peer, forwarded: self.forwarded(peer, headers) }
    }

    /// Whether the other end of a socket is a trusted proxy. That of a Unix socket always is: the permissions of its file
    /// decide who may connect.
    pub fn trusts_peer(&self, peer: Peer) -> bool {
        peer.ip().is_none_or(|address| self.trusts(address))
    }

    /// Whether this address is a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = network::plain(address);
        self.0.iter().any(|network| network.contains(address))
    }

    /// The first of these hops, from the right, that is not a trusted proxy; if all are, the last. `None` if one is
    /// unreadable.
    fn rightmost_untrusted(&self, hops: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let mut last = None;
        for hop in hops {
            let address = network::plain(hop?);
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
    let hop = hop.trim();
    if let Ok(address) = hop.parse() {
        return Some(address);
    }
    if let Ok(address) = hop.parse::<SocketAddr>() {
        return Some(address.ip()).filter(|_| !hop.contains('%'));
    }
    hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// The elements of a `Forwarded` list, the last one first. A comma in a quoted string separates nothing.
struct ElementsFromRight<'l>(Option<&'l str>);

impl<'l> Iterator for ElementsFromRight<'l> {
    type Item = &'l str;

    fn next(&mut self) -> Option<&'l str> {
        let list = self.0?;
        let (rest, element) = split_from_right(list, b',');
        self.0 = rest;
        Some(element)
    }
}

/// Splits at the last separator that is not in a quoted string: the part before it, if there is one, and the part after
/// it. A quote after an odd number of backslashes is part of a string (RFC 9110 §5.6.4).
fn split_from_right(text: &str, separator: u8) -> (Option<&str>, &str) {
    let bytes = text.as_bytes();
    let (mut is_quoted, mut at) = (false, bytes.len());
    while at > 0 {
        at -= 1;
        let (before, from) = bytes.split_at(at);
        match from.first() {
            Some(b'"') => {
                let escapes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
                is_quoted ^= escapes % 2 == 0;
                at -= escapes;
            }
            Some(byte) if *byte == separator && !is_quoted => {
                return (text.get(..at), text.get(at + 1..).unwrap_or_default());
            }
            Some(_) | None => {}
        }
    }
    (None, text)
}

/// The parameter `for` of an element of `Forwarded` (RFC 7239 §4). `None` if the element is malformed, or has none or
/// several.
fn parse_forwarded(element: &str) -> Option<IpAddr> {
    let (mut rest, mut node) = (Some(element), None);
    while let Some(pairs) = rest {
        let (before, pair) = split_from_right(pairs, b';');
        rest = before;
        let pair = pair.trim();
        // Some proxies end an element with a semicolon.
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=')?;
        let value = unquoted(value)?;
        if name.eq_ignore_ascii_case("for") && node.replace(value).is_some() {
            return None;
        }
    }
    parse_address(node?)
}

/// A token, or what is between the quotes of a quoted string. An address needs no escapes, so they stay as they are.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value).filter(|value| !value.contains(['"', ' ', '\t'])),
    }
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
        let ambiguous = [("x-forwarded-for", "203.0.113.7"), ("x-real-ip", "198.51.100.1")];
        assert_eq!((client("unix", &[]), client("unix", &ambiguous)), ("0.0.0.0".into(), "0.0.0.0".into()));
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
            // A comma or semicolon in a quoted string separates nothing.
            ("for=203.0.113.7;ext=\"a, for=198.51.100.1\"", "203.0.113.7"),
            ("for=198.51.100.1, for=203.0.113.7;ext=\"x;for=198.51.100.1\"", "203.0.113.7"),
            ("ext=\"a\\\", for=198.51.100.1\";for=203.0.113.7", "203.0.113.7"),
            ("ext=\"a\\\\\", for=203.0.113.7", "203.0.113.7"),
            // What the client writes on the left hides nothing of what the proxy has added.
            ("for=198.51.100.1;ext=\", for=203.0.113.7", "203.0.113.7"),
            ("for=198.51.100.1;ext=\", for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("for=198.51.100.1;ext=\"\\, for=\"203.0.113.7:80\"", "203.0.113.7"),
            ("for=203.0.113.7;", "203.0.113.7"),
            ("for=203.0.113.7;for=198.51.100.1", "10.0.0.1"),
            ("for=203.0.113.7;broken", "10.0.0.1"),
            ("for=203.0.113.7 198.51.100.1", "10.0.0.1"),
            ("for=203.0.113.7, ", "10.0.0.1"),
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

    #[test]
    fn xff_01_x_real_ip_counts_and_must_not_contradict_a_list() {
        let real = |value: &str| client("10.0.0.1", &[("x-real-ip", value)]);
        assert_eq!(real("203.0.113.7"), "203.0.113.7");
        assert_eq!(real("::ffff:203.0.113.7"), "203.0.113.7");
        assert_eq!(real("10.9.9.9"), "10.9.9.9", "without a list, it is all there is");
        for wrong in ["", "unknown", "203.0.113.7, 203.0.113.7"] {
            assert_eq!(real(wrong), "10.0.0.1", "{wrong:?}");
        }
        assert_eq!(client("203.0.113.9", &[("x-real-ip", "198.51.100.1")]), "203.0.113.9", "not a proxy");
        let with_list = |real: &str| {
            client("10.0.0.1", &[("x-real-ip", real), ("x-forwarded-for", "203.0.113.7, 10.9.9.9")])
        };
        assert_eq!(with_list("203.0.113.7"), "203.0.113.7");
        assert_eq!(with_list("10.9.9.9"), "203.0.113.7", "the proxy before this one");
        assert_eq!(with_list("198.51.100.1"), "10.0.0.1", "a contradiction");
        assert_eq!(with_list("unknown"), "10.0.0.1");
    }

    #[test]
    fn xff_01_absent_and_ambiguous_headers_are_told_apart() {
        let proxies = TrustedProxies::new(&[Network::parse("10.0.0.0/8").unwrap()]);
        let read = |peer: [u8; 4], lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            proxies.read(SocketAddr::from((peer, 1)).into(), &headers)
        };
        let xff = |value: &'static str| [("x-forwarded-for", value)];
        assert_eq!(read([203, 0, 113, 9], &xff("198.51.100.1")), Forwarded::Untrusted);
        assert_eq!(read([10, 0, 0, 1], &[]), Forwarded::Absent);
        assert_eq!(read([10, 0, 0, 1], &xff("unknown")), Forwarded::Ambiguous);
        assert_eq!(read([10, 0, 0, 1], &xff("203.0.113.7")), Forwarded::Address([203, 0, 113, 7].into()));
        let three = [("forwarded", "for=203.0.113.7"), ("x-forwarded-for", "203.0.113.7")];
        assert_eq!(read([10, 0, 0, 1], &three), Forwarded::Address([203, 0, 113, 7].into()));
        let conflict = [three[0], three[1], ("x-real-ip", "198.51.100.1")];
        assert_eq!(read([10, 0, 0, 1], &conflict), Forwarded::Ambiguous);
    }

    #[test]
    fn xff_01_splitting_a_long_header_takes_linear_time() {
        // Quadratic work on 16 KiB of backslashes and quotes would take minutes here.
        for piece in ["\\", "\"", "\\\"", ",", "\\,", ";\\\""] {
            let text = piece.repeat(1_000_000 / piece.len());
            assert!(
                ElementsFromRight(Some(&text)).all(|element| parse_forwarded(element).is_none()),
                "{piece}"
            );
        }
    }
}
