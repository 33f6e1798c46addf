//! Answers the requests of other nodes. Statistics are computed at most a few times a second, however many nodes ask. A
//! request that has waited too long is dropped, because its node has stopped waiting for the answer.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::join3;
use tidegate_protocol::session::checks;
use tidegate_protocol::subject::Pattern;
use tidegate_vocabulary::statistics::Statistics;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::debug;
use tracing::warn;

use crate::connection::context::Context;
use crate::nats::scatter_gather::Query;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::cluster::local_node::SUBJECT;
use crate::shard::cluster::peer_request;
use crate::shard::cluster::peer_request::AnswerPart;
use crate::shard::cluster::peer_request::PeerQuery;
use crate::shard::cluster::peer_request::PeerRequest;
use crate::shard::cluster::peer_request::StatisticsQuery;
use crate::shard::cluster::replacements;
use crate::shard::cluster::values;

/// Requests of each kind that may wait. Others are dropped.
const WAITING: usize = 1024;
/// A request older than this is dropped.
const TOO_LATE: Duration = Duration::from_millis(900);
/// The pause between two computations of statistics.
const PAUSE: Duration = Duration::from_millis(50);

/// A request of another node, and when it was received.
struct PendingRequest<T> {
    received: Instant,
    request: Query,
    what: T,
}

/// Answers requests until the connection to NATS ends.
pub(super) async fn answer(context: &Context, local: &LocalNode) {
    let (statistics, statistics_requests) = mpsc::channel(WAITING);
    let (values, values_requests) = mpsc::channel(WAITING);
    let listen = async {
        let subject = match Pattern::parse(SUBJECT) {
            Ok(subject) => subject,
            Err(error) => return warn!(%error, "cannot subscribe to the requests of other nodes"),
        };
        let mut requests = context.nats.responder(subject);
        while let Some(request) = requests.next().await {
            let received = Instant::now();
            let has_room = match PeerRequest::decode(&request.data) {
                Some(PeerRequest { from, .. }) if from == local.id => true,
                Some(PeerRequest { what: PeerQuery::Statistics(what), .. }) => {
                    statistics.try_send(PendingRequest { received, request, what }).is_ok()
                }
                Some(PeerRequest { what: PeerQuery::Values { channels: what }, .. }) => {
                    values.try_send(PendingRequest { received, request, what }).is_ok()
                }
                Some(PeerRequest { what: PeerQuery::Replaced(connections), from }) => {
                    replacements::on_announced(context, &from, &connections);
                    true
                }
                None => {
                    debug!("ignoring an unknown request of another node");
                    true
                }
            };
            if !has_room {
                debug!("dropping a request of another node: too many wait");
            }
        }
    };
    join3(
        listen,
        with_statistics(context, local, statistics_requests),
        with_values(context, local, values_requests),
    )
    .await;
}

async fn with_statistics(
    context: &Context,
    local: &LocalNode,
    mut requested: mpsc::Receiver<PendingRequest<StatisticsQuery>>,
) {
    let mut waiting = Vec::new();
    while requested.recv_many(&mut waiting, WAITING).await > 0 {
        let mut by_query: BTreeMap<StatisticsQuery, Vec<Query>> = BTreeMap::new();
        for PendingRequest { received, request, what } in waiting.drain(..) {
            if received.elapsed() < TOO_LATE {
                by_query.entry(what).or_default().push(request);
            }
        }
        for (query, requests) in by_query {
            // Without an answer, the other node counts this one as gone for a moment.
            let (vocabularies, counts) = (context.node.current_vocabularies.get(), &context.node.counts);
            let pieces = local.pieces(&vocabularies, &counts.refused_by_vocabulary, &query).await;
            let Some(pieces) = pieces else {
                continue;
            };
            let part =
                |piece: Statistics| AnswerPart { data: piece.encode().into(), ..AnswerPart::default() };
            let parts: Vec<_> = pieces.into_iter().map(part).collect();
            for request in requests {
                peer_request::answer(&local.id, &request, &parts);
            }
        }
        sleep(PAUSE).await;
    }
}

async fn with_values(
    context: &Context,
    local: &LocalNode,
    mut requested: mpsc::Receiver<PendingRequest<Vec<Box<str>>>>,
) {
    while let Some(PendingRequest { received, request, what: channels }) = requested.recv().await {
        let settings = context.settings();
        let patterns = channels.iter().map(|channel| checks::pattern(&settings.session, channel));
        if received.elapsed() < TOO_LATE
            && let Ok(patterns) = patterns.collect::<Result<Vec<_>, _>>()
            && let Some(found) = values::local(context, &patterns, false).await
        {
            let found: Vec<_> = found.into_iter().flatten().collect();
            peer_request::answer(&local.id, &request, &values::answer_parts(&found));
        }
    }
}
