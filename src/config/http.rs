//! `[http]`: the main listener and its connections.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use tidegate_document::diagnostic::ValueError;

use crate::config::allowed_origins;
use crate::config::listen_address;
use crate::config::listen_address::ListenAddress;
use crate::config::network::Network;
use crate::config::origin::WebOrigin;
use crate::config::table::ConfigTable;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    pub listen: ListenAddress,
    /// Whether `listen` uses TLS, if `[tls]` has a certificate.
    pub tls: bool,
    /// A listener without TLS that sends its clients to the URL with `https`.
    pub redirect_listen: Option<SocketAddr>,
    /// The origin that browsers see this node at; `None` if only other origins' pages use it.
    pub public_url: Option<WebOrigin>,
    /// The pages that may talk to this node, besides its own.
    pub allowed_origins: Vec<WebOrigin>,
    /// Whether all pages of this machine may too. Not a key: `tidegate dev` sets it.
    pub allows_loopback_origins: bool,
    /// Whether `/` serves the demo page, and `/console/<name>` the test page of each vocabulary.
    pub console: bool,
    /// The proxies whose `X-Forwarded-For` and `Forwarded` headers are trusted.
    pub trusted_proxies: Vec<Network>,
    /// Whether trusted proxies must send a PROXY header.
    pub proxy_protocol: bool,
    /// How long a connection may wait for its next request.
    pub keep_alive: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)).into(),
            tls: true,
            redirect_listen: None,
            public_url: None,
            allowed_origins: Vec::new(),
            allows_loopback_origins: false,
            console: false,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
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
            public_url: table.parsed("public_url", default.public_url, allowed_origins::public_url),
            allowed_origins: allowed_origins::list(table, "allowed_origins")
                .unwrap_or(default.allowed_origins),
            allows_loopback_origins: default.allows_loopback_origins,
            console: table.boolean("console", default.console),
            trusted_proxies: table.list("trusted_proxies", network).unwrap_or_default(),
            proxy_protocol: table.boolean("proxy_protocol", default.proxy_protocol),
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
