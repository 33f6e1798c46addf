//! Publishes the audit feed on NATS, on one of the shards: in order, and each event until NATS has confirmed it.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::error;

use crate::connection::context::Context;
use crate::nats::error::NatsError;
use crate::node::audit::Audit;
use crate::node::audit::AuditReceiver;
use crate::node::audit::Taken;
use crate::telemetry::limit::LogLimit;

/// Events that are sent before the first of them is confirmed.
const IN_FLIGHT: usize = 256;
/// How long to wait before trying again, unless the connection changes earlier.
const PAUSE: Duration = Duration::from_millis(500);

static NOT_PUBLISHED: LogLimit = LogLimit::every(60, 1);

/// Publishes what is recorded, until the node ends. While NATS is away, the queues fill.
pub(super) async fn publish(context: Rc<Context>, mut receiver: AuditReceiver) {
    let Some(audit) = context.node.audit.as_ref() else { return };
    let (mut number, mut taken) = (0, Vec::new());
    while receiver.take(IN_FLIGHT, &mut taken).await {
        let messages = taken.drain(..).map(|taken| {
            number += 1;
            message(&taken, &context.node.name, number)
        });
        send(&context, audit, messages.collect()).await;
    }
}

/// Sends these messages until each is confirmed. One that NATS refuses for good is lost.
async fn send(context: &Context, audit: &Audit, mut messages: Vec<Bytes>) {
    while !messages.is_empty() {
        let changed = context.nats.changed();
        let results =
            join_all(messages.iter().map(|data| context.nats.publish(audit.subject(), data.clone(), &[])))
                .await;
        let mut left = Vec::new();
        for (data, result) in messages.into_iter().zip(results) {
            match result {
                Ok(()) => audit.published.count(),
                // It may have arrived: its number tells readers that it is the same one.
                Err(
                    NatsError::Disconnected
                    | NatsError::Overloaded
                    | NatsError::ConnectionLost
                    | NatsError::Unconfirmed
                    | NatsError::Timeout,
                ) => left.push(data),
                Err(error) => note_lost(audit, &error),
            }
        }
        messages = left;
        if !messages.is_empty() {
            let _ = timeout(PAUSE, changed).await;
        }
    }
}

fn note_lost(audit: &Audit, error: &NatsError) {
    audit.lost.count();
    if let Some(suppressed) = NOT_PUBLISHED.pass() {
        let subject = audit.subject().as_str();
        error!(
            %error,
            subject,
            suppressed,
            "nats refuses events of the audit feed, and they are lost: let the node's user publish on audit.subject"
        );
    }
}

/// The message of an event: the number and the node come first.
fn message(taken: &Taken, node: &str, number: u64) -> Bytes {
    let node = serde_json::Value::from(node);
    match taken {
        Taken::Event(json) => {
            let start = format!("{{\"number\":{number},\"node\":{node},");
            [start.as_bytes(), json.get(1..).unwrap_or_default()].concat().into()
        }
        Taken::Lost(lost) => {
            format!("{{\"number\":{number},\"node\":{node},\"event\":\"lost\",\"lost\":{lost}}}").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_number_and_the_node() {
        let event = Taken::Event(br#"{"event":"connected","user":"a"}"#.to_vec());
        for (taken, expected) in [
            (event, r#"{"number":7,"node":"n\"1","event":"connected","user":"a"}"#),
            (Taken::Lost(3), r#"{"number":7,"node":"n\"1","event":"lost","lost":3}"#),
        ] {
            assert_eq!(message(&taken, "n\"1", 7), expected);
        }
    }
}
