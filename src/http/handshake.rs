//! The opening handshake of WebSocket: checks the request (RFC 6455 §4.2.1) and builds the response (§4.2.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headers::HeaderMapExt;
use headers::SecWebsocketAccept;
use headers::SecWebsocketKey;
use tidegate_vocabulary::Vocabulary;
use warp::http::HeaderMap;
use warp::http::HeaderValue;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::Version;
use warp::http::header;
use warp::reply::Response;

use crate::http::problem::Problem;

/// Checks that the request is a handshake, and returns its key, from which `Sec-WebSocket-Accept` is computed.
pub fn key(method: &Method, version: Version, headers: &HeaderMap) -> Result<SecWebsocketKey, Problem> {
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "bad_upgrade", detail);
    let upgrade_required = Problem::new(
        StatusCode::UPGRADE_REQUIRED,
        "upgrade_required",
        "this path is a WebSocket: send `Upgrade: websocket`, `Connection: Upgrade`, `Sec-WebSocket-Version: 13`",
    );
    // RFC 6455 §4.2.1, item 1: a GET request in HTTP/1.1.
    if method != Method::GET || version != Version::HTTP_11 {
        return Err(bad("a WebSocket handshake must be a GET request in HTTP/1.1"));
    }
    if headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
    {
        return Err(bad(
            "a WebSocket handshake has no body: leave out `Content-Length` and `Transfer-Encoding`",
        ));
    }
    // RFC 6455 §4.2.1, items 3, 4 and 6: `Upgrade` has the value "websocket" and `Connection` the token "Upgrade",
    // both in any case, and the version is 13. §4.2.2, item 4: a request with another version gets 426 with
    // `Sec-WebSocket-Version`.
    let is_websocket = only(headers, &header::UPGRADE)
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let version = only(headers, &header::SEC_WEBSOCKET_VERSION);
    if !has_token(headers, &header::CONNECTION, "upgrade")
        || !is_websocket
        || version.is_none_or(|version| version != "13")
    {
        return Err(upgrade_required.with_header(header::SEC_WEBSOCKET_VERSION, "13"));
    }
    // RFC 6455 §4.2.1, item 5: the key is the base64 of 16 bytes. §11.3.1: it occurs only once.
    let key = only(headers, &header::SEC_WEBSOCKET_KEY)
        .ok_or_else(|| bad("`Sec-WebSocket-Key` is missing or repeated: send it exactly once"))?;
    if STANDARD.decode(key.as_bytes()).map(|key| key.len()) != Ok(16) {
        return Err(bad("`Sec-WebSocket-Key` must be 16 bytes in base64"));
    }
    headers.typed_get().ok_or_else(|| bad("`Sec-WebSocket-Key` is not a valid header"))
}

/// The subprotocols that a client offers, one by one, in its order. A value that is not ASCII is left out.
pub fn offered_subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

/// The subprotocol for the response. RFC 6455 §4.2.2, item 4: it is one of those that the client offered (§11.3.4). A client
/// that offers none gets none, and uses the endpoint's vocabulary.
pub fn subprotocol<'v>(offered: &[String], vocabulary: &'v Vocabulary) -> Result<Option<&'v str>, Problem> {
    vocabulary.subprotocol(offered).map_err(|known| {
        let (known, none) = (known.join(" or "), if offered.is_empty() { "" } else { ", or none" });
        let detail = format!("this endpoint has none of the offered subprotocols: offer {known}{none}");
        Problem::new(StatusCode::BAD_REQUEST, "unknown_subprotocol", detail)
    })
}

/// The response 101, with the headers of RFC 6455 §4.2.2, item 5. §1.3 explains `Sec-WebSocket-Accept`.
pub fn accept(key: SecWebsocketKey, subprotocol: Option<&str>, extensions: Option<HeaderValue>) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.typed_insert(SecWebsocketAccept::from(key));
    if let Some(subprotocol) = subprotocol {
        // It is a valid token: vocabularies with any other subprotocol are rejected when they are loaded.
        let subprotocol = HeaderValue::from_str(subprotocol);
        subprotocol.into_iter().for_each(|name| drop(headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name)));
    }
    if let Some(extensions) = extensions {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, extensions);
    }
    response
}

/// The value of a header that occurs exactly once.
fn only<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}
