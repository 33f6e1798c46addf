//! `ConnectionSettings`: what a new connection is started with. A reload changes it for connections that start later.

use std::sync::Arc;

use tidegate_protocol::session::settings::Settings;

use crate::node::limits::ConnectionLimits;

/// The settings of the connections of one shard.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// The settings of their sessions.
    pub session: Arc<Settings>,
    pub limits: ConnectionLimits,
}
