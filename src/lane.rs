//! Lane: one NATS connection and the feeds whose subjects hash to it. It waits for no shard and no client.

mod complaint;
pub mod encoder;
pub mod feed;
pub mod feeds;
pub mod inbox;
pub mod lane_index;
mod reader;
pub mod shard_index;
pub mod values;
mod waits;
mod wildcards;

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::class::Class;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::subject::Pattern;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::hooks::Hooks;
use crate::lane::complaint::MalformedComplaint;
use crate::lane::encoder::Encoder;
use crate::lane::feed::ShardItem;
use crate::lane::feeds::FeedLimits;
use crate::lane::feeds::Feeds;
use crate::lane::feeds::Join;
use crate::lane::inbox::Batch;
use crate::lane::inbox::Share;
use crate::lane::lane_index::LaneIndex;
use crate::lane::shard_index::ShardIndex;
use crate::lane::waits::Waits;
use crate::nats::Nats;
use crate::nats::incoming::SubscriptionKey;
use crate::nats::subscription::Subscriptions;
use crate::telemetry::limit::LogLimit;

/// Messages from NATS taken at a time.
const BATCH: usize = 256;
/// Questions taken at a time.
const QUESTIONS: usize = 256;

/// What a shard asks of a lane. Answers come through the shard's inbox.
#[derive(Debug)]
pub enum LaneRequest {
    /// Send publications of this pattern in this format from now on.
    Join(Join),
    /// Send nothing of this pattern any more.
    Leave { shard: ShardIndex, pattern: Pattern },
    /// Which are the last values of this pattern, the oldest first? If there is no feed of it, one of this class begins.
    /// The answer is `None` while NATS is away or has taken the subscription back.
    Last { pattern: Pattern, begins: Option<Arc<Class>>, answer: oneshot::Sender<Option<Vec<Publication>>> },
}

/// The way into a lane.
#[derive(Clone, Debug)]
pub struct LaneHandle {
    questions: mpsc::Sender<LaneRequest>,
}

impl LaneHandle {
    /// Asks, or gives the question back if the lane has too many.
    pub fn ask(&self, question: LaneRequest) -> Result<(), LaneRequest> {
        self.questions.try_send(question).map_err(|error| match error {
            mpsc::error::TrySendError::Full(question) | mpsc::error::TrySendError::Closed(question) => {
                question
            }
        })
    }

    /// Asks as soon as there is room. An error if the lane has ended.
    pub async fn ask_when_free(&self, question: LaneRequest) -> Result<(), LaneRequest> {
        self.questions.send(question).await.map_err(|error| error.0)
    }
}

/// All lanes of the node, and which of them owns a channel: by a hash that no client can choose.
#[derive(Clone, Debug)]
pub struct Lanes {
    handles: Arc<[LaneHandle]>,
    hasher: RandomState,
}

impl Lanes {
    /// The lanes behind these ways in.
    pub fn new(handles: Vec<LaneHandle>) -> Self {
        Self { handles: handles.into(), hasher: RandomState::new() }
    }

    /// The lane that has the NATS subscription on this pattern, by number.
    pub fn index_of(&self, source: &Pattern) -> LaneIndex {
        let hash = self.hasher.hash_one(source.as_str());
        LaneIndex(usize::try_from(hash % self.handles.len().max(1) as u64).unwrap_or_default())
    }

    /// The lane of this number.
    pub fn get(&self, lane: LaneIndex) -> Option<&LaneHandle> {
        self.handles.get(lane.0)
    }

    /// The lane that owns a channel of this class: all channels that share a NATS subscription have one lane. `None`
    /// only if there are no lanes.
    pub fn of(&self, channel: &Pattern, class: &Class) -> Option<&LaneHandle> {
        self.get(self.index_of(class.feed_pattern(channel)))
    }
}

/// The state of a lane, for those who watch the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneStatus {
    /// Whether both links to NATS are up: the one for feeds, and the one for requests.
    pub connected: bool,
    /// The version of the server that the link for feeds is to, or that was left because it is too old.
    pub server: Option<String>,
}

/// Where a lane's batch for the shard on its own thread goes: a plain call.
#[derive(Clone)]
pub struct OwnShard(pub Rc<dyn Fn(Batch)>);

/// By which figures a lane lives.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// How long a feed is kept when no one wants it any more.
    pub linger: Duration,
    /// How much its feeds may take.
    pub feeds: FeedLimits,
}

/// One end of everything that a lane is connected to.
pub struct LaneParts {
    /// Its number: that of the thread's shard too.
    pub index: LaneIndex,
    /// Its connection.
    pub nats: Nats,
    /// What it is asked.
    pub questions: mpsc::Receiver<LaneRequest>,
    /// The shards of other threads, by number; `None` for its own.
    pub shares: Vec<Option<Share>>,
    /// The shard of its own thread.
    pub own: OwnShard,
    /// Where it reports its state.
    pub status: watch::Sender<LaneStatus>,
    /// Its figures.
    pub settings: LaneSettings,
    /// Makes its frames.
    pub encoder: Encoder,
    /// What tests do to it.
    pub hooks: Hooks,
}

/// One NATS connection and its feeds.
pub struct Lane {
    index: LaneIndex,
    nats: Nats,
    subscriptions: Subscriptions,
    questions: mpsc::Receiver<LaneRequest>,
    feeds: Feeds<SubscriptionKey>,
    waits: Waits<SubscriptionKey>,
    hooks: Hooks,
    /// What the feeds have told and no one has been given yet.
    outgoing: Vec<ShardItem>,
    shares: Vec<Option<Share>>,
    own: OwnShard,
    own_batch: Batch,
    status: watch::Sender<LaneStatus>,
    linger: Duration,
    encoder: Encoder,
    complaint: MalformedComplaint,
    /// How often it says whether it is connected.
    links: LogLimit,
}

/// A way into a lane of at most `capacity` questions, and its other end.
pub fn questions(capacity: usize) -> (LaneHandle, mpsc::Receiver<LaneRequest>) {
    let (questions, receiver) = mpsc::channel(capacity);
    (LaneHandle { questions }, receiver)
}

impl Lane {
    /// A lane without feeds.
    pub fn new(parts: LaneParts) -> Self {
        let LaneParts { index, nats, questions, shares, own, status, settings, encoder, hooks } = parts;
        Self {
            index,
            subscriptions: Subscriptions::new(&nats),
            nats,
            questions,
            feeds: Feeds::new(settings.feeds, encoder.renderers().clone()),
            waits: Waits::new(),
            hooks,
            outgoing: Vec::new(),
            shares,
            own,
            own_batch: Batch::default(),
            status,
            linger: settings.linger,
            encoder,
            complaint: MalformedComplaint::default(),
            links: LogLimit::per_second(1),
        }
    }

    /// Works until `stop`, then closes the connections.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let nats = self.nats.clone();
        let mut stopped = pin!(stop.cancelled());
        let mut asked = Vec::new();
        let mut read = Vec::new();
        let mut incoming = Vec::new();
        loop {
            tokio::select! {
                () = &mut stopped => break,
                () = self.subscriptions.ready() => {}
                key = self.waits.next() => read.push(key),
                _ = self.questions.recv_many(&mut asked, QUESTIONS) => {}
                () = nats.changed() => {}
                _ = tick.tick() => self.sweep(Instant::now()),
            }
            let now = (Instant::now(), SystemTime::now());
            for question in asked.drain(..) {
                self.answer(question, now);
            }
            for key in read.drain(..) {
                self.open(key, now.0);
            }
            self.subscriptions.take(BATCH, &mut incoming);
            for incoming in incoming.drain(..) {
                self.on_incoming(incoming, now);
            }
            self.watch_links();
            self.flush_shares();
            // Others have their turn, however much there is. With nothing left it waits anyway.
            if self.subscriptions.may_have_more() {
                tokio::task::yield_now().await;
            }
        }
        nats.close().await;
    }
}
