//! Keys that an issuer publishes: the URL of its JSON Web Key Set (JWKS), or its OpenID Connect discovery.

use std::fmt;
use std::path::PathBuf;

use tidegate_document::diagnostic::ValueError;

use crate::config::auth::algorithm::KeyAlgorithm;
use crate::config::http_url::HttpUrl;
use crate::config::table::ConfigTable;

/// Where an issuer publishes its keys, and which of them are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteKeysConfig {
    pub location: KeysLocation,
    /// The algorithms that keys may have. Empty: all algorithms with public keys.
    pub algorithms: Vec<KeyAlgorithm>,
    /// The certificates to trust, in PEM. `None`: those of the system.
    pub ca_file: Option<PathBuf>,
}

/// Where the key set of an issuer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysLocation {
    /// At this URL.
    KeySet(KeyUrl),
    /// At the URL that the discovery document of the issuer names. This is the URL of the document.
    Discovery(KeyUrl),
}

/// A URL to fetch keys from: `https`, or `http` to this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyUrl(pub HttpUrl);

impl KeyUrl {
    /// The error continues the sentence "the URL …".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = HttpUrl::parse(text)?;
        if !url.is_tls && !url.is_loopback() {
            return Err("is not https, so anyone on the way could replace the keys");
        }
        Ok(Self(url))
    }

    /// The URL of the discovery document of an issuer (OpenID Connect Discovery 1.0 §4).
    pub fn discovery(issuer: &str) -> Result<Self, &'static str> {
        if issuer.contains('?') {
            return Err("has a query (?)");
        }
        Self::parse(&format!(
            "{}/.well-known/openid-configuration",
            issuer.strip_suffix('/').unwrap_or(issuer)
        ))
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for KeyUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for KeyUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The keys are wrong, and that is reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

/// Reads `jwks_url` and `discovery` of a table, for this issuer.
pub(super) fn read(
    table: &ConfigTable<'_>,
    issuer: &str,
    algorithms: &[KeyAlgorithm],
    ca_file: Option<PathBuf>,
) -> Result<Option<RemoteKeysConfig>, Reported> {
    let url = table.non_empty("jwks_url").map(|text| {
        KeyUrl::parse(&text.value).map_err(|problem| {
            let help =
                "write an https URL, such as \"https://issuer.example/keys\"; http is for this machine only";
            table.reject(&text, ValueError::new(format!("the URL {problem}"), help));
            Reported
        })
    });
    let url = url.transpose();
    let is_discovered = table.boolean("discovery", false);
    let location = match (url?, is_discovered) {
        (Some(_), true) => {
            let help = "keep jwks_url, or remove it so that the issuer's discovery document names it";
            table.error("jwks_url", "excludes discovery = true", help);
            return Err(Reported);
        }
        (Some(url), false) => KeysLocation::KeySet(url),
        (None, true) => {
            let found = KeyUrl::discovery(issuer).map_err(|problem| {
                let message = format!("needs the URL of the issuer, and that {problem}");
                let help = "set issuer to the https URL of the issuer, or set jwks_url";
                table.error("discovery", message, help);
                Reported
            });
            KeysLocation::Discovery(found?)
        }
        (None, false) => return Ok(None),
    };
    Ok(Some(RemoteKeysConfig { location, algorithms: algorithms.to_vec(), ca_file }))
}

/// Reads the certificates to trust.
pub(super) fn ca_file(table: &ConfigTable<'_>) -> Option<PathBuf> {
    table.readable_file("jwks_ca_file").map(|file| PathBuf::from(file.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jwt_10_keys_come_over_https_or_from_this_machine() {
        for (text, host, port, path) in [
            ("https://issuer.example/keys", "issuer.example", 443, "/keys"),
            ("https://issuer.example", "issuer.example", 443, "/"),
            ("https://issuer.example?a=b", "issuer.example", 443, "/?a=b"),
            ("https://issuer.example:8443/a/b?c=d", "issuer.example", 8443, "/a/b?c=d"),
            ("https://[2001:db8::1]/k", "2001:db8::1", 443, "/k"),
            ("http://localhost:80/k", "localhost", 80, "/k"),
            ("http://127.0.0.2/k", "127.0.0.2", 80, "/k"),
            ("http://[::1]:5/k", "::1", 5, "/k"),
        ] {
            let url = KeyUrl::parse(text).unwrap().0;
            assert_eq!((url.host.as_str(), url.port, url.path.as_str()), (host, port, path), "{text}");
            assert_eq!((url.is_tls, url.as_str()), (text.starts_with("https"), text));
        }
        for text in [
            "",
            "issuer.example",
            "ftp://issuer.example",
            "HTTPS://issuer.example",
            "file:///etc/passwd",
            "http://issuer.example/keys",
            "http://10.0.0.1/keys",
            "http://localhost.example/keys",
            "http://127.0.0.1.example/keys",
            "http://127.0.0.1@issuer.example/keys",
            "https://user:password@issuer.example/keys",
            "https:///keys",
            "https://:443/keys",
            "https://issuer.example:/keys",
            "https://issuer.example:0/keys",
            "https://issuer.example:65536/keys",
            "https://issuer.example:+1/keys",
            "https://[::1/keys",
            "https://[issuer.example]/keys",
            "https://issuer.example/keys#1",
            "https://issuer.example/a b",
            "https://issuer.example/é",
            "https://issuer.example\\@localhost/",
            "https://issuer.example/\r\nHost: x",
        ] {
            assert!(KeyUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_discovery_document_is_below_the_issuer() {
        for issuer in ["https://issuer.example/realms/a", "https://issuer.example/realms/a/"] {
            let url = KeyUrl::discovery(issuer).unwrap();
            assert_eq!(url.as_str(), "https://issuer.example/realms/a/.well-known/openid-configuration");
        }
        for issuer in ["", "tidegate", "http://issuer.example", "https://issuer.example/?a=b"] {
            assert!(KeyUrl::discovery(issuer).is_err(), "{issuer}");
        }
    }
}
