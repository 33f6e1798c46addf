//! A node behind a faulty proxy, clients of one dialect, and the checks after each fault.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use serde_json::json;
use tidegate::config::nats::login::NatsLogin;
use tidegate::config::secret::Secret;

use crate::faults::troubles::Trouble;
use crate::faults::troubles::Until;
use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::support::dialect::Dialect;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::ledger::audit;
use crate::support::nats_server::NatsServer;
use crate::support::proxy::Fault;
use crate::support::proxy::Proxy;
use crate::support::proxy::Whose;
use crate::support::raw;
use crate::support::recorder::Log;
use crate::support::recorder::Received;
use crate::support::recorder::Recorder;

/// How many clients are kept; older ones disconnect.
const CLIENTS: usize = 5;

/// A client, and the channels and subjects that it should receive.
struct Listener {
    recorder: Recorder,
    by: By,
    /// The channels that it has subscribed to.
    channels: BTreeSet<String>,
    interests: BTreeSet<(String, String)>,
    /// Channels with a `max_rate_ms`.
    rate_limited: BTreeSet<(String, String)>,
    /// Channels that it has left and joined again.
    rejoined: BTreeSet<String>,
}

/// The node, its clients and the proxy.
pub(super) struct World {
    dialect: Dialect,
    edge: TestEdge,
    proxy: Proxy,
    listeners: Vec<Listener>,
    /// The subjects with constant traffic.
    subjects: BTreeSet<String>,
    /// The last number that was published on all of them.
    number: u64,
    /// How many new subjects were used.
    fresh_subjects: usize,
    rng: Rng,
}

/// NATS permissions of the node. All other clients may do everything.
fn users(denied: &str) -> String {
    let permissions = if denied.is_empty() {
        String::new()
    } else {
        format!(", permissions: {{ subscribe: {{ deny: \"{denied}\" }} }}")
    };
    format!(
        "authorization {{ users: [ {{ user: edge, password: edge{permissions} }}, \
         {{ user: any, password: any }} ] }}\nno_auth_user: any"
    )
}

impl World {
    /// Two clients that subscribe to subjects of both lanes by name, and one that subscribes by pattern.
    pub(super) async fn begin(dialect: Dialect, seed: u64) -> Self {
        let nats = NatsServer::with(&users("")).await;
        let proxy = Proxy::start(&nats).await;
        let url = proxy.url();
        let change = |config: &mut tidegate::config::Config| {
            dialect.configure(config);
            config.nats.urls = vec![url];
            config.nats.ping_interval = Duration::from_millis(500);
            config.nats.login =
                NatsLogin::Password { user: "edge".to_owned(), password: Secret::new("edge") };
            // A page that reconnects finds a feed that lingers.
            config.server.feed_linger = Duration::from_secs(5);
            config.limits.max_errors = 10_000;
            config.limits.connections_per_user = 0;
        };
        let edge = TestEdge::with_nats(nats, change, false).await;
        edge.readyz(200).await;
        let mut world = Self {
            dialect,
            edge,
            proxy,
            listeners: Vec::new(),
            subjects: BTreeSet::new(),
            number: 0,
            fresh_subjects: 0,
            rng: Rng::with_seed(seed),
        };
        world.subjects = world.first_subjects();
        for by in [By::Name, By::Pattern, By::Name] {
            let listener = world.new_client(by).await;
            world.listeners.push(listener);
        }
        world.until_all_received("at the beginning").await;
        world
    }

    /// Some of each lane and class.
    fn first_subjects(&self) -> BTreeSet<String> {
        let of = |prefix: &str| -> Vec<String> {
            (0..2).flat_map(|lane| self.edge.subjects_of(lane, prefix).take(2).collect::<Vec<_>>()).collect()
        };
        let more = match self.dialect {
            Dialect::Native => of("chat"),
            Dialect::StockAgent => vec!["alerts".to_owned(), "signals".to_owned()],
            Dialect::Sentio => Vec::new(),
        };
        of(self.dialect.latest()).into_iter().chain(more).collect()
    }

    /// A client that subscribes to everything.
    async fn new_client(&self, by: By) -> Listener {
        let client =
            Client::open_with(&self.edge.address(), self.dialect.path(), &[("authorization", &bearer())])
                .await;
        let recorder = Recorder::with_dialect(self.dialect, client);
        let mut listener = Listener {
            recorder,
            by,
            channels: self.subjects.iter().map(|subject| by.channel(subject)).collect(),
            interests: BTreeSet::new(),
            rate_limited: BTreeSet::new(),
            rejoined: BTreeSet::new(),
        };
        for subject in &self.subjects {
            listener.expects(self.dialect, subject);
        }
        for channel in &listener.channels {
            listener.recorder.subscribe(channel).await;
        }
        if self.dialect == Dialect::Native && by == By::Name {
            let channel = format!("{}.*", self.dialect.latest());
            let message = json!({ "type": "subscribe", "channel": channel, "max_rate_ms": 200 });
            listener.recorder.send(message).await;
        }
        listener
    }

    /// Applies one fault, with client activity meanwhile, and checks everything afterwards.
    #[expect(clippy::print_stdout, reason = "the log names the faults, to repeat a failed run")]
    pub(super) async fn apply(&mut self, trouble: Trouble, until: Until) {
        let what = format!("{trouble:?} until {until:?}");
        println!("{}: {what}, from {}", self.dialect.name(), self.number);
        // With a `max_rate_ms`, the second one is delayed.
        self.publish().await;
        self.publish().await;
        eventually(&format!("all before {what}"), || async { self.lagging(|one| &one.interests).is_empty() })
            .await;
        let (before, received) = (self.number, self.received_so_far());
        self.begins(trouble);
        for _ in 0..3 {
            self.random_activity(trouble).await;
        }
        match (until, trouble) {
            (Until::Noticed, Trouble::Denial) => {
                let prefix = format!("{}.", self.dialect.latest());
                eventually("the subscriptions are gone", || async {
                    self.edge.nats.subscriptions(&prefix).await == 0
                })
                .await;
            }
            (Until::Noticed, _) => {
                self.noticed(&what).await;
                if !matches!(trouble, Trouble::Wire(_, Whose::Requests)) {
                    self.no_stale_value_is_returned(&what).await;
                }
            }
            (Until::Soon, _) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
        if self.nats_accepts_messages(trouble) {
            self.publish().await;
        }
        self.ends(trouble).await;
        self.ready(&what).await;
        self.new_clients_get_no_stale_value(&what).await;
        self.until_all_received(&format!("after {what}")).await;
        self.no_old_message_after_a_gap(before, &received, &what);
        self.publishing_works(&what).await;
        while self.listeners.len() > CLIENTS {
            let oldest = self.listeners.remove(0);
            self.audit_client(oldest).await;
        }
    }

    /// The final check of all clients.
    pub(super) async fn end(mut self) {
        for listener in std::mem::take(&mut self.listeners) {
            self.audit_client(listener).await;
        }
    }

    fn begins(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Wire(fault, whose) => self.proxy.does_to(whose, fault),
            Trouble::Kill => self.edge.nats.kill(),
            Trouble::Pause => self.edge.nats.pause(),
            Trouble::Denial => self.edge.nats.reload(&users(&format!("{}.>", self.dialect.latest()))),
            Trouble::Payload => self.edge.nats.reload(&(users("") + "\nmax_payload: 1024")),
        }
    }

    async fn ends(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Wire(..) => self.proxy.does(Fault::None),
            Trouble::Kill => self.edge.nats.restart().await,
            Trouble::Pause => self.edge.nats.resume(),
            Trouble::Payload => self.edge.nats.reload(&users("")),
            Trouble::Denial => {
                self.edge.nats.reload(&users(""));
                self.allowed_again().await;
            }
        }
    }

    /// Waits until nats-server has all subscriptions again after a revocation. Clients that subscribed before were
    /// refused.
    async fn allowed_again(&self) {
        let prefix = format!("{}.", self.dialect.latest());
        let requested = self.listeners.iter().flat_map(|listener| &listener.channels);
        let requested: BTreeSet<_> = requested.filter(|channel| channel.starts_with(&prefix)).collect();
        eventually("all subscriptions are back", || async {
            self.edge.nats.subscriptions(&prefix).await >= requested.len()
        })
        .await;
    }

    fn nats_accepts_messages(&self, trouble: Trouble) -> bool {
        match trouble {
            Trouble::Wire(..) | Trouble::Denial | Trouble::Payload => true,
            Trouble::Kill | Trouble::Pause => false,
        }
    }

    /// The activity of clients and producers during a fault.
    async fn random_activity(&mut self, trouble: Trouble) {
        let from = self.rng.usize(..self.listeners.len());
        let by_name = (from..from + self.listeners.len())
            .map(|number| number % self.listeners.len())
            .find(|number| self.listeners[*number].by == By::Name);
        match (self.rng.usize(..5), by_name) {
            (0 | 1, _) if self.nats_accepts_messages(trouble) => self.publish().await,
            // A forbidden subscription is refused and not tried again.
            _ if matches!(trouble, Trouble::Denial) => self.publish().await,
            (2, Some(one)) => {
                let fresh = self.fresh_subject();
                let listener = &mut self.listeners[one];
                listener.expects(self.dialect, &fresh);
                listener.recorder.subscribe(&fresh).await;
                listener.channels.insert(fresh);
            }
            (3, Some(one)) => {
                let nth = self.rng.usize(..self.listeners[one].interests.len());
                let listener = &mut self.listeners[one];
                let (channel, _) = listener.interests.iter().nth(nth).unwrap().clone();
                listener.recorder.unsubscribe(&channel).await;
                listener.recorder.subscribe(&channel).await;
                listener.rejoined.insert(channel);
            }
            _ => {
                let by = if self.rng.bool() { By::Name } else { By::Pattern };
                let new_client = self.new_client(by).await;
                self.listeners.push(new_client);
            }
        }
        tokio::time::sleep(Duration::from_millis(self.rng.u64(..60))).await;
    }

    /// A subject without subscribers until now.
    fn fresh_subject(&mut self) -> String {
        self.fresh_subjects += 1;
        let fresh = format!("{}.fresh{}", self.dialect.latest(), self.fresh_subjects);
        self.subjects.insert(fresh.clone());
        for listener in &mut self.listeners {
            match listener.by {
                By::Pattern => listener.expects(self.dialect, &fresh),
                By::Name => listener.expects_at_a_rate(self.dialect, &fresh),
            }
        }
        fresh
    }

    /// Publishes one more message on all subjects, and waits until the server has them.
    async fn publish(&mut self) {
        self.number += 1;
        let client = self.edge.nats.client().await;
        for subject in &self.subjects {
            let payload = json!({ "n": self.number, "of": subject }).to_string();
            client.publish(subject.clone(), payload.into()).await.unwrap();
        }
        client.flush().await.unwrap();
    }

    /// Publishes until all clients have received the last message of all their subscriptions, without subscribing
    /// again.
    async fn until_all_received(&mut self, when: &str) {
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(20);
        loop {
            self.publish().await;
            tokio::time::sleep(pause).await;
            let mut lagging = self.lagging(|one| &one.interests);
            lagging.append(&mut self.lagging(|one| &one.rate_limited));
            if lagging.is_empty() {
                return;
            }
            let replies: Vec<_> = self.listeners.iter().map(Listener::last_replies).collect();
            assert!(
                tokio::time::Instant::now() < until,
                "{}, {when}: these lack the newest message: {lagging:?}\n{replies:#?}",
                self.dialect.name()
            );
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// The clients that lack the last number of a subject.
    fn lagging(&self, of: impl Fn(&Listener) -> &BTreeSet<(String, String)>) -> Vec<(usize, String, String)> {
        let mut lagging = Vec::new();
        for (number, listener) in self.listeners.iter().enumerate() {
            let log = listener.recorder.so_far();
            for (channel, subject) in of(listener) {
                if log.newest(channel, subject) != self.number {
                    lagging.push((number, channel.clone(), subject.clone()));
                }
            }
        }
        lagging
    }

    async fn noticed(&self, what: &str) {
        let noticed = || async { self.edge.get("/readyz").await.0 == 503 };
        eventually(&format!("{}: /readyz 503 in {what}", self.dialect.name()), noticed).await;
    }

    async fn ready(&self, what: &str) {
        let ready = || async { self.edge.get("/readyz").await.0 == 200 };
        eventually(&format!("{}: /readyz 200 after {what}", self.dialect.name()), ready).await;
    }

    /// Once the node has detected the outage, HTTP calls must not return old values. The node may detect the loss of
    /// its connection for requests first.
    async fn no_stale_value_is_returned(&self, what: &str) {
        let honest = || async {
            match self.last_values().await {
                Some((200, values)) => values.iter().all(|value| value["n"] == self.number),
                Some(_) | None => true,
            }
        };
        eventually(&format!("`last` returns no old value in {what}"), honest).await;
    }

    /// The last values of all subjects, if the vocabulary has an HTTP call for them.
    async fn last_values(&self) -> Option<(u16, Vec<Value>)> {
        if self.dialect != Dialect::Sentio {
            return None;
        }
        let symbols: Vec<_> = self.subjects.iter().filter_map(|of| Some(of.split_once('.')?.1)).collect();
        let request = format!(
            "GET /api/v1/dashboard/market-data?symbols={} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\r\n",
            symbols.join(","),
            bearer()
        );
        let answer = raw::ask(&self.edge.address(), request).await;
        let values = if answer.status == 200 { answer.json() } else { Value::Null };
        Some((answer.status, values["market_data"].as_array().cloned().unwrap_or_default()))
    }

    /// A client that connects after a fault gets current values or none, and so does an HTTP call. Messages in transit
    /// may arrive a little later.
    async fn new_clients_get_no_stale_value(&mut self, what: &str) {
        let published = self.number;
        let by = if self.rng.bool() { By::Name } else { By::Pattern };
        let joined = self.joined();
        let new_client = self.new_client(by).await;
        // Nothing is published until the client has received all of it.
        eventually(&format!("new clients have subscribed after {what}"), || async {
            let before = self.joined();
            tokio::time::sleep(Duration::from_millis(50)).await;
            before >= joined + new_client.channels.len() as u64 && self.joined() == before
        })
        .await;
        let until = tokio::time::Instant::now() + Duration::from_secs(5);
        while let Some((200, values)) = self.last_values().await
            && values.iter().any(|value| value["n"] != published)
        {
            let is_late = tokio::time::Instant::now() > until;
            assert!(!is_late, "sentio: `last` after {what} is {values:?}, and {published} was published");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.listeners.push(new_client);
        self.until_all_received(&format!("new clients after {what}")).await;
        let new_client = self.listeners.pop().unwrap();
        let log = new_client.recorder.so_far();
        for (channel, subject) in new_client.interests.iter().chain(&new_client.rate_limited) {
            let numbers = numbers(&log, channel, subject);
            let first = numbers[0];
            assert!(
                first >= published || numbers.contains(&published),
                "{}: after {what} a new client gets {first} of {subject} on {channel}; {published} was published, \
                 and it received {numbers:?}",
                self.dialect.name()
            );
        }
        self.audit_client(new_client).await;
    }

    fn joined(&self) -> u64 {
        self.edge.hooks.joined.load(Ordering::SeqCst)
    }

    fn received_so_far(&self) -> Vec<usize> {
        self.listeners.iter().map(|listener| listener.recorder.so_far().received.len()).collect()
    }

    /// Messages after a gap were published after the loss.
    fn no_old_message_after_a_gap(&self, before: u64, received: &[usize], what: &str) {
        for (listener, from) in self.listeners.iter().zip(received) {
            let log = listener.recorder.so_far();
            let mut lost = BTreeSet::new();
            for received in &log.received[*from..] {
                match received {
                    Received::Gap { channel, cause, .. } if cause == "nats" => {
                        lost.insert(channel.clone());
                    }
                    Received::Message { channel, subject, number } => assert!(
                        !lost.contains(channel) || *number > before,
                        "after {what} and a gap, {channel} delivers {number} of {subject}, published before {before}"
                    ),
                    Received::Gap { .. }
                    | Received::Subscribed { .. }
                    | Received::Unsubscribed { .. }
                    | Received::Refused { .. }
                    | Received::Other(_) => {}
                }
            }
        }
    }

    /// A publish of a client reaches NATS and is confirmed.
    async fn publishing_works(&self, what: &str) {
        if self.dialect != Dialect::Native {
            return;
        }
        let mut client = self.edge.client("bob").await;
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            client.send(&json!({ "type": "publish", "id": 1, "channel": "chat.of.bob", "data": 1 })).await;
            let reply = client.next().await.unwrap();
            if reply["type"] == "published" {
                return;
            }
            assert!(tokio::time::Instant::now() < until, "after {what} a publish gets {reply}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// No message is lost without a gap, and all are in order.
    async fn audit_client(&self, listener: Listener) {
        let log = listener.recorder.stop().await;
        for (channel, subject) in &listener.interests {
            let numbers = numbers_received(&log, channel, subject);
            // Vocabularies send a last value like a new message.
            let again = self.dialect != Dialect::Native && listener.rejoined.contains(channel);
            let in_order = numbers.windows(2).all(|two| two[0] < two[1] || again && two[0] == two[1]);
            assert!(in_order, "{}: {subject} on {channel} is out of order: {numbers:?}", self.dialect.name());
            if self.dialect == Dialect::Native && channel.starts_with("chat.") {
                audit(&log, channel);
            }
        }
    }
}

/// How a client subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Name,
    Pattern,
}

impl By {
    /// The channel to subscribe to for this subject.
    fn channel(self, subject: &str) -> String {
        match (self, subject.split_once('.')) {
            (Self::Pattern, Some((first, _))) => format!("{first}.*"),
            (Self::Pattern, None) | (Self::Name, _) => subject.to_owned(),
        }
    }
}

impl Listener {
    fn expects(&mut self, dialect: Dialect, subject: &str) {
        // Vocabularies do not name the channel of a message.
        let channel = if dialect == Dialect::Native { self.by.channel(subject) } else { subject.to_owned() };
        self.interests.insert((channel, subject.to_owned()));
        if self.by == By::Name {
            self.expects_at_a_rate(dialect, subject);
        }
    }

    fn expects_at_a_rate(&mut self, dialect: Dialect, subject: &str) {
        if dialect == Dialect::Native && subject.starts_with(dialect.latest()) {
            self.rate_limited.insert((By::Pattern.channel(subject), subject.to_owned()));
        }
    }

    /// The last six messages other than publications.
    fn last_replies(&self) -> Vec<Received> {
        let log = self.recorder.so_far();
        let replies =
            log.received.into_iter().filter(|received| !matches!(received, Received::Message { .. }));
        let mut replies: Vec<_> = replies.collect();
        replies.split_off(replies.len().saturating_sub(6))
    }
}

fn bearer() -> String {
    format!("Bearer {}", token("alice"))
}

/// The numbers of all messages of a subject on a channel.
fn numbers_received(log: &Log, channel: &str, subject: &str) -> Vec<u64> {
    let numbers = log.received.iter().filter_map(|received| match received {
        Received::Message { channel: on, subject: of, number } => {
            (on == channel && of == subject).then_some(*number)
        }
        Received::Subscribed { .. }
        | Received::Unsubscribed { .. }
        | Received::Gap { .. }
        | Received::Refused { .. }
        | Received::Other(_) => None,
    });
    numbers.collect()
}

/// The same, preceded by the values of snapshots.
fn numbers(log: &Log, channel: &str, subject: &str) -> Vec<u64> {
    let shown = log.shown.iter().filter(|(on, of, _)| on == channel && of == subject);
    shown.map(|(_, _, number)| *number).chain(numbers_received(log, channel, subject)).collect()
}
