//! The fast path: parses the first request of a socket without hyper if it arrived whole and looks like a handshake, as
//! nearly all do. hyper parses everything else.

use bytes::Bytes;
use warp::http::HeaderMap;
use warp::http::HeaderName;
use warp::http::HeaderValue;
use warp::http::Method;
use warp::http::Uri;
use warp::http::Version;
use warp::http::header;

use crate::http::bare_lf_guard::Head;
use crate::http::bare_lf_guard::HeadLines;
use crate::http::endpoint::HandshakeRequest;
use crate::http::target;
use crate::net::peer::Peer;
use crate::node::limits::RequestLimits;

/// The most headers that are parsed here; hyper parses requests with more.
const HEADERS: usize = 64;

/// A GET request in HTTP/1.1 without a body.
#[derive(Debug)]
pub struct FastPathRequest {
    /// The request target.
    pub target: Uri,
    pub headers: HeaderMap,
    /// The length of the request head in bytes.
    pub length: usize,
}

impl FastPathRequest {
    /// Whether the request has the header `Upgrade`.
    pub fn is_upgrade(&self) -> bool {
        self.headers.contains_key(header::UPGRADE)
    }

    /// The request as the gate takes it, from this peer.
    pub fn handshake_request(&self, peer: Peer) -> HandshakeRequest<'_> {
        HandshakeRequest {
            method: &Method::GET,
            version: Version::HTTP_11,
            path: self.target.path(),
            query: self.target.query(),
            headers: &self.headers,
            peer,
            is_first: true,
        }
    }

    /// Parses the head at the start of `bytes`; `None` if hyper must parse the request.
    pub fn parse(bytes: &Bytes, limits: &RequestLimits) -> Option<Self> {
        if !bytes.starts_with(b"GET /") {
            return None;
        }
        let Head { end: length, bare_lf, .. } = HeadLines::default().read_head(bytes);
        let head = bytes.slice(..length);
        if bare_lf || length > limits.max_header_bytes || !head.ends_with(b"\r\n\r\n") {
            return None;
        }
        let mut lines = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut lines);
        let whole = request.parse(&head).ok()?;
        let plain = whole.is_complete() && request.version == Some(1);
        if !plain || request.headers.len() > limits.max_headers {
            return None;
        }
        let target = Uri::try_from(request.path?).ok()?;
        let mut headers = HeaderMap::with_capacity(request.headers.len());
        for line in request.headers.iter() {
            let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_maybe_shared(head.slice_ref(line.value)).ok()?);
        }
        // These requests may have a body, or expect `100 Continue`.
        let special = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT];
        if special.iter().any(|name| headers.contains_key(name)) {
            return None;
        }
        target::check(&Method::GET, Version::HTTP_11, &target, &headers).ok()?;
        Some(Self { target, headers, length })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: RequestLimits = RequestLimits {
        max_body: 65_536,
        handshake_timeout: Duration::from_secs(1),
        keep_alive: Duration::from_secs(1),
        max_headers: 16,
        max_header_bytes: 8192,
        write_timeout: Duration::from_secs(1),
    };

    fn parse(bytes: impl Into<Vec<u8>>) -> Option<FastPathRequest> {
        FastPathRequest::parse(&Bytes::from(bytes.into()), &LIMITS)
    }

    #[test]
    fn a_head_is_parsed_and_the_bytes_after_it_are_left() {
        let head = "GET /ws?a=b HTTP/1.1\r\nHost: x\r\nA: 1\r\na:  2 \r\n\r\n";
        let first = parse(format!("{head}\x01\0\r\n\r\n")).unwrap();
        assert_eq!((first.target.path(), first.target.query()), ("/ws", Some("a=b")));
        assert_eq!(first.length, head.len());
        assert_eq!(first.headers["host"], "x");
        assert_eq!(first.headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn hs_06_unusual_requests_are_left_to_hyper() {
        let head = |line: &str| format!("GET /ws HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n");
        assert!(parse(head("A: 1")).is_some());
        for line in [
            "Content-Length: 0",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
            "A : 1",
            "A: 1\r\n b",
            "A: 1\0",
            "A: 1\rb",
            "A: 1\nB: 2",
            "A",
            "A: 1\n",
            "\u{e9}: 1",
        ] {
            assert!(parse(head(line)).is_none(), "{line:?}");
        }
        for request in [
            "POST /ws HTTP/1.1",
            "HEAD /ws HTTP/1.1",
            "GET /ws HTTP/1.0",
            "GET http://x/ws HTTP/1.1",
            "GET  /ws HTTP/1.1",
            "GET /ws HTTP/1.1\r\nHost: y",
            "GET /w s HTTP/1.1",
            "get /ws HTTP/1.1",
            "\r\nGET /ws HTTP/1.1",
        ] {
            assert!(parse(head("A: 1").replacen("GET /ws HTTP/1.1", request, 1)).is_none(), "{request:?}");
        }
        let many: Vec<_> = (0..LIMITS.max_headers).map(|number| format!("X-{number}: 1")).collect();
        assert!(parse(head(&many[1..].join("\r\n"))).is_some());
        assert!(parse(head(&many.join("\r\n"))).is_none(), "one too many");
        let long = |bytes: usize| format!("A: {}", "a".repeat(bytes - head("A: ").len()));
        assert!(parse(head(&long(LIMITS.max_header_bytes))).is_some());
        assert!(parse(head(&long(LIMITS.max_header_bytes + 1))).is_none(), "too long");
    }

    #[test]
    fn an_incomplete_head_is_left_to_hyper() {
        let head = "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n";
        for cut in 0..head.len() {
            assert!(parse(&head[..cut]).is_none(), "cut at {cut}");
        }
        assert!(parse(head).is_some());
    }
}
