//! The bucket `tidegate_revoked`, in which NATS keeps revocations for nodes that were away. It is a stream with one
//! message for each key; reading it is one request for many messages.

use std::time::Duration;

use tidegate_protocol::subject::Subject;
use tracing::warn;

use crate::auth::revocation::message::RevocationMessage;
use crate::auth::revocation::rule::RevocationRule;
use crate::auth::revocation::target::RevocationTarget;
use crate::auth::revocation::target::TargetKind;
use crate::connection::context::Context;
use crate::nats::buckets::REVOKED;
use crate::nats::error::NatsError;
use crate::telemetry::limit::LogLimit;

/// A message with one of these headers says that its entry was removed, or has expired.
const REMOVED: [&str; 2] = ["KV-Operation", "Nats-Marker-Reason"];
/// The most messages of one answer.
const BATCH: usize = 500;
const TIME_LIMIT: Duration = Duration::from_secs(2);

static BAD_ENTRY: LogLimit = LogLimit::per_second(1);

/// A change of one entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BucketChange {
    /// Its sequence in the stream. Later changes have greater ones.
    pub(super) sequence: u64,
    pub(super) target: RevocationTarget,
    /// `None` if the entry was removed, or has expired.
    pub(super) rule: Option<RevocationRule>,
}

/// A part of the bucket.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) changes: Vec<BucketChange>,
    /// Where the next page begins; `None` if this was the last one.
    pub(super) next: Option<u64>,
    /// Whether the stream has no message from the requested sequence on.
    pub(super) is_past_end: bool,
}

/// Reads the entries from this sequence on. `None` if there is no such bucket, or NATS does not answer.
pub(super) async fn page(context: &Context, from: u64) -> Option<Page> {
    let subjects = REVOKED.subjects();
    let request = format!("{{\"seq\":{from},\"next_by_subj\":\"{subjects}\",\"batch\":{BATCH}}}");
    let direct_get = format!("$JS.API.DIRECT.GET.{}", REVOKED.stream());
    let mut replies = context.nats.scatter_gather(&direct_get, request.as_bytes()).ok()?;
    let mut page = Page { changes: Vec::new(), next: None, is_past_end: false };
    loop {
        let reply = replies.next(TIME_LIMIT).await?;
        match reply.status() {
            None => {}
            // The end of a batch.
            Some(b"204") => return Some(page),
            Some(b"404") => return Some(Page { is_past_end: true, ..page }),
            Some(_) => return None,
        }
        let number = |name| reply.header(name)?.parse::<u64>().ok();
        let sequence = number("Nats-Sequence")?;
        let pending = number("Nats-Num-Pending");
        let subject = reply.header("Nats-Subject")?;
        page.changes.extend(change(subject, &reply.data(), |name| reply.header(name), sequence));
        page.next = (pending != Some(0)).then_some(sequence + 1);
        // Servers before 2.11 send one message, and no end.
        if pending.is_none() {
            return Some(page);
        }
    }
}

/// The change in the entry that a message with this subject and these headers makes.
pub(super) fn change<'h>(
    subject: &str,
    json: &[u8],
    header: impl Fn(&str) -> Option<&'h str>,
    sequence: u64,
) -> Option<BucketChange> {
    let key = subject.strip_prefix(&REVOKED.subject(""))?;
    let Some(target) = RevocationTarget::from_key(key) else {
        if let Some(suppressed) = BAD_ENTRY.pass() {
            warn!(key, suppressed, "a key in the bucket of revocations names nothing: use `tidegate revoke`");
        }
        return None;
    };
    if REMOVED.iter().any(|name| header(name).is_some()) {
        return Some(BucketChange { sequence, target, rule: None });
    }
    let rule = rule(&target, json).unwrap_or_else(|error| {
        if let Some(suppressed) = BAD_ENTRY.pass() {
            warn!(
                key,
                error,
                suppressed,
                "the entry of a revocation is not valid, so it revokes everything of its key"
            );
        }
        RevocationRule::everything_of(&target.kind)
    });
    Some(BucketChange { sequence, target, rule: Some(rule) })
}

/// The rule of an entry. One that says nothing revokes everything of its target.
fn rule(target: &RevocationTarget, json: &[u8]) -> Result<RevocationRule, String> {
    if json.is_empty() {
        return Ok(RevocationRule::everything_of(&target.kind));
    }
    let rule: RevocationRule = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    rule.check_size()?;
    if matches!(target.kind, TargetKind::Permissions(_)) && !rule.denies() {
        return Ok(RevocationRule { until: rule.until, ..RevocationRule::everything_of(&target.kind) });
    }
    Ok(rule)
}

/// Keeps a revocation in the bucket, until it ends.
pub(super) async fn store(
    context: &Context,
    RevocationMessage { target, rule }: &RevocationMessage,
    now: Duration,
) -> Result<(), NatsError> {
    let subject = REVOKED.subject(&target.key());
    let Ok(subject) = Subject::parse(&subject) else { return Err(NatsError::Refused(subject)) };
    let ttl = rule.until.map(|until| until.saturating_sub(now.as_secs()).max(1));
    let headers: Vec<_> = ttl.map(|ttl| ("Nats-TTL".to_owned(), format!("{ttl}s"))).into_iter().collect();
    let json = serde_json::to_vec(rule).unwrap_or_default();
    context.nats.publish(&subject, json.into(), &headers).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rev_02_an_entry_of_permissions_that_is_not_valid_withdraws_all_of_them() {
        for json in ["", "{}", "what?", r#"{"subscribe":["prices.*"],"typo":1}"#, r#"{"subscribe":["a..b"]}"#]
        {
            let subject = "$KV.tidegate_revoked.permissions.alice";
            let rule = change(subject, json.as_bytes(), |_| None, 1).unwrap().rule.unwrap();
            for denied in [&rule.subscribe, &rule.publish, &rule.request] {
                assert_eq!(
                    denied.iter().map(|denied| denied.0.as_str()).collect::<Vec<_>>(),
                    [">"],
                    "{json}"
                );
            }
        }
    }

    #[test]
    fn rev_01_entries_are_read_as_the_nats_cli_writes_them() {
        for (subject, json, is_removed, expected) in [
            ("$KV.tidegate_revoked.user.alice", "{}", false, Some(Some(None))),
            ("$KV.tidegate_revoked.user.alice", "", false, Some(Some(None))),
            ("$KV.tidegate_revoked.user.alice", r#"{"issued_before":5}"#, false, Some(Some(Some(5)))),
            ("$KV.tidegate_revoked.user.alice", "what?", false, Some(Some(None))),
            ("$KV.tidegate_revoked.user.alice", "", true, Some(None)),
            ("$KV.tidegate_revoked.unknown", "{}", false, None),
            ("$KV.other.user.alice", "{}", false, None),
        ] {
            let header = |name: &str| (is_removed && name == "KV-Operation").then_some("DEL");
            let change = change(subject, json.as_bytes(), header, 7);
            let found = change.map(|change| change.rule.map(|rule| rule.issued_before));
            assert_eq!(found, expected, "{subject} {json}");
        }
    }
}
