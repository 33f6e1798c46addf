//! `LaneDriver`: the NATS connection, the timer and the requests of a lane. It has the clock, and calls the lane.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::class::Class;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::lane::Lane;
use crate::lane::LaneRequest;
use crate::lane::LaneStatus;
use crate::lane::MESSAGE_BATCH;
use crate::lane::bell::Bell;
use crate::nats::Nats;
use crate::nats::subscription::Subscriptions;
use crate::telemetry::limit::LogLimit;

/// How often feeds are checked that may become stale or that no shard wants any more, and how often a shard whose inbox
/// was full is tried again.
pub const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// Requests of shards handled at a time.
const REQUEST_BATCH: usize = 256;

/// What a driver is made of, besides its lane.
pub struct LaneDriverParts {
    pub nats: Nats,
    /// The requests of shards.
    pub requests: mpsc::Receiver<LaneRequest>,
    /// Where the lane reports its state.
    pub status: watch::Sender<LaneStatus>,
    /// The classes whose last values it keeps from its start.
    pub kept: Vec<Arc<Class>>,
}

/// A lane, its NATS connection, and the other sources of its events.
pub struct LaneDriver {
    lane: Lane,
    nats: Nats,
    subscriptions: Subscriptions,
    requests: mpsc::Receiver<LaneRequest>,
    /// Rings when there may be something other than messages.
    bell: Bell,
    status: watch::Sender<LaneStatus>,
    /// The state that it has reported.
    reported: LaneStatus,
    kept: Vec<Arc<Class>>,
    /// Limits the log lines about the connections.
    link_log: LogLimit,
}

impl LaneDriver {
    /// A lane without a connection.
    pub fn new(lane: Lane, parts: LaneDriverParts) -> Self {
        let LaneDriverParts { nats, requests, status, kept } = parts;
        Self {
            lane,
            subscriptions: Subscriptions::new(&nats),
            nats,
            requests,
            bell: Bell::new(),
            reported: LaneStatus::default(),
            status,
            kept,
            link_log: LogLimit::per_second(1),
        }
    }

    /// Runs until `stop`, then closes the connections. A turn usually handles messages and nothing else: so only their
    /// socket is polled each time, and the other sources when the bell has rung.
    pub async fn run(mut self, stop: CancellationToken) {
        // Armed only when needed: on an idle node a timer would be most of the lane's work.
        let (mut sweep_timer, mut is_sweep_armed) = (pin!(tokio::time::sleep(SWEEP_EVERY)), false);
        let nats = self.nats.clone();
        let (mut stopped, mut changed) = (pin!(stop.cancelled()), pin!(nats.changed()));
        let mut requested = Vec::new();
        let mut read = Vec::new();
        let mut incoming = Vec::new();
        self.keep_values();
        loop {
            let (mut is_stopped, mut is_sweep_due) = (false, false);
            {
                let mut messages = pin!(self.subscriptions.ready());
                let mut poll_rare = |context: &mut Context<'_>| {
                    is_stopped = stopped.as_mut().poll(context).is_ready();
                    is_sweep_due = is_sweep_armed && sweep_timer.as_mut().poll(context).is_ready();
                    let is_changed = changed.as_mut().poll(context).is_ready();
                    if is_changed {
                        changed.set(nats.changed());
                    }
                    let _ = self.requests.poll_recv_many(context, &mut requested, REQUEST_BATCH);
                    let _ = self.lane.poll_read(context).map(|key| read.push(key));
                    let is_timely = is_stopped || is_sweep_due || is_changed;
                    if is_timely || !requested.is_empty() || !read.is_empty() {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                };
                poll_fn(|context| {
                    let rare = self.bell.poll_if_rung(context, &mut poll_rare);
                    // The socket is polled in any case, so that neither kind of source delays the other.
                    if messages.as_mut().poll(context).is_ready() { Poll::Ready(()) } else { rare }
                })
                .await;
            }
            if is_stopped {
                break;
            }
            let now = (Instant::now(), SystemTime::now());
            if is_sweep_due {
                self.lane.sweep(self.subscriptions.link(), now);
                is_sweep_armed = false;
            }
            for request in requested.drain(..) {
                self.lane.on_request(request, self.subscriptions.link(), now);
            }
            for key in read.drain(..) {
                self.lane.open(key, now.0);
            }
            self.subscriptions.take(MESSAGE_BATCH, &mut incoming);
            for incoming in incoming.drain(..) {
                self.lane.on_incoming(incoming, self.subscriptions.link(), now);
            }
            self.lane.start_newest_reads(self.subscriptions.link(), now);
            self.warn_of_denials();
            self.report_links();
            self.lane.flush_shard_queues(now.0, self.subscriptions.may_have_more());
            let is_sweep_needed = !is_sweep_armed && self.lane.needs_sweep();
            if is_sweep_needed {
                sweep_timer.as_mut().reset(tokio::time::Instant::now() + SWEEP_EVERY);
                is_sweep_armed = true;
            }
            if self.lane.take_new_read() || is_sweep_needed {
                self.bell.ring();
            }
            // Let other tasks of this thread run, however much there is. With nothing left the loop waits anyway.
            if self.subscriptions.may_have_more() || self.bell.has_rung() {
                tokio::task::yield_now().await;
            }
        }
        nats.close().await;
    }

    /// Starts to keep the last values of classes.
    fn keep_values(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        self.lane.keep(&kept, self.subscriptions.link(), (Instant::now(), SystemTime::now()));
    }

    /// Warns of wildcards that NATS has confirmed, and of which it denies a part.
    fn warn_of_denials(&mut self) {
        for pattern in self.lane.take_opened() {
            self.nats.warn_if_partly_denied(&pattern);
        }
    }

    /// Reports whether both connections are up: the one for feeds, and the one for requests.
    fn report_links(&mut self) {
        self.lane.count_subscriptions();
        self.lane.count_link(self.subscriptions.take_round_trip(), self.subscriptions.slow_ends());
        let connected = self.subscriptions.is_answering() && self.nats.is_ready();
        let server = self.subscriptions.server_version();
        let was = self.reported.connected;
        if was == connected && self.reported.server.as_deref() == server {
            return;
        }
        self.reported = LaneStatus { connected, server: server.map(str::to_owned) };
        self.status.send_replace(self.reported.clone());
        if connected && !was {
            self.lane.count_connect();
        }
        if connected != was
            && let Some(suppressed) = self.link_log.pass()
        {
            let message = if connected { "lane connected to nats" } else { "lane disconnected from nats" };
            info!(lane = self.lane.index().0, connected, suppressed, "{message}");
        }
    }
}
