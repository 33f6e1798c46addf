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
use crate::support::recorder::Heard;
use crate::support::recorder::Log;
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
    slowly: BTreeSet<(String, String)>,
    /// Channels that it has left and joined again.
    again: BTreeSet<String>,
}

/// All of it.
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
    made_up: usize,
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
            made_up: 0,
            rng: Rng::with_seed(seed),
        };
        world.subjects = world.first_subjects();
        for by in [By::Name, By::Pattern, By::Name] {
            let listener = world.newcomer(by).await;
            world.listeners.push(listener);
        }
        world.all_hear("at the beginning").await;
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
    async fn newcomer(&self, by: By) -> Listener {
        let client =
            Client::open_with(&self.edge.address(), self.dialect.path(), &[("authorization", &bearer())])
                .await;
        let recorder = Recorder::speaking(self.dialect, client);
        let mut listener = Listener {
            recorder,
            by,
            channels: self.subjects.iter().map(|subject| by.channel(subject)).collect(),
            interests: BTreeSet::new(),
            slowly: BTreeSet::new(),
            again: BTreeSet::new(),
        };
        for subject in &self.subjects {
            listener.wants(self.dialect, subject);
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
    #[expect(clippy::print_stdout, reason = "a run that fails is to be repeated")]
    pub(super) async fn suffer(&mut self, trouble: Trouble, until: Until) {
        let what = format!("{trouble:?} until {until:?}");
        println!("{}: {what}, from {}", self.dialect.name(), self.number);
        // With a `max_rate_ms`, the second one is delayed.
        self.publish().await;
        self.publish().await;
        eventually(&format!("all before {what}"), || async { self.deaf(|one| &one.interests).is_empty() })
            .await;
        let (before, heard) = (self.number, self.heard_so_far());
        self.begins(trouble);
        for _ in 0..3 {
            self.something_happens(trouble).await;
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
                    self.nothing_old_is_called_current(&what).await;
                }
            }
            (Until::Soon, _) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
        if self.nats_listens(trouble) {
            self.publish().await;
        }
        self.ends(trouble).await;
        self.ready(&what).await;
        self.newcomers_see_nothing_old(&what).await;
        self.all_hear(&format!("after {what}")).await;
        self.nothing_old_after_a_gap(before, &heard, &what);
        self.publishing_works(&what).await;
        while self.listeners.len() > CLIENTS {
            let oldest = self.listeners.remove(0);
            self.judge(oldest).await;
        }
    }

    /// The final check of all clients.
    pub(super) async fn end(mut self) {
        for listener in std::mem::take(&mut self.listeners) {
            self.judge(listener).await;
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

    fn nats_listens(&self, trouble: Trouble) -> bool {
        match trouble {
            Trouble::Wire(..) | Trouble::Denial | Trouble::Payload => true,
            Trouble::Kill | Trouble::Pause => false,
        }
    }

    /// The activity of clients and producers during a fault.
    async fn something_happens(&mut self, trouble: Trouble) {
        let from = self.rng.usize(..self.listeners.len());
        let by_name = (from..from + self.listeners.len())
            .map(|number| number % self.listeners.len())
            .find(|number| self.listeners[*number].by == By::Name);
        match (self.rng.usize(..5), by_name) {
            (0 | 1, _) if self.nats_listens(trouble) => self.publish().await,
            // A forbidden subscription is refused and not tried again.
            _ if matches!(trouble, Trouble::Denial) => self.publish().await,
            (2, Some(one)) => {
                let fresh = self.fresh_subject();
                let listener = &mut self.listeners[one];
                listener.wants(self.dialect, &fresh);
                listener.recorder.subscribe(&fresh).await;
                listener.channels.insert(fresh);
            }
            (3, Some(one)) => {
                let nth = self.rng.usize(..self.listeners[one].interests.len());
                let listener = &mut self.listeners[one];
                let (channel, _) = listener.interests.iter().nth(nth).unwrap().clone();
                listener.recorder.unsubscribe(&channel).await;
                listener.recorder.subscribe(&channel).await;
                listener.again.insert(channel);
            }
            _ => {
                let by = if self.rng.bool() { By::Name } else { By::Pattern };
                let newcomer = self.newcomer(by).await;
                self.listeners.push(newcomer);
            }
        }
        tokio::time::sleep(Duration::from_millis(self.rng.u64(..60))).await;
    }

    /// A subject without subscribers until now.
    fn fresh_subject(&mut self) -> String {
        self.made_up += 1;
        let fresh = format!("{}.fresh{}", self.dialect.latest(), self.made_up);
        self.subjects.insert(fresh.clone());
        for listener in &mut self.listeners {
            match listener.by {
                By::Pattern => listener.wants(self.dialect, &fresh),
                By::Name => listener.wants_slowly(self.dialect, &fresh),
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
    async fn all_hear(&mut self, when: &str) {
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(20);
        loop {
            self.publish().await;
            tokio::time::sleep(pause).await;
            let mut deaf = self.deaf(|one| &one.interests);
            deaf.append(&mut self.deaf(|one| &one.slowly));
            if deaf.is_empty() {
                return;
            }
            let said: Vec<_> = self.listeners.iter().map(Listener::last_words).collect();
            assert!(
                tokio::time::Instant::now() < until,
                "{}, {when}: these never hear a probe: {deaf:?}\n{said:#?}",
                self.dialect.name()
            );
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// The clients that lack the last number of a subject.
    fn deaf(&self, of: impl Fn(&Listener) -> &BTreeSet<(String, String)>) -> Vec<(usize, String, String)> {
        let mut deaf = Vec::new();
        for (number, listener) in self.listeners.iter().enumerate() {
            let log = listener.recorder.so_far();
            for (channel, subject) in of(listener) {
                if log.newest(channel, subject) != self.number {
                    deaf.push((number, channel.clone(), subject.clone()));
                }
            }
        }
        deaf
    }

    async fn noticed(&self, what: &str) {
        let noticed = || async { self.edge.get("/readyz").await.0 == 503 };
        eventually(&format!("{}: /readyz 503 in {what}", self.dialect.name()), noticed).await;
    }

    async fn ready(&self, what: &str) {
        let ready = || async { self.edge.get("/readyz").await.0 == 200 };
        eventually(&format!("{}: /readyz 200 after {what}", self.dialect.name()), ready).await;
    }

    /// Once the node knows that it is disconnected, HTTP calls must not call old values current. The connection for
    /// requests may be the first that the node notices.
    async fn nothing_old_is_called_current(&self, what: &str) {
        let honest = || async {
            match self.last_values().await {
                Some((200, values)) => values.iter().all(|value| value["n"] == self.number),
                Some(_) | None => true,
            }
        };
        eventually(&format!("`last` has nothing old in {what}"), honest).await;
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
    async fn newcomers_see_nothing_old(&mut self, what: &str) {
        let published = self.number;
        let by = if self.rng.bool() { By::Name } else { By::Pattern };
        let joined = self.joined();
        let newcomer = self.newcomer(by).await;
        // Nothing is published until the client has received all of it.
        eventually(&format!("newcomers have joined after {what}"), || async {
            let before = self.joined();
            tokio::time::sleep(Duration::from_millis(50)).await;
            before >= joined + newcomer.channels.len() as u64 && self.joined() == before
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
        self.listeners.push(newcomer);
        self.all_hear(&format!("newcomers after {what}")).await;
        let newcomer = self.listeners.pop().unwrap();
        let log = newcomer.recorder.so_far();
        for (channel, subject) in newcomer.interests.iter().chain(&newcomer.slowly) {
            let numbers = numbers(&log, channel, subject);
            let first = numbers[0];
            assert!(
                first >= published || numbers.contains(&published),
                "{}: after {what} a newcomer is shown {first} of {subject} on {channel}; {published} was published, \
                 and it hears {numbers:?}",
                self.dialect.name()
            );
        }
        self.judge(newcomer).await;
    }

    fn joined(&self) -> u64 {
        self.edge.hooks.joined.load(Ordering::SeqCst)
    }

    fn heard_so_far(&self) -> Vec<usize> {
        self.listeners.iter().map(|listener| listener.recorder.so_far().heard.len()).collect()
    }

    /// Messages after a gap were published after the loss.
    fn nothing_old_after_a_gap(&self, before: u64, heard: &[usize], what: &str) {
        for (listener, from) in self.listeners.iter().zip(heard) {
            let log = listener.recorder.so_far();
            let mut lost = BTreeSet::new();
            for heard in &log.heard[*from..] {
                match heard {
                    Heard::Gap { channel, cause, .. } if cause == "nats" => {
                        lost.insert(channel.clone());
                    }
                    Heard::Message { channel, subject, number } => assert!(
                        !lost.contains(channel) || *number > before,
                        "after {what} and a gap {number} of {subject} comes on {channel}, from before {before}"
                    ),
                    Heard::Gap { .. }
                    | Heard::Subscribed { .. }
                    | Heard::Unsubscribed { .. }
                    | Heard::Refused { .. }
                    | Heard::Other(_) => {}
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
            assert!(tokio::time::Instant::now() < until, "after {what} publishing is answered {reply}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// No message is lost without a gap, and all are in order.
    async fn judge(&self, listener: Listener) {
        let log = listener.recorder.stop().await;
        for (channel, subject) in &listener.interests {
            let numbers = came(&log, channel, subject);
            // Vocabularies send a last value like a new message.
            let again = self.dialect != Dialect::Native && listener.again.contains(channel);
            let in_order = numbers.windows(2).all(|two| two[0] < two[1] || again && two[0] == two[1]);
            assert!(in_order, "{}: {subject} on {channel} comes as {numbers:?}", self.dialect.name());
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
    fn wants(&mut self, dialect: Dialect, subject: &str) {
        // Vocabularies do not name the channel of a message.
        let channel = if dialect == Dialect::Native { self.by.channel(subject) } else { subject.to_owned() };
        self.interests.insert((channel, subject.to_owned()));
        if self.by == By::Name {
            self.wants_slowly(dialect, subject);
        }
    }

    fn wants_slowly(&mut self, dialect: Dialect, subject: &str) {
        if dialect == Dialect::Native && subject.starts_with(dialect.latest()) {
            self.slowly.insert((By::Pattern.channel(subject), subject.to_owned()));
        }
    }

    /// The last message that does not belong to a channel.
    fn last_words(&self) -> Vec<Heard> {
        let log = self.recorder.so_far();
        let words = log.heard.into_iter().filter(|heard| !matches!(heard, Heard::Message { .. }));
        let mut words: Vec<_> = words.collect();
        words.split_off(words.len().saturating_sub(6))
    }
}

fn bearer() -> String {
    format!("Bearer {}", token("alice"))
}

/// All messages of a subject on a channel.
fn came(log: &Log, channel: &str, subject: &str) -> Vec<u64> {
    let came = log.heard.iter().filter_map(|heard| match heard {
        Heard::Message { channel: on, subject: of, number } => {
            (on == channel && of == subject).then_some(*number)
        }
        Heard::Subscribed { .. }
        | Heard::Unsubscribed { .. }
        | Heard::Gap { .. }
        | Heard::Refused { .. }
        | Heard::Other(_) => None,
    });
    came.collect()
}

/// The same, preceded by the values of snapshots.
fn numbers(log: &Log, channel: &str, subject: &str) -> Vec<u64> {
    let shown = log.shown.iter().filter(|(on, of, _)| on == channel && of == subject);
    shown.map(|(_, _, number)| *number).chain(came(log, channel, subject)).collect()
}
