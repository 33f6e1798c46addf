//! Counting: what a connection adds to the counts of its shard.

use std::time::Instant;

use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::session::refused::RefusedMessage;

use crate::connection::Connection;
use crate::connection::Stage;
use crate::connection::counts::DropReason;
use crate::hub::class_counts::ClassCounts;

impl Connection {
    pub(super) fn count(&self, delivery_counts: DeliveryCounts) {
        if delivery_counts != DeliveryCounts::default() {
            let mut total = self.delivery_counts.get();
            total += delivery_counts;
            self.delivery_counts.set(total);
            self.context.delivery_totals.add(self.subscriber.dialect.number(), delivery_counts);
            self.context.counts.count_delivered(self.transport.kind(), delivery_counts.delivered);
        }
    }

    /// Counts publications that are dropped because their subscription or the connection ends.
    pub(super) fn count_ended(&self, mut dropped: ClassCounts) {
        self.count(DeliveryCounts::dropped(dropped.total()));
        for (class, dropped) in dropped.drain() {
            self.context.counts.count_dropped(class, DropReason::Ended, dropped);
        }
    }

    /// Counts a message that was answered with an error.
    pub(super) fn count_refused(&self, refused: &RefusedMessage) {
        self.note_refused(refused);
        self.context.delivery_totals.count_error(self.subscriber.dialect.number());
    }

    /// Counts publications that newer ones have replaced in the outbox.
    #[inline]
    pub(super) fn count_conflated(&self) {
        self.subscriber.take_conflated(|(class, conflated)| {
            self.context.counts.count_dropped(class, DropReason::Conflated, conflated);
        });
    }

    /// The same, and those that newer ones have replaced while `max_rate_ms` delayed them.
    pub(super) fn count_all_conflated(&self) {
        self.count_conflated();
        if self.subscriber.is_rate_limited() {
            self.subscriber.take_delayed_conflated(|(class, conflated)| {
                self.context.counts.count_dropped(class, DropReason::Conflated, conflated);
            });
        }
    }

    /// Counts the client among those that have missed publications.
    pub(super) fn count_gap(&self) {
        if !self.has_gap.replace(true) {
            self.context.counts.count_with_gap();
        }
    }

    /// Notes how much waits for a client whose socket takes no more.
    #[cold]
    pub(super) fn note_waiting(&self) {
        self.count_all_conflated();
        let is_blocked = self.blocked_since.get().is_some() && self.stage.get() != Stage::Closed;
        let bytes = if is_blocked { self.subscriber.bytes() } else { 0 };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = self.waiting.replace(bytes);
        if before != bytes {
            self.context.counts.change_outbox(before, bytes);
        }
    }

    /// The same if it differs by more than an eighth from what was noted last: a slow client gets many publications, and
    /// each would note it.
    pub(super) fn note_changed_waiting(&self) {
        let (noted, bytes) = (self.waiting.get() as usize, self.subscriber.bytes());
        if bytes.abs_diff(noted) > noted / 8 {
            self.note_waiting();
        }
    }

    /// Whether something waits, or has waited when it was noted last.
    #[inline]
    pub(super) fn has_waiting(&self) -> bool {
        self.blocked_since.get().is_some() || self.waiting.get() > 0
    }

    /// Counts the time since the last ping, if this is the first sign of life after it.
    pub(super) fn count_pong(&self, now: Instant) {
        if self.context.counts.is_pong_sample()
            && let Some(sent) = self.session.borrow().unanswered_ping()
        {
            self.context.counts.count_round_trip(now.saturating_duration_since(sent));
        }
    }

    /// Takes the connection, which has ended, out of what is counted of open ones.
    pub(super) fn count_end(&self) {
        self.note_waiting();
        if self.has_gap.take() {
            self.context.counts.count_end_with_gap();
        }
    }
}
