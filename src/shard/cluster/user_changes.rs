//! Changes the sessions of users on all nodes: each node, this one too, gets the change over NATS and answers how many
//! sessions it had.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::join;
use futures_util::future::join_all;
use futures_util::stream;
use serde::Deserialize;
use serde::Serialize;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::subject::Pattern;
use tokio::sync::mpsc;
use tracing::warn;

use crate::connection::context::Context;
use crate::connection::upstream::client_error;
use crate::connection::user_change::UserAction;
use crate::connection::user_change::UserChange;
use crate::nats::scatter_gather::Query;
use crate::shard::cluster::calls::UserCall;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::handle::ShardRequest;
use crate::shard::job::ShardJob;
use crate::shard::job::UserChanged;
use crate::telemetry::limit::LogLimit;

/// The NATS subject of changes.
const SUBJECT: &str = "tidegate.users";
/// How long to wait for nodes that are not known yet.
const DISCOVERY_TIMEOUT: Duration = Duration::from_millis(250);
/// How long to wait for nodes that have answered before.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Calls that wait for answers at a time. Others wait for them.
const CONCURRENT_CALLS: usize = 64;

static BAD_MESSAGE: LogLimit = LogLimit::per_second(1);

/// A change, as nodes send it to each other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct ChangeMessage {
    user: Box<str>,
    issuer: Option<Box<str>>,
    /// The channels to unsubscribe from. Absent: the sessions end.
    channels: Option<Vec<Box<str>>>,
}

/// The answer of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct ChangeAnswer {
    node: Box<str>,
    sessions: usize,
}

impl ChangeMessage {
    fn of(change: &UserChange) -> Self {
        let UserChange { user, issuer, action } = change.clone();
        let channels = match action {
            UserAction::Disconnect => None,
            UserAction::Unsubscribe(patterns) => {
                Some(patterns.iter().map(|pattern| pattern.as_str().into()).collect())
            }
        };
        Self { user, issuer, channels }
    }

    /// `None` if it is not a valid change, or one of a newer version.
    fn decode(json: &[u8]) -> Option<UserChange> {
        let Self { user, issuer, channels } = serde_json::from_slice(json).ok()?;
        let action = match channels {
            None => UserAction::Disconnect,
            Some(channels) => {
                let patterns = channels.iter().map(|channel| Pattern::parse(channel));
                UserAction::Unsubscribe(patterns.collect::<Result<_, _>>().ok()?)
            }
        };
        Some(UserChange { user, issuer, action })
    }
}

/// Sends the changes of calls, and makes those that nodes send, until the connection to NATS ends.
pub(super) async fn run(context: &Context, local: &LocalNode, mut calls: mpsc::Receiver<UserCall>) {
    let Ok(subject) = Pattern::parse(SUBJECT) else { return };
    let mut messages = context.nats.responder(subject);
    let make = async {
        while let Some(message) = messages.next().await {
            on_message(context, local, &message).await;
        }
    };
    let known = RefCell::new(BTreeSet::new());
    let send = stream::poll_fn(|task| calls.poll_recv(task)).for_each_concurrent(
        CONCURRENT_CALLS,
        |UserCall { change, answer }| {
            let known = &known;
            async move {
                // An error means that the caller has gone.
                let _ = answer.send(change_on_all_nodes(context, local, known, &change).await);
            }
        },
    );
    join(make, send).await;
}

/// Makes a change of another node or of this one, on all shards.
async fn on_message(context: &Context, local: &LocalNode, message: &Query) {
    let Some(change) = ChangeMessage::decode(&message.data) else {
        if let Some(suppressed) = BAD_MESSAGE.pass() {
            warn!(subject = SUBJECT, suppressed, "cannot read a change of a user, so it has no effect");
        }
        return;
    };
    let change = Arc::new(change);
    let changes = local.shards.iter().map(|shard| {
        let change = Arc::clone(&change);
        async move {
            let (answer, changed) = tokio::sync::oneshot::channel();
            // A full queue must not lose it.
            let job = ShardJob::ChangeLocalSessions { change, answer };
            if !shard.send(ShardRequest::Run(job)).await {
                return 0;
            }
            changed.await.unwrap_or_default()
        }
    });
    let sessions = join_all(changes).await.into_iter().sum();
    let answer = ChangeAnswer { node: context.node.session_prefix.clone(), sessions };
    // While NATS is away, no one waits for it.
    let _ = message.reply(&serde_json::to_vec(&answer).unwrap_or_default(), &[]);
}

/// Sends a change to all nodes, and counts their answers.
async fn change_on_all_nodes(
    context: &Context,
    local: &LocalNode,
    known: &RefCell<BTreeSet<Box<str>>>,
    change: &UserChange,
) -> Result<UserChanged, ClientError> {
    let message = serde_json::to_vec(&ChangeMessage::of(change)).unwrap_or_default();
    let answers = context.nats.scatter_gather(SUBJECT, &message);
    let mut answers = answers.map_err(|error| client_error(&error))?;
    let (sent, mut changed) = (Instant::now(), UserChanged::default());
    let mut waiting: BTreeSet<Box<str>> = known.borrow().clone();
    waiting.insert(local.id.clone());
    let mut answered = BTreeSet::new();
    loop {
        // When all known nodes have answered, wait a little for unknown ones.
        let timeout = if waiting.is_empty() { DISCOVERY_TIMEOUT } else { ANSWER_TIMEOUT };
        let Some(answer) = answers.next(timeout.saturating_sub(sent.elapsed())).await else { break };
        let Ok(ChangeAnswer { node, sessions }) = serde_json::from_slice(&answer.data()) else { continue };
        waiting.remove(&node);
        if answered.insert(node) {
            changed.sessions += sessions;
        }
    }
    if !answered.contains(&local.id) {
        let message =
            "this node cannot receive its own messages from NATS now, so the outcome is unknown: try again";
        return Err(ClientError::new(ErrorCode::Unavailable, message));
    }
    (changed.nodes, changed.missing_nodes) = (answered.len(), waiting.len());
    // A node that has not answered is gone; if not, it becomes known again with its next answer.
    *known.borrow_mut() = answered;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_decoded_as_they_were_encoded_and_others_are_rejected() {
        let patterns = ["a.>", "b"].map(|text| Pattern::parse(text).unwrap());
        for (issuer, action) in [
            (None, UserAction::Disconnect),
            (Some("https://issuer".into()), UserAction::Unsubscribe(patterns.to_vec().into())),
        ] {
            let change = UserChange { user: "alice".into(), issuer, action };
            let message = serde_json::to_vec(&ChangeMessage::of(&change)).unwrap();
            assert_eq!(ChangeMessage::decode(&message), Some(change));
        }
        for other in ["", "{}", r#"{"user":"a","channels":["a..b"]}"#, r#"{"user":1}"#] {
            assert_eq!(ChangeMessage::decode(other.as_bytes()), None, "{other}");
        }
    }
}
