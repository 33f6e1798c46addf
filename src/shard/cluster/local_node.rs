//! Here: this node among the others: where nodes ask, who else answers, and what its own shards know.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use tidegate_vocabulary::Vocabularies;
use tidegate_vocabulary::statistics::Statistics;

use crate::shard::cluster::question::Kind;
use crate::shard::handle::Shards;
use crate::shard::job::ShardJob;

/// Where nodes ask.
pub(super) const SUBJECT: &str = "tidegate.nodes";

/// This node.
pub(super) struct LocalNode {
    pub(super) id: Box<str>,
    pub(super) shards: Shards,
    pub(super) vocabularies: Vocabularies,
    /// Who else answers.
    pub(super) known: KnownPeers,
}

/// The nodes that have answered lately: questions wait for them.
#[derive(Debug, Default)]
pub(super) struct KnownPeers(pub(super) RefCell<BTreeSet<Box<str>>>);

impl LocalNode {
    /// Statistics of this node, in pieces of which each is small enough for NATS: none, if the kind is not known here.
    /// `None` if a shard has too much to do.
    pub(super) async fn pieces(&self, kind: &Kind) -> Option<Vec<Statistics>> {
        let Kind { vocabulary, name, with_names } = kind;
        let described = self.vocabularies.get(*vocabulary).filter(|described| described.name == *name);
        let Some(described) = described else { return Some(Vec::new()) };
        let job = |answer| ShardJob::Statistics {
            vocabulary: *vocabulary,
            described: Arc::clone(described),
            with_names: *with_names,
            answer,
        };
        let pieces = join_all(self.shards.iter().map(|shard| shard.run(job))).await;
        let pieces: Option<Vec<_>> = pieces.into_iter().collect();
        Some(pieces?.into_iter().flatten().collect())
    }
}
