//! Runs [`ShardJob`]s. An HTTP call is a session of one message.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::message::Query;
use tidegate_protocol::message::QueryResult;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::phase::Verified;
use tidegate_vocabulary::http::answer::HttpAnswer;
use tidegate_vocabulary::model::CompiledVocabulary;
use tidegate_vocabulary::statistics::Statistics;
use tokio::sync::oneshot;

use crate::connection::auditing;
use crate::connection::context::Context;
use crate::connection::delivery_totals::VocabularyTotals;
use crate::connection::report::ConnectionFilter;
use crate::connection::report::ConnectionList;
use crate::connection::table::Connections;
use crate::connection::upstream;
use crate::connection::user_change::UserChange;
use crate::shard::channels;
use crate::shard::cluster::Cluster;
use crate::shard::events;
use crate::shard::job::CallAnswer;
use crate::shard::job::ConnectionDetails;
use crate::shard::job::OneMessage;
use crate::shard::job::RuntimeReport;
use crate::shard::job::SessionDetails;
use crate::shard::job::ShardJob;
use crate::shard::job::ShardReport;
use crate::shard::last_values::LastValuesCall;
use crate::shard::last_values::overloaded;
use crate::shard::publishing;
use crate::shard::stretch::Stretch;

/// The channels of a connection that are compared with a filter in the time of one other step.
const CHANNELS_IN_A_STEP: usize = 32;

/// Runs a job. If the caller has gone in the meantime, the answer is dropped.
pub(super) async fn run(connections: Rc<Connections>, cluster: Cluster, job: ShardJob) {
    match job {
        ShardJob::Message { message, mut answer } => {
            let answered = answer_message(&connections.context, &cluster, *message, &mut answer).await;
            if let Some(answered) = answered {
                let _ = answer.send(answered);
            }
        }
        ShardJob::Publish { call, mut answer } => {
            let published = publishing::publish(&connections.context, *call);
            if let Some(results) = for_caller(&mut answer, published).await {
                let _ = answer.send(results);
            }
        }
        ShardJob::Statistics { versions, vocabulary, with_names, answer } => {
            let _ = answer.send(statistics(&connections, &versions, &vocabulary, with_names));
        }
        ShardJob::CheckRevocations { answer } => {
            let _ = answer.send(check_revocations(&connections).await);
        }
        ShardJob::ChangeLocalSessions { change, answer } => {
            let _ = answer.send(change_sessions(&connections, &change).await);
        }
        ShardJob::ChangeUser { change, by, answer } => {
            let _ = answer.send(cluster.change_user(change, by).await);
        }
        ShardJob::Revoke { message, by, answer } => {
            let _ = answer.send(cluster.revoke(message, by).await);
        }
        ShardJob::ListConnections { filter, most, answer } => {
            let _ = answer.send(list_connections(&connections, &filter, most).await);
        }
        ShardJob::DescribeSession { session, answer } => {
            let _ = answer.send(describe_session(&connections, &session).await);
        }
        ShardJob::ListEvents { filter, most, answer } => {
            let _ = answer.send(events::list(&connections, &filter, most).await);
        }
        ShardJob::ListChannels { filter, most, answer } => {
            let _ = answer.send(channels::list(&connections.context, &filter, most).await);
        }
        ShardJob::CountSubscriptions { channels, answer } => {
            let _ = answer.send(channels::count(&connections.context, &channels).await);
        }
        ShardJob::Count { answer } => {
            let _ = answer.send(report(&connections.context));
        }
    }
}

/// What the shard and its lane have counted.
fn report(context: &Context) -> ShardReport {
    ShardReport {
        counts: context.counts.report(),
        subscriptions: context.hub.borrow().subscriptions(),
        lane: context.lane_counts.report(),
        runtime: runtime_report(context),
    }
}

/// What the runtime of this thread has counted. It has one worker: this thread.
fn runtime_report(context: &Context) -> RuntimeReport {
    let metrics = tokio::runtime::Handle::current().metrics();
    RuntimeReport {
        // The runtime does not count tasks that may not move to another thread.
        tasks: context.tasks.len() as u64,
        busy: metrics.worker_total_busy_duration(0),
        parks: metrics.worker_park_count(0),
    }
}

/// The connections that a filter selects: all are counted, and those with the most queued bytes are reported.
async fn list_connections(
    connections: &Connections,
    filter: &ConnectionFilter,
    most: usize,
) -> ConnectionList {
    let (mut matching, mut stretch) = (0, Stretch::default());
    // The least queued bytes are on top.
    let mut worst: BinaryHeap<Reverse<(usize, usize)>> = BinaryHeap::new();
    let all = connections.all();
    for (at, connection) in all.iter().enumerate() {
        stretch.step().await;
        if filter.channel.is_some() {
            stretch.steps(connection.subscriber.member_count() / CHANNELS_IN_A_STEP).await;
        }
        if connection.matches(filter) {
            matching += 1;
            worst.push(Reverse((connection.queued_bytes(), at)));
            if worst.len() > most {
                worst.pop();
            }
        }
    }
    let (mut reports, now) = (Vec::new(), connections.context.clock.at(Instant::now()));
    for connection in worst.into_sorted_vec().into_iter().filter_map(|Reverse((_, at))| all.get(at)) {
        stretch.step().await;
        reports.push(connection.report(now));
    }
    ConnectionList { matching, worst: reports }
}

/// What is known of a session. The history is newer than the rest, so that the end of a connection is in one of them.
async fn describe_session(connections: &Connections, session: &str) -> SessionDetails {
    let (mut connection, mut stretch) = (None, Stretch::default());
    for open in connections.all() {
        stretch.step().await;
        if open.has_session(session) {
            let report = open.report(connections.context.clock.at(Instant::now()));
            connection = Some(ConnectionDetails { report, channels: open.channels() });
            break;
        }
    }
    SessionDetails { connection, history: events::history(&connections.context, session).await }
}

/// Checks all connections against the node's revocations. Those that start meanwhile check themselves.
async fn check_revocations(connections: &Connections) -> usize {
    let (mut changed, mut stretch) = (0, Stretch::default());
    for connection in connections.all() {
        stretch.step().await;
        changed += usize::from(connection.check_revocations(Instant::now()));
    }
    changed
}

/// Changes the sessions of a user. Those that start meanwhile stay as they are.
async fn change_sessions(connections: &Connections, change: &UserChange) -> usize {
    let (mut changed, mut stretch) = (0, Stretch::default());
    for connection in connections.all() {
        stretch.step().await;
        changed += usize::from(connection.change(change, Instant::now()));
    }
    changed
}

/// Statistics of the sessions of all versions of a vocabulary, and of their publications.
fn statistics(
    connections: &Connections,
    versions: &[VocabularyId],
    vocabulary: &CompiledVocabulary,
    with_names: bool,
) -> Vec<Statistics> {
    let sessions = connections.session_stats(versions, with_names);
    let mut pieces = Statistics::pieces(&sessions, &vocabulary.counted);
    let totals = &connections.context.delivery_totals;
    pieces.extend(versions.iter().map(|id| {
        let VocabularyTotals { delivery_counts, errors } = totals.of(*id);
        Statistics::default().with(delivery_counts).with_errors(errors)
    }));
    pieces.push(Statistics::default().with_latencies(connections.context.counts.latencies()));
    pieces
}

/// Creates a session for one message and returns the frames that it sends. It cannot subscribe. Returns `None` if the
/// caller has gone while it waited: a call does not outlive its caller. What it publishes or requests is sent all the
/// same.
async fn answer_message(
    context: &Context,
    cluster: &Cluster,
    message: OneMessage,
    answer: &mut oneshot::Sender<CallAnswer>,
) -> Option<CallAnswer> {
    let OneMessage { reader, record, caller, mut held, dialect, text, trace } = message;
    let (identity, now) = (Arc::clone(&reader.identity), context.clock.at(Instant::now()));
    let vocabulary = dialect.number();
    let verified = Verified::at(identity, now);
    let (id, settings) = (context.new_call_id(), Arc::clone(&context.settings().session));
    let mut session = Session::of_one_message(id, dialect, settings, verified, now);
    session.handle_input(Input::Received(ClientMessage::Text(text)), now);
    let (mut frames, mut limited) = (Vec::new(), None);
    while let Some(output) = session.poll_output() {
        auditing::note_call(context, vocabulary, &record, &output);
        let input = match output {
            Output::Send { frame, .. } => {
                frames.push(frame);
                continue;
            }
            Output::Publish { request, subject, data, headers } => {
                let published =
                    upstream::publish(context, request, &subject, (data, headers), trace.as_ref());
                for_caller(answer, published).await?
            }
            Output::Request { request, subject, data, headers, timeout } => {
                let message = (data, headers);
                let replied = upstream::request(context, request, &subject, message, timeout, trace.as_ref());
                for_caller(answer, replied).await?
            }
            Output::Query { request, query } => {
                let result = match query {
                    Query::LastValues { channels } => {
                        let (reader, record, channels) = (&reader, &record, &*channels);
                        let read =
                            LastValuesCall { context, cluster, vocabulary, channels, reader, record, caller };
                        let result = for_caller(answer, read.answer(&mut held)).await?;
                        result.map(QueryResult::LastValues).map_err(|refusal| {
                            limited = refusal.limited;
                            refusal.error
                        })
                    }
                    Query::Statistics { with_names } => {
                        for_caller(answer, cluster_statistics(context, cluster, vocabulary, with_names))
                            .await?
                    }
                };
                Input::Queried { request, result }
            }
            Output::Denied(_)
            | Output::Refused(_)
            | Output::Deliver { .. }
            | Output::DeliverSnapshot { .. }
            | Output::Ping
            | Output::Authenticate { .. }
            | Output::TrustIdentity { .. }
            | Output::Join { .. }
            | Output::Recover { .. }
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
    // What has been done is answered, whether there is room or not; the next calls of the caller are refused.
    held.set(frames.iter().map(Frame::len).sum());
    Some(CallAnswer { frames, held, limited })
}

/// Waits for the result of this work, which is begun in any case. `None` if the caller goes first.
async fn for_caller<T, A>(answer: &mut oneshot::Sender<A>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        result = work => Some(result),
        () = answer.closed() => None,
    }
}

/// The statistics of a vocabulary on all nodes.
async fn cluster_statistics(
    context: &Context,
    cluster: &Cluster,
    vocabulary: VocabularyId,
    with_names: bool,
) -> Result<QueryResult, ClientError> {
    let statistics = cluster.statistics(vocabulary, with_names).await.ok_or_else(overloaded)?;
    let vocabulary = context.node.current_vocabularies.get().get(vocabulary);
    let counted = vocabulary.as_ref().map_or(&[][..], |vocabulary| &vocabulary.counted);
    Ok(QueryResult::Statistics(statistics.to_json(counted).to_string().into()))
}
