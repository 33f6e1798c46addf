//! Tests of the pump on a shard without a running lane.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::*;
use crate::auth::Authenticator;
use crate::config::Config;
use crate::config::limits::UserLimitPolicy;
use crate::connection::context::ContextParts;
use crate::connection::settings::ConnectionSettings;
use crate::hooks::Hooks;
use crate::hub::outbox::limits::OutboxLimits;
use crate::hub::subscriber::ConnectionId;
use crate::hub::subscriber::Subscriber;
use crate::lane;
use crate::lane::LaneRequest;
use crate::lane::LaneSettings;
use crate::lane::Lanes;
use crate::lane::encoder::CompressionSettings;
use crate::lane::feeds::FeedLimits;
use crate::lane::shard_index::ShardIndex;
use crate::lane::values::ValueLimits;
use crate::nats::Nats;
use crate::nats::control::ControlConnection;
use crate::node::Node;
use crate::node::address_limiter::AddressLimiter;
use crate::node::address_limiter::AddressLimits;
use crate::node::admission::Admission;
use crate::node::admission::AdmissionLimits;
use crate::node::answer_budget::AnswerBudget;
use crate::node::answer_budget::AnswerLimits;
use crate::node::call_limiter::CallLimiter;
use crate::node::call_limiter::CallLimits;
use crate::node::connection_counts::ConnectionCounts;
use crate::node::counts::NodeCounts;
use crate::node::current::Current;
use crate::node::latest_connections::LatestConnections;
use crate::node::limits::ConnectionLimits;
use crate::node::readiness::Readiness;
use crate::node::refusals::Refusals;
use crate::node::refused_requests::RefusedRequests;
use crate::node::revocations::Revocations;
use crate::node::services::SubscribeServices;
use crate::node::tickets::Tickets;
use crate::node::user_slots::UserSlots;
use tidegate_protocol::class::Priority;
use tidegate_protocol::native::Native;
use tidegate_protocol::session::limits::Rate;
use tidegate_protocol::session::now::Now;
use tidegate_protocol::websocket::AssemblerLimits;
use tidegate_vocabulary::transcript::default_settings;
use tidegate_vocabulary::vocabularies::Vocabularies;

const RATE: Rate = Rate { per_second: 50, burst: 200 };

const LIMITS: ConnectionLimits = ConnectionLimits {
    assembler: AssemblerLimits { max_message: 65_536, max_fragments: 256 },
    fragment_timeout: Duration::from_secs(10),
    inbound: RATE,
    control: RATE,
    outbox: OutboxLimits { bytes: 65_536, frames: 64 },
    write_timeout: Duration::from_secs(20),
    reply_max: 65_536,
};

/// A shard with one lane, and the receiver of that lane's requests, of which `capacity` may wait. There is no NATS
/// server.
fn shard(capacity: usize) -> (Rc<Connections>, mpsc::Receiver<LaneRequest>) {
    let config = Config::default();
    let tasks = TaskTracker::new();
    let (lane, requests) = lane::requests(capacity);
    let feeds = FeedLimits {
        values: ValueLimits { count: 16, bytes: 65_536 },
        delivery_max: 65_536,
        overlapping: 8,
        reserved: Arc::default(),
    };
    let node = Node {
        name: "test".into(),
        address: "".into(),
        started: (Instant::now(), SystemTime::now()),
        session_prefix: "".into(),
        current_authenticator: Current::new(Authenticator::new(config.auth, Vec::new()).unwrap()),
        address_limiter: AddressLimiter::new(
            AddressLimits { connections: 0, handshakes: RATE },
            Instant::now(),
        ),
        origin_limiter: Arc::new(ConnectionCounts::new(0)),
        refusals: Refusals::default(),
        refused_requests: RefusedRequests::new().0,
        counts: NodeCounts::default(),
        listeners: Arc::default(),
        tickets: Tickets::new(Duration::ZERO, ControlConnection::new(&config.nats, "test")),
        user_slots: UserSlots::new(0, UserLimitPolicy::Reject),
        subscribe_services: SubscribeServices::default(),
        revocations: Revocations::default(),
        latest_connections: Arc::new(LatestConnections::new("node", false)),
        current_vocabularies: Current::new(Vocabularies::default()),
        lanes: Lanes::new(vec![lane]),
        readiness: Readiness::new(Vec::new()),
        admission: Admission::new(
            AdmissionLimits { connections: 0, handshakes: RATE, wait: Duration::ZERO },
            Instant::now(),
        ),
        call_limiter: CallLimiter::new(CallLimits { identity: RATE, address: RATE }, Instant::now()),
        answer_budget: Arc::new(AnswerBudget::new(AnswerLimits { node: 65_536, address: 65_536 })),
        agrees_to_compression: false,
        compression: CompressionSettings { min_bytes: 0, level: 1 },
        lane: LaneSettings { linger: Duration::ZERO, feeds, inbox_prefix: "_INBOX".into() },
        http: config.http,
        nats: config.nats,
        audit: None,
        spans: None,
        hooks: Hooks::default(),
    };
    let nats = Nats::new(&node.nats, "tidegate/test").unwrap();
    let parts = ContextParts {
        shard: ShardIndex(0),
        node: Arc::new(node),
        nats,
        settings: ConnectionSettings { session: Arc::new(default_settings()), limits: LIMITS },
        tasks,
        now: Now { instant: Instant::now(), wall: SystemTime::now() },
    };
    (Rc::new(Connections::new(Rc::new(Context::new(parts)))), requests)
}

fn batch(pattern: &str, items: usize) -> Batch {
    let pattern = Pattern::parse(pattern).unwrap();
    let mut batch = Batch::default();
    for _ in 0..items {
        batch.push(Item::Publication {
            topic: TopicId::default(),
            pattern: pattern.clone(),
            key: "k".into(),
            priority: Priority::Normal,
            frames: SmallVec::new(),
        });
    }
    batch
}

#[tokio::test]
async fn publications_without_subscribers_send_one_leave_to_the_lane() {
    let (connections, mut requests) = shard(10);
    Pump::new(Rc::clone(&connections)).deliver(&mut batch("chat.left", 1000), false, Instant::now());
    assert!(requests.is_empty(), "the lane was told when the last subscriber left");
    connections.context.repeat_pending_leaves();
    assert!(
        matches!(requests.try_recv(), Ok(LaneRequest::Leave { .. })),
        "once more, in case it was not told"
    );
    assert!(requests.try_recv().is_err());
    connections.context.repeat_pending_leaves();
    assert!(requests.try_recv().is_err(), "but not again");
}

/// Effects of a publication that has changed the outboxes of this many subscribers.
fn changed(count: usize) -> Effects {
    let mut effects = Effects::default();
    for owner in 0..count {
        let limits = LIMITS.outbox;
        let subscriber = Rc::new(Subscriber::new(ConnectionId(owner), Arc::new(Native), limits));
        effects.note_changed(&subscriber, Duration::ZERO);
    }
    effects
}

#[tokio::test]
async fn few_changed_outboxes_are_flushed_at_once_if_nothing_else_waits() {
    for (count, more_waits, are_queued) in
        [(1, false, false), (8, false, false), (9, false, true), (1, true, true)]
    {
        let (connections, _requests) = shard(10);
        let mut effects = changed(count);
        connections.flush_changed(&mut effects, Instant::now(), more_waits);
        assert!(effects.changed.is_empty());
        assert_eq!(!connections.flush_queue.is_empty(), are_queued, "{count}, {more_waits}");
    }
}

#[tokio::test]
async fn outboxes_that_change_while_others_wait_for_their_flush_are_flushed_after_them() {
    let (connections, _requests) = shard(10);
    connections.flush_changed(&mut changed(9), Instant::now(), false);
    connections.flush_changed(&mut changed(1), Instant::now(), false);
    let queued: Vec<_> =
        std::iter::from_fn(|| connections.flush_queue.next()).map(|next| next.owner.0).collect();
    assert_eq!(queued, [0, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
}
