//! Changes the sessions of users on all nodes: each node, this one too, gets the change over NATS and answers how many
//! sessions it had.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use serde::Serialize;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::subject::Pattern;
use tracing::warn;

use crate::connection::client_error::client_error;
use crate::connection::context::Context;
use crate::connection::user_change::UserAction;
use crate::connection::user_change::UserChange;
use crate::nats::scatter_gather::PeerReply;
use crate::nats::scatter_gather::Query;
use crate::shard::cluster::change_record::ChangeError;
use crate::shard::cluster::gather::NodeAnswer;
use crate::shard::cluster::gather::NodeAnswers;
use crate::shard::cluster::gather::Patience;
use crate::shard::cluster::gather::ReplyPart;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::handle::ShardRequest;
use crate::shard::job::ShardJob;
use crate::shard::job::UserChanged;
use crate::telemetry::limit::LogLimit;

/// The NATS subject of changes.
const SUBJECT: &str = "tidegate.users";
/// How long to wait for answers.
const PATIENCE: Patience = Patience { known: Duration::from_secs(2), unknown: Duration::from_millis(250) };

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

/// Makes the changes that nodes send, until the connection to NATS ends.
pub(super) async fn make(context: &Context, local: &LocalNode) {
    let Ok(subject) = Pattern::parse(SUBJECT) else { return };
    let mut messages = context.nats.responder(subject);
    while let Some(message) = messages.next().await {
        on_message(context, local, &message).await;
    }
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
pub(super) async fn change_on_all_nodes(
    context: &Context,
    local: &LocalNode,
    change: &UserChange,
) -> Result<UserChanged, ChangeError> {
    let message = serde_json::to_vec(&ChangeMessage::of(change)).unwrap_or_default();
    let replies = context.nats.scatter_gather(SUBJECT, &message);
    let replies = replies.map_err(|error| ChangeError::NotSent(client_error(&error)))?;
    let read = |reply: &PeerReply| {
        let ChangeAnswer { node, sessions } = serde_json::from_slice(&reply.data()).ok()?;
        Some(NodeAnswer { node, content: ReplyPart::Last(sessions) })
    };
    let gathered = local.changers.gather(replies, Some(&local.id), PATIENCE, read).await;
    let NodeAnswers { answers, missing } = gathered;
    if !answers.contains_key(&local.id) {
        let message =
            "this node cannot receive its own messages from NATS now, so the outcome is unknown: try again";
        return Err(ChangeError::Unknown(ClientError::new(ErrorCode::Unavailable, message)));
    }
    Ok(UserChanged { sessions: answers.values().sum(), nodes: answers.len(), missing_nodes: missing.len() })
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
