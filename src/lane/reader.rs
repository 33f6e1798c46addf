//! Reader: a batch from NATS → feeds → one share for each shard; questions, losses and the clock take the same way.

use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tracing::error;
use tracing::info;
use tracing::warn;

use crate::lane::Lane;
use crate::lane::LaneStatus;
use crate::lane::Question;
use crate::lane::feed::Addressed;
use crate::nats::NatsError;
use crate::nats::subscription::Incoming;
use crate::nats::subscription::SubscriptionKey;
use crate::protocol::error::ErrorCode;
use crate::protocol::error::Refusal;
use crate::protocol::message::GapCause;

/// Messages taken at a time.
pub const BATCH: usize = 256;
/// Questions taken at a time.
pub const QUESTIONS: usize = 256;
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// Says that the lane does not keep up: at once, then at most once in [`COMPLAIN_EVERY`].
#[derive(Debug, Default)]
pub(super) struct Complaint {
    said: Option<Instant>,
    losses: u64,
}

impl Complaint {
    fn note(&mut self, lane: usize, now: Instant) {
        self.losses += 1;
        if self.said.is_none_or(|said| now.saturating_duration_since(said) >= COMPLAIN_EVERY) {
            warn!(lane, losses = self.losses, "messages come faster than this node reads them");
            *self = Self { said: Some(now), losses: 0 };
        }
    }
}

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
                self.complaint.note(self.index, now.0);
                self.feeds.get_mut(&key).map(|feed| feed.lost(GapCause::SlowConsumer, Some(dropped)))
            }
            Incoming::Overrun(key) => {
                self.complaint.note(self.index, now.0);
                self.feeds.get_mut(&key).map(|feed| feed.lost(GapCause::SlowConsumer, None))
            }
            Incoming::LinkLost => return self.tell_all(super::feed::Feed::link_lost),
            Incoming::Ended(key) => {
                if self.feeds.contains_key(&key) {
                    error!(lane = self.index, "a subscription is not read any more: the lane cannot go on");
                    self.is_broken = true;
                }
                None
            }
            Incoming::Opened(key) => self.feeds.get_mut(&key).map(|feed| feed.opened(now.0)),
            Incoming::Failed(key, error) => {
                warn!(lane = self.index, %error, "cannot subscribe on nats");
                let refusal = if matches!(error, NatsError::Denied) {
                    Refusal::new(ErrorCode::Forbidden, error.to_string())
                } else {
                    Refusal::new(ErrorCode::Unavailable, "NATS refused the subscription: try again later")
                };
                let addressed = self.feeds.get_mut(&key).map(|feed| feed.refuse(&refusal, now.0, now.0));
                self.close_feed(key);
                addressed
            }
        };
        self.address(addressed.into_iter().flatten());
    }

    /// Says how the link stands.
    pub(super) fn watch_link(&mut self) {
        let reading = self.nats.reading();
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
