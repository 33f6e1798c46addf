//! The event handlers of a lane: messages and events from NATS, requests of shards and timers become items in each
//! shard's queue. They neither wait nor read the clock.

use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::subject::Pattern;
use tracing::error;
use tracing::warn;

use crate::lane::KEPT_ITEMS;
use crate::lane::Lane;
use crate::lane::LaneRequest;
use crate::lane::feed::Feed;
use crate::lane::feed::ShardItem;
use crate::lane::inbox::ShardQueue;
use crate::lane::produced::Produced;
use crate::lane::shard_index::ShardIndex;
use crate::nats::error::NatsError;
use crate::nats::incoming::Incoming;
use crate::nats::incoming::SubscriptionKey;
use crate::nats::link::Link;
use crate::telemetry::limit::LogLimit;

/// Clients cause rejected subscriptions at any rate, and NATS can revoke all subscriptions at once.
static REJECTED: LogLimit = LogLimit::per_second(1);
static REVOKED: LogLimit = LogLimit::per_second(1);

impl Lane {
    /// Handles a request of a shard. `link` has the lane's subscriptions.
    pub fn on_request(&mut self, request: LaneRequest, link: &mut Link, now: (Instant, SystemTime)) {
        match request {
            // Another lane may have the channel by now, and must be the only one.
            LaneRequest::Join(join) if !self.lanes.has(&join.pattern, &join.class, self.index) => {}
            LaneRequest::Join(join) => {
                let subscribe = |pattern: &Pattern| link.subscribe(pattern);
                self.feeds.join(join, now, subscribe, &mut self.outgoing);
            }
            LaneRequest::Recover(recover) => self.recover(recover, now),
            LaneRequest::Last { pattern, class, start_feed, answer } => {
                let start_feed = start_feed && self.lanes.claim(&pattern, &class, self.index);
                let subscribe = |pattern: &Pattern| link.subscribe(pattern);
                let known = self.feeds.last(pattern, class, start_feed, now, subscribe);
                // The caller may have stopped waiting.
                let _ = answer.send(known.filter(|_| link.is_up()));
            }
            LaneRequest::Activity { channels, answer } => {
                let activity = |channel: &Pattern| self.feeds.activity(channel);
                let _ = answer.send(channels.iter().map(activity).collect());
            }
            LaneRequest::Render(renderers) => {
                self.encoder.change_renderers(renderers.clone());
                self.feeds.change_renderers(renderers);
            }
            LaneRequest::Leave { shard, pattern, class } => {
                if !self.feeds.leave(shard, &pattern, now.0) {
                    self.lanes.release(&pattern, &class, self.index);
                }
            }
        }
        self.serve_streams(link, now);
        self.route_outgoing();
    }

    /// Handles an event of `link`.
    pub fn on_incoming(&mut self, incoming: Incoming, link: &mut Link, now: (Instant, SystemTime)) {
        let outgoing = &mut self.outgoing;
        match incoming {
            Incoming::Message(key, message) if self.streams.reads.is_inbox(key) => {
                self.on_answer(&message, link, now);
            }
            Incoming::Message(key, message) => {
                if self.sampler.is_sample() {
                    self.produced = Produced::of(&message);
                }
                if let Some(spans) = &mut self.delivery_spans {
                    spans.begin(&message, self.feeds.class_pattern_of(key));
                }
                if self.feeds.publish(key, &message, now, &mut self.encoder, outgoing).is_err() {
                    self.malformed_log.record(self.index, self.feeds.pattern_of(key), now.0);
                }
            }
            Incoming::Malformed(key) => {
                self.malformed_log.record(self.index, self.feeds.pattern_of(key), now.0);
                self.feeds.malformed(key, outgoing);
            }
            Incoming::LinkLost => {
                self.pending_reads.cancel_all();
                self.lose_streams();
                let outgoing = &mut self.outgoing;
                self.feeds.link_lost(outgoing);
            }
            Incoming::Interrupted(key) => {
                let (lane, pattern) = (self.index.0, self.feeds.pattern_of(key).map(Pattern::as_str));
                if let Some(suppressed) = REVOKED.pass() {
                    let message =
                        "nats revoked a subscription: check the permissions of this node's nats user";
                    error!(lane, pattern, suppressed, "{message}");
                }
                self.pending_reads.cancel(key);
                self.feeds.interrupted(key, outgoing);
            }
            Incoming::Opened(key) => {
                if self.hooks.is_opening_delayed(self.index.0) {
                    let (hooks, lane) = (self.hooks.clone(), self.index.0);
                    self.pending_reads.start(key, async move { hooks.pass_opening(lane).await });
                    self.has_new_read = true;
                } else {
                    self.feeds.opened(key, now.0, outgoing);
                }
                self.opened.extend(self.feeds.pattern_of(key).cloned());
            }
            Incoming::Failed(key, _) if self.streams.reads.is_inbox(key) => {
                self.streams.reads.lose_inbox();
            }
            Incoming::Failed(key, error) => {
                let error = self.error(key, &error);
                let (lanes, index) = (&self.lanes, self.index);
                let ended = |feed: &Feed| {
                    // A shard that has joined keeps the channel until it leaves.
                    lanes.release(feed.pattern(), &feed.class(), index);
                };
                self.feeds.failed(key, &error, now.0, ended, &mut self.outgoing);
                self.unsubscribe(key, link);
            }
        }
        self.serve_streams(link, now);
        self.route_outgoing();
    }

    /// The pending read of a subscription has finished: its feeds open.
    pub fn open(&mut self, key: SubscriptionKey, now: Instant) {
        self.feeds.opened(key, now, &mut self.outgoing);
        self.route_outgoing();
    }

    /// The error for clients that wait for a rejected subscription. Also logs what the operator can do.
    fn error(&self, key: SubscriptionKey, error: &NatsError) -> ClientError {
        let (lane, pattern) = (self.index.0, self.feeds.pattern_of(key).map(Pattern::as_str));
        let denied = matches!(error, NatsError::Denied);
        let suppressed = REJECTED.pass();
        if let Some(suppressed) = suppressed
            && denied
            && self.feeds.is_shared(key)
        {
            error!(
                lane,
                pattern,
                suppressed,
                "nats denied the pattern of a class with feed = \"pattern\" or snapshot = \"always\": allow it for this \
                 node's nats user, or change these keys"
            );
        } else if let Some(suppressed) = suppressed {
            let message = if denied {
                "nats denied a subscription: allow it for this node's nats user, or forbid it in [[role]]"
            } else {
                "nats rejected a subscription: see `error`, and check the limits of nats-server"
            };
            warn!(lane, pattern, %error, suppressed, "{message}");
        }
        if denied {
            ClientError::new(ErrorCode::Forbidden, error.to_string())
        } else {
            ClientError::new(ErrorCode::Unavailable, "NATS rejected the subscription: try again later")
        }
    }

    /// Handles what is due by time.
    pub fn sweep(&mut self, link: &mut Link, now: (Instant, SystemTime)) {
        self.advance_streams(link, now);
        let now = now.0;
        let (lanes, index) = (&self.lanes, self.index);
        let may_end = |feed: &Feed| lanes.release(feed.pattern(), &feed.class(), index);
        for key in self.feeds.sweep(self.linger, now, may_end, &mut self.outgoing) {
            self.unsubscribe(key, link);
        }
        self.route_outgoing();
    }

    /// Unsubscribes, and cancels the subscription's pending read.
    fn unsubscribe(&mut self, key: SubscriptionKey, link: &mut Link) {
        self.pending_reads.cancel(key);
        link.unsubscribe(key);
    }

    /// Delivers what is queued for each shard; to the shard on this thread by a direct call. It was read from NATS at
    /// `received`; `more` says whether the lane is about to have more.
    pub fn flush_shard_queues(&mut self, received: Instant, more: bool) {
        let produced = self.produced.take();
        for (shard, shard_queue) in self.shard_queues.iter_mut().enumerate() {
            let Some(shard_queue) = shard_queue else { continue };
            shard_queue.set_received(received, produced);
            shard_queue.flush();
            let lost = shard_queue.take_lost();
            if lost > 0 {
                self.counts.count_lost(ShardIndex(shard), lost);
            }
        }
        if !self.local_batch.is_empty() {
            self.local_batch.received = Some(received);
            self.local_batch.produced = produced;
            (self.local_shard.0)(&mut self.local_batch, more);
            self.local_batch.items.shrink_to(KEPT_ITEMS);
            self.outgoing.shrink_to(KEPT_ITEMS);
        }
        if let Some(spans) = &mut self.delivery_spans {
            spans.end();
        }
    }

    /// Whether [`Lane::sweep`], or another [`Lane::flush_shard_queues`], may have something to do as time passes.
    pub fn needs_sweep(&self) -> bool {
        self.feeds.needs_sweep() || self.has_backlog() || self.streams_need_sweep()
    }

    /// Whether a shard's inbox had no room for something that waits for it.
    pub fn has_backlog(&self) -> bool {
        self.shard_queues.iter().flatten().any(ShardQueue::has_backlog)
    }

    fn route_outgoing(&mut self) {
        for ShardItem { shard, item } in self.outgoing.drain(..) {
            match self.shard_queues.get_mut(shard.0) {
                Some(Some(shard_queue)) => shard_queue.add(item),
                Some(None) => self.local_batch.push(item),
                None => {
                    warn!(
                        shard = shard.0,
                        "a lane has an item for a shard that does not exist: report this as a bug"
                    )
                }
            }
        }
    }
}
