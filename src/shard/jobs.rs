//! Errands, done. An HTTP call is a session of one message.

use std::rc::Rc;
use std::time::Instant;

use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::Query;
use tidegate_protocol::message::QueryResult;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::phase::Verified;
use tidegate_protocol::subject::Pattern;
use tidegate_vocabulary::http::answer::HttpAnswer;
use tidegate_vocabulary::model::CompiledVocabulary;
use tidegate_vocabulary::statistics::Statistics;

use crate::connection::context::Context;
use crate::connection::orders;
use crate::connection::table::Connections;
use crate::node::callers::Caller;
use crate::shard::cluster::Nodes;
use crate::shard::cluster::values;
use crate::shard::cluster::values::Values;
use crate::shard::job::OneMessage;
use crate::shard::job::ShardJob;

/// Runs it. Whoever asked may have gone; then no one hears of it.
pub(super) async fn run(connections: Rc<Connections>, nodes: Nodes, job: ShardJob) {
    match job {
        ShardJob::Message { message, answer } => {
            let _ = answer.send(answered(&connections.context, &nodes, message).await);
        }
        ShardJob::Statistics { vocabulary, described, with_names, answer } => {
            let _ = answer.send(statistics(&connections, vocabulary, &described, with_names));
        }
    }
}

/// The sessions of a vocabulary, and what has become of its publications.
fn statistics(
    connections: &Connections,
    vocabulary: u16,
    described: &CompiledVocabulary,
    with_names: bool,
) -> Vec<Statistics> {
    let sessions = connections.figures(vocabulary, with_names);
    let mut pieces = Statistics::pieces(&sessions, &described.counted);
    pieces.push(Statistics::default().with(connections.context.tallies.of(vocabulary)));
    pieces
}

/// Lets a session that lives for one message answer it. What it would subscribe to is passed over.
async fn answered(context: &Context, nodes: &Nodes, message: OneMessage) -> Vec<Frame> {
    let OneMessage { identity, caller, dialect, text } = message;
    let now = context.clock.at(Instant::now());
    let (vocabulary, verified) = (dialect.number(), Verified::at(identity, now));
    let (id, settings) = (context.session_id(), Rc::clone(&context.settings));
    let mut session = Session::of_one_message(id, dialect, settings, verified, now);
    session.handle_input(Input::Received(ClientMessage::Text(text)), now);
    let mut frames = Vec::new();
    while let Some(output) = session.poll_output() {
        let input = match output {
            Output::Send { frame, .. } => {
                frames.push(frame);
                continue;
            }
            Output::Publish { request, subject, data, headers } => {
                orders::publish(context, request, &subject, data, &headers).await
            }
            Output::Request { request, subject, data, timeout } => {
                orders::request(context, request, &subject, data, timeout).await
            }
            Output::Query { request, query } => {
                let result = match query {
                    Query::LastValues { channels } => last_values(context, nodes, &channels, caller).await,
                    Query::Statistics { with_names } => figures(context, nodes, vocabulary, with_names).await,
                };
                Input::Queried { request, result }
            }
            Output::Deliver { .. }
            | Output::Ping
            | Output::Authenticate { .. }
            | Output::TrustClientIdentity { .. }
            | Output::Join { .. }
            | Output::Filter { .. }
            | Output::GoLive { .. }
            | Output::Release { .. }
            | Output::Leave { .. } => continue,
            Output::Close { reason, .. } => {
                if frames.is_empty() {
                    frames.extend(HttpAnswer::of_end(&reason));
                }
                continue;
            }
        };
        session.handle_input(input, context.clock.at(Instant::now()));
    }
    frames
}

/// Last values on all nodes. A channel that has no feed here has one from now on.
async fn last_values(
    context: &Context,
    nodes: &Nodes,
    channels: &[Pattern],
    caller: Caller,
) -> Result<QueryResult, ClientError> {
    let busy = || ClientError::new(ErrorCode::TryAgain, "the node has too much to do: try again");
    let away = || {
        ClientError::new(
            ErrorCode::Unavailable,
            "NATS is away, so the last values are not known: try again later",
        )
    };
    let found = values::here(context, channels, true).await.ok_or_else(busy)?;
    let found: Vec<Values> = found.into_iter().collect::<Option<_>>().ok_or_else(away)?;
    let values = nodes.last(found, caller.id()).await.ok_or_else(too_busy)?;
    Ok(QueryResult::LastValues(values))
}

/// Statistics of a vocabulary on all nodes.
async fn figures(
    context: &Context,
    nodes: &Nodes,
    vocabulary: u16,
    with_names: bool,
) -> Result<QueryResult, ClientError> {
    let statistics = nodes.statistics(vocabulary, with_names).await.ok_or_else(too_busy)?;
    let described = context.node.vocabularies.get(vocabulary);
    let counted = described.map_or(&[][..], |described| &described.counted);
    Ok(QueryResult::Statistics(statistics.to_json(counted).to_string().into()))
}

fn too_busy() -> ClientError {
    ClientError::new(ErrorCode::TryAgain, "this node has too much to do: try again")
}
