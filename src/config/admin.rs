//! `[admin]`: the listener for operators.

use std::net::SocketAddr;

use tidegate_document::diagnostic::ValueError;

use crate::config::listen_address::ListenAddress;
use crate::config::table::ConfigTable;

/// `None` by default: 9090 is also the port of Prometheus itself, and two nodes on one machine need two ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminConfig {
    pub listen: Option<ListenAddress>,
}

impl AdminConfig {
    pub(super) fn read(table: &ConfigTable<'_>) -> Self {
        Self { listen: table.optional("listen", address).flatten() }
    }

    /// The address, if other machines can reach it. Then every request needs a token.
    pub fn public_address(&self) -> Option<SocketAddr> {
        self.listen.as_ref().filter(|listen| listen.is_public())?.tcp()
    }
}

/// `None` for an empty text.
fn address(text: &str) -> Result<Option<ListenAddress>, ValueError> {
    if text.trim().is_empty() { Ok(None) } else { text.parse().map(Some) }
}
