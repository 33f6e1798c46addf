//! Errand: what an HTTP call asks of a shard. What a client may not do by a message it may not do by a call either.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::error::Refusal;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::checks;
use tidegate_protocol::websocket::Event;
use tidegate_vocabulary::model::Described;
use tidegate_vocabulary::statistics::Statistics;
use tokio::sync::oneshot;

use crate::connection::ask;
use crate::connection::context::Context;
use crate::connection::refusal;
use crate::connection::table::Connections;
use crate::connection::verified;
use crate::shard::nodes::values;
use crate::shard::nodes::values::Values;

/// What is asked, and where the answer goes.
#[derive(Debug)]
pub enum Errand {
    /// Put a message on a subject.
    Publish {
        identity: Arc<Identity>,
        channel: String,
        data: Bytes,
        headers: Vec<(String, String)>,
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    /// The same, and wait for one answer.
    Request {
        identity: Arc<Identity>,
        channel: String,
        data: Bytes,
        timeout: Option<Duration>,
        answer: oneshot::Sender<Result<Payload, Refusal>>,
    },
    /// The last values of channels, as far as this node knows them. A channel that has no feed has one from now on.
    Last {
        identity: Arc<Identity>,
        channels: Vec<String>,
        answer: oneshot::Sender<Result<Vec<Values>, Refusal>>,
    },
    /// Statistics of a vocabulary here, in pieces.
    Statistics {
        vocabulary: u16,
        described: Arc<Described>,
        with_names: bool,
        answer: oneshot::Sender<Vec<Statistics>>,
    },
    /// What a session would say to this message.
    Receive {
        identity: Arc<Identity>,
        dialect: Arc<dyn Dialect>,
        text: String,
        answer: oneshot::Sender<Vec<Frame>>,
    },
}

/// Runs it. Whoever asked may have gone; then nobody hears of it.
pub async fn run(connections: Rc<Connections>, errand: Errand) {
    let context = &connections.context;
    match errand {
        Errand::Publish { identity, channel, data, headers, answer } => {
            let _ = answer.send(publish(context, &identity, &channel, data, headers).await);
        }
        Errand::Request { identity, channel, data, timeout, answer } => {
            let _ = answer.send(request(context, &identity, &channel, data, timeout).await);
        }
        Errand::Last { identity, channels, answer } => {
            let _ = answer.send(last(context, &identity, &channels).await);
        }
        Errand::Statistics { vocabulary, described, with_names, answer } => {
            let _ = answer.send(statistics(&connections, vocabulary, &described, with_names));
        }
        Errand::Receive { identity, dialect, text, answer } => {
            let _ = answer.send(receive(context, identity, dialect, text).await);
        }
    }
}

/// The sessions of a vocabulary, and what has become of its publications.
fn statistics(
    connections: &Connections,
    vocabulary: u16,
    described: &Described,
    with_names: bool,
) -> Vec<Statistics> {
    let sessions = connections.figures(vocabulary, with_names);
    let mut pieces = Statistics::pieces(&sessions, &described.counted);
    pieces.push(Statistics::default().with(connections.context.tallies.of(vocabulary)));
    pieces
}

async fn publish(
    context: &Context,
    identity: &Identity,
    channel: &str,
    data: Bytes,
    headers: Vec<(String, String)>,
) -> Result<(), Refusal> {
    let headers = checks::headers(identity, headers)?;
    let permissions = &identity.permissions;
    let subject = checks::writable(&context.settings, permissions, Operation::Publish, channel, &data)?;
    context.nats.publish(&subject, data, &headers).await.map_err(|error| refusal(&error))
}

async fn request(
    context: &Context,
    identity: &Identity,
    channel: &str,
    data: Bytes,
    timeout: Option<Duration>,
) -> Result<Payload, Refusal> {
    let settings = &context.settings;
    let subject = checks::writable(settings, &identity.permissions, Operation::Request, channel, &data)?;
    let timeout = timeout.unwrap_or(settings.request_timeout).min(settings.request_timeout_max);
    ask(context, &subject, data, timeout).await
}

async fn last(context: &Context, identity: &Identity, channels: &[String]) -> Result<Vec<Values>, Refusal> {
    if channels.len() > context.settings.max_subscriptions {
        let words = format!("at most {} channels at once", context.settings.max_subscriptions);
        return Err(Refusal::new(ErrorCode::LimitExceeded, words));
    }
    let mut patterns = Vec::new();
    for channel in channels {
        let pattern = checks::pattern(&context.settings, channel)?;
        checks::permit(&identity.permissions, Operation::Subscribe, &pattern)?;
        patterns.push(pattern);
    }
    let busy = || Refusal::new(ErrorCode::TryAgain, "the node has too much to do: try again");
    let away = || {
        Refusal::new(
            ErrorCode::Unavailable,
            "NATS is away, so the last values are not known: try again later",
        )
    };
    let found = values::here(context, &patterns, true).await.ok_or_else(busy)?;
    found.into_iter().map(|values| values.ok_or_else(away)).collect()
}

/// Lets a session that lives for one message answer it. What it would subscribe to is passed over.
async fn receive(
    context: &Context,
    identity: Arc<Identity>,
    dialect: Arc<dyn Dialect>,
    text: String,
) -> Vec<Frame> {
    let now = Instant::now();
    let (id, settings) = (context.session_id(), Rc::clone(&context.settings));
    let (identity, at) = (verified(identity, now), context.clock.at(now));
    let mut session = Session::of_one_message(id, dialect, settings, identity, at);
    session.handle_input(Input::Received(Event::Text(text)), at);
    let mut frames = Vec::new();
    while let Some(output) = session.poll_output() {
        let input = match output {
            Output::Send { frame, .. } => {
                frames.push(frame);
                continue;
            }
            Output::Publish { request, subject, data, headers } => {
                let result = context.nats.publish(&subject, data, &headers).await;
                Input::Published { request, result: result.map_err(|error| refusal(&error)) }
            }
            Output::Request { request, subject, data, timeout } => {
                Input::Replied { request, result: ask(context, &subject, data, timeout).await }
            }
            Output::Deliver { .. }
            | Output::Ping
            | Output::Authenticate { .. }
            | Output::Believe { .. }
            | Output::Join { .. }
            | Output::Filter { .. }
            | Output::GoLive { .. }
            | Output::Release { .. }
            | Output::Leave { .. }
            | Output::Close { .. } => continue,
        };
        session.handle_input(input, context.clock.at(Instant::now()));
    }
    frames
}
