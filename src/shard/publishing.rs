//! Publishes the messages of an HTTP call. Each message is the one message of a session, which checks it; the shard then
//! sends all of them in order, and waits for their outcomes together.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::join_all;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::native::publish_call::PublishCall;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::phase::Verified;
use tidegate_protocol::subject::Subject;
use tidegate_vocabulary::http::answer::HttpAnswer;

use crate::connection::auditing::CallRecord;
use crate::connection::auditing::note_call;
use crate::connection::auditing::note_published_by_call;
use crate::connection::client_error::client_error;
use crate::connection::context::Context;
use crate::connection::sending::Sending;
use crate::nats::error::NatsError;
use crate::nats::stored_publish::SentMessage;
use crate::shard::job::PublishError;
use crate::shard::job::PublishMessages;
use crate::shard::job::PublishResult;
use crate::shard::stretch::Stretch;
use crate::telemetry::spans::SpanKind;

/// A message that its session has allowed.
struct AllowedMessage {
    subject: Subject,
    data: Bytes,
    headers: Vec<(String, String)>,
}

/// A message that was passed to NATS, or an error if it was not.
struct Sent {
    message: Result<SentMessage, NatsError>,
    sending: Sending,
}

/// Publishes the messages, each at most once, and returns the result of each. If the caller goes before they are sent, none
/// is.
pub(super) async fn publish(context: &Context, call: PublishMessages) -> Vec<PublishResult> {
    let (mut checked, mut stretch) = (Vec::with_capacity(call.messages.len()), Stretch::default());
    for (dialect, text) in call.messages {
        checked.push(allowed(context, &call.record, dialect, text));
        stretch.step().await;
    }
    let subjects: HashSet<Subject> =
        checked.iter().flatten().map(|message| message.subject.clone()).collect();
    let asked = subjects.into_iter().map(|subject| async move {
        let storage = context.nats.storage_of(&subject).await;
        (subject, storage.map_err(|error| client_error(&error)))
    });
    let storage: HashMap<_, _> = join_all(asked).await.into_iter().collect();
    let send = |AllowedMessage { subject, data, mut headers }| {
        let storage = storage.get(&subject).cloned().unwrap_or_else(|| Err(internal()));
        let storage = storage.map_err(PublishError::Refused)?;
        note_published_by_call(context, &call.record, &subject, data.len());
        let sending = Sending::begin(context, SpanKind::Publish, &subject, &mut headers, call.trace.as_ref());
        Ok(Sent { message: context.nats.send_to(storage, subject, &data, &headers), sending })
    };
    // All are sent before the first outcome is awaited, so that they keep their order and wait together.
    let sent: Vec<Result<Sent, PublishError>> =
        checked.into_iter().map(|message| message.map_err(PublishError::Refused).and_then(send)).collect();
    let time_limit = context.nats.time_limit();
    let outcomes = sent.into_iter().map(|sent| async move {
        let Sent { message, sending } = sent?;
        let outcome = match message {
            Ok(message) => message.outcome(time_limit).await,
            Err(error) => Err(error),
        };
        sending.end(&outcome);
        outcome.map_err(outcome_error)
    });
    join_all(outcomes).await
}

/// The message, if its session allows it.
fn allowed(
    context: &Context,
    record: &CallRecord,
    dialect: PublishCall,
    text: String,
) -> Result<AllowedMessage, ClientError> {
    let now = context.clock.at(Instant::now());
    let (id, settings) = (context.new_call_id(), Arc::clone(&context.settings().session));
    let verified = Verified::at(Arc::clone(&record.identity), now);
    let mut session = Session::of_one_message(id, Arc::new(dialect), settings, verified, now);
    session.handle_input(Input::Received(ClientMessage::Text(text)), now);
    let mut frames: Vec<Frame> = Vec::new();
    while let Some(output) = session.poll_output() {
        // A message that only publishes needs nothing done for the other outputs.
        if let Output::Publish { subject, data, headers, .. } = output {
            return Ok(AllowedMessage { subject, data, headers });
        }
        note_call(context, VocabularyId::NATIVE, record, &output);
        if let Output::Send { frame, .. } = output {
            frames.push(frame);
        } else if let Output::Close { reason, .. } = output
            && frames.is_empty()
        {
            frames.extend(HttpAnswer::of_end(&reason));
        }
    }
    match HttpAnswer::of(&frames) {
        HttpAnswer::Refused(error) => Err(error),
        HttpAnswer::Status(_) | HttpAnswer::Json(..) | HttpAnswer::NoValue => Err(internal()),
    }
}

fn internal() -> ClientError {
    ClientError::new(ErrorCode::TryAgain, "this node could not process the message: try again")
}

fn outcome_error(error: NatsError) -> PublishError {
    match error {
        NatsError::Unconfirmed | NatsError::ConnectionLost | NatsError::Timeout => {
            PublishError::Unknown(error.to_string())
        }
        NatsError::NotStored(_) => PublishError::NotStored(error.to_string()),
        NatsError::NeverStored(_) => PublishError::NeverStored(error.to_string()),
        NatsError::Disconnected
        | NatsError::Overloaded
        | NatsError::NoInbox
        | NatsError::InvalidInboxPrefix
        | NatsError::Credentials { .. }
        | NatsError::StorageUnknown(_)
        | NatsError::StreamAway
        | NatsError::NoResponders
        | NatsError::Service(_)
        | NatsError::Denied
        | NatsError::TooLarge { .. }
        | NatsError::Refused(_) => PublishError::Refused(client_error(&error)),
    }
}
