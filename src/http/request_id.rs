//! `X-Request-Id`: what a request is called in the logs of everybody who has had it in hand.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use warp::http::HeaderMap;
use warp::http::HeaderName;
use warp::http::HeaderValue;

/// The header's name.
pub const NAME: HeaderName = HeaderName::from_static("x-request-id");
const MAX_BYTES: usize = 128;

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
static MADE: AtomicU64 = AtomicU64::new(0);

/// The id that the request brings, if it is a good one; else one of our own.
pub fn of(headers: &HeaderMap) -> HeaderValue {
    let mut values = headers.get_all(NAME).iter();
    match (values.next(), values.next()) {
        (Some(id), None) if is_good(id.as_bytes()) => id.clone(),
        _ => made(),
    }
}

/// What logs can show without harm, and is not longer than anybody needs.
fn is_good(id: &[u8]) -> bool {
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    (1..=MAX_BYTES).contains(&id.len()) && id.iter().all(fine)
}

fn made() -> HeaderValue {
    let number = HASHER.hash_one(MADE.fetch_add(1, Ordering::Relaxed));
    HeaderValue::from_str(&format!("{number:016x}")).unwrap_or(HeaderValue::from_static("none"))
}

/// As text.
pub fn text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(NAME, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        text(&of(&headers)).to_owned()
    }

    #[test]
    fn a_good_id_is_taken_and_any_other_is_replaced() {
        for good in ["1", "7f0a-4b", "00-4bf9-01", "Root=1-5759e988", &"a".repeat(128)] {
            assert_eq!(id(&[good]), good);
        }
        for bad in ["", "a b", "a\"b", "{}", "\u{e9}", "a,b", &"a".repeat(129)] {
            let made = id(&[bad]);
            assert!(made != bad && made.len() == 16, "{bad}: {made}");
        }
        assert_eq!((id(&["a", "a"]).len(), id(&[]).len()), (16, 16));
        assert_ne!(id(&[]), id(&[]));
    }
}
