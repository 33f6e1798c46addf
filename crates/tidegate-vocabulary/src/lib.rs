//! Vocabularies: message formats that TOML files describe. Each is a dialect without Rust code of its own.

mod apart;
mod arguments;
pub mod binding;
mod channel;
pub mod compile;
mod delivery;
mod dialect;
mod dotted;
pub mod explain;
mod file;
#[cfg(any(test, feature = "test-hooks"))]
pub mod fuzz;
pub mod http;
mod identity;
mod inbound;
mod json_template;
pub mod language;
pub mod last_list;
pub mod model;
mod nats_headers;
mod outbound;
mod outline;
mod path;
pub mod placeholder;
pub mod route;
mod scopes;
pub mod statistics;
mod switches;
pub mod time_format;
pub mod transcript;
pub mod vocabularies;

use std::sync::Arc;
use std::sync::LazyLock;

use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::echo::Echo;
use tidegate_protocol::native;
use tidegate_protocol::native::Native;

use crate::binding::Binding;

/// The native dialect, which all of its clients share.
static NATIVE: LazyLock<Arc<Native>> = LazyLock::new(|| Arc::new(Native));

/// The message format of one client.
#[derive(Clone, Debug)]
pub enum Vocabulary {
    /// Tidegate's own protocol, `docs/PROTOCOL.md`.
    Native,
    /// A vocabulary from a file, bound to the path that the client connected to.
    Described(Arc<Binding>),
    /// Sends every message back unchanged, for conformance tests of the WebSocket itself.
    Echo(Echo),
}

impl Vocabulary {
    /// The built-in vocabulary with this name in the configuration.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "native" => Some(Self::Native),
            #[cfg(feature = "test-hooks")]
            "echo" => Some(Self::Echo(Echo::Everything)),
            _ => None,
        }
    }

    /// The dialect that decodes and encodes its messages.
    pub fn dialect(&self) -> Arc<dyn Dialect> {
        match self {
            Self::Native => Arc::clone(&*NATIVE) as _,
            Self::Described(binding) => Arc::clone(binding) as _,
            Self::Echo(echo) => Arc::new(*echo),
        }
    }

    /// The WebSocket subprotocols that select it.
    pub fn subprotocols(&self) -> Vec<&str> {
        match self {
            Self::Native => vec![native::SUBPROTOCOL],
            Self::Described(binding) => binding.vocabulary.subprotocols.iter().map(|name| &**name).collect(),
            Self::Echo(_) => Vec::new(),
        }
    }

    /// The first of the offered WebSocket subprotocols that selects this vocabulary. An error lists those it accepts.
    pub fn subprotocol(&self, offered: &[String]) -> Result<Option<&str>, Vec<&str>> {
        let is_required =
            matches!(self, Self::Described(binding) if binding.vocabulary.is_subprotocol_required);
        if offered.is_empty() && !is_required {
            return Ok(None);
        }
        if matches!(self, Self::Echo(_)) {
            return Ok(None);
        }
        let ours = self.subprotocols();
        let found = offered.iter().find_map(|offered| ours.iter().find(|ours| **ours == *offered));
        found.map(|found| Some(*found)).ok_or(ours)
    }
}

#[cfg(test)]
mod tests;
