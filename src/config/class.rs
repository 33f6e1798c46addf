//! `[[class]]`: how publications of a pattern are delivered.

use std::time::Duration;

use tidegate_document::diagnostic::Wrong;
use tidegate_document::section::choose;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::class::KeyScope;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::MAX_RATE_MS;
use tidegate_protocol::class::Priority;
use tidegate_protocol::subject::Pattern;

use crate::config::table::ConfigTable;

const STORED: &str = "stored subjects";

/// A day. Longer times are no business of live delivery.
const LONGEST_MS: u64 = 86_400_000;

pub(super) fn read(root: &ConfigTable<'_>) -> Vec<Class> {
    let classes = root.tables("class", class).unwrap_or_default();
    let patterns = classes.iter().map(|(path, class)| (path.as_str(), class.pattern.as_str()));
    root.refuse_twins(patterns, "pattern", "write what holds for one pattern under one [[class]]");
    classes.into_iter().map(|(_, class)| class).collect()
}

fn class(table: &ConfigTable<'_>) -> Option<Class> {
    table.not_yet(&[
        ("history", STORED),
        ("ack", STORED),
        ("stream", STORED),
        ("live", STORED),
        ("presence", "presence"),
        ("filter", "filters"),
    ]);
    let pattern =
        table.required("pattern", "name the subjects it is for, such as pattern = \"prices.>\"", pattern);
    let written = table.has("kind");
    let kind = table.optional("kind", kind).or_else(|| Some(Kind::Buffer).filter(|_| !written));
    let priorities = [("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)];
    let max_rate = table.duration_or_none("max_rate_ms", 0..=u64::from(MAX_RATE_MS));
    if max_rate.is_some() && kind == Some(Kind::Buffer) {
        let problem = "only the kind \"latest\" has a greatest rate, for it may leave publications out";
        table.mistake("max_rate_ms", problem, "remove it, or set kind = \"latest\"");
    }
    let (batch, max_age) = (
        table.duration("batch_ms", Duration::ZERO, 0..=10_000),
        table.duration_or_none("max_age_ms", 0..=LONGEST_MS),
    );
    check_age(table, batch, max_rate, max_age);
    let feed =
        table.choice("feed", FeedBy::Subject, &[("subject", FeedBy::Subject), ("pattern", FeedBy::Pattern)]);
    if feed == FeedBy::Pattern && pattern.as_ref().is_some_and(is_everywhere) {
        let problem = "the pattern names no token, so this node would be sent nearly all that NATS carries";
        table.mistake(
            "feed",
            problem,
            "name the space, such as \"user.*.notifications\", or set feed = \"subject\"",
        );
    }
    let scopes = [("subject", KeyScope::Subject), ("channel", KeyScope::Channel)];
    Some(Class {
        feed,
        key_scope: table.choice("key_scope", KeyScope::Subject, &scopes),
        kind: kind.unwrap_or(Kind::Buffer),
        snapshot: table.boolean("snapshot", false),
        priority: table.choice("priority", Priority::Normal, &priorities),
        batch,
        max_rate,
        max_age,
        stale_after: table.duration_or_none("stale_after_ms", 0..=LONGEST_MS),
        headers: table.list("headers", header).unwrap_or_default(),
        // Last, so that every key has been read before.
        pattern: pattern?,
    })
}

/// What waits longer than it may be old is never sent.
fn check_age(
    table: &ConfigTable<'_>,
    batch: Duration,
    max_rate: Option<Duration>,
    max_age: Option<Duration>,
) {
    let Some(age) = max_age else { return };
    let ms = age.as_millis();
    if batch >= age {
        let problem = format!(
            "publications wait {} ms for company (batch_ms) and are dropped when they are {ms} ms old (max_age_ms), so \
             that none is sent",
            batch.as_millis()
        );
        table.mistake("batch_ms", problem, "lower batch_ms, or raise max_age_ms");
    }
    if let Some(rate) = max_rate.filter(|rate| *rate >= age) {
        let text = format!(
            "what waits for its turn ({} ms) is older than max_age_ms ({ms} ms) by then and not sent, so a client may \
             never get the newest value; lower max_rate_ms, or raise max_age_ms",
            rate.as_millis()
        );
        table.warning("max_rate_ms", text);
    }
}

/// Whether it has wildcards only.
fn is_everywhere(pattern: &Pattern) -> bool {
    pattern.tokens().all(|token| matches!(token, "*" | ">"))
}

fn kind(text: &str) -> Result<Kind, Wrong> {
    if text == "reliable" {
        let problem = "needs stored subjects, which this version does not have yet";
        return Err(Wrong::new(problem, "write \"buffer\": it announces what it drops"));
    }
    choose(text, &[("latest", Kind::Latest), ("buffer", Kind::Buffer)])
}

fn pattern(text: &str) -> Result<Pattern, Wrong> {
    if text.contains(['{', '}']) {
        let problem = "has a placeholder, which only a [[role]] fills, so that no subject is like it";
        return Err(Wrong::new(problem, "write * for the token, such as \"user.*.notifications\""));
    }
    let cure = "write tokens with dots between them, `*` for any one token and `>` at the end for any rest";
    Pattern::parse(text).map_err(|error| Wrong::new(format!("is not a pattern: {error}"), cure))
}

/// RFC 9110 §5.1: a name is a token. NATS takes more, but a blank in a name cuts connections.
fn header(text: &str) -> Result<String, Wrong> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let cure = "write the name of a NATS header, such as \"traceparent\", or \"*\" for all of them";
    let fine = !text.is_empty() && text.chars().all(legal);
    if fine { Ok(text.to_owned()) } else { Err(Wrong::new("is not the name of a header", cure)) }
}
