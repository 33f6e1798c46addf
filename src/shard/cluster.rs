//! Nodes: what the nodes on one NATS ask each other, so that it does not matter which of them is called.
//!
//! One subject carries the questions. A node answers what another asks; it does not check again what the caller may see,
//! as the one who was called has done: NATS has to keep all but nodes from the subject.

mod answers;
mod calls;
mod local_node;
mod question;
mod rounds;
mod turns;
pub mod values;

use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::join3;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::payload::Payload;
use tidegate_vocabulary::Vocabularies;
use tidegate_vocabulary::statistics::Statistics;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::connection::context::Context;
use crate::shard::cluster::calls::CALLS;
use crate::shard::cluster::calls::StatisticsCall;
use crate::shard::cluster::calls::ValuesCall;
use crate::shard::cluster::local_node::KnownPeers;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::cluster::values::Values;
use crate::shard::handle::Shards;

/// The way to what all nodes know together.
#[derive(Clone, Debug)]
pub struct Nodes {
    statistics: mpsc::Sender<StatisticsCall>,
    values: mpsc::Sender<ValuesCall>,
}

/// What asks and answers for a node, on one of its shards.
pub struct NodesWork {
    statistics: mpsc::Receiver<StatisticsCall>,
    values: mpsc::Receiver<ValuesCall>,
    here: LocalNode,
}

impl Nodes {
    /// The way, and the work behind it. `id` is no other node's.
    pub fn new(id: &str, shards: Shards, vocabularies: Vocabularies) -> (Self, NodesWork) {
        let (statistics, statistics_calls) = mpsc::channel(CALLS);
        let (values, values_calls) = mpsc::channel(CALLS);
        let here = LocalNode { id: id.into(), shards, vocabularies, known: KnownPeers::default() };
        (Self { statistics, values }, NodesWork { statistics: statistics_calls, values: values_calls, here })
    }

    /// Statistics of a vocabulary on all nodes that answer. `None` if this one has too much to do.
    pub async fn statistics(&self, vocabulary: VocabularyId, with_names: bool) -> Option<Arc<Statistics>> {
        let (answer, statistics) = oneshot::channel();
        self.statistics.try_send(StatisticsCall { vocabulary, with_names, answer }).ok()?;
        statistics.await.ok()
    }

    /// The last values of channels: what this node has `found`, and what others know beyond that. The oldest of each
    /// channel comes first. `None` if too much waits already, of this caller or of all.
    pub async fn last(&self, mut found: Vec<Values>, caller: u64) -> Option<Vec<Payload>> {
        let unknown: Vec<_> =
            found.iter().filter(|values| !values.are_all()).map(|values| values.channel.clone()).collect();
        if !unknown.is_empty() {
            let (answer, elsewhere) = oneshot::channel();
            self.values.try_send(ValuesCall { caller, channels: unknown, answer }).ok()?;
            let elsewhere = elsewhere.await.ok()?;
            for values in &mut found {
                if let Some(theirs) = elsewhere.get(values.channel.as_str()) {
                    values.add(theirs);
                }
            }
        }
        Some(found.into_iter().flat_map(Values::in_order).collect())
    }
}

impl NodesWork {
    /// Asks and answers until the connection to NATS ends. Where no vocabulary needs it, NATS is not used.
    pub async fn run(self, context: Rc<Context>) {
        let (context, here) = (&*context, &self.here);
        if here.vocabularies.iter().any(|(_, described)| described.needs_other_nodes()) {
            join3(
                rounds::of_statistics(context, here, self.statistics),
                rounds::of_values(context, here, self.values),
                answers::answer(context, here),
            )
            .await;
        }
    }
}
