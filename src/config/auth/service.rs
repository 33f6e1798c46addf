//! `[auth.service]`: a service on NATS that says who a client is.

use std::time::Duration;

use tidegate_document::diagnostic::ValueError;
use tidegate_protocol::permissions::system_root;
use tidegate_protocol::subject::Subject;

use crate::config::auth::texts::cookie;
use crate::config::table::ConfigTable;

/// Headers that the service never gets. They carry credentials, which the question has by itself, or say nothing of the
/// client.
const KEPT_BACK: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "sec-websocket-protocol"];

/// The service, and what it learns of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Where the service answers. No client can use this subject.
    pub subject: Subject,
    /// The headers of the handshake or call that the service gets, in lower case.
    pub headers: Vec<String>,
    /// The cookies that it gets, if the page may use cookies.
    pub cookies: Vec<String>,
    /// How long a client waits for the answer.
    pub timeout: Duration,
    /// The most questions that wait for their answers at the service.
    pub in_flight: usize,
}

/// `None` without a subject.
pub(super) fn read(table: &ConfigTable<'_>) -> Option<ServiceConfig> {
    let subject = table.non_empty("subject");
    let (headers, cookies) = (table.list("headers", header), table.list("cookies", listed_cookie));
    let timeout = table.duration("timeout_ms", Duration::from_secs(2), 10..=30_000);
    let in_flight = table.count("in_flight", 256, 1..=65_536);
    let Some(found) = subject else {
        for (key, list) in [("headers", &headers), ("cookies", &cookies)] {
            if list.as_ref().is_some_and(|list| !list.is_empty()) {
                table.error(key, "has no effect without a service", "set auth.service.subject, or remove it");
            }
        }
        return None;
    };
    let subject = service_subject(&found.value).map_err(|wrong| table.reject(&found, wrong)).ok()?;
    let (headers, cookies) = (headers.unwrap_or_default(), cookies.unwrap_or_default());
    Some(ServiceConfig { subject, headers, cookies, timeout, in_flight })
}

/// The subject of a service that decides for Tidegate.
pub(in crate::config) fn service_subject(text: &str) -> Result<Subject, ValueError> {
    let help = "write one subject without wildcards, such as \"auth.connect\"";
    let subject =
        Subject::parse(text).map_err(|error| ValueError::new(format!("is not a subject: {error}"), help))?;
    if text.contains(['{', '}']) {
        return Err(ValueError::new("has a brace, as placeholders of roles have", help));
    }
    let root = subject.tokens().next().and_then(system_root);
    match root {
        Some(root) => Err(ValueError::new(
            format!("is not free: subjects under \"{root}\" belong to NATS and Tidegate"),
            help,
        )),
        None => Ok(subject),
    }
}

fn header(text: &str) -> Result<String, ValueError> {
    let name = text.to_ascii_lowercase();
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let help = "write the name of a header, such as \"x-device\"";
    if name.is_empty() || !name.chars().all(is_legal) {
        return Err(ValueError::new("is not the name of a header", help));
    }
    if KEPT_BACK.contains(&&*name) {
        let message = "is not passed on: the service gets the credential by itself, and cookies by name";
        return Err(ValueError::new(message, "list a cookie in auth.service.cookies, or remove it"));
    }
    Ok(name)
}

fn listed_cookie(text: &str) -> Result<String, ValueError> {
    if text.is_empty() {
        return Err(ValueError::new("is empty", "write the name of a cookie, such as \"sessionid\""));
    }
    cookie(text)
}
