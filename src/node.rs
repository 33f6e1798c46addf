//! `Node`: what all shards and listeners of a node share. `app` builds it once and hands it over whole.

pub mod admission;
pub mod authenticator;
pub mod callers;
pub mod guard;
pub mod limits;
pub mod permit;
pub mod readiness;
pub mod slots;
pub mod users;

use std::sync::Arc;

use tidegate_vocabulary::Vocabularies;

use crate::auth::Authenticator;
use crate::config::http::HttpConfig;
use crate::config::nats::NatsConfig;
use crate::hooks::Hooks;
use crate::lane::LaneSettings;
use crate::lane::Lanes;
use crate::lane::encoder::CompressionSettings;
use crate::node::admission::Admission;
use crate::node::authenticator::CurrentAuthenticator;
use crate::node::callers::Callers;
use crate::node::limits::NodeLimits;
use crate::node::readiness::Readiness;
use crate::node::users::Users;

/// What is the same for the whole node, on every thread. A shard keeps its own state in its `Context`, in plain cells.
#[derive(Debug)]
pub struct Node {
    /// Its name in logs, in `connected`, and in the names of its connections to NATS.
    pub name: Arc<str>,
    /// Random for each start: session IDs begin with it, and other nodes know this node by it.
    pub session_prefix: Box<str>,
    /// Verifies credentials; see [`Node::authenticator`].
    pub current_authenticator: CurrentAuthenticator,
    /// Counts each user's sockets.
    pub users: Users,
    /// The dialects that files describe.
    pub vocabularies: Vocabularies,
    /// The ways into all lanes.
    pub lanes: Lanes,
    /// Whether it can do its work.
    pub readiness: Readiness,
    /// Limits connections and handshakes.
    pub admission: Admission,
    /// Limits HTTP calls.
    pub callers: Callers,
    /// Limits of a request and of a connection.
    pub limits: NodeLimits,
    /// Whether it accepts offers of permessage-deflate.
    pub agrees_to_compression: bool,
    /// What is compressed, and how well.
    pub compression: CompressionSettings,
    /// How lanes keep feeds.
    pub lane: LaneSettings,
    /// The section `[http]`.
    pub http: HttpConfig,
    /// The section `[nats]`.
    pub nats: NatsConfig,
    /// What tests do to the node.
    pub hooks: Hooks,
}

impl Node {
    /// Verifies credentials. It may be replaced at any time: where one decision takes several questions, hold the `Arc` for
    /// all of them.
    pub fn authenticator(&self) -> Arc<Authenticator> {
        self.current_authenticator.get()
    }
}
