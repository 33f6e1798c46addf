//! Rounds: however many call, a node asks the others one question of a sort at a time, and whoever calls hears what was
//! asked after it called.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::join;
use futures_util::future::join_all;
use tidegate_vocabulary::statistics::Statistics;
use tokio::sync::mpsc;
use tracing::debug;
use tracing::warn;

use crate::connection::context::Context;
use crate::nats::error::NatsError;
use crate::nats::scatter_gather::PeerReply;
use crate::shard::cluster::calls::CALLS;
use crate::shard::cluster::calls::StatisticsCall;
use crate::shard::cluster::calls::ValuesCall;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::cluster::local_node::SUBJECT;
use crate::shard::cluster::question::Kind;
use crate::shard::cluster::question::PeerRequest;
use crate::shard::cluster::question::What;
use crate::shard::cluster::question::origin;
use crate::shard::cluster::turns::Turns;
use crate::shard::cluster::values::Values;
use crate::telemetry::limit::LogLimit;

/// So long a question waits for a node that no one knows yet.
const QUIET: Duration = Duration::from_millis(250);
/// So long it waits for one that has answered before.
const LONGEST: Duration = Duration::from_secs(1);
/// Channels in one question, unless a single call has more.
const CHANNELS: usize = 2000;

/// Serves calls for statistics, all that wait in one round.
pub(super) async fn of_statistics(
    context: &Context,
    here: &LocalNode,
    mut calls: mpsc::Receiver<StatisticsCall>,
) {
    let mut waiting = Vec::new();
    while calls.recv_many(&mut waiting, CALLS).await > 0 {
        let mut rounds: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for StatisticsCall { vocabulary, with_names, answer } in waiting.drain(..) {
            if let Some(described) = here.vocabularies.get(vocabulary) {
                let kind = Kind { vocabulary, name: described.name.clone(), with_names };
                rounds.entry(kind).or_default().push(answer);
            }
        }
        join_all(rounds.into_iter().map(|(kind, callers)| async move {
            let Some(statistics) = statistics(context, here, kind).await else { return };
            let statistics = Arc::new(statistics);
            for caller in callers {
                // Who has given up is not there to hear it.
                let _ = caller.send(Arc::clone(&statistics));
            }
        }))
        .await;
    }
}

static UNREADABLE: LogLimit = LogLimit::per_second(1);

/// Statistics of all nodes; `None` if this one has too much to do.
async fn statistics(context: &Context, here: &LocalNode, kind: Kind) -> Option<Statistics> {
    let mut all = Statistics::default();
    let asked = ask(context, here, What::Statistics(kind.clone()), |piece, _| {
        // A node that does not know the vocabulary says nothing of it.
        let data = piece.data();
        if !data.is_empty() {
            match Statistics::decode(&data) {
                Some(piece) => all.add(piece),
                None => {
                    if let Some(suppressed) = UNREADABLE.pass() {
                        warn!(suppressed, "another node's statistics cannot be read");
                    }
                }
            }
        }
        true
    });
    let (asked, pieces) = join(asked, here.pieces(&kind)).await;
    if let Err(error) = asked {
        debug!(%error, "statistics of this node alone");
    }
    pieces?.into_iter().for_each(|piece| all.add(piece));
    Some(all)
}

/// Serves calls for last values, as many in one round as fit into a question; one of each caller, then the next one.
pub(super) async fn of_values(context: &Context, here: &LocalNode, mut calls: mpsc::Receiver<ValuesCall>) {
    let mut turns = Turns::new(CALLS);
    loop {
        if turns.is_empty() {
            let Some(call) = calls.recv().await else { return };
            turns.add(call.caller, call);
        }
        while let Ok(call) = calls.try_recv() {
            turns.add(call.caller, call);
        }
        let (mut found, mut callers) = (BTreeMap::new(), Vec::new());
        while let Some(ValuesCall { channels, answer, .. }) =
            turns.next(|call| found.is_empty() || found.len() + call.channels.len() <= CHANNELS)
        {
            found.extend(channels.into_iter().map(|channel| (channel.as_str().into(), Values::new(channel))));
            callers.push(answer);
        }
        let what = What::Values { channels: found.keys().cloned().collect() };
        let asked = ask(context, here, what, |answer, is_whole| {
            Values::take(&mut found, answer);
            !is_whole || found.values().any(|values| !values.are_all())
        });
        if let Err(error) = asked.await {
            debug!(%error, "last values of this node alone");
        }
        let found = Arc::new(found);
        for caller in callers {
            // Who has given up is not there to hear it.
            let _ = caller.send(Arc::clone(&found));
        }
    }
}

/// Asks all nodes. `take` is given each piece of an answer, and whether its node has said all; it says whether more is
/// wanted.
async fn ask(
    context: &Context,
    here: &LocalNode,
    what: What,
    mut take: impl FnMut(&PeerReply, bool) -> bool,
) -> Result<(), NatsError> {
    let question = PeerRequest { from: here.id.clone(), what };
    let mut answers = context.nats.scatter_gather(SUBJECT, &question.encode())?;
    let mut waiting = here.known.0.borrow().clone();
    let mut whole = BTreeSet::new();
    let asked = Instant::now();
    let mut is_over = true;
    loop {
        // Of those whom no one knows, somebody may still answer.
        let patience = if waiting.is_empty() { QUIET } else { LONGEST };
        let Some(answer) = answers.next(patience.saturating_sub(asked.elapsed())).await else { break };
        let Some((node, follow)) = origin(&answer) else { continue };
        if follow > 0 {
            waiting.insert(node.into());
        } else {
            waiting.remove(node);
            whole.insert(node.into());
        }
        if !take(&answer, follow == 0) {
            is_over = false;
            break;
        }
    }
    let mut known = here.known.0.borrow_mut();
    if is_over {
        // Who has not answered is gone, or will be known again.
        *known = whole;
    } else {
        known.extend(whole);
    }
    Ok(())
}
