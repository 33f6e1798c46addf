//! The renderers of a node's dialects, by the dialect's number.

use std::sync::Arc;

use crate::dialect::Render;
use crate::dialect::Rendered;
use crate::frame::Format;
use crate::frame::VocabularyId;
use crate::native::Native;
use crate::publication::Publication;
use crate::scratch::Scratch;

/// The renderers of the native protocol and of the vocabularies.
#[derive(Clone, Debug, Default)]
pub struct Renderers(Arc<[Arc<dyn Render>]>);

impl Renderers {
    /// Adds the vocabularies, which count from 1, to the native protocol, which is 0.
    pub fn new(others: impl IntoIterator<Item = Arc<dyn Render>>) -> Self {
        Self(others.into_iter().collect())
    }

    /// The name of a dialect, for logs.
    pub fn dialect_name(&self, dialect: VocabularyId) -> &str {
        const NATIVE: &Native = &Native;
        self.other(dialect).map_or_else(|| NATIVE.dialect_name(), |render| render.dialect_name())
    }

    fn other(&self, dialect: VocabularyId) -> Option<&Arc<dyn Render>> {
        self.0.get(usize::from(dialect.0).checked_sub(1)?)
    }

    /// Renders a publication for `format`, as a message of `channel`.
    pub fn publication(
        &self,
        format: Format,
        channel: &str,
        publication: &Publication,
        scratch: &mut Scratch,
    ) -> Rendered {
        match self.other(format.vocabulary) {
            None => Native.publication(format, channel, publication, scratch),
            Some(render) => render.publication(format, channel, publication, scratch),
        }
    }
}
