//! A node without sockets and NATS: feeds, hub, sessions and outboxes, connected as in `shard/pump.rs`.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tidegate::hub::Hub;
use tidegate::hub::Subscribe;
use tidegate::hub::class_counts::ClassCounts;
use tidegate::hub::delivery_batch::DeliveryBatch;
use tidegate::hub::effects::Effects;
use tidegate::hub::outbox::InFlight;
use tidegate::hub::outbox::limits::OutboxLimits;
use tidegate::hub::subscriber::ConnectionId;
use tidegate::hub::subscriber::Subscriber;
use tidegate::lane::encoder::CompressionSettings;
use tidegate::lane::encoder::Encoder;
use tidegate::lane::feed::ShardItem;
use tidegate::lane::feeds::FeedLimits;
use tidegate::lane::feeds::Feeds;
use tidegate::lane::feeds::Join;
use tidegate::lane::inbox::Batch;
use tidegate::lane::inbox::Inbox;
use tidegate::lane::inbox::Item;
use tidegate::lane::inbox::ShardQueue;
use tidegate::lane::inbox::Snapshot;
use tidegate::lane::inbox::inbox;
use tidegate::lane::shard_index::ShardIndex;
use tidegate::lane::values::ValueLimits;
use tidegate::nats::message::Message;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Classes;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::Format;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::limits::Rate;
use tidegate_protocol::session::now::Now;
use tidegate_protocol::session::phase::Verified;
use tidegate_protocol::session::settings::Settings;
use tidegate_protocol::subject::Pattern;
use tidegate_vocabulary::model::CompiledVocabulary;
use tidegate_vocabulary::transcript::default_settings;

/// The limits of one write, as in `connection/websocket.rs`.
const WRITE_FRAMES: usize = 63;
const WRITE_BYTES: usize = 256 * 1024;
/// The most publications that the hub gets at once, as in `shard/pump.rs`.
const RUN_ITEMS: usize = 64;

/// The configuration of a node.
pub(crate) struct NodeConfig {
    pub(crate) classes: Vec<Class>,
    pub(crate) vocabularies: Vec<Arc<CompiledVocabulary>>,
    pub(crate) outbox: OutboxLimits,
    /// Whether publications go through an inbox, like those from a lane on another thread.
    pub(crate) through_inbox: bool,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            classes: Vec::new(),
            vocabularies: Vec::new(),
            outbox: OutboxLimits { bytes: 1 << 20, frames: 1024 },
            through_inbox: false,
        }
    }
}

/// One session and its subscriber.
pub(crate) struct Client {
    session: Session,
    pub(crate) subscriber: Rc<Subscriber>,
    encoding: Encoding,
}

/// One lane and one shard.
pub(crate) struct Node {
    feeds: Feeds<u64>,
    sources: HashMap<Pattern, u64>,
    hub: Hub,
    pub(crate) clients: Vec<Client>,
    settings: Arc<Settings>,
    encoder: Encoder,
    outgoing: Vec<ShardItem>,
    outbox: OutboxLimits,
    remote_inbox: Option<(ShardQueue, Inbox)>,
    effects: Effects,
    run: Vec<(Format, Vec<Rc<Delivery>>)>,
    batches: Vec<(Format, DeliveryBatch)>,
    in_flight: Vec<InFlight>,
    unannounced: ClassCounts,
    pub(crate) now: Instant,
    pub(crate) sent: u64,
}

impl Node {
    pub(crate) fn new(config: NodeConfig) -> Self {
        let renderers = Renderers::new(config.vocabularies.into_iter().map(|vocabulary| vocabulary as _));
        let settings = Settings {
            classes: Classes::new(config.classes),
            commands: Rate { per_second: 1_000_000, burst: 1_000_000 },
            max_subscriptions: 100_000,
            ..default_settings()
        };
        let limits = ValueLimits { count: 1000, bytes: 1 << 20 };
        let remote_inbox = config.through_inbox.then(|| {
            let (sender, inbox) = inbox(1 << 24);
            (ShardQueue::new(sender), inbox)
        });
        Self {
            feeds: Feeds::new(
                FeedLimits {
                    values: limits,
                    delivery_max: 1 << 20,
                    overlapping: 64,
                    reserved: Arc::default(),
                },
                renderers.clone(),
            ),
            sources: HashMap::new(),
            hub: Hub::default(),
            clients: Vec::new(),
            settings: Arc::new(settings),
            encoder: Encoder::new(renderers, CompressionSettings { min_bytes: 64, level: 1 }),
            outgoing: Vec::new(),
            outbox: config.outbox,
            remote_inbox,
            effects: Effects::default(),
            run: Vec::new(),
            batches: Vec::new(),
            in_flight: Vec::new(),
            unannounced: ClassCounts::default(),
            now: Instant::now(),
            sent: 0,
        }
    }

    /// Connects a client that is authenticated as `user`. Returns its index.
    pub(crate) fn connect(&mut self, dialect: Arc<dyn Dialect>, user: &str, encoding: Encoding) -> usize {
        let mut identity = Identity { user: user.into(), ..Identity::default() };
        Arc::make_mut(&mut identity.permissions).subscribe.allow = vec![Pattern::everything()];
        let verified = Verified { identity: Arc::new(identity), expires: None };
        let id = self.clients.len();
        let subscriber = Rc::new(Subscriber::new(ConnectionId(id), Arc::clone(&dialect), self.outbox));
        let session =
            Session::new("s1".into(), dialect, Arc::clone(&self.settings), Some(verified), moment(self.now));
        self.clients.push(Client { session, subscriber, encoding });
        self.apply_outputs(id);
        id
    }

    /// Handles a message from a client, with all its effects.
    pub(crate) fn receive(&mut self, client: usize, text: &str) {
        let now = self.now;
        self.clients[client]
            .session
            .handle_input(Input::Received(ClientMessage::Text(text.to_owned())), moment(now));
        self.apply_outputs(client);
        self.flush_shares();
    }

    fn apply_outputs(&mut self, client: usize) {
        while let Some(output) = self.clients[client].session.poll_output() {
            let subscriber = Rc::clone(&self.clients[client].subscriber);
            match output {
                Output::Send { frame, priority } => {
                    subscriber.push_reply(frame, priority);
                }
                Output::Join { subscription, pattern, format, class, max_rate, subscription_context } => {
                    let is_tailored = subscription_context
                        .as_ref()
                        .is_some_and(|subscription_context| subscription_context.is_tailored);
                    let encoding = self.clients[client].encoding;
                    let format = if is_tailored { format } else { Format { encoding, ..format } };
                    let (of, by) = (pattern.clone(), Arc::clone(&class));
                    let subscribe =
                        Subscribe { subscription, pattern, format, class, max_rate, subscription_context };
                    if self.hub.join(&subscriber, subscribe) {
                        let topic = self.hub.topic_id(&of).unwrap();
                        let shard = ShardIndex(0);
                        self.join_feed(Join { shard, topic, pattern: of, class: by, format });
                    }
                }
                Output::GoLive { subscription } => self.hub.go_live(&subscriber, subscription),
                Output::Release { subscription } => {
                    self.clients[client].subscriber.release_all(subscription, self.now);
                }
                Output::Leave { subscription } => {
                    if let Some(pattern) = self.hub.leave(&subscriber, subscription) {
                        self.feeds.leave(ShardIndex(0), &pattern, self.now);
                    }
                }
                Output::Filter { subscription, filter } => {
                    subscriber.with_member(subscription, |member| {
                        if let Some(subscription_context) = member.subscription_context() {
                            subscription_context.set_filter(filter);
                        }
                    });
                }
                Output::DeliverSnapshot { subscription, snapshot } => {
                    subscriber.push_snapshot(snapshot, subscription);
                }
                Output::Deliver { .. }
                | Output::Ping
                | Output::Denied(_)
                | Output::Refused(_)
                | Output::Authenticate { .. }
                | Output::TrustIdentity { .. }
                | Output::Publish { .. }
                | Output::Request { .. }
                | Output::Query { .. }
                | Output::Recover { .. }
                | Output::Close { .. } => {}
            }
        }
    }

    fn join_feed(&mut self, join: Join) {
        let mut opened = None;
        let next = self.sources.len() as u64;
        let sources = &mut self.sources;
        let subscribe = |pattern: &Pattern| {
            sources.insert(pattern.clone(), next);
            *opened.insert(next)
        };
        self.feeds.join(join, (self.now, SystemTime::UNIX_EPOCH), subscribe, &mut self.outgoing);
        if let Some(key) = opened {
            self.feeds.opened(key, self.now, &mut self.outgoing);
        }
    }

    /// The key of the NATS subscription for a pattern.
    pub(crate) fn source(&self, pattern: &str) -> u64 {
        self.sources[&Pattern::parse(pattern).unwrap()]
    }

    /// Handles a message from NATS.
    pub(crate) fn publish(&mut self, source: u64, message: &Message) {
        let now = (self.now, SystemTime::UNIX_EPOCH);
        self.feeds.publish(source, message, now, &mut self.encoder, &mut self.outgoing).unwrap();
    }

    /// Delivers everything that the lane has queued for the shard.
    pub(crate) fn flush_shares(&mut self) {
        let batch = match &mut self.remote_inbox {
            Some((share, inbox)) => {
                self.outgoing.drain(..).for_each(|ShardItem { item, .. }| share.add(item));
                share.flush();
                inbox.try_next()
            }
            None => {
                let mut batch = Batch::default();
                self.outgoing.drain(..).for_each(|ShardItem { item, .. }| batch.push(item));
                Some(batch)
            }
        };
        let mut items = batch.into_iter().flat_map(|batch| batch.items).peekable();
        while let Some(item) = items.next() {
            match item {
                Item::Publication { topic: id, key, priority, frames, .. } => {
                    let topic = self.hub.numbered(id).unwrap();
                    let expires = topic.expiry(self.now);
                    let mut next = Some((key, frames));
                    let mut count = 0;
                    while let Some((key, frames)) = next.take() {
                        count += 1;
                        for (format, frame) in frames {
                            let delivery =
                                Rc::new(Delivery { frame, key: Arc::clone(&key), priority, expires });
                            match self.run.iter_mut().find(|(of, _)| *of == format) {
                                Some((_, deliveries)) => deliveries.push(delivery),
                                None => self.run.push((format, vec![delivery])),
                            }
                        }
                        let same =
                            |item: &Item| matches!(item, Item::Publication { topic: of, .. } if *of == id);
                        if count < RUN_ITEMS
                            && let Some(Item::Publication { key, frames, .. }) = items.next_if(same)
                        {
                            next = Some((key, frames));
                        }
                    }
                    let pack = |(format, run): &mut (Format, _)| Some((*format, DeliveryBatch::pack(run)?));
                    self.batches.extend(self.run.iter_mut().filter_map(pack));
                    topic.publish(&self.batches, self.now, &mut self.effects);
                    self.batches.clear();
                }
                Item::Elements { pattern, format, elements } => {
                    self.hub.publish_elements(&pattern, format, &elements, self.now, &mut self.effects);
                }
                Item::Joined { pattern, format, snapshot, stale, position: _ } => {
                    self.joined(&pattern, format, snapshot, stale);
                }
                Item::JoinFailed { .. }
                | Item::Recovered { .. }
                | Item::Gap { .. }
                | Item::Unrenderable { .. }
                | Item::Stale { .. } => {
                    unreachable!("no feed fails or goes stale here")
                }
            }
        }
    }

    /// Passes the answer of the lane to the sessions that wait for it.
    fn joined(&mut self, pattern: &Pattern, format: Format, snapshot: Snapshot, stale: Option<SystemTime>) {
        self.hub.seed(pattern, format, &snapshot.elements, self.now);
        let joined = self.hub.joined(pattern, format);
        let (mut deliveries, mut waiting) = (snapshot.deliveries, joined.len());
        for listener in joined {
            let client = listener.subscriber.owner.0;
            listener.subscriber.note_joined(listener.subscription);
            waiting -= 1;
            let snapshot = match waiting {
                0 => std::mem::take(&mut deliveries),
                _ => deliveries.clone(),
            };
            let input =
                Input::Joined { subscription: listener.subscription, snapshot, stale, position: None };
            self.clients[client].session.handle_input(input, moment(self.now));
            self.apply_outputs(client);
        }
    }

    /// Writes all frames of every changed outbox.
    pub(crate) fn flush(&mut self) {
        self.effects.urgent.clear();
        for subscriber in self.effects.changed.drain(..) {
            subscriber.clear_changed();
            loop {
                subscriber.take(
                    self.now,
                    WRITE_FRAMES,
                    WRITE_BYTES,
                    &mut self.in_flight,
                    &mut self.unannounced,
                );
                if self.in_flight.is_empty() {
                    break;
                }
                self.sent += drained_bytes(&mut self.in_flight);
                subscriber.forget_ended();
            }
        }
    }

    /// Writes this many frames of every changed outbox, and puts the rest back.
    pub(crate) fn flush_slowly(&mut self, frames: usize) {
        self.effects.urgent.clear();
        for subscriber in self.effects.changed.drain(..) {
            subscriber.clear_changed();
            subscriber.take(self.now, WRITE_FRAMES, WRITE_BYTES, &mut self.in_flight, &mut self.unannounced);
            let whole = frames.min(self.in_flight.len());
            subscriber.put_back(self.in_flight.drain(whole..), 0);
            self.sent += drained_bytes(&mut self.in_flight);
        }
    }

    /// Releases all values whose rate limit (`max_rate_ms`) permits it now.
    pub(crate) fn release(&mut self) {
        for client in &self.clients {
            if client.subscriber.next_release().is_some_and(|turn| turn <= self.now) {
                client.subscriber.release_due(self.now);
                self.effects.note_changed(&client.subscriber, Duration::ZERO);
            }
        }
    }
}

/// This instant, with a wall-clock time that does not matter here.
pub(crate) fn moment(instant: Instant) -> Now {
    Now { instant, wall: SystemTime::UNIX_EPOCH }
}

/// Empties the list of written frames, and returns their size.
fn drained_bytes(in_flight: &mut Vec<InFlight>) -> u64 {
    in_flight.drain(..).map(|in_flight| in_flight.bytes().len() as u64).sum()
}
