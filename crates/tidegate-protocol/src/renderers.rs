//! The renderers of a node's dialects, by the dialect's number.

use std::sync::Arc;

use crate::dialect::Render;
use crate::dialect::Rendered;
use crate::frame::Format;
use crate::native::Native;
use crate::publication::Publication;

/// The renderers of the native protocol and of the vocabularies.
#[derive(Clone, Debug, Default)]
pub struct Renderers(Arc<[Arc<dyn Render>]>);

impl Renderers {
    /// Adds the vocabularies, which count from 1, to the native protocol, which is 0.
    pub fn new(others: impl IntoIterator<Item = Arc<dyn Render>>) -> Self {
        Self(others.into_iter().collect())
    }

    /// Renders a publication for `format`, as a message of `channel`.
    pub fn publication(&self, format: Format, channel: &Arc<str>, publication: &Publication) -> Rendered {
        match usize::from(format.vocabulary.0).checked_sub(1).and_then(|at| self.0.get(at)) {
            None => Native.publication(format, channel, publication),
            Some(render) => render.publication(format, channel, publication),
        }
    }
}
