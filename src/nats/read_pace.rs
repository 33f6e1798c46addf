//! `ReadPace`: whether a link reads as fast as its server sends. nats-server ends the connection of a slow consumer without
//! saying so.

use std::time::Duration;
use std::time::Instant;

/// A link that has read nothing for so long has read everything.
const PAUSE: Duration = Duration::from_secs(1);
/// A link that keeps up finds less than this at a time: the mean of its last reads.
const LARGE_READ: usize = 8 * 1024;

/// How much a link has read at a time.
#[derive(Debug)]
pub(super) struct ReadPace {
    /// The bytes of its reads, each of which counts half as much as the next one: twice their mean.
    recent: usize,
    last: Instant,
}

impl ReadPace {
    pub(super) fn new(now: Instant) -> Self {
        Self { recent: 0, last: now }
    }

    /// The link has read this many bytes.
    pub(super) fn on_read(&mut self, bytes: usize, now: Instant) {
        let earlier = if self.is_paused(now) { 0 } else { self.recent };
        (self.recent, self.last) = (earlier / 2 + bytes, now);
    }

    /// Whether the link was behind its server when the connection ended: then it has just found much at a time.
    pub(super) fn is_behind(&self, now: Instant) -> bool {
        self.recent >= 2 * LARGE_READ && !self.is_paused(now)
    }

    fn is_paused(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= PAUSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a link is behind after reads of these sizes, and this time after the last one.
    fn is_behind(reads: &[usize], later: Duration) -> bool {
        let now = Instant::now();
        let mut pace = ReadPace::new(now);
        reads.iter().for_each(|bytes| pace.on_read(*bytes, now));
        pace.is_behind(now + later)
    }

    #[test]
    fn a_link_is_behind_if_it_finds_much_at_a_time() {
        let now = Duration::ZERO;
        assert!(is_behind(&[64 * 1024], now), "all that the kernel keeps for a link that has not read");
        assert!(is_behind(&[LARGE_READ; 20], now) || is_behind(&[LARGE_READ + 1; 20], now));
        assert!(is_behind(&[64 * 1024, 64 * 1024, 10, 10], now), "the rest is small");
        assert!(!is_behind(&[LARGE_READ - 1; 20], now), "it keeps up");
        assert!(!is_behind(&[64 * 1024, 10, 10, 10], now), "it has caught up");
        assert!(!is_behind(&[], now));
    }

    #[test]
    fn a_pause_means_that_everything_was_read() {
        let reads = [64 * 1024; 4];
        assert!(is_behind(&reads, PAUSE - Duration::from_millis(1)));
        assert!(!is_behind(&reads, PAUSE));
        let start = Instant::now();
        let mut pace = ReadPace::new(start);
        pace.on_read(64 * 1024, start);
        pace.on_read(10, start + PAUSE);
        assert!(!pace.is_behind(start + PAUSE));
    }
}
