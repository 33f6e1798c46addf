//! Follows revocations: those that operators publish, and those that NATS keeps for nodes that were away.
//!
//! A message on `tidegate.revoke` takes effect at once on every node that is connected. Each of them then makes sure that
//! the bucket has it. A node that connects reads the whole bucket; from then on NATS sends it the changes, and it asks
//! for missed ones now and then.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::pin::pin;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use futures_util::future::join_all;
use tidegate_protocol::subject::Pattern;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tracing::info;
use tracing::warn;

use crate::auth::revocation::message;
use crate::auth::revocation::message::RevocationMessage;
use crate::auth::revocation::rule::RevocationRule;
use crate::auth::revocation::target::RevocationTarget;
use crate::connection::context::Context;
use crate::nats::buckets::REVOKED;
use crate::nats::scatter_gather::Query;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::cluster::revocation_bucket;
use crate::shard::cluster::revocation_bucket::BucketChange;
use crate::shard::cluster::revoke::RevocationAnswer;
use crate::shard::handle::ShardRequest;
use crate::shard::job::ShardJob;
use crate::telemetry::limit::LogLimit;

/// The most time between a revocation and this node's attempt to store it.
const STORE_WITHIN_MS: u64 = 200;
/// The time between two attempts, while the bucket does not show what was stored.
const STORE_AGAIN: Duration = Duration::from_secs(1);
/// How often to ask for changes that were missed, and to forget rules that have ended.
const CHECK: Duration = Duration::from_secs(30);
/// How often to look for the bucket if there is none: seldom, or often while there is something to store.
const CHECK_MISSING: Duration = Duration::from_secs(600);
const CHECK_NEEDED: Duration = Duration::from_secs(1);

static BAD_MESSAGE: LogLimit = LogLimit::per_second(1);
static NOT_STORED: LogLimit = LogLimit::every(60, 1);
static NO_BUCKET: LogLimit = LogLimit::every(60, 1);
static APPLIED: LogLimit = LogLimit::per_second(10);
static TAKEN_BACK: LogLimit = LogLimit::per_second(10);

/// What the node knows of the bucket.
#[derive(Debug, Default)]
struct KnownBucket {
    /// Whether there is one.
    is_there: bool,
    /// Whether the log says that there is none.
    is_missed: bool,
    /// The greatest sequence that was read. Changes that NATS sent since do not count: one before them may be missed.
    last: u64,
    /// Its entries.
    entries: BTreeMap<RevocationTarget, RevocationRule>,
    /// Targets of messages, until the bucket shows their rules.
    unstored: BTreeSet<RevocationTarget>,
    /// How often their rules were sent to the bucket.
    attempts: u32,
    /// When to store them, if there are some.
    store_at: Option<Instant>,
    /// When it was last read, successfully or not. `None`: never.
    read_at: Option<Instant>,
}

impl KnownBucket {
    /// When the next read is due. `None`: now.
    fn next_read(&self) -> Option<Instant> {
        let interval = match (self.is_there, self.unstored.is_empty()) {
            (true, _) => CHECK,
            (false, true) => CHECK_MISSING,
            (false, false) => CHECK_NEEDED,
        };
        self.read_at.map(|read| read + interval)
    }

    /// When something is to be done next. `None`: now.
    fn next_step(&self) -> Option<Instant> {
        let store_at = self.store_at.filter(|_| self.is_there);
        self.next_read().map(|read| store_at.map_or(read, |store| store.min(read)))
    }
}

/// Follows revocations until the connection to NATS ends.
pub(super) async fn follow(context: &Context, local: &LocalNode) {
    let changes = REVOKED.live_subjects().unwrap_or_default();
    let patterns = [message::SUBJECT, &changes].map(Pattern::parse);
    let [Ok(messages), Ok(changes)] = patterns else { return };
    let (mut messages, mut changes) = (context.nats.responder(messages), context.nats.responder(changes));
    let mut known = KnownBucket::default();
    // Differs between nodes, so that nearly always the first one stores a revocation for all.
    let store_after = Duration::from_millis(RandomState::new().hash_one(()) % STORE_WITHIN_MS);
    let mut times_ready = 0;
    let mut nats_changed = pin!(context.nats.changed());
    loop {
        if context.nats.is_ready() {
            let now = Instant::now();
            if known.is_there && known.store_at.is_some_and(|at| at <= now) {
                if known.attempts > 0 {
                    // The bucket may have them, and its changes were missed.
                    read(context, local, &mut known, false).await;
                }
                store(context, &mut known).await;
            }
            let is_new = context.nats.times_ready() != times_ready;
            if is_new || known.next_read().is_none_or(|at| at <= now) {
                times_ready = context.nats.times_ready();
                known.read_at = Some(now);
                read(context, local, &mut known, is_new).await;
            }
        }
        tokio::select! {
            message = messages.next() => match message {
                Some(query) => {
                    on_message(context, local, &mut known, &query).await;
                    known.store_at.get_or_insert_with(|| Instant::now() + store_after);
                }
                None => return,
            },
            change = changes.next() => match change {
                Some(query) => on_change(context, local, &mut known, &query).await,
                None => return,
            },
            () = nats_changed.as_mut() => nats_changed.set(context.nats.changed()),
            () = sleep_until(known.next_step().unwrap_or_else(Instant::now)), if context.nats.is_ready() => {}
        }
    }
}

/// A revocation by an operator.
async fn on_message(context: &Context, local: &LocalNode, known: &mut KnownBucket, query: &Query) {
    let RevocationMessage { target, rule } = match RevocationMessage::parse(&query.data) {
        Ok(message) => message,
        Err(error) => {
            if let Some(suppressed) = BAD_MESSAGE.pass() {
                warn!(
                    subject = message::SUBJECT,
                    error, suppressed, "cannot read a revocation, so it has no effect"
                );
            }
            return refuse(context, local, query, error);
        }
    };
    let merged = context.node.revocations.change(|table| {
        let mut merged = rule;
        if let Some(known) = table.get(&target) {
            merged.merge(known);
        }
        merged.check_size()?;
        Ok::<_, String>(table.put(target.clone(), merged))
    });
    if let Err(error) = merged {
        return refuse(context, local, query, error);
    }
    context.node.forget_decisions();
    let changed = sweep(local).await;
    if let Some(suppressed) = APPLIED.pass() {
        info!(revoked = %target, connections = changed, learned_from = "message", suppressed, "revoked");
    }
    let kept_in = if known.is_there { "bucket" } else { "memory" };
    known.unstored.insert(target);
    let answer = RevocationAnswer {
        connections: Some(changed),
        kept_in: Some(kept_in.into()),
        ..RevocationAnswer::default()
    };
    reply(context, local, query, answer);
}

/// Puts what the bucket does not have into it.
async fn store(context: &Context, known: &mut KnownBucket) {
    known.store_at = None;
    let mut failure = None;
    for target in known.unstored.clone() {
        let rule = context.node.revocations.get(&target);
        let Some(rule) = rule.filter(|rule| known.entries.get(&target) != Some(rule)) else {
            known.unstored.remove(&target);
            continue;
        };
        let now = wall(context).duration_since(UNIX_EPOCH).unwrap_or_default();
        let message = RevocationMessage { target, rule };
        if let Err(error) = revocation_bucket::store(context, &message, now).await {
            failure = Some(error.to_string());
            break;
        }
    }
    if known.unstored.is_empty() {
        known.attempts = 0;
        return;
    }
    // Only what the bucket shows is stored: NATS takes a message before JetStream keeps it, or refuses it.
    known.attempts = known.attempts.saturating_add(1);
    known.store_at = Some(Instant::now() + STORE_AGAIN);
    if (failure.is_some() || known.attempts > 2)
        && let Some(suppressed) = NOT_STORED.pass()
    {
        warn!(
            error = failure,
            suppressed,
            "a revocation is not kept yet, so a node that is away will not learn it: NATS must allow this node to publish on \
             $KV.tidegate_revoked.>, and JetStream must store it"
        );
    }
}

fn refuse(context: &Context, local: &LocalNode, query: &Query, error: String) {
    reply(context, local, query, RevocationAnswer { error: Some(error), ..RevocationAnswer::default() });
}

fn reply(context: &Context, local: &LocalNode, query: &Query, answer: RevocationAnswer) {
    let node = (*context.node.name).into();
    let answer = RevocationAnswer { id: local.id.clone(), node, ..answer };
    // While NATS is away, no one waits for it.
    let _ = query.reply(&serde_json::to_vec(&answer).unwrap_or_default(), &[]);
}

/// A change in the bucket.
async fn on_change(context: &Context, local: &LocalNode, known: &mut KnownBucket, query: &Query) {
    let subject = query.subject().strip_prefix("_live.").unwrap_or_default();
    let sequence =
        query.header("Nats-Sequence").and_then(|sequence| sequence.parse().ok()).unwrap_or_default();
    (known.is_there, known.is_missed) = (true, false);
    // What was read since has all earlier changes.
    if sequence > known.last
        && let Some(change) =
            revocation_bucket::change(subject, &query.data, |name| query.header(name), sequence)
    {
        apply(context, local, known, vec![change]).await;
    }
}

/// Reads the bucket: what is new, or all of it.
async fn read(context: &Context, local: &LocalNode, known: &mut KnownBucket, is_whole: bool) {
    context.node.revocations.change(|table| table.remove_ended(wall(context)));
    let mut is_whole = is_whole || !known.is_there || known.last == 0;
    let (mut from, mut changes) = (if is_whole { 1 } else { known.last }, Vec::new());
    loop {
        let Some(page) = revocation_bucket::page(context, from).await else {
            let is_news = context.nats.is_ready() && !std::mem::replace(&mut known.is_missed, true);
            if is_news && let Some(suppressed) = NO_BUCKET.pass() {
                let advice = "revocations are kept in memory only: a node that starts later does not know them. Enable \
                              JetStream, and create the bucket with `tidegate streams apply`";
                info!(suppressed, "{advice}");
            }
            return known.is_there = false;
        };
        if page.is_past_end && !is_whole {
            // The last known entry is gone, so the stream may be another one.
            (is_whole, from, changes) = (true, 1, Vec::new());
            continue;
        }
        changes.extend(page.changes);
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    (known.is_there, known.is_missed) = (true, false);
    let last = changes.iter().map(|change| change.sequence).max().unwrap_or_default();
    known.last = if is_whole { last } else { known.last.max(last) };
    if is_whole {
        let found: HashSet<_> = changes.iter().map(|change| change.target.clone()).collect();
        let gone = known.entries.keys().filter(|target| !found.contains(target)).cloned();
        let removed = gone.map(|target| BucketChange { sequence: 0, target, rule: None });
        changes.splice(0..0, removed.collect::<Vec<_>>());
    }
    apply(context, local, known, changes).await;
}

/// Applies changes of the bucket, checks clients if need be, and logs what is new.
async fn apply(context: &Context, local: &LocalNode, known: &mut KnownBucket, changes: Vec<BucketChange>) {
    let now = wall(context);
    let (mut revoked, mut taken_back) = (Vec::new(), Vec::new());
    context.node.revocations.change(|table| {
        for BucketChange { sequence: _, target, rule } in changes {
            let is_unstored = known.unstored.contains(&target);
            match rule {
                Some(mut rule) => {
                    known.entries.insert(target.clone(), rule.clone());
                    // A message that the bucket does not have yet takes away more.
                    if is_unstored && let Some(newer) = table.get(&target) {
                        rule.merge(newer);
                    }
                    if table.put(target.clone(), rule) {
                        revoked.push(target);
                    }
                }
                None => {
                    known.entries.remove(&target);
                    if !is_unstored && table.remove(&target, now) {
                        taken_back.push(target);
                    }
                }
            }
        }
    });
    if !revoked.is_empty() {
        context.node.forget_decisions();
        let changed = sweep(local).await;
        // One check of the clients is for all of them.
        let connections = (revoked.len() == 1).then_some(changed);
        for target in &revoked {
            let Some(suppressed) = APPLIED.pass() else { continue };
            info!(revoked = %target, connections, learned_from = "bucket", suppressed, "revoked");
        }
    }
    for target in &taken_back {
        let Some(suppressed) = TAKEN_BACK.pass() else { continue };
        info!(revoked = %target, suppressed, "a revocation was taken back");
    }
}

/// Checks all connections of the node. Returns how many have ended, or may do less.
async fn sweep(local: &LocalNode) -> usize {
    let sweeps = local.shards.iter().map(|shard| async move {
        let (answer, swept) = oneshot::channel();
        // A full queue must not lose it.
        if !shard.send(ShardRequest::Run(ShardJob::CheckRevocations { answer })).await {
            return 0;
        }
        swept.await.unwrap_or_default()
    });
    join_all(sweeps).await.into_iter().sum()
}

fn wall(context: &Context) -> SystemTime {
    context.node.hooks.wall(SystemTime::now())
}
