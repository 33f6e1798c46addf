//! Info: what a server says about itself when one comes to it, and again when something changes.

use serde_json::Value;

/// More servers than this are not remembered.
const MOST_SERVERS: usize = 64;

/// Of a version, so much is shown.
const MAX_VERSION: usize = 64;

/// What a server says about itself. What it does not say is empty or false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// `2.15.1`
    pub(super) version: String,
    /// The largest message that it takes, in bytes with its headers; 0 if it does not say.
    pub(super) max_payload: usize,
    /// To be signed by whoever logs in with a key.
    pub(super) nonce: String,
    /// No one comes in without TLS.
    pub(super) tls_required: bool,
    /// Whoever wants TLS can have it.
    pub(super) tls_available: bool,
    /// It is about to stop (lame duck mode).
    pub(super) leaving: bool,
    /// Other servers of its cluster, and itself: `host:port`.
    pub(super) servers: Vec<String>,
}

impl Info {
    /// Reads the JSON behind `INFO`. `None` if it is none.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(json).ok()?;
        let fields = value.as_object()?;
        let text = |name| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let is = |name| fields.get(name).and_then(Value::as_bool).unwrap_or_default();
        let number = |name| fields.get(name).and_then(Value::as_u64).unwrap_or_default();
        let servers = fields.get("connect_urls").and_then(Value::as_array).map(Vec::as_slice);
        let servers = servers.unwrap_or_default().iter().filter_map(Value::as_str);
        Some(Self {
            version: text("version").chars().take(MAX_VERSION).collect(),
            max_payload: usize::try_from(number("max_payload")).unwrap_or_default(),
            nonce: text("nonce"),
            tls_required: is("tls_required"),
            tls_available: is("tls_available"),
            leaving: is("ldm"),
            servers: servers.take(MOST_SERVERS).map(str::to_owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_what_is_there() {
        let info = Info::read(
            br#" {"version":"2.15.1","nonce":"n","max_payload":1000,"tls_required":true,"ldm":true,"connect_urls":["a:1",2,"b:2"]}"#,
        );
        let expected = Info {
            version: "2.15.1".to_owned(),
            max_payload: 1000,
            nonce: "n".to_owned(),
            tls_required: true,
            tls_available: false,
            leaving: true,
            servers: vec!["a:1".to_owned(), "b:2".to_owned()],
        };
        assert_eq!(info, Some(expected));
        assert_eq!(Info::read(b"{}"), Some(Info::default()));
        assert_eq!(
            Info::read(br#"{"version":7,"max_payload":-1,"connect_urls":"a","ldm":"yes"}"#),
            Some(Info::default())
        );
        for json in [&b""[..], b"[]", b"{", b"\xff"] {
            assert_eq!(Info::read(json), None);
        }
    }
}
