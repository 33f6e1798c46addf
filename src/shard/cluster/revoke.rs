//! Sends the revocation of an operator to all nodes, this one too.

use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;

use crate::auth::revocation::message;
use crate::auth::revocation::message::RevocationMessage;
use crate::connection::context::Context;
use crate::connection::upstream::client_error;
use crate::shard::job::Revoked;

/// How long to wait for the first node, and then for the others.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
const OTHER_ANSWERS: Duration = Duration::from_millis(500);

/// The answer of a node: see `shard/cluster/revocations.rs`.
#[derive(Debug, Deserialize)]
struct NodeAnswer {
    connections: Option<usize>,
    error: Option<String>,
}

/// Revokes on all nodes, and counts their answers.
pub(super) async fn revoke(context: &Context, message: &RevocationMessage) -> Result<Revoked, ClientError> {
    let sent = context.nats.scatter_gather(message::SUBJECT, message.to_json().as_bytes());
    let mut answers = sent.map_err(|error| client_error(&error))?;
    let (mut revoked, mut wait, mut began) = (Revoked::default(), FIRST_ANSWER, Instant::now());
    while let Some(answer) = answers.next(wait.saturating_sub(began.elapsed())).await {
        let Ok(answer) = serde_json::from_slice::<NodeAnswer>(&answer.data()) else { continue };
        if let Some(error) = answer.error {
            return Err(ClientError::new(ErrorCode::BadRequest, error));
        }
        if revoked.nodes == 0 {
            (wait, began) = (OTHER_ANSWERS, Instant::now());
        }
        revoked.nodes += 1;
        revoked.connections += answer.connections.unwrap_or_default();
    }
    if revoked.nodes == 0 {
        let message = "no node has answered, so the outcome is unknown: revoke again, which does no harm";
        return Err(ClientError::new(ErrorCode::Unavailable, message));
    }
    Ok(revoked)
}
