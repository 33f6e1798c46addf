//! Reader: a batch from NATS → feeds → one share for each shard; questions, losses and the clock take the same way.

use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tracing::info;
use tracing::warn;

use crate::lane::Lane;
use crate::lane::LaneStatus;
use crate::lane::Question;
use crate::lane::feed::Addressed;
use crate::nats::subscription::Incoming;
use crate::nats::subscription::SubscriptionKey;
use crate::protocol::error::ErrorCode;
use crate::protocol::error::Refusal;
use crate::protocol::message::GapCause;

/// Messages taken at a time.
pub const BATCH: usize = 256;
/// Questions taken at a time.
pub const QUESTIONS: usize = 256;
/// An overrun is said once the lane has caught up, or after so long.
const OVERRUN_SAID_AFTER: Duration = Duration::from_millis(500);

impl Lane {
    pub(super) fn answer(&mut self, question: Question, now: (Instant, SystemTime)) {
        match question {
            Question::Join { shard, pattern, class, format } => {
                let key = match self.by_pattern.get(&pattern) {
                    Some(&key) => key,
                    None => self.new_feed(&pattern, class, now),
                };
                if let Some(feed) = self.feeds.get_mut(&key) {
                    let answer = feed.join(shard, format, now.0);
                    self.watched.insert(key);
                    self.address(answer);
                }
            }
            Question::Leave { shard, pattern } => {
                let Some(&key) = self.by_pattern.get(&pattern) else {
                    return;
                };
                if let Some(feed) = self.feeds.get_mut(&key) {
                    feed.leave(shard, now.0);
                    self.watched.insert(key);
                }
            }
        }
    }

    pub(super) fn take_in(&mut self, incoming: Incoming, now: (Instant, SystemTime)) {
        let addressed = match incoming {
            Incoming::Message(key, message) => {
                self.feeds.get_mut(&key).map(|feed| feed.publish(&message, now))
            }
            Incoming::Dropped(key, dropped) => {
                warn!(lane = self.index, dropped, "messages come faster than this node reads them");
                self.feeds.get_mut(&key).map(|feed| feed.lost(GapCause::SlowConsumer, Some(dropped)))
            }
            Incoming::LinkLost => return self.tell_all(super::feed::Feed::link_lost),
            Incoming::Opened(key) => self.feeds.get_mut(&key).map(|feed| feed.opened(now.0)),
            Incoming::Failed(key, error) => {
                warn!(lane = self.index, %error, "cannot subscribe on nats");
                let refusal =
                    Refusal::new(ErrorCode::Unavailable, "NATS refused the subscription: try again later");
                let addressed = self.feeds.get_mut(&key).map(|feed| feed.refuse(&refusal, now.0, now.0));
                self.close_feed(key);
                addressed
            }
        };
        self.address(addressed.into_iter().flatten());
    }

    /// Says what became of the link. `idle`: all that had come before has been taken in, so that what is said
    /// now stands behind it.
    pub(super) fn watch_link(&mut self, now: Instant, idle: bool) {
        let reading = self.nats.reading();
        if reading.slow != self.seen.slow {
            self.overrun_since.get_or_insert(now);
        }
        let waited = self.overrun_since.is_some_and(|since| now - since >= OVERRUN_SAID_AFTER);
        if self.overrun_since.is_some() && (idle || waited) {
            self.overrun_since = None;
            warn!(lane = self.index, "a subscription was full: all feeds of the lane have a gap");
            self.tell_all(|feed| feed.lost(GapCause::SlowConsumer, None));
        }
        if reading.connected != self.seen.connected {
            let server = reading.connected.then(|| self.nats.server_version()).flatten();
            info!(lane = self.index, connected = reading.connected, server, "link to nats");
            self.status.send_replace(LaneStatus { connected: reading.connected, server });
        }
        self.seen = reading;
    }

    /// What the clock asks for.
    pub(super) fn sweep(&mut self, now: Instant) {
        let mut addressed = Vec::new();
        let mut idle = Vec::new();
        let settings = self.settings;
        let limit = now.checked_sub(settings.open_timeout);
        let refusal = Refusal::new(ErrorCode::Unavailable, "NATS is away: try again later");
        let feeds = &mut self.feeds;
        self.watched.retain(|key| {
            let Some(feed) = feeds.get_mut(key) else {
                return false;
            };
            addressed.extend(feed.check_stale(now));
            if let Some(limit) = limit {
                addressed.extend(feed.refuse(&refusal, limit, now));
            }
            if feed.is_idle(settings.linger, now) {
                idle.push(*key);
            }
            feed.needs_clock()
        });
        for key in idle {
            self.close_feed(key);
        }
        self.address(addressed);
    }

    /// Hands every shard its share; the own one by a plain call.
    pub(super) fn hand_over(&mut self) {
        for share in self.shares.iter_mut().flatten() {
            share.hand_over();
        }
        if !self.own_batch.is_empty() {
            (self.own.0)(std::mem::take(&mut self.own_batch));
        }
    }

    fn tell_all(&mut self, tell: impl Fn(&mut super::feed::Feed) -> Vec<Addressed>) {
        let addressed: Vec<_> = self.feeds.values_mut().flat_map(tell).collect();
        self.address(addressed);
    }

    fn close_feed(&mut self, key: SubscriptionKey) {
        self.subscriptions.unsubscribe(key);
        if let Some(feed) = self.feeds.remove(&key) {
            self.by_pattern.remove(feed.pattern());
        }
        self.watched.remove(&key);
    }

    fn address(&mut self, addressed: impl IntoIterator<Item = Addressed>) {
        for Addressed { shard, item } in addressed {
            match self.shares.get_mut(shard) {
                Some(Some(share)) => share.add(item),
                Some(None) => self.own_batch.push(item),
                None => warn!(shard, "a lane was asked by a shard that does not exist"),
            }
        }
    }
}
