//! `[http]`: the main listener and its connections.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use tidegate_document::diagnostic::ValueError;

use crate::config::listen_address;
use crate::config::listen_address::ListenAddress;
use crate::config::network::Network;
use crate::config::table::ConfigTable;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    pub listen: ListenAddress,
    /// Whether `listen` uses TLS, if `[tls]` has a certificate.
    pub tls: bool,
    /// A listener without TLS that sends its clients to the URL with `https`.
    pub redirect_listen: Option<SocketAddr>,
    /// Whether `/` serves the demo page, and `/console/<name>` the test page of each vocabulary.
    pub console: bool,
    /// The proxies whose `X-Forwarded-For` and `Forwarded` headers are trusted.
    pub trusted_proxies: Vec<Network>,
    /// How long a connection may wait for its next request.
    pub keep_alive: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)).into(),
            tls: true,
            redirect_listen: None,
            console: false,
            trusted_proxies: Vec::new(),
            keep_alive: Duration::from_secs(75),
        }
    }
}

impl HttpConfig {
    pub(super) fn read(table: &ConfigTable<'_>) -> Self {
        let default = Self::default();
        Self {
            listen: table.parsed("listen", default.listen, str::parse),
            tls: table.boolean("tls", default.tls),
            redirect_listen: table.optional("redirect_listen", redirect_address).flatten(),
            console: table.boolean("console", default.console),
            trusted_proxies: table.list("trusted_proxies", network).unwrap_or_default(),
            keep_alive: table.duration("keep_alive_s", default.keep_alive, 1..=3600),
        }
    }
}

/// `None` for an empty text.
fn redirect_address(text: &str) -> Result<Option<SocketAddr>, ValueError> {
    if text.trim().is_empty() { Ok(None) } else { listen_address::tcp(text).map(Some) }
}

fn network(text: &str) -> Result<Network, ValueError> {
    let help = "write an address, or a range such as \"10.0.0.0/8\" or \"fd00::/8\"";
    Network::parse(text.trim()).map_err(|message| ValueError::new(message, help))
}
