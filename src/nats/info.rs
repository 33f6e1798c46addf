//! The server's `INFO`: sent on connect, and again when something changes.

use serde_json::Value;

/// Further `connect_urls` are ignored.
const MAX_SERVERS: usize = 64;

/// Longer versions are truncated.
const MAX_VERSION_CHARS: usize = 64;

/// The fields of `INFO` that Tidegate uses. Missing ones are empty or false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// Such as `2.15.1`.
    pub version: String,
    /// The largest message, in bytes with its headers; 0 if unknown.
    pub max_payload: usize,
    /// To be signed by clients that log in with a key.
    pub nonce: String,
    /// The server accepts only TLS.
    pub tls_required: bool,
    /// The server also accepts TLS.
    pub tls_available: bool,
    /// The server is about to stop (lame duck mode).
    pub lame_duck: bool,
    /// The addresses of the cluster's servers, this one included: `host:port`.
    pub connect_urls: Vec<String>,
}

impl ServerInfo {
    /// Parses the JSON after `INFO`. `None` if it is not a JSON object.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(json).ok()?;
        let fields = value.as_object()?;
        let text = |name| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let is = |name| fields.get(name).and_then(Value::as_bool).unwrap_or_default();
        let number = |name| fields.get(name).and_then(Value::as_u64).unwrap_or_default();
        let urls = fields.get("connect_urls").and_then(Value::as_array).map(Vec::as_slice);
        let urls = urls.unwrap_or_default().iter().filter_map(Value::as_str);
        Some(Self {
            version: text("version").chars().take(MAX_VERSION_CHARS).collect(),
            max_payload: usize::try_from(number("max_payload")).unwrap_or_default(),
            nonce: text("nonce"),
            tls_required: is("tls_required"),
            tls_available: is("tls_available"),
            lame_duck: is("ldm"),
            connect_urls: urls.take(MAX_SERVERS).map(str::to_owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_invalid_fields_are_empty() {
        let info = ServerInfo::parse(
            br#" {"version":"2.15.1","nonce":"n","max_payload":1000,"tls_required":true,"ldm":true,"connect_urls":["a:1",2,"b:2"]}"#,
        );
        let expected = ServerInfo {
            version: "2.15.1".to_owned(),
            max_payload: 1000,
            nonce: "n".to_owned(),
            tls_required: true,
            tls_available: false,
            lame_duck: true,
            connect_urls: vec!["a:1".to_owned(), "b:2".to_owned()],
        };
        assert_eq!(info, Some(expected));
        assert_eq!(ServerInfo::parse(b"{}"), Some(ServerInfo::default()));
        assert_eq!(
            ServerInfo::parse(br#"{"version":7,"max_payload":-1,"connect_urls":"a","ldm":"yes"}"#),
            Some(ServerInfo::default())
        );
        for json in [&b""[..], b"[]", b"{", b"\xff"] {
            assert_eq!(ServerInfo::parse(json), None);
        }
    }
}
