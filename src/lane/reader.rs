//! Reader: a batch from NATS → feeds → one share for each shard; questions, losses and the clock take the same way.

use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::subject::Pattern;
use tracing::error;
use tracing::info;
use tracing::warn;

use crate::lane::Lane;
use crate::lane::LaneRequest;
use crate::lane::LaneStatus;
use crate::lane::feed::ShardItem;
use crate::nats::error::NatsError;
use crate::nats::incoming::Incoming;
use crate::nats::incoming::SubscriptionKey;
use crate::telemetry::limit::LogLimit;

/// Subscriptions that NATS refuses come as fast as clients ask for them, and those that it takes back all at once.
static REFUSED: LogLimit = LogLimit::per_second(1);
static TAKEN_BACK: LogLimit = LogLimit::per_second(1);

impl Lane {
    pub(super) fn answer(&mut self, question: LaneRequest, now: (Instant, SystemTime)) {
        match question {
            LaneRequest::Join(join) => {
                let subscribe = |pattern: &Pattern| self.subscriptions.subscribe(pattern);
                self.feeds.join(join, now, subscribe, &mut self.outgoing);
            }
            LaneRequest::Last { pattern, begins, answer } => {
                let subscribe = |pattern: &Pattern| self.subscriptions.subscribe(pattern);
                let known = self.feeds.last(pattern, begins, now, subscribe);
                // Whoever asked may have gone.
                let _ = answer.send(known.filter(|_| self.subscriptions.is_connected()));
            }
            LaneRequest::Leave { shard, pattern } => self.feeds.leave(shard, &pattern, now.0),
        }
        self.address();
    }

    pub(super) fn on_incoming(&mut self, incoming: Incoming, now: (Instant, SystemTime)) {
        let outgoing = &mut self.outgoing;
        match incoming {
            Incoming::Message(key, message) => {
                if self.feeds.publish(key, &message, now, &mut self.encoder, outgoing).is_err() {
                    self.complaint.note(self.index, self.feeds.pattern_of(key), now.0);
                }
            }
            Incoming::Malformed(key) => {
                self.complaint.note(self.index, self.feeds.pattern_of(key), now.0);
                self.feeds.malformed(key, outgoing);
            }
            Incoming::LinkLost => {
                self.waits.forget_all();
                self.feeds.link_lost(outgoing);
            }
            Incoming::Interrupted(key) => {
                let (lane, pattern) = (self.index, self.feeds.pattern_of(key).map(Pattern::as_str));
                if let Some(suppressed) = TAKEN_BACK.pass() {
                    let advice = "nats takes a subscription back: has what this node may do changed?";
                    error!(lane, pattern, suppressed, "{advice}");
                }
                self.waits.forget(key);
                self.feeds.interrupted(key, outgoing);
            }
            Incoming::Opened(key) => {
                if self.hooks.is_opening_held_up(self.index) {
                    let (hooks, lane) = (self.hooks.clone(), self.index);
                    self.waits.begin(key, async move { hooks.pass_opening(lane).await });
                } else {
                    self.feeds.opened(key, now.0, outgoing);
                }
                if let Some(pattern) = self.feeds.pattern_of(key) {
                    self.nats.warn_if_partly_denied(pattern);
                }
            }
            Incoming::Failed(key, error) => {
                let refusal = self.refusal(key, &error);
                self.feeds.failed(key, &refusal, now.0, &mut self.outgoing);
                self.unsubscribe(key);
            }
        }
        self.address();
    }

    /// The feeds of a subscription open, now that what they waited for is here.
    pub(super) fn open(&mut self, key: SubscriptionKey, now: Instant) {
        self.feeds.opened(key, now, &mut self.outgoing);
        self.address();
    }

    /// Why no one can join the feeds of a subscription, for clients; and in the log, what to do about it.
    fn refusal(&self, key: SubscriptionKey, error: &NatsError) -> ClientError {
        let (lane, pattern) = (self.index, self.feeds.pattern_of(key).map(Pattern::as_str));
        let denied = matches!(error, NatsError::Denied);
        let suppressed = REFUSED.pass();
        if let Some(suppressed) = suppressed
            && denied
            && self.feeds.is_shared(key)
        {
            error!(
                lane,
                pattern,
                suppressed,
                "nats does not let this node subscribe to the pattern of a class with feed = \"pattern\": allow it to \
                 the node's user on nats, or set feed = \"subject\""
            );
        } else if let Some(suppressed) = suppressed {
            warn!(lane, pattern, %error, suppressed, "cannot subscribe on nats");
        }
        if denied {
            ClientError::new(ErrorCode::Forbidden, error.to_string())
        } else {
            ClientError::new(ErrorCode::Unavailable, "NATS refused the subscription: try again later")
        }
    }

    /// Reports the state of both links: the one for feeds, and the one for requests.
    pub(super) fn watch_links(&mut self) {
        let connected = self.subscriptions.is_answering() && self.nats.is_ready();
        let server = self.subscriptions.server_version();
        let was = {
            let status = self.status.borrow();
            if status.connected == connected && status.server.as_deref() == server {
                return;
            }
            status.connected
        };
        self.status.send_replace(LaneStatus { connected, server: server.map(str::to_owned) });
        if connected != was
            && let Some(suppressed) = self.links.pass()
        {
            let now = if connected { "connected to nats" } else { "disconnected from nats" };
            info!(lane = self.index, suppressed, "lane {now}");
        }
    }

    /// What the clock asks for.
    pub(super) fn sweep(&mut self, now: Instant) {
        for key in self.feeds.sweep(self.linger, now, &mut self.outgoing) {
            self.unsubscribe(key);
        }
        self.address();
    }

    /// Ends a subscription, and with it what its feeds wait for.
    fn unsubscribe(&mut self, key: SubscriptionKey) {
        self.waits.forget(key);
        self.subscriptions.unsubscribe(key);
    }

    /// Hands every shard its share; the own one by a plain call.
    pub(super) fn flush_shares(&mut self) {
        for share in self.shares.iter_mut().flatten() {
            share.flush_shares();
        }
        if !self.own_batch.is_empty() {
            (self.own.0)(std::mem::take(&mut self.own_batch));
        }
    }

    fn address(&mut self) {
        for ShardItem { shard, item } in self.outgoing.drain(..) {
            match self.shares.get_mut(shard) {
                Some(Some(share)) => share.add(item),
                Some(None) => self.own_batch.push(item),
                None => warn!(shard, "a lane was asked by a shard that does not exist"),
            }
        }
    }
}
