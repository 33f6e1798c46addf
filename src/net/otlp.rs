//! OTLP over HTTP, with JSON: what a collector of traces is sent, and what it answers
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use std::path::PathBuf;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use serde_json::Value;
use serde_json::json;

use crate::config::http_url::HttpUrl;
use crate::config::secret::Secret;
use crate::config::traces::TracesConfig;
use crate::net::fetch::FetchError;
use crate::net::fetch::FetchTarget;
use crate::net::fetch::post;
use crate::telemetry::spans::Span;
use crate::telemetry::spans::SpanKind;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// The answers after which a batch is sent again (OTLP, "Retryable Response Codes").
const RETRYABLE: [u16; 4] = [429, 502, 503, 504];
/// The codes of `Status` in OTLP.
const STATUS_ERROR: u8 = 2;
/// Of the flags of a span or link in OTLP: it is sampled.
const SAMPLED: u8 = 1;

/// A collector, and what it is told of this node.
#[derive(Debug)]
pub struct Collector {
    url: HttpUrl,
    path: String,
    ca_file: Option<PathBuf>,
    headers: Vec<(String, Secret)>,
    /// What all spans have in common.
    resource: Value,
}

impl Collector {
    /// The collector of this configuration, if there is one. `node` is the name of the node.
    pub fn new(config: &TracesConfig, node: &str) -> Option<Self> {
        let url = config.endpoint.clone()?;
        let attributes = [
            attribute("service.name", &config.service_name),
            attribute("service.instance.id", node),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
        ];
        Some(Self {
            path: format!("{}/v1/traces", url.path.trim_end_matches('/')),
            url,
            ca_file: config.ca_file.clone(),
            headers: config.headers.clone(),
            resource: json!({ "attributes": attributes }),
        })
    }

    /// Sends the spans, and returns how many of them the collector has refused. Sets no time limit: let the caller do that.
    pub async fn export(&self, spans: &[Span]) -> Result<u64, FetchError> {
        let Self { url, path, ca_file, headers, resource } = self;
        let scope = json!({ "name": "tidegate", "version": env!("CARGO_PKG_VERSION") });
        let spans: Vec<Value> = spans.iter().map(encoded).collect();
        let scope_spans = json!([{ "scope": scope, "spans": spans }]);
        let request = json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": scope_spans }] });
        let target = FetchTarget {
            is_tls: url.is_tls,
            host: &url.host,
            port: url.port,
            path,
            ca_file: ca_file.as_deref(),
        };
        let answer = post(target, headers, request.to_string(), MAX_ANSWER).await?;
        Ok(refused(&answer))
    }
}

/// Whether the same spans may be accepted later.
pub fn is_retryable(error: &FetchError) -> bool {
    match error {
        FetchError::Io(_) | FetchError::Exchange(_) | FetchError::Tls(_) => true,
        FetchError::Status(status) => RETRYABLE.contains(status),
        FetchError::Redirect(_) | FetchError::Request(_) => false,
    }
}

/// The spans that a collector has refused. Numbers of 64 bits may be texts in the JSON of Protocol Buffers.
fn refused(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let refused = &answer["partialSuccess"]["rejectedSpans"];
    let in_text = || refused.as_str()?.parse().ok();
    refused.as_u64().or_else(in_text).unwrap_or_default()
}

fn encoded(span: &Span) -> Value {
    let Span { context, parent, link, kind, destination, template, began, took, error } = span;
    // Of the kinds of OTLP: producer, client, consumer.
    let (kind, name, operation_type) = match kind {
        SpanKind::Publish => (4, "send", "send"),
        SpanKind::Request => (3, "request", "send"),
        SpanKind::Deliver => (5, "process", "process"),
    };
    let mut attributes = vec![
        attribute("messaging.system", "nats"),
        attribute("messaging.operation.type", operation_type),
        attribute("messaging.operation.name", name),
        attribute("messaging.destination.name", destination),
    ];
    attributes
        .extend(template.as_deref().map(|template| attribute("messaging.destination.template", template)));
    attributes.extend(error.map(|error| attribute("error.type", error)));
    let name = template.as_deref().map_or_else(|| name.to_owned(), |template| format!("{name} {template}"));
    let mut encoded = json!({
        "traceId": context.parent.trace_id_text(),
        "spanId": span_id(context.parent.span_id),
        "flags": SAMPLED,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": nanos(*began),
        "endTimeUnixNano": nanos(*began + *took),
        "attributes": attributes,
    });
    if let Some(state) = &context.state {
        encoded["traceState"] = (&**state).into();
    }
    if let Some(parent) = parent {
        encoded["parentSpanId"] = span_id(*parent).into();
    }
    if let Some(link) = link {
        let link =
            json!({ "traceId": link.trace_id_text(), "spanId": span_id(link.span_id), "flags": SAMPLED });
        encoded["links"] = json!([link]);
    }
    if error.is_some() {
        encoded["status"] = json!({ "code": STATUS_ERROR });
    }
    encoded
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// OTLP/JSON writes ids in hexadecimal, not in base64.
fn span_id(id: u64) -> String {
    format!("{id:016x}")
}

/// Numbers of 64 bits are texts in the JSON of Protocol Buffers.
fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collector_refuses_is_read_however_it_writes_numbers() {
        for (answer, expected) in [
            (r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}"#, 3),
            (r#"{"partialSuccess":{"rejectedSpans":3}}"#, 3),
            (r#"{"partialSuccess":{}}"#, 0),
            ("{}", 0),
            ("", 0),
            ("\u{0}", 0),
        ] {
            assert_eq!(refused(answer.as_bytes()), expected, "{answer}");
        }
    }

    #[test]
    fn a_busy_collector_gets_the_batch_again_and_one_that_refuses_it_does_not() {
        for (status, expected) in [(429, true), (503, true), (400, false), (401, false), (404, false)] {
            assert_eq!(is_retryable(&FetchError::Status(status)), expected, "{status}");
        }
        assert!(!is_retryable(&FetchError::Redirect(301)));
    }
}
