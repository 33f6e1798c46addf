//! `[[class]]`: how publications of a pattern are delivered.

use std::sync::Arc;
use std::time::Duration;

use tidegate_document::diagnostic::ValueError;
use tidegate_document::section::choose;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::ClassNumber;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::class::KeyScope;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::LaneBy;
use tidegate_protocol::class::MAX_RATE_MS;
use tidegate_protocol::class::Priority;
use tidegate_protocol::class::fields;
use tidegate_protocol::class::fields::FieldPath;
use tidegate_protocol::class::fields::KeyPath;
use tidegate_protocol::class::fields::PayloadFields;
use tidegate_protocol::subject::Pattern;

use crate::config::auth::service::service_subject;
use crate::config::table::ConfigTable;

const STORED: &str = "stored subjects";
const NO_FIELD: &str = "is not a field of the payload";

/// One day. Longer times make no sense for live delivery.
const MAX_MS: u64 = 86_400_000;

pub(super) fn read(root: &ConfigTable<'_>) -> Vec<Class> {
    let classes = root.tables("class", class).unwrap_or_default();
    let patterns = classes.iter().map(|(path, class)| (path.as_str(), class.pattern.as_str()));
    root.reject_duplicates(patterns, "pattern", "merge them into one [[class]]");
    classes.into_iter().map(|(_, class)| class).collect()
}

fn class(table: &ConfigTable<'_>) -> Option<Class> {
    table.not_yet(&[
        ("history", STORED),
        ("ack", STORED),
        ("live", STORED),
        ("presence", "presence tracking"),
        ("filter", "message filters"),
    ]);
    let pattern =
        table.required("pattern", "name the subjects of the class, such as pattern = \"prices.>\"", pattern);
    let written = table.has("kind");
    let kind = table.optional("kind", kind).or_else(|| Some(Kind::Buffer).filter(|_| !written));
    let max_rate = table.duration_or_none("max_rate_ms", 0..=u64::from(MAX_RATE_MS));
    if max_rate.is_some() && kind == Some(Kind::Buffer) {
        let message = "only the kind \"latest\" can have a maximum rate, because it may skip publications";
        table.error("max_rate_ms", message, "remove it, or set kind = \"latest\"");
    }
    let (batch, max_age) = (
        table.duration("batch_ms", Duration::ZERO, 0..=10_000),
        table.duration_or_none("max_age_ms", 0..=MAX_MS),
    );
    check_age(table, batch, max_rate, max_age);
    let (snapshot, feed) = snapshot_and_feed(table, pattern.as_ref());
    let stream = table
        .optional("stream", |text| if text.is_empty() { Ok(None) } else { stream(text).map(Some) })
        .flatten();
    if stream.is_some() && feed != FeedBy::Subject {
        let message = "the channels of a class with a stream have NATS subscriptions of their own";
        let help = "remove `feed`, or set feed = \"subject\"; instead of snapshot = \"always\" write snapshot = true";
        table.error("stream", message, help);
    }
    let lane = table.choice("lane", LaneBy::Hash, &[("hash", LaneBy::Hash), ("own", LaneBy::Own)]);
    if lane == LaneBy::Own && feed != FeedBy::Subject {
        let message = "all channels of the class share one NATS subscription, so they have one lane";
        table.error("lane", message, "remove it, or set feed = \"subject\" and snapshot = true");
    }
    let (priority, priority_field) = match table.optional("priority", priority) {
        Some(PriorityFrom::Class(priority)) => (priority, None),
        Some(PriorityFrom::Field(field)) => (Priority::Normal, Some(field)),
        None => (Priority::Normal, None),
    };
    let key =
        table.optional("key", |text| if text.is_empty() { Ok(None) } else { key(text).map(Some) }).flatten();
    if key.is_some() && kind == Some(Kind::Buffer) && !snapshot {
        let message = "has no effect, because the class keeps neither the newest publication of a key nor last values; \
                       set kind = \"latest\" or snapshot = true";
        table.warning("key", message);
    }
    let scopes = [("subject", KeyScope::Subject), ("channel", KeyScope::Channel)];
    Some(Class {
        number: ClassNumber::default(),
        feed,
        lane,
        key_scope: table.choice("key_scope", KeyScope::Subject, &scopes),
        kind: kind.unwrap_or(Kind::Buffer),
        snapshot,
        priority,
        fields: PayloadFields::new(key, priority_field),
        batch,
        max_rate,
        max_age,
        stale_after: table.duration_or_none("stale_after_ms", 0..=MAX_MS),
        headers: table.list("headers", header).unwrap_or_default(),
        stream,
        authorize: table.non_empty("authorize").and_then(|found| {
            service_subject(&found.value).map_err(|wrong| table.reject(&found, wrong)).ok()
        }),
        max_listeners: u32::try_from(table.count("max_listeners", 0, 0..=10_000_000)).unwrap_or(u32::MAX),
        // This is last, because it returns early, and every key must be read before.
        pattern: pattern?,
    })
}

/// Whether the class has snapshots, and which NATS subscriptions feed it.
fn snapshot_and_feed(table: &ConfigTable<'_>, pattern: Option<&Pattern>) -> (bool, FeedBy) {
    let choices = [(false, false), (true, false), (true, true)];
    let (snapshot, is_always) = table.boolean_or("snapshot", "always", choices);
    let feeds = [("subject", FeedBy::Subject), ("pattern", FeedBy::Pattern)];
    let feed = table.choice("feed", if is_always { FeedBy::Pattern } else { FeedBy::Subject }, &feeds);
    let (key, instead) =
        if is_always { ("snapshot", "snapshot = true") } else { ("feed", "feed = \"subject\"") };
    if feed == FeedBy::Subject && is_always {
        let message = "snapshot = \"always\" needs one subscription for all channels of the class";
        table.error("feed", message, "remove it, or set snapshot = true");
    } else if feed == FeedBy::Pattern && pattern.is_some_and(has_only_wildcards) {
        let message = "the pattern has only wildcards, so this node would receive nearly everything on NATS";
        let help = format!("name a token in the pattern, such as \"user.*.notifications\", or set {instead}");
        table.error(key, message, help);
    }
    (snapshot, if is_always { FeedBy::Always } else { feed })
}

/// A publication that waits until it is too old is never sent.
fn check_age(
    table: &ConfigTable<'_>,
    batch: Duration,
    max_rate: Option<Duration>,
    max_age: Option<Duration>,
) {
    let Some(age) = max_age else { return };
    let ms = age.as_millis();
    if batch >= age {
        let message = format!(
            "batch_ms ({}) is not less than max_age_ms ({ms}), so every publication is too old when its batch is sent",
            batch.as_millis()
        );
        table.error("batch_ms", message, "lower batch_ms, or raise max_age_ms");
    }
    if let Some(rate) = max_rate.filter(|rate| *rate >= age) {
        let message = format!(
            "max_rate_ms ({}) is not less than max_age_ms ({ms}): a publication that waits for its turn may become too \
             old, so clients may never receive the newest value; lower max_rate_ms, or raise max_age_ms",
            rate.as_millis()
        );
        table.warning("max_rate_ms", message);
    }
}

fn has_only_wildcards(pattern: &Pattern) -> bool {
    pattern.tokens().all(|token| matches!(token, "*" | ">"))
}

fn kind(text: &str) -> Result<Kind, ValueError> {
    if text == "reliable" {
        let message = "needs stored subjects, which this version does not have yet";
        return Err(ValueError::new(
            message,
            "write \"buffer\", which tells clients how many publications it drops",
        ));
    }
    choose(text, &[Kind::Latest, Kind::Buffer].map(|kind| (kind.name(), kind)))
}

/// Where the priority of a publication is.
enum PriorityFrom {
    Class(Priority),
    Field(FieldPath),
}

fn priority(text: &str) -> Result<PriorityFrom, ValueError> {
    if text.starts_with("data.") {
        return field(text).map(PriorityFrom::Field);
    }
    let priorities = [("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)];
    choose(text, &priorities).map(PriorityFrom::Class).map_err(|wrong| {
        let help = format!("{}, or a field of the payload, such as \"data.priority\"", wrong.help);
        ValueError::new(wrong.message, help)
    })
}

/// NATS ADR-6: a stream name has no white space, no dot, no wildcard and no separator of paths.
fn stream(text: &str) -> Result<Arc<str>, ValueError> {
    let is_legal = |c: char| !c.is_whitespace() && !c.is_control() && !".*>/\\".contains(c);
    if !text.is_empty() && text.chars().all(is_legal) {
        return Ok(text.into());
    }
    let help = "write the name of the stream as `nats stream ls` shows it, such as stream = \"PRICES\"";
    Err(ValueError::new("is not the name of a stream", help))
}

fn key(text: &str) -> Result<KeyPath, ValueError> {
    let help = "write `data.` and the path to the field in the JSON payload, such as \"data.symbol\", or \"data[].symbol\" for \
                the elements of a list";
    fields::parse_key(text).ok_or_else(|| ValueError::new(NO_FIELD, help))
}

fn field(text: &str) -> Result<FieldPath, ValueError> {
    let help = "write `data.` and the path to the field in the JSON payload, such as \"data.priority\"";
    fields::parse_path(text).ok_or_else(|| ValueError::new(NO_FIELD, help))
}

fn pattern(text: &str) -> Result<Pattern, ValueError> {
    if text.contains(['{', '}']) {
        let message = "has a placeholder, but only a [[role]] can have one, so no subject matches";
        return Err(ValueError::new(message, "write * for the token, such as \"user.*.notifications\""));
    }
    let help =
        "separate tokens with dots; `*` matches one token, `>` at the end matches all remaining tokens";
    Pattern::parse(text).map_err(|error| ValueError::new(format!("is not a pattern: {error}"), help))
}

/// RFC 9110 §5.1: a header name is a token. NATS accepts more, but a space in a name breaks connections.
fn header(text: &str) -> Result<String, ValueError> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let help = "write the name of a NATS header, such as \"traceparent\", or \"*\" for all of them";
    let valid = !text.is_empty() && text.chars().all(is_legal);
    if valid { Ok(text.to_owned()) } else { Err(ValueError::new("is not the name of a header", help)) }
}
