//! Tracks the publications and gaps that one client receives on one subject, for workloads where publications may be
//! missing if the server announces them as a gap.

use crate::client::frame_parser::ClientEvent;

#[derive(Clone, Debug, Default)]
pub struct SequenceTracker {
    /// Number of publications received.
    pub received: u64,
    /// The number of the next expected publication.
    pub next: u64,
    /// The cause of each gap, in order.
    pub gaps: Vec<String>,
    /// Number of publications that the gaps announce as missing.
    pub dropped: u64,
    /// Number of publications that are missing or out of order without a gap.
    pub unannounced: u64,
    /// Whether a gap was received since the last publication.
    gap_open: bool,
    /// Why the connection ended, if it did.
    pub ended: Option<String>,
}

impl SequenceTracker {
    pub fn record(&mut self, event: ClientEvent<'_>) {
        match event {
            ClientEvent::Publication(number) => {
                if number != self.next && !self.gap_open {
                    self.unannounced += number.abs_diff(self.next);
                }
                self.gap_open = false;
                self.next = number.saturating_add(1);
                self.received += 1;
            }
            ClientEvent::Gap { cause, dropped } => {
                self.gaps.push(cause.to_owned());
                self.dropped += dropped.unwrap_or_default();
                self.gap_open = true;
            }
            ClientEvent::Ended(reason) => drop(self.ended.get_or_insert_with(|| reason.to_owned())),
            ClientEvent::Live { .. }
            | ClientEvent::Compressed(_)
            | ClientEvent::Reply
            | ClientEvent::Rejected => {}
        }
    }

    /// Whether no publication is missing, with or without a gap.
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty() && self.unannounced == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_publication_counts_unless_a_gap_announces_it() {
        let mut tracker = SequenceTracker::default();
        for number in [0, 1] {
            tracker.record(ClientEvent::Publication(number));
        }
        assert!(tracker.is_complete());
        tracker.record(ClientEvent::Gap { cause: "slow", dropped: Some(3) });
        tracker.record(ClientEvent::Publication(5));
        assert_eq!((tracker.unannounced, tracker.dropped, tracker.received, tracker.next), (0, 3, 3, 6));
        tracker.record(ClientEvent::Publication(8));
        assert_eq!((tracker.unannounced, tracker.gaps.len()), (2, 1));
        tracker.record(ClientEvent::Ended("first"));
        tracker.record(ClientEvent::Ended("second"));
        assert_eq!(tracker.ended.as_deref(), Some("first"));
    }
}
