//! Files: how many descriptors there are, and how many of them clients may take. The links to NATS, health checks and
//! files come first: a node that has none left for them helps no one.

use rustix::process::Resource;
use rustix::process::Rlimit;
use tracing::warn;

/// Sockets beyond those that may be connections: they shake hands, are told that there is no room, or ask for the
/// node's health.
const BESIDE: usize = 1024;
/// Sockets that are told that there is no room, with all others taken.
const FAREWELLS: usize = 256;
/// Standard streams, listeners, the main runtime, certificates and credentials while they are read.
const OF_NODE: usize = 32;
/// A runtime's own, two links to NATS, and the next ones while they are made.
const OF_SHARD: usize = 12;

/// What clients may take of the node's descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Connections: sockets, and calls under way.
    pub connections: usize,
    /// Sockets of any kind.
    pub sockets: usize,
    /// Sockets that are told that there is no room.
    pub farewells: usize,
}

impl Budget {
    /// Out of so many files, and at most so many `connections`; 0 for as many as there can be.
    pub fn new(files: usize, shards: usize, connections: usize) -> Self {
        let farewells = (files / 16).clamp(1, FAREWELLS);
        let reserve = OF_NODE + OF_SHARD * shards + farewells;
        // With hardly any files something is still tried.
        let free = files.saturating_sub(reserve).max(files / 4).max(2);
        let beside = BESIDE.min(free / 4).max(1);
        let most = free - beside;
        let connections = if connections == 0 { most } else { connections.min(most) };
        Self { connections, sockets: connections.saturating_add(beside), farewells }
    }
}

/// What there is for clients of this configuration. Every client takes a descriptor, so the soft limit is raised to the
/// hard one first.
pub fn budget(shards: usize, connections: usize) -> Budget {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            warn!(%error, "cannot raise the limit on open files");
            limit.current
        }
    };
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let budget = Budget::new(files, shards, connections);
    if budget.connections < connections {
        let possible = budget.connections;
        warn!(
            connections,
            possible,
            files,
            "limits.connections is more than the limit on open files allows: raise that one (ulimit -n, LimitNOFILE)"
        );
    }
    budget
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_what_the_node_does_not_need_itself() {
        let budget = Budget::new(1_000_000, 8, 0);
        assert_eq!(budget.sockets, 1_000_000 - OF_NODE - 8 * OF_SHARD - FAREWELLS);
        assert_eq!((budget.sockets - budget.connections, budget.farewells), (BESIDE, FAREWELLS));
        assert_eq!(
            Budget::new(1_000_000, 8, 5000),
            Budget { connections: 5000, sockets: 6024, farewells: 256 }
        );
        assert_eq!(Budget::new(usize::MAX, 1, 0).farewells, FAREWELLS);
    }

    #[test]
    fn whatever_the_limit_is_there_is_room_for_somebody_and_the_reserve_is_left() {
        for files in 0..5000 {
            for connections in [0, 1, 100, 1_000_000] {
                let budget = Budget::new(files, 2, connections);
                assert!(
                    budget.connections >= 1 && budget.sockets > budget.connections,
                    "{files}: {budget:?}"
                );
                let reserve = OF_NODE + 2 * OF_SHARD + budget.farewells;
                assert!(files < 2 * reserve || budget.sockets + reserve <= files, "{files}: {budget:?}");
            }
        }
    }
}
