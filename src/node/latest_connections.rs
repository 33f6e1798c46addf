//! `LatestConnections`: the newest connection of each user at endpoints with `replace_connections`. Nodes announce
//! theirs to each other, so that of all connections of a user exactly one remains, whatever arrives first.
#![expect(
    clippy::disallowed_types,
    reason = "one short lock when a connection starts or ends at such an endpoint; nothing is awaited under it"
)]

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::time::SystemTime;

use tidegate_protocol::identity::Identity;
use tokio::sync::Notify;
use tokio::sync::watch;

use crate::node::replacement_flag::ReplacementFlag;

/// The size of the announcements that are sent together: their texts, and about what each needs in addition.
const BATCH_BYTES: usize = 32 * 1024;
const ANNOUNCEMENT_BYTES: usize = 128;

/// The newest connection of each user on this node, and which of them the other nodes must be told about.
#[derive(Debug)]
pub struct LatestConnections {
    node: Arc<str>,
    /// Whether an endpoint has `replace_connections`.
    is_used: watch::Sender<bool>,
    state: Mutex<LatestState>,
    changed: Notify,
}

/// A user at an endpoint, where it has one connection. The same name with another issuer is another user.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserAtEndpoint {
    /// The same on all nodes.
    pub endpoint: Arc<str>,
    pub issuer: Option<Arc<str>>,
    pub user: Arc<str>,
}

/// The order of connections. The largest remains, so that all nodes agree.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnectionOrder {
    /// When the connection started, in microseconds since 1970. It is later than all that its node knew about, even if
    /// the clocks of nodes differ.
    pub started: u64,
    /// The id of its node.
    pub node: Arc<str>,
}

/// The newest connection of a user on one node, for other nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    pub user: UserAtEndpoint,
    pub order: ConnectionOrder,
}

/// A connection that a newer one of the same user replaces. It is forgotten when this is dropped.
#[derive(Debug)]
pub struct ReplaceableConnection(Arc<RegisteredConnection>);

#[derive(Debug)]
struct RegisteredConnection {
    registry: Arc<LatestConnections>,
    user: UserAtEndpoint,
    order: ConnectionOrder,
    replaced: ReplacementFlag,
}

#[derive(Debug, Default)]
struct LatestState {
    /// The latest start that this node knows about.
    latest_start: u64,
    by_user: HashMap<UserAtEndpoint, Arc<RegisteredConnection>>,
    /// Always users of `by_user`.
    unannounced: BTreeSet<UserAtEndpoint>,
}

impl LatestConnections {
    /// `node` must be unique among all nodes. `is_used` is whether an endpoint has `replace_connections`.
    pub fn new(node: &str, is_used: bool) -> Self {
        let is_used = watch::Sender::new(is_used);
        Self { node: node.into(), is_used, state: Mutex::default(), changed: Notify::new() }
    }

    /// An endpoint has `replace_connections` since a reload.
    pub fn begin_use(&self) {
        self.is_used.send_replace(true);
    }

    /// Waits until an endpoint has `replace_connections`.
    pub async fn used(&self) {
        // An error would mean that `self` is dropped.
        let _ = self.is_used.subscribe().wait_for(|is_used| *is_used).await;
    }

    /// Registers a connection that starts now, and replaces the user's earlier one on this node. Those on other nodes
    /// follow with the announcement. `None` for anonymous clients, because they are many with one name.
    pub fn register(
        self: &Arc<Self>,
        endpoint: &Arc<str>,
        identity: &Identity,
        now: SystemTime,
    ) -> Option<ReplaceableConnection> {
        if identity.anonymous {
            return None;
        }
        let (issuer, user) = (identity.issuer.clone(), Arc::clone(&identity.user));
        let user = UserAtEndpoint { endpoint: Arc::clone(endpoint), issuer, user };
        let mut state = self.state();
        let started = microseconds(now).max(state.latest_start.saturating_add(1));
        state.latest_start = started;
        let connection = Arc::new(RegisteredConnection {
            registry: Arc::clone(self),
            user: user.clone(),
            order: ConnectionOrder { started, node: Arc::clone(&self.node) },
            replaced: ReplacementFlag::default(),
        });
        let earlier = state.by_user.insert(user.clone(), Arc::clone(&connection));
        state.unannounced.insert(user);
        drop(state);
        if let Some(earlier) = earlier {
            earlier.replaced.raise();
        }
        self.changed.notify_one();
        Some(ReplaceableConnection(connection))
    }

    /// Replaces the user's connection on this node with the newer one of another node. If the one here is newer, it is
    /// announced again: the other node may have missed that.
    pub fn on_announcement(&self, Announcement { user, order }: &Announcement) {
        let mut state = self.state();
        state.latest_start = state.latest_start.max(order.started);
        let Some(own) = state.by_user.get(user) else { return };
        if own.order < *order {
            let replaced = state.remove(user);
            drop(state);
            if let Some(replaced) = replaced {
                replaced.replaced.raise();
            }
        } else if own.order > *order {
            state.unannounced.insert(user.clone());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Waits until there may be something to announce.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes announcements for the other nodes, as many as fit into one message. Empty if there are none.
    pub fn take_announcements(&self) -> Vec<Announcement> {
        let mut state = self.state();
        let (mut announcements, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES
            && let Some(user) = state.unannounced.pop_first()
        {
            if let Some(connection) = state.by_user.get(&user) {
                bytes += ANNOUNCEMENT_BYTES
                    + user.endpoint.len()
                    + user.user.len()
                    + user.issuer.as_ref().map_or(0, |issuer| issuer.len());
                announcements.push(Announcement { order: connection.order.clone(), user });
            }
        }
        announcements
    }

    /// Announces all connections again: other nodes may have missed their announcements, and this node theirs.
    pub fn announce_all(&self) {
        let state = &mut *self.state();
        state.unannounced.extend(state.by_user.keys().cloned());
    }

    /// A poisoned lock is used as it is: no code under it can panic halfway through a change.
    fn state(&self) -> MutexGuard<'_, LatestState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LatestState {
    fn remove(&mut self, user: &UserAtEndpoint) -> Option<Arc<RegisteredConnection>> {
        self.unannounced.remove(user);
        self.by_user.remove(user)
    }
}

impl ReplaceableConnection {
    /// Whether a newer connection of the user has replaced this one. If not, the task of `context` is woken when one
    /// does.
    pub fn poll_replaced(&self, context: &Context<'_>) -> bool {
        self.0.replaced.poll(context)
    }
}

impl Drop for ReplaceableConnection {
    fn drop(&mut self) {
        let mut state = self.0.registry.state();
        if state.by_user.get(&self.0.user).is_some_and(|latest| Arc::ptr_eq(latest, &self.0)) {
            state.remove(&self.0.user);
        }
    }
}

fn microseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
