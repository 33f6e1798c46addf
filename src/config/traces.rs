//! `[traces]`: where spans are exported, and which are recorded.

use std::path::PathBuf;
use std::time::Duration;

use tidegate_document::diagnostic::ValueError;
use tidegate_protocol::url;

use crate::config::http_url::HttpUrl;
use crate::config::secret::Secret;
use crate::config::table::ConfigTable;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracesConfig {
    /// The base URL of a collector that speaks OTLP over HTTP. `None`: nothing is recorded.
    pub endpoint: Option<HttpUrl>,
    /// The certificates that verify the collector, in PEM. `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Further headers of each export, such as a credential.
    pub headers: Vec<(String, Secret)>,
    /// The name of all nodes together.
    pub service_name: String,
    /// Of the messages without a trace, one in this many begins one; 0: none.
    pub sample_one_in: usize,
    /// Whether publications to clients have spans.
    pub deliveries: bool,
    /// The time between two exports.
    pub export_interval: Duration,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            ca_file: None,
            headers: Vec::new(),
            service_name: "tidegate".to_owned(),
            sample_one_in: 100,
            deliveries: false,
            export_interval: Duration::from_secs(5),
        }
    }
}

impl TracesConfig {
    pub(super) fn read(table: &ConfigTable<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            endpoint: endpoint(table),
            ca_file: table.readable_file("ca_file").map(|file| file.value.into()),
            headers: headers(table),
            service_name: table.parsed("service_name", default.service_name, service_name),
            sample_one_in: table.count("sample_one_in", default.sample_one_in, 0..=1_000_000),
            deliveries: table.boolean("deliveries", default.deliveries),
            export_interval: table.duration("export_interval_ms", default.export_interval, 100..=60_000),
        };
        if config.endpoint.is_some() && cfg!(not(feature = "otlp")) {
            let message = "this build of Tidegate cannot export spans";
            table.error("endpoint", message, "use a build with the feature `otlp`, or remove the key");
        }
        config
    }
}

/// An error does not show the value, which may have a login by mistake.
fn endpoint(table: &ConfigTable<'_>) -> Option<HttpUrl> {
    let found = table.non_empty("endpoint")?;
    match base_url(&found.value) {
        Ok(url) => Some(url),
        Err(problem) => {
            let help = "write the base URL of a collector, such as \"http://collector:4318\"; /v1/traces is added to it";
            table.reject(&found, ValueError::new(format!("the URL {problem}"), help));
            None
        }
    }
}

/// The error continues the sentence "the URL …".
fn base_url(text: &str) -> Result<HttpUrl, &'static str> {
    let url = HttpUrl::parse(text)?;
    if url.path.contains('?') { Err("has a query (?)") } else { Ok(url) }
}

fn service_name(text: &str) -> Result<String, ValueError> {
    let is_fit = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
    let error = || ValueError::new("is not a name", "write 1 to 255 bytes without control characters");
    is_fit.then(|| text.to_owned()).ok_or_else(error)
}

/// `name=value` pairs with commas between them; values may be percent-encoded, as in `OTEL_EXPORTER_OTLP_HEADERS`.
fn headers(table: &ConfigTable<'_>) -> Vec<(String, Secret)> {
    let Some(found) = table.secret("headers", "headers_file") else { return Vec::new() };
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let is_value = |value: &String| value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = url::decode(value.trim()).map(|value| value.to_string()).filter(is_value)?;
        is_name(name.trim()).then(|| (name.trim().to_owned(), Secret::new(value)))
    };
    let text = found.value.expose().trim();
    let pairs: Option<Vec<_>> = text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect();
    pairs.unwrap_or_else(|| {
        let help =
            "write name=value, with commas between several of them, such as \"Authorization=Bearer%20…\"";
        table.reject(&found, ValueError::new("is not a list of headers", help));
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_may_be_anywhere() {
        for (text, host, port, path) in [
            ("http://collector:4318", "collector", 4318, "/"),
            ("https://otlp.example.com/otlp", "otlp.example.com", 443, "/otlp"),
            ("http://[2001:db8::1]:4318/", "2001:db8::1", 4318, "/"),
        ] {
            let url = base_url(text).unwrap();
            assert_eq!((url.host.as_str(), url.port, url.path.as_str()), (host, port, path), "{text}");
        }
        for text in ["collector:4318", "grpc://collector:4317", "http://collector/?a=b", "http://a@b"] {
            assert!(base_url(text).is_err(), "{text}");
        }
    }
}
