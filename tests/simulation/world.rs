//! `World`: carries out the actions of a run on a node, a model of NATS and clients, and checks them against the ledger.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate::auth::policy::Policy;
use tidegate::config::endpoint::access::AccessConfig;
use tidegate::connection::ConnectionSetup;
use tidegate::connection::client_address::ClientAddress;
use tidegate::connection::client_name::ClientName;
use tidegate::connection::transport::Transport;
use tidegate::connection::websocket::WebSocket;
use tidegate::net::memory;
use tidegate::net::peer::Peer;
use tidegate::net::stream::Stream;
use tidegate::node::connection_guard::ConnectionGuard;
use tidegate::node::connection_guard::SocketPermit;
use tidegate::node::permit::Permit;
use tidegate_protocol::class::Kind;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::native::Native;
use tidegate_protocol::subject::Pattern;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::action::Action;
use crate::client::ServerFrame;
use crate::client::SimClient;
use crate::counts::RunCounts;
use crate::ledger::Ledger;
use crate::ledger::Published;
use crate::ledger::Received;
use crate::ledger::Violation;
use crate::ledger::violation;
use crate::nats::NatsMessage;
use crate::nats::Verdict;
use crate::node::SimLane;
use crate::node::SimNode;
use crate::setup::KEYS;
use crate::setup::Setup;
use crate::setup::pattern;

/// Close codes that a node may send to a client of this simulation: the client has closed, was silent, or was slow.
const EXPECTED_CLOSES: [u16; 4] = [1000, 4003, 4008, 4509];

/// A node, its servers and clients.
pub(crate) struct World<'r> {
    pub(crate) setup: Setup,
    pub(crate) node: SimNode,
    pub(crate) ledger: Ledger,
    pub(crate) clients: Vec<SimClient>,
    pub(crate) received: Vec<Received>,
    pub(crate) counts: RunCounts,
    tasks: Rc<LocalSet>,
    runtime: &'r Runtime,
    policy: Arc<Policy>,
    identity: Arc<Identity>,
    denied: BTreeSet<Pattern>,
    /// All that clients subscribe to, and the patterns of classes.
    pub(crate) patterns: Vec<Pattern>,
    subjects: Vec<String>,
    channels: Vec<(String, usize)>,
    pub(crate) show: Show,
}

impl<'r> World<'r> {
    /// `runtime` is only for the few tasks of shards.
    pub(crate) fn new(setup: Setup, runtime: &'r Runtime) -> Self {
        let _guard = runtime.enter();
        let node = SimNode::new(&setup);
        let policy = node.node.authenticator().policy(&AccessConfig::default(), "endpoint[0]").unwrap();
        let mut identity = Identity { user: "alice".into(), ..Identity::default() };
        let permissions = Arc::make_mut(&mut identity.permissions);
        permissions.subscribe.allow = setup.classes.iter().map(|class| class.class.pattern.clone()).collect();
        let channels = setup.channels();
        let of_classes = setup.classes.iter().map(|class| class.class.pattern.clone());
        let mut patterns: Vec<_> =
            channels.iter().map(|(channel, _)| pattern(channel)).chain(of_classes).collect();
        patterns.sort();
        patterns.dedup();
        Self {
            ledger: Ledger::new(&setup),
            clients: (0..setup.clients).map(|_| SimClient::default()).collect(),
            received: (0..setup.clients).map(|_| Received::default()).collect(),
            counts: RunCounts::default(),
            tasks: Rc::new(LocalSet::new()),
            runtime,
            policy: Arc::new(policy),
            identity: Arc::new(identity),
            denied: BTreeSet::new(),
            patterns,
            subjects: setup.subjects(),
            channels,
            show: Show::Nothing,
            node,
            setup,
        }
    }

    /// Carries out an action, if that is possible at the moment, and checks what must always hold.
    pub(crate) fn act(&mut self, action: Action) -> Result<(), Violation> {
        if self.show == Show::Everything {
            println!("{action}");
        }
        if self.perform(action)? {
            self.counts.count(action);
        }
        self.check_always()
    }

    /// Returns whether there was something to do.
    fn perform(&mut self, action: Action) -> Result<bool, Violation> {
        let (runtime, tasks) = (self.runtime, Rc::clone(&self.tasks));
        let (_guard, _tasks) = (runtime.enter(), tasks.enter());
        let (now, lanes, clients) = (self.node.clock.now(), self.node.lanes.len(), self.clients.len());
        let (lane_of, client_of) = (|lane| usize::from(lane) % lanes, |client| usize::from(client) % clients);
        let done = match action {
            Action::Publish { subject, key, priority, size, count } => {
                self.publish_some(subject, (key, priority), size, count)
            }
            Action::PublishBad { subject, kind } => self.publish_bad(subject, kind),
            Action::Upload { lane } => upload(&mut self.node.lanes[lane_of(lane)], &self.denied),
            Action::Download { lane, bytes } => {
                let bytes = if bytes % 2 == 0 { bytes % 100 } else { bytes % 4000 };
                download(&mut self.node.lanes[lane_of(lane)], 1 + usize::from(bytes))
            }
            Action::Turn { lane, requests, events } => {
                let (requests, events) = (usize::from(requests % 4), usize::from(events % 16));
                self.node.lanes[lane_of(lane)].turn(requests, events, &self.node.clock) > 0
            }
            Action::Cut { lane } => self.node.lanes[lane_of(lane)].cut(),
            Action::Restore { lane } => self.node.lanes[lane_of(lane)].restore(now),
            Action::Pump { shard } => self.node.shards[lane_of(shard)].pump(now) > 0,
            Action::Flush { shard } => self.node.shards[lane_of(shard)].flush(now),
            Action::Deadlines { shard } => self.node.shards[lane_of(shard)].handle_deadlines(now),
            Action::Tick { shard } => self.node.shards[lane_of(shard)].tick(&self.node.clock),
            Action::Tasks {} => {
                tasks.block_on(runtime, yield_often());
                true
            }
            Action::Deny { channel } => self.deny(channel),
            Action::Allow {} => !std::mem::take(&mut self.denied).is_empty(),
            Action::Advance { ms } => {
                let ms = if ms % 64 == 0 { ms % 6000 } else { ms % 60 };
                self.node.clock.advance(Duration::from_millis(1 + u64::from(ms)));
                true
            }
            Action::Step { client } => self.step(client_of(client))?,
            Action::Read { client, bytes } => {
                let bytes = if bytes % 2 == 0 { bytes % 64 } else { bytes % 4096 };
                self.read(client_of(client), 1 + usize::from(bytes))?
            }
            Action::Connect { client, shard } => self.connect(client_of(client), lane_of(shard)),
            Action::Leave { client, kind } => self.leave(client_of(client), kind),
            Action::Subscribe { client, channel, count, rate } => {
                self.subscribe(client_of(client), (channel, count), rate)
            }
            Action::Unsubscribe { client, channel, count } => {
                self.unsubscribe(client_of(client), (channel, count))
            }
            Action::Garbage { client, kind } => self.send_garbage(client_of(client), kind),
        };
        Ok(done)
    }

    fn publish_some(&mut self, subject: u16, (key, priority): (u16, u16), size: u16, count: u16) -> bool {
        let subject = usize::from(subject) % self.subjects.len();
        // Most publications are few and small.
        let size = if size.is_multiple_of(8) { size % 400 } else { size % 30 };
        let count = if count % 16 == 15 { 20 } else { 1 + count % 3 };
        for _ in 0..count {
            self.publish(subject, key % (KEYS + 1), priority % 4, size, Bad::No);
        }
        true
    }

    fn publish_bad(&mut self, subject: u16, kind: u16) -> bool {
        let subject = usize::from(subject) % (self.subjects.len() - 1);
        let bad = if kind.is_multiple_of(2) { Bad::Key } else { Bad::TooLarge };
        self.publish(subject, 0, 0, 0, bad);
        true
    }

    fn deny(&mut self, channel: u16) -> bool {
        let pattern = self.patterns[usize::from(channel) % self.patterns.len()].clone();
        for server in self.node.lanes.iter_mut().filter_map(|lane| lane.server.as_mut()) {
            server.revoke(&pattern);
        }
        self.denied.insert(pattern)
    }

    fn leave(&mut self, at: usize, kind: u16) -> bool {
        if self.clients[at].socket.is_none() {
            return false;
        }
        if kind.is_multiple_of(2) {
            self.clients[at].send_close();
        } else {
            self.clients[at].hang_up();
            self.counts.hang_ups += 1;
        }
        true
    }

    fn unsubscribe(&mut self, at: usize, channels: (u16, u16)) -> bool {
        let names = self.names(channels);
        let client = &mut self.clients[at];
        let id = client.next_id();
        client.send_text(&format!(r#"{{"type":"unsubscribe","id":{id},"channels":[{names}]}}"#));
        client.socket.is_some()
    }

    fn send_garbage(&mut self, at: usize, kind: u16) -> bool {
        let wrong = ["{", r#"{"type":"fly"}"#, r#"{"type":"subscribe","channel":"secret.a"}"#];
        self.clients[at].send_text(wrong[usize::from(kind) % wrong.len()]);
        self.clients[at].socket.is_some()
    }

    /// One channel, or several neighbours, as elements of a JSON array.
    fn names(&self, (channel, count): (u16, u16)) -> String {
        let count = if count % 4 == 0 { usize::from(count / 4) % 4 + 1 } else { 1 };
        let names = (0..count).map(|next| {
            let (name, _) = &self.channels[(usize::from(channel) + next) % self.channels.len()];
            format!("\"{name}\"")
        });
        names.collect::<Vec<_>>().join(",")
    }

    fn subscribe(&mut self, at: usize, channels: (u16, u16), rate: u16) -> bool {
        let names = self.names(channels);
        let id = self.clients[at].next_id();
        for name in names.split(',') {
            let name = name.trim_matches('"');
            let channel = self.ledger.channel(name).unwrap();
            let floor = self.floor(channel);
            self.received[at].ask(id, channel, floor);
        }
        let is_latest = |name: &str| {
            let channel = self.channels.iter().find(|(known, _)| known == name.trim_matches('"'));
            channel.is_some_and(|(_, class)| self.setup.classes[*class].class.kind == Kind::Latest)
        };
        let rate = match rate % 4 {
            0 if names.split(',').all(is_latest) => format!(r#","max_rate_ms":{}"#, 1 + rate % 200),
            _ => String::new(),
        };
        let message = format!(r#"{{"type":"subscribe","id":{id},"channels":[{names}]{rate}}}"#);
        self.clients[at].send_text(&message);
        self.clients[at].socket.is_some()
    }

    /// The last message of a channel before those that are on their way to a shard. Earlier ones have reached it, or never
    /// will. An answer to an earlier join may be on its way, too: those after it come, although the client asks only now.
    fn floor(&mut self, channel: usize) -> u32 {
        let is_empty = self.node.shards.iter().all(|shard| shard.inbox_size().0 == 0);
        if is_empty && !self.node.lanes.iter().any(|lane| lane.lane.has_backlog()) {
            self.node.lanes.iter_mut().for_each(|lane| lane.taken.clear());
        }
        let lanes = self.node.lanes.iter();
        let in_flight = lanes.flat_map(|lane| lane.in_flight.iter().chain(&lane.taken));
        let first = in_flight.copied().filter(|number| self.ledger.is_on(channel, *number)).min();
        first.map_or_else(|| self.ledger.end(), |first| first - 1)
    }

    pub(crate) fn publish(&mut self, subject: usize, key: u16, priority: u16, size: u16, bad: Bad) -> u32 {
        let name = &self.subjects[subject];
        let class = self.setup.classes.iter().find(|class| class.subjects.contains(name));
        let priority = if class.is_some_and(|class| class.has_priorities) { priority } else { 0 };
        let size = if bad == Bad::TooLarge { self.setup.delivery_max } else { usize::from(size) };
        let message =
            Published { subject, key, priority, payload: "x".repeat(size), is_good: bad == Bad::No };
        let number = self.ledger.publish(message);
        let mut headers = Vec::new();
        if bad == Bad::Key {
            headers.extend_from_slice(b"Tidegate-Key: \xff\r\n");
        } else if key > 0 {
            headers.extend_from_slice(format!("Tidegate-Key: k{key}\r\n").as_bytes());
        }
        if let Some(word) = ["high", "normal", "low"].get(usize::from(priority).wrapping_sub(1)) {
            headers.extend_from_slice(format!("Tidegate-Priority: {word}\r\n").as_bytes());
        }
        if self.show == Show::Everything {
            println!("message {number} on {name}, key {key}, priority {priority}, {bad:?}");
        }
        let payload = self.ledger.message(number).payload.as_bytes();
        let message = NatsMessage { subject: self.ledger.subject(number), headers: &headers, payload };
        self.counts.publications += 1;
        for lane in &mut self.node.lanes {
            let Some(server) = &mut lane.server else { continue };
            let (sent, verdict) = server.publish(&message, self.setup.max_pending);
            lane.in_flight.extend(std::iter::repeat_n(number, sent));
            if verdict == Verdict::CutsOff {
                lane.cut();
                self.counts.slow_consumers += 1;
            }
        }
        number
    }

    fn connect(&mut self, at: usize, shard: usize) -> bool {
        if self.clients[at].connection.is_some() {
            return false;
        }
        // The node has ended an earlier connection, and the client has not noticed.
        self.counts.resets += u64::from(self.clients[at].socket.is_some());
        let (stream, socket) = memory::pair(self.setup.socket_bytes);
        let websocket = WebSocket::new(Stream::Memory(stream), None, Bytes::new(), false);
        let permit = || Permit::new(Arc::default(), Arc::default());
        let plain = Encoding::JSON;
        let now = self.node.clock.now();
        let setup = ConnectionSetup {
            client_address: ClientAddress { peer: Peer::Unix, forwarded: None },
            client_name: ClientName::default(),
            request: "".into(),
            dialect: Arc::new(Native),
            policy: Arc::clone(&self.policy),
            // Some want another format. Nothing is long enough to be compressed.
            encoding: if at.is_multiple_of(2) { plain } else { Encoding::deflated(15) },
            identity: Some(Arc::clone(&self.identity)),
            guard: ConnectionGuard::new(SocketPermit::Owned(permit()), permit(), None, None),
            began: now,
        };
        let connections = &self.node.shards[shard].connections;
        let connection = connections.start_stepped(Transport::WebSocket(websocket), setup, now);
        self.clients[at].connect(shard, connection, socket);
        self.received[at] = self.received[at].restarted();
        true
    }

    /// Lets a connection handle an event.
    pub(crate) fn step(&mut self, at: usize) -> Result<bool, Violation> {
        let client = &mut self.clients[at];
        let Some(connection) = client.connection.clone() else { return Ok(false) };
        let connections = &self.node.shards[client.shard].connections;
        let done = connections.step(&connection, self.node.clock.now());
        let known = connections.get(connection.subscriber.owner);
        if !known.is_some_and(|known| Rc::ptr_eq(&known, &connection)) {
            client.connection = None;
            if connection.subscriber.member_count() > 0 {
                return violation("leak", "a connection has ended and left subscriptions behind");
            }
        }
        Ok(done)
    }

    /// Lets a client read. Returns whether something has arrived.
    pub(crate) fn read(&mut self, at: usize, max: usize) -> Result<bool, Violation> {
        let client = &mut self.clients[at];
        let before = client.socket.as_ref().map_or(0, memory::MemoryClient::arrived);
        let frames = client.read(max);
        let frames = frames.or_else(|error| violation("corrupt", error))?;
        for frame in frames {
            match frame {
                ServerFrame::Text(text) => {
                    if self.show == Show::Everything {
                        println!("client {at} < {}", String::from_utf8_lossy(&text));
                    }
                    self.received[at].on_text(&self.ledger, &text)?;
                }
                ServerFrame::Ping => self.clients[at].send_pong(),
                ServerFrame::Pong => {}
                ServerFrame::Close(code) => {
                    self.counts.closes += 1;
                    if !EXPECTED_CLOSES.contains(&code) {
                        return violation("close", format!("the node has closed a connection with {code}"));
                    }
                    self.clients[at].hang_up();
                }
            }
        }
        if self.clients[at].is_at_end() {
            if self.show == Show::Everything {
                println!("client {at}: the end");
            }
            self.clients[at].hang_up();
            self.counts.resets += 1;
        }
        Ok(before > 0)
    }

    /// Lets the tasks of shards run.
    pub(crate) fn run_tasks(&mut self) -> Result<(), Violation> {
        self.perform(Action::Tasks {}).map(drop)
    }

    /// Carries out an action that is not counted.
    pub(crate) fn act_quietly(&mut self, action: Action) -> Result<bool, Violation> {
        self.perform(action)
    }

    pub(crate) fn denied(&self) -> &BTreeSet<Pattern> {
        &self.denied
    }
}

/// What a run prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    Nothing,
    /// Actions, and messages of both sides.
    Everything,
}

/// What is wrong with a message of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    No,
    /// Its key is not UTF-8.
    Key,
    TooLarge,
}

async fn yield_often() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

/// The server reads what a lane has sent.
pub(crate) fn upload(lane: &mut SimLane, denied: &BTreeSet<Pattern>) -> bool {
    let bytes = lane.link.unsent().to_vec();
    lane.link.sent(bytes.len());
    if let Some(server) = &mut lane.server {
        server.receive(&bytes, denied);
    }
    !bytes.is_empty()
}

/// Bytes of the server reach the lane.
pub(crate) fn download(lane: &mut SimLane, max: usize) -> bool {
    let Some(server) = &mut lane.server else { return false };
    let bytes = server.deliver(max);
    if !bytes.is_empty() {
        lane.link.read_buffer().extend_from_slice(&bytes);
        lane.link.received();
    }
    !bytes.is_empty()
}
