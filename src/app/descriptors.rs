//! `DescriptorBudget`: how many file descriptors clients may use. Some are reserved for NATS connections, health checks
//! and files, because a node cannot work without them.

use rustix::process::Resource;
use rustix::process::Rlimit;
use tracing::warn;

/// Sockets besides connections: for handshakes, for health checks, and for clients that are told that the node is full.
const EXTRA_SOCKETS: usize = 1024;
/// Sockets to tell clients that the node is full when all other sockets are in use.
const MAX_BUSY_REPLIES: usize = 256;
/// Reserved for the node: standard streams, listeners, the main runtime, certificates and credentials while they are
/// read; and the sockets of the admin listener.
const PER_NODE: usize = 32;
/// Reserved for each shard: its runtime, two NATS connections, and their successors while they reconnect.
const PER_SHARD: usize = 12;

/// The descriptors that clients may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DescriptorBudget {
    /// Connections, including HTTP calls in progress.
    pub connections: usize,
    /// Sockets of any kind.
    pub sockets: usize,
    /// Sockets to tell clients that the node is full.
    pub busy_replies: usize,
}

impl DescriptorBudget {
    /// Divides `files` descriptors. `connections` is the configured limit; 0 means no limit.
    pub fn new(files: usize, shards: usize, connections: usize) -> Self {
        let busy_replies = (files / 16).clamp(1, MAX_BUSY_REPLIES);
        let reserve = PER_NODE + PER_SHARD * shards + busy_replies;
        // With very few descriptors, serve at least a few clients.
        let free = files.saturating_sub(reserve).max(files / 4).max(2);
        let extra = EXTRA_SOCKETS.min(free / 4).max(1);
        let max_connections = free - extra;
        let connections = if connections == 0 { max_connections } else { connections.min(max_connections) };
        Self { connections, sockets: connections.saturating_add(extra), busy_replies }
    }
}

/// Raises the soft limit on open files to the hard limit, and divides the descriptors.
pub fn budget(shards: usize, connections: usize) -> DescriptorBudget {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            warn!(%error, "cannot raise the limit on open files: set it for the service (ulimit -n, LimitNOFILE)");
            limit.current
        }
    };
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let budget = DescriptorBudget::new(files, shards, connections);
    if budget.connections < connections {
        let possible = budget.connections;
        warn!(
            connections,
            possible,
            files,
            "limits.connections is higher than the limit on open files allows: raise that limit (ulimit -n, LimitNOFILE)"
        );
    }
    budget
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_node_does_not_reserve() {
        let budget = DescriptorBudget::new(1_000_000, 8, 0);
        assert_eq!(budget.sockets, 1_000_000 - PER_NODE - 8 * PER_SHARD - MAX_BUSY_REPLIES);
        assert_eq!(
            (budget.sockets - budget.connections, budget.busy_replies),
            (EXTRA_SOCKETS, MAX_BUSY_REPLIES)
        );
        assert_eq!(
            DescriptorBudget::new(1_000_000, 8, 5000),
            DescriptorBudget { connections: 5000, sockets: 6024, busy_replies: 256 }
        );
        assert_eq!(DescriptorBudget::new(usize::MAX, 1, 0).busy_replies, MAX_BUSY_REPLIES);
    }

    #[test]
    fn with_any_limit_there_is_room_for_a_client_and_the_reserve_is_kept() {
        for files in 0..5000 {
            for connections in [0, 1, 100, 1_000_000] {
                let budget = DescriptorBudget::new(files, 2, connections);
                assert!(
                    budget.connections >= 1 && budget.sockets > budget.connections,
                    "{files}: {budget:?}"
                );
                let reserve = PER_NODE + 2 * PER_SHARD + budget.busy_replies;
                assert!(files < 2 * reserve || budget.sockets + reserve <= files, "{files}: {budget:?}");
            }
        }
    }
}
