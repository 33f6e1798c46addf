//! A node behind a proxy that does harm, clients of one dialect, and what all of them must agree on afterwards.

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

/// Clients that are kept; older ones go.
const CLIENTS: usize = 5;

/// A client, and what it should hear: channel and subject.
struct Listener {
    recorder: Recorder,
    by: By,
    /// The channels that it has asked for.
    channels: BTreeSet<String>,
    interests: BTreeSet<(String, String)>,
    /// The same, at a rate of its own.
    slowly: BTreeSet<(String, String)>,
    /// What it has left and asked for again.
    again: BTreeSet<String>,
}

/// All of it.
pub(super) struct World {
    dialect: Dialect,
    edge: TestEdge,
    proxy: Proxy,
    listeners: Vec<Listener>,
    /// What is published on all the time.
    subjects: BTreeSet<String>,
    /// The number that was published last on all of them.
    number: u64,
    /// How many subjects have been made up.
    made_up: usize,
    rng: Rng,
}

/// What NATS lets the node do. Everybody else may do everything.
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
    /// Two clients that listen to subjects of both lanes, by name, and one that does by pattern.
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
            // A page that comes back finds a feed that lingers.
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

    /// A client that asks for all there is.
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

    /// One trouble comes and goes, with what people do meanwhile. Afterwards all is as it should be.
    #[expect(clippy::print_stdout, reason = "a run that fails is to be repeated")]
    pub(super) async fn suffer(&mut self, trouble: Trouble, until: Until) {
        let what = format!("{trouble:?} until {until:?}");
        println!("{}: {what}, from {}", self.dialect.name(), self.number);
        // Where a rate holds, the second of them waits.
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

    /// All of the ledger, at the end.
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

    /// Waits until nats-server has all subscriptions again that it had taken back. Who came before that was refused.
    async fn allowed_again(&self) {
        let prefix = format!("{}.", self.dialect.latest());
        let asked = self.listeners.iter().flat_map(|listener| &listener.channels);
        let asked: BTreeSet<_> = asked.filter(|channel| channel.starts_with(&prefix)).collect();
        eventually("all subscriptions are back", || async {
            self.edge.nats.subscriptions(&prefix).await >= asked.len()
        })
        .await;
    }

    fn nats_listens(&self, trouble: Trouble) -> bool {
        match trouble {
            Trouble::Wire(..) | Trouble::Denial | Trouble::Payload => true,
            Trouble::Kill | Trouble::Pause => false,
        }
    }

    /// What people and producers do in the meantime.
    async fn something_happens(&mut self, trouble: Trouble) {
        let from = self.rng.usize(..self.listeners.len());
        let by_name = (from..from + self.listeners.len())
            .map(|number| number % self.listeners.len())
            .find(|number| self.listeners[*number].by == By::Name);
        match (self.rng.usize(..5), by_name) {
            (0 | 1, _) if self.nats_listens(trouble) => self.publish().await,
            // What is forbidden is refused, and not asked for again.
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

    /// A subject that had no listener until now.
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

    /// Publishes one more on all subjects; the server has it.
    async fn publish(&mut self) {
        self.number += 1;
        let client = self.edge.nats.client().await;
        for subject in &self.subjects {
            let payload = json!({ "n": self.number, "of": subject }).to_string();
            client.publish(subject.clone(), payload.into()).await.unwrap();
        }
        client.flush().await.unwrap();
    }

    /// Publishes until all that anybody has asked for has brought the last of it. No one asks again.
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

    /// Who lacks the last number of what.
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

    /// Once the node knows that it hears nothing, an HTTP call is not told that what it has is current. Of its links, the
    /// one for requests may be the first that it knows of.
    async fn nothing_old_is_called_current(&self, what: &str) {
        let honest = || async {
            match self.last_values().await {
                Some((200, values)) => values.iter().all(|value| value["n"] == self.number),
                Some(_) | None => true,
            }
        };
        eventually(&format!("`last` has nothing old in {what}"), honest).await;
    }

    /// What `last` has of all subjects, where the vocabulary has such a call.
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

    /// Whoever comes when a trouble is over is shown what is current, or nothing, and so is an HTTP call. What is on its
    /// way may come a little later, but come it must.
    async fn newcomers_see_nothing_old(&mut self, what: &str) {
        let published = self.number;
        let by = if self.rng.bool() { By::Name } else { By::Pattern };
        let joined = self.joined();
        let newcomer = self.newcomer(by).await;
        // Nothing is published until all is shown to it.
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

    /// What comes after a gap was published after the loss.
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

    /// A client's publication reaches NATS, and the client is told so.
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

    /// Nothing is missing in silence, and nothing comes out of order.
    async fn judge(&self, listener: Listener) {
        let log = listener.recorder.stop().await;
        for (channel, subject) in &listener.interests {
            let numbers = came(&log, channel, subject);
            // Vocabularies show a last value as they show what is new.
            let again = self.dialect != Dialect::Native && listener.again.contains(channel);
            let in_order = numbers.windows(2).all(|two| two[0] < two[1] || again && two[0] == two[1]);
            assert!(in_order, "{}: {subject} on {channel} comes as {numbers:?}", self.dialect.name());
            if self.dialect == Dialect::Native && channel.starts_with("chat.") {
                audit(&log, channel);
            }
        }
    }
}

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Name,
    Pattern,
}

impl By {
    /// What a client asks for to hear this subject.
    fn channel(self, subject: &str) -> String {
        match (self, subject.split_once('.')) {
            (Self::Pattern, Some((first, _))) => format!("{first}.*"),
            (Self::Pattern, None) | (Self::Name, _) => subject.to_owned(),
        }
    }
}

impl Listener {
    fn wants(&mut self, dialect: Dialect, subject: &str) {
        // Vocabularies do not say on which channel something comes.
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

    /// What it was told last that is no message of a channel.
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

/// All that came of a subject on a channel.
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

/// The same, and before it what snapshots have shown.
fn numbers(log: &Log, channel: &str, subject: &str) -> Vec<u64> {
    let shown = log.shown.iter().filter(|(on, of, _)| on == channel && of == subject);
    shown.map(|(_, _, number)| *number).chain(came(log, channel, subject)).collect()
}
