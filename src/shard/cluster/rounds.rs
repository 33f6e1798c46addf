//! Sends requests to other nodes in rounds: one request of each kind at a time serves all calls that wait. A call is
//! answered by a request that was sent after it arrived, so its answer is never older than the call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use futures_util::future::join_all;
use tidegate_vocabulary::statistics::Statistics;
use tidegate_vocabulary::vocabularies::Vocabularies;
use tokio::sync::mpsc;
use tracing::debug;
use tracing::warn;

use crate::connection::context::Context;
use crate::nats::error::NatsError;
use crate::nats::scatter_gather::PeerReply;
use crate::shard::cluster::calls::CALLS;
use crate::shard::cluster::calls::StatisticsCall;
use crate::shard::cluster::calls::ValuesCall;
use crate::shard::cluster::fair_queue::FairQueue;
use crate::shard::cluster::gather::NodeAnswer;
use crate::shard::cluster::gather::Patience;
use crate::shard::cluster::gather::ReplyPart;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::cluster::local_node::SUBJECT;
use crate::shard::cluster::peer_request::PeerQuery;
use crate::shard::cluster::peer_request::PeerRequest;
use crate::shard::cluster::peer_request::StatisticsQuery;
use crate::shard::cluster::peer_request::origin;
use crate::shard::cluster::values::Values;
use crate::telemetry::limit::LogLimit;

/// How long to wait for answers.
const PATIENCE: Patience = Patience { known: Duration::from_secs(1), unknown: Duration::from_millis(250) };
/// Channels in one request, unless a single call has more.
const CHANNELS: usize = 2000;

/// Serves calls for statistics: all that wait, in one round.
pub(super) async fn of_statistics(
    context: &Context,
    local: &LocalNode,
    mut calls: mpsc::Receiver<StatisticsCall>,
) {
    let mut waiting = Vec::new();
    while calls.recv_many(&mut waiting, CALLS).await > 0 {
        let mut rounds: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let vocabularies = &*context.node.current_vocabularies.get();
        for StatisticsCall { vocabulary: id, with_names, answer } in waiting.drain(..) {
            let place = vocabularies.place_of(id);
            if let Some((place, (_, vocabulary))) = place.and_then(|at| Some((at, vocabularies.at(at)?))) {
                let (place, name) = (place.0, vocabulary.name.clone());
                let query = StatisticsQuery { vocabulary: place, name, with_names };
                rounds.entry(query).or_default().push(answer);
            }
        }
        join_all(rounds.into_iter().map(|(query, callers)| async move {
            let Some(statistics) = statistics(context, local, vocabularies, query).await else { return };
            let statistics = Arc::new(statistics);
            for caller in callers {
                // An error means that the caller has gone.
                let _ = caller.send(Arc::clone(&statistics));
            }
        }))
        .await;
    }
}

static UNREADABLE: LogLimit = LogLimit::per_second(1);

/// Statistics of all nodes. `None` if this node is overloaded.
async fn statistics(
    context: &Context,
    local: &LocalNode,
    vocabularies: &Vocabularies,
    query: StatisticsQuery,
) -> Option<Statistics> {
    let mut all = Statistics::default();
    let requested = ask(context, local, PeerQuery::Statistics(query.clone()), |piece, _| {
        // The answer of a node without this vocabulary is empty.
        let data = piece.data();
        if !data.is_empty() {
            match Statistics::decode(&data) {
                Some(piece) => all.add(piece),
                None => {
                    if let Some(suppressed) = UNREADABLE.pass() {
                        warn!(
                            suppressed,
                            "ignoring unreadable statistics of another node: run the same version on all nodes"
                        );
                    }
                }
            }
        }
        true
    });
    let refused = &context.node.counts.refused_by_vocabulary;
    let (requested, pieces) = join(requested, local.pieces(vocabularies, refused, &query)).await;
    if let Err(error) = requested {
        debug!(%error, "cannot ask other nodes: answering with statistics of this node alone");
    }
    pieces?.into_iter().for_each(|piece| all.add(piece));
    Some(all)
}

/// Serves calls for last values: as many in one round as fit into a request, in a fair order.
pub(super) async fn of_values(context: &Context, local: &LocalNode, mut calls: mpsc::Receiver<ValuesCall>) {
    let mut queue = FairQueue::new(CALLS);
    loop {
        if queue.is_empty() {
            let Some(call) = calls.recv().await else { return };
            queue.push(call.caller, call);
        }
        while let Ok(call) = calls.try_recv() {
            queue.push(call.caller, call);
        }
        let (mut found, mut callers) = (BTreeMap::new(), Vec::new());
        while let Some(ValuesCall { channels, answer, .. }) =
            queue.pop(|call| found.is_empty() || found.len() + call.channels.len() <= CHANNELS)
        {
            found.extend(channels.into_iter().map(|channel| (channel.as_str().into(), Values::new(channel))));
            callers.push(answer);
        }
        let what = PeerQuery::Values { channels: found.keys().cloned().collect() };
        let requested = ask(context, local, what, |answer, is_last| {
            Values::insert_answer(&mut found, answer);
            !is_last || found.values().any(|values| !values.is_complete())
        });
        if let Err(error) = requested.await {
            debug!(%error, "cannot ask other nodes: answering with last values of this node alone");
        }
        let found = Arc::new(found);
        for caller in callers {
            // An error means that the caller has gone.
            let _ = caller.send(Arc::clone(&found));
        }
    }
}

/// Sends a request to all nodes. Calls `take` with each part of an answer, and with whether it is the last part of its
/// node. `take` returns false to stop.
async fn ask(
    context: &Context,
    local: &LocalNode,
    what: PeerQuery,
    mut take: impl FnMut(&PeerReply, bool) -> bool,
) -> Result<(), NatsError> {
    let request = PeerRequest { from: local.id.clone(), what };
    let replies = context.nats.scatter_gather(SUBJECT, &request.encode())?;
    let read = |reply: &PeerReply| {
        let (node, follow) = origin(reply)?;
        let (node, is_last) = (node.into(), follow == 0);
        let content = match (take(reply, is_last), is_last) {
            (true, true) => ReplyPart::Last(()),
            (false, true) => ReplyPart::Enough(()),
            (_, false) => ReplyPart::More,
        };
        Some(NodeAnswer { node, content })
    };
    local.peers.gather(replies, None, PATIENCE, read).await;
    Ok(())
}
