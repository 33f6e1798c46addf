//! Logs publications that clients do not get, because no rule of their vocabulary shows them.

use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tracing::warn;

use crate::telemetry::limit::LogLimit;

/// The least time between two lines about one vocabulary on one lane, in seconds.
const LOG_EVERY_S: u32 = 10;

/// Why a vocabulary does not show a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unshown {
    /// None of its rules matches.
    Unmatched,
    /// Rules match, and none of them can show such a payload.
    Unrenderable,
}

/// The limits of one vocabulary, for each reason.
#[derive(Debug)]
struct UnshownLimits {
    unmatched: LogLimit,
    unrenderable: LogLimit,
}

/// Limits the lines for each vocabulary, by its number.
#[derive(Debug, Default)]
pub(super) struct UnshownLog(Vec<UnshownLimits>);

impl UnshownLog {
    /// Logs a publication, if it is time.
    pub(super) fn record(
        &mut self,
        why: Unshown,
        vocabulary: VocabularyId,
        publication: &Publication,
        renderers: &Renderers,
    ) {
        let at = usize::from(vocabulary.0);
        let new = || UnshownLimits {
            unmatched: LogLimit::every(LOG_EVERY_S, 1),
            unrenderable: LogLimit::every(LOG_EVERY_S, 1),
        };
        if self.0.len() <= at {
            self.0.resize_with(at + 1, new);
        }
        let limits = &self.0[at];
        let (subject, vocabulary) = (&*publication.subject, renderers.dialect_name(vocabulary));
        match why {
            Unshown::Unmatched => {
                let Some(suppressed) = limits.unmatched.pass() else { return };
                warn!(
                    subject,
                    vocabulary,
                    suppressed,
                    "no rule shows a publication: add a [[deliver]] for it to the vocabulary, or publish something \
                     that one matches"
                );
            }
            Unshown::Unrenderable => {
                let Some(suppressed) = limits.unrenderable.pass() else { return };
                warn!(
                    subject,
                    vocabulary,
                    suppressed,
                    "a publication cannot be shown: publish text or JSON, an object where [[deliver]] spreads it, and no \
                     element without its `by` value; or add a [[deliver]] that shows other payloads"
                );
            }
        }
    }
}
