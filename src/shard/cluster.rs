//! `Cluster`: queries between the nodes on one NATS, so that an HTTP call gets the same answer from each node.
//!
//! They also follow revocations, and tell each other which connections of users are new, at endpoints where a user has one connection.
//!
//! All queries go over one subject. The node that gets the HTTP call checks its permissions; the nodes that answer the
//! query do not. So NATS permissions must allow that subject to Tidegate nodes only.

mod answers;
mod calls;
mod change_record;
mod changes;
pub mod discovery;
mod fair_queue;
mod gather;
mod local_node;
mod peer_request;
mod replacements;
mod revocation_bucket;
mod revocations;
mod revoke;
mod rounds;
mod user_changes;
pub mod values;

use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::join4;
use futures_util::future::join5;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::VocabularyId;
use tidegate_vocabulary::statistics::Statistics;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::auth::revocation::message::RevocationMessage;
use crate::connection::context::Context;
use crate::connection::user_change::UserChange;
use crate::shard::cluster::calls::CALLS;
use crate::shard::cluster::calls::ChangeCall;
use crate::shard::cluster::calls::StatisticsCall;
use crate::shard::cluster::calls::ValuesCall;
use crate::shard::cluster::discovery::FoundNodes;
use crate::shard::cluster::discovery::NodesCall;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::cluster::values::Values;
use crate::shard::handle::Shards;
use crate::shard::job::ChangeAuthor;
use crate::shard::job::Revoked;
use crate::shard::job::UserChanged;
use crate::shard::stretch::Stretch;

/// Calls for all nodes that may wait: the admin listener has no more sockets.
const NODES_CALLS: usize = 8;

/// Queries all nodes for statistics and last values.
#[derive(Clone, Debug)]
pub struct Cluster {
    statistics: mpsc::Sender<StatisticsCall>,
    values: mpsc::Sender<ValuesCall>,
    nodes: mpsc::Sender<NodesCall>,
    changes: mpsc::Sender<ChangeCall>,
}

/// Sends the queries of a node and answers those of other nodes, on one of its shards.
pub struct ClusterWorker {
    statistics: mpsc::Receiver<StatisticsCall>,
    values: mpsc::Receiver<ValuesCall>,
    nodes: mpsc::Receiver<NodesCall>,
    changes: mpsc::Receiver<ChangeCall>,
    local: LocalNode,
}

impl Cluster {
    /// Creates the cluster and its worker. `id` must be unique among all nodes.
    pub fn new(id: &str, shards: Shards) -> (Self, ClusterWorker) {
        let (statistics, statistics_calls) = mpsc::channel(CALLS);
        let (values, values_calls) = mpsc::channel(CALLS);
        let (nodes, nodes_calls) = mpsc::channel(NODES_CALLS);
        let (changes, change_calls) = mpsc::channel(CALLS);
        let local = LocalNode::new(id, shards);
        (
            Self { statistics, values, nodes, changes },
            ClusterWorker {
                statistics: statistics_calls,
                values: values_calls,
                nodes: nodes_calls,
                changes: change_calls,
                local,
            },
        )
    }

    /// All nodes that answer. `None` if too many calls wait.
    pub async fn nodes(&self) -> Option<FoundNodes> {
        let (answer, nodes) = oneshot::channel();
        self.nodes.try_send(answer).ok()?;
        nodes.await.ok()
    }

    /// Statistics of a vocabulary on all nodes that answer. `None` if this node is overloaded.
    pub async fn statistics(&self, vocabulary: VocabularyId, with_names: bool) -> Option<Arc<Statistics>> {
        let (answer, statistics) = oneshot::channel();
        self.statistics.try_send(StatisticsCall { vocabulary, with_names, answer }).ok()?;
        statistics.await.ok()
    }

    /// Changes the sessions of a user on all nodes. The error says that nothing was done, or that the outcome is unknown.
    pub async fn change_user(
        &self,
        change: UserChange,
        by: Box<ChangeAuthor>,
    ) -> Result<UserChanged, ClientError> {
        self.change(|answer| ChangeCall::User { change, by, answer }).await
    }

    /// Revokes credentials or permissions on all nodes. The error says that nothing was done, or that the outcome is
    /// unknown.
    pub async fn revoke(
        &self,
        message: Box<RevocationMessage>,
        by: Box<ChangeAuthor>,
    ) -> Result<Revoked, ClientError> {
        self.change(|answer| ChangeCall::Revoke { message, by, answer }).await
    }

    async fn change<T>(
        &self,
        call: impl FnOnce(oneshot::Sender<Result<T, ClientError>>) -> ChangeCall,
    ) -> Result<T, ClientError> {
        let (answer, changed) = oneshot::channel();
        let busy = || ClientError::new(ErrorCode::TryAgain, "this node is overloaded: try again later");
        self.changes.try_send(call(answer)).map_err(|_| busy())?;
        changed.await.unwrap_or_else(|_| Err(busy()))
    }

    /// The last values of channels: those that this node has `found`, and newer or additional ones of other nodes. `None`
    /// if too many calls wait, of this caller or of all.
    pub async fn last_values(&self, mut found: Vec<Values>, caller: u64) -> Option<Vec<Values>> {
        let incomplete: Vec<_> = found
            .iter()
            .filter(|values| !values.is_complete())
            .map(|values| values.channel.clone())
            .collect();
        if !incomplete.is_empty() {
            let (answer, remote) = oneshot::channel();
            self.values.try_send(ValuesCall { caller, channels: incomplete, answer }).ok()?;
            let (remote, mut stretch) = (remote.await.ok()?, Stretch::default());
            for values in &mut found {
                if let Some(theirs) = remote.get(values.channel.as_str()) {
                    values.add(theirs, &mut stretch).await;
                }
            }
        }
        Some(found)
    }
}

impl ClusterWorker {
    /// Runs until the connection to NATS ends. While no endpoint needs other nodes, it only follows revocations and changes
    /// of users, and answers who this node is.
    pub async fn run(self, context: Rc<Context>) {
        let (context, local) = (&*context, &self.local);
        let mut vocabularies = context.node.current_vocabularies.subscribe();
        let others = async {
            tokio::select! {
                _ = vocabularies.wait_for(|all| all.current().any(|one| one.needs_other_nodes())) => {}
                () = context.node.latest_connections.used() => {}
            }
            join4(
                rounds::of_statistics(context, local, self.statistics),
                rounds::of_values(context, local, self.values),
                answers::answer(context, local),
                replacements::announce(context, local),
            )
            .await;
        };
        let discovery = discovery::run(context, local, self.nodes);
        let changes = changes::serve(context, local, self.changes);
        let made = user_changes::make(context, local);
        join5(revocations::follow(context, local), made, changes, discovery, others).await;
    }
}
