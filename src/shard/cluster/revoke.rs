//! Sends the revocation of an operator to all nodes, this one too.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;

use crate::auth::revocation::message;
use crate::auth::revocation::message::RevocationMessage;
use crate::connection::client_error::client_error;
use crate::connection::context::Context;
use crate::nats::scatter_gather::PeerReply;
use crate::shard::cluster::change_record::ChangeError;
use crate::shard::cluster::gather::NodeAnswer;
use crate::shard::cluster::gather::NodeAnswers;
use crate::shard::cluster::gather::Patience;
use crate::shard::cluster::gather::ReplyPart;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::job::NodeRevocation;
use crate::shard::job::Revoked;

/// How long to wait for answers. A node answers after it has looked at all its connections.
const PATIENCE: Patience = Patience { known: Duration::from_secs(2), unknown: Duration::from_millis(500) };

/// The answer of a node to a revocation.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
pub(super) struct RevocationAnswer {
    /// The id of the node, which is random for each start.
    pub(super) id: Box<str>,
    /// Its name.
    pub(super) node: Box<str>,
    /// The connections that have ended, or may do less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections: Option<usize>,
    /// Where the revocation is kept: `bucket`, or only in `memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kept_in: Option<Box<str>>,
    /// Why the node has refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// Revokes on all nodes, and collects their answers.
pub(super) async fn revoke_on_all_nodes(
    context: &Context,
    local: &LocalNode,
    message: &RevocationMessage,
) -> Result<Revoked, ChangeError> {
    let replies = context.nats.scatter_gather(message::SUBJECT, message.to_json().as_bytes());
    let replies = replies.map_err(|error| ChangeError::NotSent(client_error(&error)))?;
    let read = |reply: &PeerReply| {
        let answer: RevocationAnswer = serde_json::from_slice(&reply.data()).ok()?;
        Some(NodeAnswer { node: answer.id.clone(), content: ReplyPart::Last(answer) })
    };
    let gathered = local.changers.gather(replies, Some(&local.id), PATIENCE, read).await;
    let NodeAnswers { answers, missing } = gathered;
    if answers.is_empty() {
        let message = "no node has answered, so the outcome is unknown: revoke again, which does no harm";
        return Err(ChangeError::Unknown(ClientError::new(ErrorCode::Unavailable, message)));
    }
    let node = |RevocationAnswer { node, connections, kept_in, error, .. }| NodeRevocation {
        node,
        outcome: error.map_or_else(|| Ok(connections.unwrap_or_default()), Err),
        kept_in,
    };
    // This node answers like the others, and is not among those that it expects.
    let missing_nodes = missing.len() + usize::from(!answers.contains_key(&local.id));
    Ok(Revoked { nodes: answers.into_values().map(node).collect(), missing_nodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_number_or_an_error() {
        let answer = RevocationAnswer { id: "1".into(), node: "edge".into(), ..RevocationAnswer::default() };
        let done =
            RevocationAnswer { connections: Some(2), kept_in: Some("bucket".into()), ..answer.clone() };
        let refused = RevocationAnswer { error: Some("no".to_owned()), ..answer };
        for (answer, expected) in [
            (done, r#"{"id":"1","node":"edge","connections":2,"kept_in":"bucket"}"#),
            (refused, r#"{"id":"1","node":"edge","error":"no"}"#),
        ] {
            let json = serde_json::to_string(&answer).unwrap();
            assert_eq!((json.as_str(), serde_json::from_str(&json).ok()), (expected, Some(answer)));
        }
    }
}
