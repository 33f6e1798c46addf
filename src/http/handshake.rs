//! The opening handshake of RFC 6455 §4.2.1: what makes a request one, and what is answered.

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

use crate::http::error::Problem;

/// What `Sec-WebSocket-Accept` is made from, once the request is known to be a handshake.
pub fn key(method: &Method, version: Version, headers: &HeaderMap) -> Result<SecWebsocketKey, Problem> {
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "bad_upgrade", detail);
    let upgrade = Problem::new(
        StatusCode::UPGRADE_REQUIRED,
        "upgrade_required",
        "this path speaks WebSocket: send `Upgrade: websocket`, `Connection: Upgrade`, `Sec-WebSocket-Version: 13`",
    );
    let upgrade =
        || Err(upgrade).map_err(|problem: Problem| problem.with_header(header::SEC_WEBSOCKET_VERSION, "13"));
    if method != Method::GET || version != Version::HTTP_11 {
        return Err(bad("a WebSocket handshake is a GET request of HTTP/1.1"));
    }
    if headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
    {
        return Err(bad(
            "a WebSocket handshake has no body: leave out `Content-Length` and `Transfer-Encoding`",
        ));
    }
    let upgrades = only(headers, &header::UPGRADE)
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let version = only(headers, &header::SEC_WEBSOCKET_VERSION);
    if !has_token(headers, &header::CONNECTION, "upgrade")
        || !upgrades
        || version.is_none_or(|version| version != "13")
    {
        return upgrade();
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY)
        .ok_or_else(|| bad("`Sec-WebSocket-Key` is missing, or stands several times"))?;
    if STANDARD.decode(key.as_bytes()).map(|key| key.len()) != Ok(16) {
        return Err(bad("`Sec-WebSocket-Key` must be 16 bytes in base64"));
    }
    headers.typed_get().ok_or_else(|| bad("`Sec-WebSocket-Key` cannot be read"))
}

/// Which of the offered subprotocols is answered with. A client that offers none gets the endpoint's vocabulary.
pub fn subprotocol<'v>(offered: &[String], vocabulary: &'v Vocabulary) -> Result<Option<&'v str>, Problem> {
    vocabulary.subprotocol(offered).map_err(|known| {
        let (known, none) = (known.join(" or "), if offered.is_empty() { "" } else { ", or none" });
        let detail = format!("none of the offered subprotocols is known here: offer {known}{none}");
        Problem::new(StatusCode::BAD_REQUEST, "unknown_subprotocol", detail)
    })
}

/// The answer that switches protocols.
pub fn accept(key: SecWebsocketKey, subprotocol: Option<&str>, extensions: Option<HeaderValue>) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.typed_insert(SecWebsocketAccept::from(key));
    if let Some(subprotocol) = subprotocol {
        // A token, or the file that it is in was refused.
        let subprotocol = HeaderValue::from_str(subprotocol);
        subprotocol.into_iter().for_each(|name| drop(headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name)));
    }
    if let Some(extensions) = extensions {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, extensions);
    }
    response
}

/// A header's value, if it is there once.
fn only<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}
