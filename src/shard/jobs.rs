//! Runs [`ShardJob`]s. An HTTP call is a session of one message.

use std::rc::Rc;
use std::time::Instant;

use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::VocabularyId;
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
use crate::connection::table::Connections;
use crate::connection::upstream;
use crate::node::call_limiter::Caller;
use crate::shard::cluster::Cluster;
use crate::shard::cluster::values;
use crate::shard::cluster::values::Values;
use crate::shard::job::OneMessage;
use crate::shard::job::ShardJob;

/// Runs a job. If the caller has gone in the meantime, the answer is dropped.
pub(super) async fn run(connections: Rc<Connections>, cluster: Cluster, job: ShardJob) {
    match job {
        ShardJob::Message { message, answer } => {
            let _ = answer.send(answer_message(&connections.context, &cluster, message).await);
        }
        ShardJob::Statistics { id, vocabulary, with_names, answer } => {
            let _ = answer.send(statistics(&connections, id, &vocabulary, with_names));
        }
    }
}

/// Statistics of the sessions of a vocabulary, and of its publications.
fn statistics(
    connections: &Connections,
    id: VocabularyId,
    vocabulary: &CompiledVocabulary,
    with_names: bool,
) -> Vec<Statistics> {
    let sessions = connections.session_stats(id, with_names);
    let mut pieces = Statistics::pieces(&sessions, &vocabulary.counted);
    pieces.push(Statistics::default().with(connections.context.delivery_totals.of(id)));
    pieces
}

/// Creates a session for one message and returns the frames that it sends. It cannot subscribe.
async fn answer_message(context: &Context, cluster: &Cluster, message: OneMessage) -> Vec<Frame> {
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
                upstream::publish(context, request, &subject, data, &headers).await
            }
            Output::Request { request, subject, data, timeout } => {
                upstream::request(context, request, &subject, data, timeout).await
            }
            Output::Query { request, query } => {
                let result = match query {
                    Query::LastValues { channels } => last_values(context, cluster, &channels, caller).await,
                    Query::Statistics { with_names } => {
                        cluster_statistics(context, cluster, vocabulary, with_names).await
                    }
                };
                Input::Queried { request, result }
            }
            Output::Deliver { .. }
            | Output::DeliverSnapshot { .. }
            | Output::Ping
            | Output::Authenticate { .. }
            | Output::TrustIdentity { .. }
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

/// The last values of channels on all nodes. A channel without a feed on this node gets one.
async fn last_values(
    context: &Context,
    cluster: &Cluster,
    channels: &[Pattern],
    caller: Caller,
) -> Result<QueryResult, ClientError> {
    let unavailable = || {
        ClientError::new(
            ErrorCode::Unavailable,
            "the node is not connected to NATS, so it does not know the last values: try again later",
        )
    };
    let found = values::local(context, channels, true).await.ok_or_else(overloaded)?;
    let found: Vec<Values> = found.into_iter().collect::<Option<_>>().ok_or_else(unavailable)?;
    let values = cluster.last_values(found, caller.id()).await.ok_or_else(overloaded)?;
    Ok(QueryResult::LastValues(values))
}

/// The statistics of a vocabulary on all nodes.
async fn cluster_statistics(
    context: &Context,
    cluster: &Cluster,
    vocabulary: VocabularyId,
    with_names: bool,
) -> Result<QueryResult, ClientError> {
    let statistics = cluster.statistics(vocabulary, with_names).await.ok_or_else(overloaded)?;
    let vocabulary = context.node.vocabularies.get(vocabulary);
    let counted = vocabulary.map_or(&[][..], |vocabulary| &vocabulary.counted);
    Ok(QueryResult::Statistics(statistics.to_json(counted).to_string().into()))
}

fn overloaded() -> ClientError {
    ClientError::new(ErrorCode::TryAgain, "this node is overloaded: try again later")
}
