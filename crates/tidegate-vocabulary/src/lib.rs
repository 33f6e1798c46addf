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

use std::sync::Arc;
use std::sync::LazyLock;

use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::Render;
use tidegate_protocol::echo::Echo;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::native;
use tidegate_protocol::native::Native;
use tidegate_protocol::renderers::Renderers;

use crate::binding::Binding;
use crate::model::CompiledVocabulary;

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

/// All vocabularies of a node that come from files, by number.
#[derive(Clone, Debug, Default)]
pub struct Vocabularies(Arc<[Arc<CompiledVocabulary>]>);

impl Vocabularies {
    /// Numbers vocabularies from 1, in the order of the configuration.
    pub fn new(vocabularies: Vec<Arc<CompiledVocabulary>>) -> Self {
        Self(vocabularies.into())
    }

    pub fn iter(&self) -> impl Iterator<Item = (VocabularyId, &Arc<CompiledVocabulary>)> {
        (1..).map(VocabularyId).zip(self.0.iter())
    }

    pub fn get(&self, number: VocabularyId) -> Option<&Arc<CompiledVocabulary>> {
        self.0.get(usize::from(number.0).checked_sub(1)?)
    }

    /// Renderers for their publications and for those of the native protocol.
    pub fn renderers(&self) -> Renderers {
        Renderers::new(self.0.iter().map(|vocabulary| Arc::clone(vocabulary) as Arc<dyn Render>))
    }
}

#[cfg(test)]
mod tests;
