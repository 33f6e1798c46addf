//! A node without sockets and without NATS: feeds, hub, sessions and outboxes, put together as `shard/pump.rs` does it.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tidegate::hub::Hub;
use tidegate::hub::Subscribe;
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
use tidegate::lane::inbox::Share;
use tidegate::lane::inbox::inbox;
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

/// What `connection/websocket.rs` takes for one write.
const WRITE_FRAMES: usize = 63;
const WRITE_BYTES: usize = 256 * 1024;
/// What `shard/pump.rs` hands over in one piece.
const RUN_ITEMS: usize = 64;

/// How a node is set up.
pub(crate) struct Plan {
    pub(crate) classes: Vec<Class>,
    pub(crate) vocabularies: Vec<Arc<CompiledVocabulary>>,
    pub(crate) outbox: OutboxLimits,
    /// Whether publications reach the hub through an inbox, as those of another thread's lane do.
    pub(crate) is_far: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            classes: Vec::new(),
            vocabularies: Vec::new(),
            outbox: OutboxLimits { bytes: 1 << 20, frames: 1024 },
            is_far: false,
        }
    }
}

/// One session and its subscriber.
pub(crate) struct Client {
    session: Session,
    pub(crate) subscriber: Rc<Subscriber>,
    encoding: Encoding,
}

/// A lane and a shard in one.
pub(crate) struct Node {
    feeds: Feeds<u64>,
    sources: HashMap<Pattern, u64>,
    hub: Hub,
    pub(crate) clients: Vec<Client>,
    settings: Rc<Settings>,
    encoder: Encoder,
    outgoing: Vec<ShardItem>,
    outbox: OutboxLimits,
    far: Option<(Share, Inbox)>,
    effects: Effects,
    run: Vec<(Format, Vec<Rc<Delivery>>)>,
    parcels: Vec<(Format, DeliveryBatch)>,
    taken: Vec<InFlight>,
    pub(crate) now: Instant,
    pub(crate) sent: u64,
}

impl Node {
    pub(crate) fn new(plan: Plan) -> Self {
        let renderers = Renderers::new(plan.vocabularies.into_iter().map(|described| described as _));
        let settings = Settings {
            classes: Classes::new(plan.classes),
            commands: Rate { per_second: 1_000_000, burst: 1_000_000 },
            max_subscriptions: 100_000,
            ..default_settings()
        };
        let limits = ValueLimits { count: 1000, bytes: 1 << 20 };
        let far = plan.is_far.then(|| {
            let (sender, inbox) = inbox(1 << 24);
            (Share::new(sender), inbox)
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
            settings: Rc::new(settings),
            encoder: Encoder::new(renderers, CompressionSettings { min_bytes: 64, level: 1 }),
            outgoing: Vec::new(),
            outbox: plan.outbox,
            far,
            effects: Effects::default(),
            run: Vec::new(),
            parcels: Vec::new(),
            taken: Vec::new(),
            now: Instant::now(),
            sent: 0,
        }
    }

    /// A client that has shown who it is and what it reads.
    pub(crate) fn connect(&mut self, dialect: Arc<dyn Dialect>, user: &str, encoding: Encoding) -> usize {
        let mut identity = Identity { user: user.into(), ..Identity::default() };
        Arc::make_mut(&mut identity.permissions).subscribe.allow = vec![Pattern::everything()];
        let verified = Verified { identity: Arc::new(identity), expires: None };
        let id = self.clients.len();
        let subscriber = Rc::new(Subscriber::new(ConnectionId(id), Arc::clone(&dialect), self.outbox));
        let session =
            Session::new("s1".into(), dialect, Rc::clone(&self.settings), Some(verified), moment(self.now));
        self.clients.push(Client { session, subscriber, encoding });
        self.perform(id);
        id
    }

    /// A message of a client, and all that comes of it.
    pub(crate) fn say(&mut self, client: usize, text: &str) {
        let now = self.now;
        self.clients[client]
            .session
            .handle_input(Input::Received(ClientMessage::Text(text.to_owned())), moment(now));
        self.perform(client);
        self.flush_shares();
    }

    fn perform(&mut self, client: usize) {
        while let Some(output) = self.clients[client].session.poll_output() {
            let subscriber = Rc::clone(&self.clients[client].subscriber);
            match output {
                Output::Send { frame, priority } => {
                    subscriber.push_reply(frame, priority);
                }
                Output::Join { subscription, pattern, format, class, max_rate, subscription_context } => {
                    let is_own = subscription_context
                        .as_ref()
                        .is_some_and(|subscription_context| subscription_context.is_tailored);
                    let encoding = self.clients[client].encoding;
                    let format = if is_own { format } else { Format { encoding, ..format } };
                    let question =
                        Join { shard: 0, pattern: pattern.clone(), class: Arc::clone(&class), format };
                    let subscribe =
                        Subscribe { subscription, pattern, format, class, max_rate, subscription_context };
                    if self.hub.join(&subscriber, subscribe) {
                        self.ask(question);
                    }
                }
                Output::GoLive { subscription } => self.hub.go_live(&subscriber, subscription),
                Output::Release { subscription } => {
                    self.clients[client].subscriber.release_all(subscription, self.now);
                }
                Output::Leave { subscription } => {
                    if let Some(pattern) = self.hub.leave(&subscriber, subscription) {
                        self.feeds.leave(0, &pattern, self.now);
                    }
                }
                Output::Filter { subscription, filter } => {
                    subscriber.with_member(subscription, |member| {
                        if let Some(subscription_context) = member.subscription_context() {
                            subscription_context.set_filter(filter);
                        }
                    });
                }
                Output::Deliver { .. }
                | Output::Ping
                | Output::Authenticate { .. }
                | Output::TrustClientIdentity { .. }
                | Output::Publish { .. }
                | Output::Request { .. }
                | Output::Query { .. }
                | Output::Close { .. } => {}
            }
        }
    }

    fn ask(&mut self, question: Join) {
        let mut made = None;
        let next = self.sources.len() as u64;
        let sources = &mut self.sources;
        let subscribe = |pattern: &Pattern| {
            sources.insert(pattern.clone(), next);
            *made.insert(next)
        };
        self.feeds.join(question, (self.now, SystemTime::UNIX_EPOCH), subscribe, &mut self.outgoing);
        if let Some(key) = made {
            self.feeds.opened(key, self.now, &mut self.outgoing);
        }
    }

    /// Which NATS subscription brings the messages of a pattern.
    pub(crate) fn source(&self, pattern: &str) -> u64 {
        self.sources[&Pattern::parse(pattern).unwrap()]
    }

    /// A message from NATS.
    pub(crate) fn publish(&mut self, source: u64, message: &Message) {
        let now = (self.now, SystemTime::UNIX_EPOCH);
        self.feeds.publish(source, message, now, &mut self.encoder, &mut self.outgoing).unwrap();
    }

    /// All that the lane has for the shard.
    pub(crate) fn flush_shares(&mut self) {
        let batch = match &mut self.far {
            Some((share, inbox)) => {
                self.outgoing.drain(..).for_each(|ShardItem { item, .. }| share.add(item));
                share.flush_shares();
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
                Item::Publication { pattern, key, frames } => {
                    let topic = self.hub.topic(&pattern).unwrap();
                    let expires = topic.expiry(self.now);
                    let mut next = Some((key, frames));
                    let mut count = 0;
                    while let Some((key, frames)) = next.take() {
                        count += 1;
                        for (format, frame) in frames {
                            let delivery = Rc::new(Delivery { frame, key: Arc::clone(&key), expires });
                            match self.run.iter_mut().find(|(of, _)| *of == format) {
                                Some((_, deliveries)) => deliveries.push(delivery),
                                None => self.run.push((format, vec![delivery])),
                            }
                        }
                        let same = |item: &Item| matches!(item, Item::Publication { pattern: of, .. } if *of == pattern);
                        if count < RUN_ITEMS
                            && let Some(Item::Publication { key, frames, .. }) = items.next_if(same)
                        {
                            next = Some((key, frames));
                        }
                    }
                    let pack = |(format, run): &mut (Format, _)| Some((*format, DeliveryBatch::pack(run)?));
                    self.parcels.extend(self.run.iter_mut().filter_map(pack));
                    topic.publish(&self.parcels, self.now, &mut self.effects);
                    self.parcels.clear();
                }
                Item::Joined { pattern, format, snapshot, stale } => {
                    for listener in self.hub.joined(&pattern, format) {
                        let client = listener.subscriber.owner.0;
                        let input = Input::Joined {
                            subscription: listener.subscription,
                            snapshot: snapshot.clone(),
                            stale,
                        };
                        let now = self.now;
                        self.clients[client].session.handle_input(input, moment(now));
                        self.perform(client);
                    }
                }
                Item::Unjoined { .. } | Item::Lost { .. } | Item::Unfit { .. } | Item::Stale { .. } => {
                    unreachable!("nothing is refused or lost here")
                }
            }
        }
    }

    /// Every outbox that has changed is written whole.
    pub(crate) fn flush(&mut self) {
        self.effects.urgent.clear();
        for subscriber in self.effects.changed.drain(..) {
            subscriber.clear_changed();
            loop {
                subscriber.take(self.now, WRITE_FRAMES, WRITE_BYTES, &mut self.taken);
                if self.taken.is_empty() {
                    break;
                }
                self.sent += self.taken.drain(..).map(|taken| taken.bytes().len() as u64).sum::<u64>();
                subscriber.emptied();
            }
        }
    }

    /// Each outbox that has changed gets rid of so many frames, and has the others back.
    pub(crate) fn flush_slowly(&mut self, frames: usize) {
        self.effects.urgent.clear();
        for subscriber in self.effects.changed.drain(..) {
            subscriber.clear_changed();
            subscriber.take(self.now, WRITE_FRAMES, WRITE_BYTES, &mut self.taken);
            let whole = frames.min(self.taken.len());
            subscriber.put_back(self.taken.drain(whole..), 0);
            self.sent += self.taken.drain(..).map(|taken| taken.bytes().len() as u64).sum::<u64>();
        }
    }

    /// Whatever has waited for its turn goes.
    pub(crate) fn release(&mut self) {
        for client in &self.clients {
            if client.subscriber.next_turn().is_some_and(|turn| turn <= self.now) {
                client.subscriber.release_due(self.now);
                self.effects.note_changed(&client.subscriber, Duration::ZERO);
            }
        }
    }
}

/// A moment of a day that does not matter.
pub(crate) fn moment(instant: Instant) -> Now {
    Now { instant, wall: SystemTime::UNIX_EPOCH }
}
