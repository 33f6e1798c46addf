//! The node of a run: shards and lanes as `shard.rs` connects them, without sockets, tasks and clocks.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use bytes::BytesMut;
use tidegate::auth::Authenticator;
use tidegate::config::Config;
use tidegate::config::limits::UserLimitPolicy;
use tidegate::connection::context::Context;
use tidegate::connection::context::ContextParts;
use tidegate::connection::settings::ConnectionSettings;
use tidegate::connection::table::Connections;
use tidegate::hooks::Faults;
use tidegate::hooks::Hooks;
use tidegate::lane;
use tidegate::lane::Lane;
use tidegate::lane::LaneParts;
use tidegate::lane::LaneRequest;
use tidegate::lane::LaneSettings;
use tidegate::lane::Lanes;
use tidegate::lane::LocalShard;
use tidegate::lane::driver::SWEEP_EVERY;
use tidegate::lane::encoder::CompressionSettings;
use tidegate::lane::encoder::Encoder;
use tidegate::lane::feeds::FeedLimits;
use tidegate::lane::inbox;
use tidegate::lane::inbox::Inbox;
use tidegate::lane::inbox::InboxSender;
use tidegate::lane::inbox::ShardQueue;
use tidegate::lane::lane_index::LaneIndex;
use tidegate::lane::shard_index::ShardIndex;
use tidegate::lane::values::ValueLimits;
use tidegate::nats::Nats;
use tidegate::nats::control::ControlConnection;
use tidegate::nats::incoming::Incoming;
use tidegate::nats::info::ServerInfo;
use tidegate::nats::link::Link;
use tidegate::node::Node;
use tidegate::node::address_limiter::AddressLimiter;
use tidegate::node::address_limiter::AddressLimits;
use tidegate::node::admission::Admission;
use tidegate::node::admission::AdmissionLimits;
use tidegate::node::answer_budget::AnswerBudget;
use tidegate::node::answer_budget::AnswerLimits;
use tidegate::node::call_limiter::CallLimiter;
use tidegate::node::call_limiter::CallLimits;
use tidegate::node::connection_counts::ConnectionCounts;
use tidegate::node::counts::NodeCounts;
use tidegate::node::current::Current;
use tidegate::node::latest_connections::LatestConnections;
use tidegate::node::limits::ConnectionLimits;
use tidegate::node::readiness::Readiness;
use tidegate::node::refusals::Refusals;
use tidegate::node::refused_requests::RefusedRequests;
use tidegate::node::revocations::Revocations;
use tidegate::node::services::SubscribeServices;
use tidegate::node::tickets::Tickets;
use tidegate::node::user_slots::UserSlots;
use tidegate::shard::pump::Pump;
use tidegate_protocol::class::Classes;
use tidegate_protocol::session::limits::Rate;
use tidegate_protocol::session::now::Now;
use tidegate_protocol::session::settings::Settings;
use tidegate_protocol::websocket::AssemblerLimits;
use tidegate_vocabulary::transcript::default_settings;
use tidegate_vocabulary::vocabularies::Vocabularies;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::nats::Connection;
use crate::setup::Setup;

const NO_LIMIT: Rate = Rate { per_second: 1_000_000, burst: 1_000_000 };
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// The time of a run.
#[derive(Clone)]
pub(crate) struct SimClock(Rc<Cell<Duration>>, Instant);

impl SimClock {
    fn new() -> Self {
        Self(Rc::default(), Instant::now())
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.set(self.0.get() + by);
    }

    pub(crate) fn now(&self) -> Instant {
        self.1 + self.0.get()
    }

    /// The same by the system's clock, which begins at a fixed time.
    pub(crate) fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.0.get()
    }
}

/// A shard.
pub(crate) struct SimShard {
    pub(crate) connections: Rc<Connections>,
    pub(crate) context: Rc<Context>,
    inbox_sender: InboxSender,
    pump: Rc<Pump>,
    inbox: Inbox,
}

impl SimShard {
    /// Delivers the next batch of the inbox. Returns the number of its items; 0 if there is none.
    pub(crate) fn pump(&mut self, now: Instant) -> usize {
        let Some(mut batch) = self.inbox.try_next() else { return 0 };
        let items = batch.items.len();
        self.pump.deliver(&mut batch, !self.inbox.is_empty(), now);
        items
    }

    /// The batches that wait in the inbox, and their bytes.
    pub(crate) fn inbox_size(&self) -> (usize, usize) {
        (self.inbox.batches(), self.inbox_sender.bytes())
    }

    /// Flushes some of the outboxes that wait for it. Returns whether there were any.
    pub(crate) fn flush(&self, now: Instant) -> bool {
        let is_due = !self.connections.flush_queue.is_empty();
        self.connections.flush_some(now);
        is_due
    }

    /// Handles the deadlines that have passed. Returns whether there were any.
    pub(crate) fn handle_deadlines(&self, now: Instant) -> bool {
        let due = self.context.deadlines.take(now);
        for connection in due.iter().filter_map(|id| self.connections.get(*id)) {
            connection.on_deadline(now);
        }
        !due.is_empty()
    }

    /// What a shard does every second.
    pub(crate) fn tick(&self, clock: &SimClock) -> bool {
        self.context.repeat_pending_leaves();
        self.context.clock.set(Now { instant: clock.now(), wall: clock.wall() });
        true
    }
}

/// A lane, its link, and the server's end of that.
pub(crate) struct SimLane {
    pub(crate) lane: Lane,
    pub(crate) link: Link,
    requests: mpsc::Receiver<LaneRequest>,
    /// `None` while there is no connection.
    pub(crate) server: Option<Connection>,
    /// Whether the link knows that its connection has ended.
    is_down: bool,
    /// The messages that the server has sent and the lane has not handled, by number.
    pub(crate) in_flight: VecDeque<u32>,
    /// Those that it has handled, or that are lost, and that may be the reason of what waits for a shard.
    pub(crate) taken: Vec<u32>,
    sweep_at: Option<Instant>,
    requested: Vec<LaneRequest>,
    incoming: Vec<Incoming>,
}

impl SimLane {
    /// One turn, as in `LaneDriver::run`. Returns what it has handled.
    pub(crate) fn turn(&mut self, requests: usize, events: usize, clock: &SimClock) -> usize {
        let now = (clock.now(), clock.wall());
        let mut handled = 0;
        if self.sweep_at.take_if(|at| *at <= now.0).is_some() {
            self.lane.sweep(&mut self.link, now);
        }
        if !self.link.has_more() && self.link.next_timeout().is_some_and(|at| at <= now.0) {
            self.link.on_timeout(now.0);
        }
        while self.requested.len() < requests
            && let Ok(request) = self.requests.try_recv()
        {
            self.requested.push(request);
        }
        handled += self.requested.len();
        for request in self.requested.drain(..) {
            self.lane.on_request(request, &mut self.link, now);
        }
        if self.link.has_more() && events > 0 {
            self.link.take(events, &mut self.incoming);
        }
        handled += self.incoming.len();
        for incoming in self.incoming.drain(..) {
            match &incoming {
                Incoming::Message(..) | Incoming::Malformed(_) => {
                    self.taken.extend(self.in_flight.pop_front())
                }
                Incoming::LinkLost => self.taken.extend(self.in_flight.drain(..)),
                Incoming::Opened(_) | Incoming::Failed(..) | Incoming::Interrupted(_) => {}
            }
            self.lane.on_incoming(incoming, &mut self.link, now);
        }
        if self.link.take_end_reason().is_some() {
            self.taken.extend(self.in_flight.drain(..));
            self.server = None;
            self.is_down = true;
            handled += 1;
        }
        self.lane.start_newest_reads(&mut self.link, now);
        self.lane.take_opened().for_each(drop);
        self.lane.flush_shard_queues(now.0, self.link.has_more());
        if self.sweep_at.is_none() && self.lane.needs_sweep() {
            self.sweep_at = Some(now.0 + SWEEP_EVERY);
        }
        handled
    }

    /// Connects to a server again. Returns whether that was needed.
    pub(crate) fn restore(&mut self, now: Instant) -> bool {
        let was_down = self.is_down;
        if was_down {
            self.connect(now);
        }
        was_down
    }

    fn connect(&mut self, now: Instant) {
        self.link.open(ServerInfo::default(), b"CONNECT {}\r\n", BytesMut::new(), now);
        self.server = Some(Connection::default());
        self.is_down = false;
    }

    /// The connection ends. What has reached the link is still handled.
    pub(crate) fn cut(&mut self) -> bool {
        self.link.disconnect("cut");
        self.server.take().is_some()
    }

    /// The requests of shards that wait.
    pub(crate) fn waiting_requests(&self) -> usize {
        self.requests.len()
    }
}

/// All shards and lanes.
pub(crate) struct SimNode {
    pub(crate) node: Arc<Node>,
    pub(crate) clock: SimClock,
    pub(crate) shards: Vec<SimShard>,
    pub(crate) lanes: Vec<SimLane>,
}

impl SimNode {
    pub(crate) fn new(setup: &Setup) -> Self {
        let clock = SimClock::new();
        let (handles, requests): (Vec<_>, Vec<_>) =
            (0..setup.shards).map(|_| lane::requests(setup.lane_requests)).unzip();
        let node = Arc::new(node(setup, &clock, Lanes::new(handles)));
        let (senders, inboxes): (Vec<_>, Vec<_>) =
            (0..setup.shards).map(|_| inbox::inbox(setup.inbox_bytes)).unzip();
        let (mut shards, mut lanes) = (Vec::new(), Vec::new());
        for (index, (inbox, requests)) in inboxes.into_iter().zip(requests).enumerate() {
            let context = Rc::new(context(setup, &node, index, &clock));
            let connections = Rc::new(Connections::new(Rc::clone(&context)));
            let pump = Rc::new(Pump::new(Rc::clone(&connections)));
            let (own, level, time) = (Rc::clone(&pump), inbox.level(), clock.clone());
            let encoder = Encoder::new(node.current_vocabularies.get().renderers(), node.compression)
                .with_counts(Rc::clone(&context.lane_counts));
            let others = senders.iter().enumerate();
            let mut lane = Lane::new(LaneParts {
                index: LaneIndex(index),
                lanes: node.lanes.clone(),
                shard_queues: others
                    .map(|(other, sender)| (other != index).then(|| ShardQueue::new(sender.clone())))
                    .collect(),
                local_shard: LocalShard(Rc::new(move |batch, more| {
                    own.deliver(batch, more || !level.is_empty(), time.now());
                })),
                settings: node.lane.clone(),
                encoder,
                spans: None,
                hooks: Hooks::default(),
            });
            let mut link = Link::new(PING_INTERVAL, clock.now());
            let kept = node.lanes.kept_by(LaneIndex(index), &context.settings().session.classes);
            lane.keep(&kept, &mut link, (clock.now(), clock.wall()));
            let mut lane = SimLane {
                lane,
                link,
                requests,
                server: None,
                is_down: true,
                in_flight: VecDeque::new(),
                taken: Vec::new(),
                sweep_at: None,
                requested: Vec::new(),
                incoming: Vec::new(),
            };
            lane.connect(clock.now());
            lanes.push(lane);
            let inbox_sender = senders[index].clone();
            shards.push(SimShard { connections, context, inbox_sender, pump, inbox });
        }
        Self { node, clock, shards, lanes }
    }
}

fn context(setup: &Setup, node: &Arc<Node>, index: usize, clock: &SimClock) -> Context {
    let session = Settings {
        classes: Classes::new(setup.classes.iter().map(|class| class.class.clone()).collect()),
        commands: NO_LIMIT,
        max_errors: 1_000_000,
        hold: setup.hold,
        ..default_settings()
    };
    let limits = ConnectionLimits {
        assembler: AssemblerLimits { max_message: 65_536, max_fragments: 256 },
        fragment_timeout: Duration::from_secs(10),
        inbound: NO_LIMIT,
        control: NO_LIMIT,
        outbox: setup.outbox,
        write_timeout: Duration::from_secs(20),
        reply_max: 65_536,
    };
    Context::new(ContextParts {
        shard: ShardIndex(index),
        node: Arc::clone(node),
        nats: Nats::new(&node.nats, "tidegate/simulation").unwrap(),
        settings: ConnectionSettings { session: Arc::new(session), limits },
        tasks: TaskTracker::new(),
        now: Now { instant: clock.now(), wall: clock.wall() },
    })
}

/// FNV-1a: the same pattern has the same lane in every run.
fn hash(pattern: &str) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    pattern.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

fn node(setup: &Setup, clock: &SimClock, lanes: Lanes) -> Node {
    let config = Config::default();
    let now = clock.now();
    let hooks = Hooks::from(Arc::new(Faults { hash: Some(hash), hold: setup.hold, ..Faults::default() }));
    let feeds = FeedLimits {
        values: ValueLimits { count: 16, bytes: 65_536 },
        delivery_max: setup.delivery_max,
        overlapping: 64,
        reserved: Arc::default(),
    };
    Node {
        name: "simulation".into(),
        address: "".into(),
        started: (now, clock.wall()),
        session_prefix: "".into(),
        current_authenticator: Current::new(Authenticator::new(config.auth, Vec::new()).unwrap()),
        address_limiter: AddressLimiter::new(AddressLimits { connections: 0, handshakes: NO_LIMIT }, now),
        origin_limiter: Arc::new(ConnectionCounts::new(0)),
        refused_requests: RefusedRequests::new().0,
        spans: None,
        refusals: Refusals::default(),
        counts: NodeCounts::default(),
        listeners: Arc::default(),
        tickets: Tickets::new(Duration::ZERO, ControlConnection::new(&config.nats, "simulation")),
        user_slots: UserSlots::new(0, UserLimitPolicy::Reject),
        subscribe_services: SubscribeServices::default(),
        revocations: Revocations::default(),
        latest_connections: Arc::new(LatestConnections::new("node", false)),
        current_vocabularies: Current::new(Vocabularies::default()),
        lanes: lanes.with_hooks(hooks.clone()),
        readiness: Readiness::new(Vec::new()),
        admission: Admission::new(
            AdmissionLimits { connections: 0, handshakes: NO_LIMIT, wait: Duration::ZERO },
            now,
        ),
        call_limiter: CallLimiter::new(CallLimits { identity: NO_LIMIT, address: NO_LIMIT }, now),
        answer_budget: Arc::new(AnswerBudget::new(AnswerLimits { node: 65_536, address: 65_536 })),
        agrees_to_compression: false,
        compression: CompressionSettings { min_bytes: 1_000_000, level: 1 },
        lane: LaneSettings { linger: setup.linger, feeds, inbox_prefix: "_INBOX".into() },
        http: config.http,
        nats: config.nats,
        audit: None,
        hooks,
    }
}
