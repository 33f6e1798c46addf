//! `LocalNode`: this node in the cluster: its id, its shards, and the other nodes that it knows.

use std::sync::Arc;

use futures_util::future::join_all;
use tidegate_vocabulary::statistics::Statistics;
use tidegate_vocabulary::vocabularies::Vocabularies;
use tidegate_vocabulary::vocabularies::VocabularyPlace;

use crate::node::refused_by_vocabulary::RefusedByVocabulary;
use crate::shard::cluster::gather::KnownNodes;
use crate::shard::cluster::peer_request::StatisticsQuery;
use crate::shard::handle::Shards;
use crate::shard::job::ShardJob;

/// The NATS subject of queries between nodes.
pub(super) const SUBJECT: &str = "tidegate.nodes";

/// This node.
pub(super) struct LocalNode {
    pub(super) id: Box<str>,
    pub(super) shards: Shards,
    /// The nodes that answer queries for statistics and last values. They do so only if their configuration needs it.
    pub(super) peers: KnownNodes,
    /// The nodes that make changes of users, and revoke.
    pub(super) changers: KnownNodes,
}

impl LocalNode {
    /// This node, which knows no others yet.
    pub(super) fn new(id: &str, shards: Shards) -> Self {
        Self { id: id.into(), shards, peers: KnownNodes::default(), changers: KnownNodes::default() }
    }

    /// Statistics of this node, in pieces that fit into a NATS message; no pieces if this node does not have the
    /// vocabulary. `None` if a shard is overloaded.
    pub(super) async fn pieces(
        &self,
        vocabularies: &Vocabularies,
        refused: &RefusedByVocabulary,
        query: &StatisticsQuery,
    ) -> Option<Vec<Statistics>> {
        let StatisticsQuery { vocabulary: place, name, with_names } = query;
        let place = VocabularyPlace(*place);
        let vocabulary = vocabularies.at(place).filter(|(_, vocabulary)| vocabulary.name == *name);
        let Some((_, vocabulary)) = vocabulary else { return Some(Vec::new()) };
        let versions: Arc<[_]> = vocabularies.versions_at(place).collect();
        let job = |answer| ShardJob::Statistics {
            versions: Arc::clone(&versions),
            vocabulary: Arc::clone(vocabulary),
            with_names: *with_names,
            answer,
        };
        let pieces = join_all(self.shards.iter().map(|shard| shard.run(job))).await;
        let pieces: Option<Vec<_>> = pieces.into_iter().collect();
        let refused = versions.iter().map(|id| refused.of(*id)).sum();
        let of_node = Statistics::default().with_refused(refused);
        Some(pieces?.into_iter().flatten().chain([of_node]).collect())
    }
}
