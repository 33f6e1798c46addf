//! Options: what a node is started with.

use tokio::net::TcpListener;

use crate::config::Config;
use crate::hooks::Hooks;
use crate::net::tls::TlsSettings;

/// What a node is made of.
pub struct AppOptions {
    /// How it is to be.
    pub config: Config,
    /// Where clients come in: `http.listen`. Those of endpoints are opened from the configuration.
    pub listener: TcpListener,
    /// With what certificate it speaks TLS there; plain HTTP without.
    pub tls: Option<TlsSettings>,
    /// What tests do to it.
    pub hooks: Hooks,
}
