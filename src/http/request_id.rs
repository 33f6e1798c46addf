//! `X-Request-Id`: identifies a request in the logs of all programs that handle it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use warp::http::HeaderMap;
use warp::http::HeaderName;
use warp::http::HeaderValue;

pub const NAME: HeaderName = HeaderName::from_static("x-request-id");
const MAX_BYTES: usize = 128;

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
static GENERATED: AtomicU64 = AtomicU64::new(0);

/// The request's own id if it is valid, else a new one.
pub fn from_headers(headers: &HeaderMap) -> HeaderValue {
    let mut values = headers.get_all(NAME).iter();
    match (values.next(), values.next()) {
        (Some(id), None) if is_valid(id.as_bytes()) => id.clone(),
        _ => generate(),
    }
}

/// Whether the id is safe in logs, and not too long.
fn is_valid(id: &[u8]) -> bool {
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    (1..=MAX_BYTES).contains(&id.len()) && id.iter().all(fine)
}

fn generate() -> HeaderValue {
    let number = HASHER.hash_one(GENERATED.fetch_add(1, Ordering::Relaxed));
    HeaderValue::from_str(&format!("{number:016x}")).unwrap_or(HeaderValue::from_static("none"))
}

pub fn as_str(id: &HeaderValue) -> &str {
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
        as_str(&from_headers(&headers)).to_owned()
    }

    #[test]
    fn a_valid_id_is_kept_and_any_other_is_replaced() {
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
