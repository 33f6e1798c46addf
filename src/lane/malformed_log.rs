//! Logs malformed messages.

use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::subject::Pattern;
use tracing::warn;

use crate::lane::lane_index::LaneIndex;

const LOG_EVERY: Duration = Duration::from_secs(1);

/// Counts malformed messages, and logs them at most once in [`LOG_EVERY`].
#[derive(Debug, Default)]
pub(super) struct MalformedLog {
    logged_at: Option<Instant>,
    malformed: u64,
}

impl MalformedLog {
    /// Counts a message, and logs if it is time.
    pub(super) fn record(&mut self, lane: LaneIndex, pattern: Option<&Pattern>, now: Instant) {
        self.malformed += 1;
        if self.logged_at.is_none_or(|logged_at| now.saturating_duration_since(logged_at) >= LOG_EVERY) {
            let malformed = self.malformed;
            warn!(
                lane = lane.0,
                pattern = pattern.map(Pattern::as_str),
                malformed,
                "skipped malformed messages from nats: check their producer"
            );
            *self = Self { logged_at: Some(now), malformed: 0 };
        }
    }
}
