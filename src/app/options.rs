//! Options: what a node is started with.

use tokio::net::TcpListener;

use crate::config::Config;
use crate::hooks::Hooks;

/// What a node is made of.
pub struct AppOptions {
    /// How it is to be.
    pub config: Config,
    /// Where clients come in: `http.listen`. Those of endpoints are opened from the configuration.
    pub listener: TcpListener,
    /// What tests do to it.
    pub hooks: Hooks,
}
