//! `AppOptions`: the input for starting a node.

use tokio::net::TcpListener;

use crate::config::Config;
use crate::hooks::Hooks;
use crate::net::tls::TlsSettings;

/// The input for starting a node.
pub struct AppOptions {
    pub config: Config,
    /// The listener of `http.listen`. The node opens the listeners of endpoints itself.
    pub listener: TcpListener,
    /// The TLS settings of that listener; `None` for plain HTTP.
    pub tls: Option<TlsSettings>,
    /// Faults and barriers for tests.
    pub hooks: Hooks,
}
