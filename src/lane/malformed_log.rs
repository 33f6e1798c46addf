//! Complaint: what a lane says of messages that cannot be read.

use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::subject::Pattern;
use tracing::warn;

const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// Says that messages come which cannot be read: at once, then at most once in [`COMPLAIN_EVERY`].
#[derive(Debug, Default)]
pub(super) struct MalformedComplaint {
    said: Option<Instant>,
    malformed: u64,
}

impl MalformedComplaint {
    /// Counts one, and says so if it is time.
    pub(super) fn note(&mut self, lane: usize, pattern: Option<&Pattern>, now: Instant) {
        self.malformed += 1;
        if self.said.is_none_or(|said| now.saturating_duration_since(said) >= COMPLAIN_EVERY) {
            let malformed = self.malformed;
            warn!(
                lane,
                pattern = pattern.map(Pattern::as_str),
                malformed,
                "a message from nats cannot be read: it is skipped"
            );
            *self = Self { said: Some(now), malformed: 0 };
        }
    }
}
