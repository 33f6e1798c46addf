//! A lane: the feeds of the patterns that hash to one thread, and what they send to each shard. It never waits for a
//! shard or a client. `driver.rs` adds its NATS connection and the clock.

mod bell;
pub mod counts;
mod delivery_spans;
mod directory;
pub mod driver;
pub mod encoder;
pub mod feed;
pub mod feeds;
pub mod inbox;
mod keys_by_subject;
pub mod lane_index;
mod malformed_log;
mod message_headers;
mod newest_reads;
mod number_hasher;
mod pending_reads;
pub mod produced;
mod read_id;
mod reader;
pub mod recover;
pub mod shard_index;
pub mod source_stream;
pub mod stored;
mod stored_reads;
mod stream_client;
pub mod stream_reads;
mod unshown_log;
pub mod values;
mod wildcards;

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::class::Class;
use tidegate_protocol::class::Classes;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::subject::Pattern;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::hooks::Hooks;
use crate::lane::counts::FeedActivity;
use crate::lane::counts::LaneCounts;
use crate::lane::delivery_spans::DeliverySpans;
use crate::lane::directory::LaneDirectory;
use crate::lane::encoder::Encoder;
use crate::lane::feed::ShardItem;
use crate::lane::feeds::FeedLimits;
use crate::lane::feeds::Feeds;
use crate::lane::feeds::Join;
use crate::lane::inbox::Batch;
use crate::lane::inbox::ShardQueue;
use crate::lane::lane_index::LaneIndex;
use crate::lane::malformed_log::MalformedLog;
use crate::lane::pending_reads::PendingReads;
use crate::lane::produced::Produced;
use crate::lane::produced::Sampler;
use crate::lane::recover::Recover;
use crate::lane::shard_index::ShardIndex;
use crate::lane::stream_client::StreamClient;
use crate::nats::incoming::SubscriptionKey;
use crate::nats::link::Link;
use crate::telemetry::spans::Spans;

/// Events from NATS handled at a time.
const MESSAGE_BATCH: usize = 256;
/// The capacity for items that the lane keeps. Only joins and lost connections need more.
const KEPT_ITEMS: usize = 2 * MESSAGE_BATCH;
/// A request of a shard to a lane. `Join` is answered through the shard's inbox.
#[derive(Debug)]
pub enum LaneRequest {
    /// Start to send publications of this pattern in this format.
    Join(Join),
    /// Send what a channel has had after a client's position, as an [`Item::Recovered`](inbox::Item::Recovered). The shard
    /// has joined the channel. The messages are not compressed, whatever the format.
    Recover(Recover),
    /// Stop sending publications of this pattern of a class.
    Leave { shard: ShardIndex, pattern: Pattern, class: Arc<Class> },
    /// Render publications with these from now on. Formats that are in use render as before.
    Render(Renderers),
    /// Return the last values of this pattern of a class, the oldest first. Without a feed, start one if `start_feed` is
    /// set. The answer is `None` while NATS is away or has revoked the subscription.
    Last {
        pattern: Pattern,
        class: Arc<Class>,
        start_feed: bool,
        answer: oneshot::Sender<Option<Vec<Publication>>>,
    },
    /// Return how busy the feeds of these channels are, in their order. At most a few hundred, which are one turn.
    Activity { channels: Arc<[Pattern]>, answer: oneshot::Sender<Vec<Option<FeedActivity>>> },
}

/// Sends requests to a lane.
#[derive(Clone, Debug)]
pub struct LaneHandle {
    requests: mpsc::Sender<LaneRequest>,
}

impl LaneHandle {
    /// Sends a request, or returns it if the lane's queue is full.
    pub fn try_send(&self, request: LaneRequest) -> Result<(), LaneRequest> {
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(request) | mpsc::error::TrySendError::Closed(request) => request,
        })
    }

    /// How many requests wait in the lane's queue.
    pub fn waiting(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }

    /// Sends a request, and waits for room in the lane's queue. Returns the request if the lane has ended.
    pub async fn send(&self, request: LaneRequest) -> Result<(), LaneRequest> {
        self.requests.send(request).await.map_err(|error| error.0)
    }
}

/// All lanes of the node. A keyed hash, which clients cannot predict, assigns each channel to a lane; with
/// `lane = "own"`, the first shard that joins it does.
#[derive(Clone, Debug)]
pub struct Lanes {
    handles: Arc<[LaneHandle]>,
    hasher: RandomState,
    /// The lanes of subjects whose class has `lane = "own"`.
    directory: Arc<LaneDirectory>,
    /// Test hooks.
    hooks: Hooks,
}

impl Lanes {
    pub fn new(handles: Vec<LaneHandle>) -> Self {
        let (directory, hooks) = Default::default();
        Self { handles: handles.into(), hasher: RandomState::new(), directory, hooks }
    }

    /// Lets a test assign patterns to lanes.
    pub fn with_hooks(self, hooks: Hooks) -> Self {
        Self { hooks, ..self }
    }

    /// How many requests wait in the queue of each lane.
    pub fn waiting(&self) -> impl Iterator<Item = usize> {
        self.handles.iter().map(LaneHandle::waiting)
    }

    /// A shard is about to join a channel of this class: the lane to ask. All channels that share a NATS subscription
    /// have the same lane.
    pub fn join(&self, channel: &Pattern, class: &Class, shard: ShardIndex) -> LaneIndex {
        if class.has_own_lane(channel) {
            self.directory.join(channel, shard, self.on_thread_of(shard))
        } else {
            self.by_hash(class.lane_pattern(channel))
        }
    }

    /// A shard leaves a channel of this class: the lane to tell. `None` if no lane knows the channel.
    pub fn leave(&self, channel: &Pattern, class: &Class, shard: ShardIndex) -> Option<&LaneHandle> {
        let lane = if class.has_own_lane(channel) {
            self.directory.leave(channel, shard)?
        } else {
            self.by_hash(class.lane_pattern(channel))
        };
        self.get(lane)
    }

    /// The lane to ask for the last values of a channel of this class. `None` only if there are no lanes.
    pub fn with_values_of(&self, channel: &Pattern, class: &Class, shard: ShardIndex) -> Option<&LaneHandle> {
        self.get(if class.has_own_lane(channel) {
            self.directory.lane_of(channel).unwrap_or_else(|| self.on_thread_of(shard))
        } else {
            self.by_hash(class.lane_pattern(channel))
        })
    }

    /// Whether a lane has a channel that a shard has asked it for. If not, the shard has left it in the meantime.
    fn has(&self, channel: &Pattern, class: &Class, lane: LaneIndex) -> bool {
        !class.has_own_lane(channel) || self.directory.lane_of(channel) == Some(lane)
    }

    /// A lane wants to start a feed of a channel that no shard has joined. Returns false if another lane has it.
    fn claim(&self, channel: &Pattern, class: &Class, lane: LaneIndex) -> bool {
        !class.has_own_lane(channel) || self.directory.claim(channel, lane)
    }

    /// A lane has no feed of a channel, or wants to end it. Returns false if it must keep the feed.
    fn release(&self, channel: &Pattern, class: &Class, lane: LaneIndex) -> bool {
        !class.has_own_lane(channel) || self.directory.release(channel, lane)
    }

    /// The handles of all lanes.
    pub fn iter(&self) -> impl Iterator<Item = &LaneHandle> {
        self.handles.iter()
    }

    pub fn get(&self, lane: LaneIndex) -> Option<&LaneHandle> {
        self.handles.get(lane.0)
    }

    /// The lane to which the hash assigns this pattern.
    pub fn by_hash(&self, source: &Pattern) -> LaneIndex {
        let hash = self.hooks.hash(source.as_str()).unwrap_or_else(|| self.hasher.hash_one(source.as_str()));
        LaneIndex(usize::try_from(hash % self.handles.len().max(1) as u64).unwrap_or_default())
    }

    fn on_thread_of(&self, shard: ShardIndex) -> LaneIndex {
        LaneIndex(shard.0 % self.handles.len().max(1))
    }

    /// The classes whose last values this lane keeps from its start.
    pub fn kept_by(&self, lane: LaneIndex, classes: &Classes) -> Vec<Arc<Class>> {
        let is_kept =
            |class: &&Arc<Class>| class.feed == FeedBy::Always && self.by_hash(&class.pattern) == lane;
        classes.iter().filter(is_kept).cloned().collect()
    }
}

/// The state of a lane, for readiness checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneStatus {
    /// Whether both NATS connections are up: the one for feeds, and the one for requests.
    pub connected: bool,
    /// The version of the server that the connection for feeds uses, or of one that is too old to be used.
    pub server: Option<String>,
}

/// Delivers the items of a batch to the shard on the lane's own thread, by a direct call.
#[derive(Clone)]
pub struct LocalShard(pub Rc<DeliverItems>);

/// Empties the batch. The flag says whether the lane is about to have more.
pub type DeliverItems = dyn Fn(&mut Batch, bool);

#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// How long to keep a feed that no shard wants any more.
    pub linger: Duration,
    /// The limits of its feeds.
    pub feeds: FeedLimits,
    /// What the subjects of replies to this node begin with.
    pub inbox_prefix: Arc<str>,
}

/// What a lane is made of, except for its NATS connection.
pub struct LaneParts {
    /// The number of the lane, and of the shard on its thread.
    pub index: LaneIndex,
    /// All lanes of the node.
    pub lanes: Lanes,
    /// The queues to the shards of other threads, by shard number; `None` for the lane's own shard.
    pub shard_queues: Vec<Option<ShardQueue>>,
    /// The shard on the lane's own thread.
    pub local_shard: LocalShard,
    pub settings: LaneSettings,
    pub encoder: Encoder,
    /// Records spans, if they are exported.
    pub spans: Option<Arc<Spans>>,
    /// Test hooks.
    pub hooks: Hooks,
}

/// The feeds of one NATS connection, as a state machine: events in, batches for shards out. Its caller has the socket and
/// the clock.
pub struct Lane {
    index: LaneIndex,
    lanes: Lanes,
    feeds: Feeds<SubscriptionKey>,
    /// What its stored feeds read.
    streams: StreamClient,
    pending_reads: PendingReads<SubscriptionKey>,
    /// Whether a read has started that has not been polled yet.
    has_new_read: bool,
    /// The patterns of subscriptions that the server has confirmed.
    opened: Vec<Pattern>,
    hooks: Hooks,
    /// Items of the feeds that have not been assigned to a shard's queue yet.
    outgoing: Vec<ShardItem>,
    shard_queues: Vec<Option<ShardQueue>>,
    local_shard: LocalShard,
    local_batch: Batch,
    linger: Duration,
    encoder: Encoder,
    counts: Rc<LaneCounts>,
    /// Chooses the messages whose time of production is read.
    sampler: Sampler,
    /// When one of the messages that have not been flushed was produced.
    produced: Option<Produced>,
    /// Only with `traces.deliveries`.
    delivery_spans: Option<Box<DeliverySpans>>,
    malformed_log: MalformedLog,
}

/// Creates the request queue of a lane, which holds at most `capacity` requests.
pub fn requests(capacity: usize) -> (LaneHandle, mpsc::Receiver<LaneRequest>) {
    let (requests, receiver) = mpsc::channel(capacity);
    (LaneHandle { requests }, receiver)
}

impl Lane {
    /// A lane without feeds.
    pub fn new(parts: LaneParts) -> Self {
        let LaneParts { index, lanes, shard_queues, local_shard, settings, encoder, spans, hooks } = parts;
        Self {
            index,
            lanes,
            feeds: Feeds::new(settings.feeds, encoder.renderers().clone()),
            streams: StreamClient::new(&settings.inbox_prefix),
            pending_reads: PendingReads::new(),
            has_new_read: false,
            opened: Vec::new(),
            hooks,
            outgoing: Vec::new(),
            shard_queues,
            local_shard,
            local_batch: Batch::default(),
            linger: settings.linger,
            counts: Rc::clone(encoder.counts()),
            encoder,
            sampler: Sampler::default(),
            produced: None,
            delivery_spans: DeliverySpans::new(spans.as_ref()),
            malformed_log: MalformedLog::default(),
        }
    }

    /// The number of the lane.
    pub fn index(&self) -> LaneIndex {
        self.index
    }

    /// Its feeds.
    pub fn feeds(&self) -> &Feeds<SubscriptionKey> {
        &self.feeds
    }

    /// Keeps the last values of these classes from now on.
    pub fn keep(&mut self, classes: &[Arc<Class>], link: &mut Link, now: (Instant, SystemTime)) {
        for class in classes {
            self.feeds.keep(class, now, |pattern| link.subscribe(pattern));
        }
    }

    /// Ready when a pending read has finished: returns its subscription, for [`Lane::open`].
    pub fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<SubscriptionKey> {
        self.pending_reads.poll_next(context)
    }

    /// Whether a read has started since the last call: [`Lane::poll_read`] has to poll it.
    pub fn take_new_read(&mut self) -> bool {
        std::mem::take(&mut self.has_new_read)
    }

    /// The patterns whose subscriptions the server has confirmed since the last call.
    pub fn take_opened(&mut self) -> std::vec::Drain<'_, Pattern> {
        self.opened.drain(..)
    }

    /// Counts the subscriptions on NATS.
    pub fn count_subscriptions(&self) {
        self.counts.set_subscriptions(self.feeds.subscriptions());
    }

    /// Counts a round trip to NATS, and how often a connection has ended because the lane read too slowly.
    pub fn count_link(&self, round_trip: Option<Duration>, slow_ends: u64) {
        if let Some(round_trip) = round_trip {
            self.counts.count_round_trip(round_trip);
        }
        self.counts.set_slow_ends(slow_ends);
    }

    /// Counts that the lane is connected again.
    pub fn count_connect(&self) {
        self.counts.count_connect();
    }
}
