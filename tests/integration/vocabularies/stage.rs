//! A node that serves a shipped vocabulary as its own configuration says, a spy on NATS, and pages.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::endpoint::EndpointConfig;
use tidegate::config::endpoint::VocabularyFile;
use tidegate::config::load::load;
use tidegate::config::source::Sources;
use tidegate_vocabulary::compile::compile;
use tokio::net::TcpStream;

use crate::support::edge::TestEdge;
use crate::support::edge::token_with;
use crate::support::eventually;
use crate::support::raw;
use crate::support::raw::Answer;
use crate::support::raw::RawClient;
use crate::support::within;
use crate::vocabularies::table::Does;
use crate::vocabularies::table::Place;

/// What services answer and producers publish here.
pub(crate) const MARK: &str = "a-mark-that-nobody-else-writes";

/// A node with one endpoint.
pub(crate) struct Stage {
    pub(crate) edge: TestEdge,
    pub(crate) nats: async_nats::Client,
    spy: async_nats::Subscriber,
    vocabulary: String,
}

/// A page that has come in.
pub(crate) struct Page {
    client: RawClient,
    pub(crate) is_open: bool,
}

impl Stage {
    /// A shipped vocabulary, as its own configuration says who may do what.
    pub(crate) async fn shipped(vocabulary: &str) -> Self {
        Self::changed(vocabulary, |_| {}).await
    }

    /// The same, with something else in the configuration.
    pub(crate) async fn changed(vocabulary: &str, change: impl FnOnce(&mut Config)) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vocabularies");
        let environment = vec![("TIDEGATE_AUTH__HMAC_SECRET".to_owned(), "x".repeat(32))];
        let file = Some(folder.join(format!("{vocabulary}.config.toml")));
        let theirs = load(&Sources { file, environment, ..Sources::default() }).unwrap().config;
        let text = std::fs::read_to_string(folder.join(format!("{vocabulary}.toml"))).unwrap();
        Self::start(vocabulary, &text, |config| {
            config.roles = theirs.roles;
            config.classes = theirs.classes;
            change(config);
            let guest = theirs.endpoints[0].access.anonymous_role.clone();
            if config.roles.iter().any(|role| Some(&role.name) == guest.as_ref()) {
                config.endpoints[0].access.anonymous_role = guest;
            }
        })
        .await
    }

    /// A vocabulary of the test's own.
    pub(crate) async fn start(name: &str, file: &str, change: impl FnOnce(&mut Config)) -> Self {
        let vocabulary = Arc::new(compile(file).unwrap().vocabulary);
        let edge = TestEdge::with(|config| {
            config.server.shards = 1;
            config.limits.max_errors = 10_000;
            config.limits.commands_burst = 100_000;
            config.limits.control_frames_burst = 100_000;
            config.endpoints = vec![EndpointConfig {
                path: String::new(),
                vocabulary: name.to_owned(),
                file: Some(VocabularyFile(vocabulary)),
                ..EndpointConfig::default()
            }];
            change(config);
        })
        .await;
        let nats = edge.nats.client().await;
        let spy = nats.subscribe(">").await.unwrap();
        for subject in ["predict.*", "finance.*.*", "tools.*.*", "mcp.tools"] {
            let (nats, mut requests) = (nats.clone(), nats.subscribe(subject).await.unwrap());
            tokio::spawn(async move {
                while let Some(request) = requests.next().await {
                    let answer = json!({ "mark": MARK }).to_string();
                    nats.publish(request.reply.unwrap(), answer.into()).await.unwrap();
                }
            });
        }
        let mut stage = Self { edge, nats, spy, vocabulary: name.to_owned() };
        // What the spy hears behind them: the server knows the subscriptions. To flush is to send, and no more.
        stage.published().await;
        stage
    }

    /// How many channels have been joined.
    pub(crate) fn joined(&self) -> u64 {
        self.edge.hooks.joined.load(Ordering::SeqCst)
    }

    /// What a handshake of this user is answered.
    pub(crate) async fn knock(&self, target: &str, claims: &Value) -> Answer {
        raw::ask(&self.edge.address(), raw::handshake(target, &self.headers(claims))).await
    }

    /// A page of this user, who was joined to what everybody has who comes in there.
    pub(crate) async fn page(&self, target: &str, claims: &Value, joins: u64) -> Page {
        let before = self.joined();
        let stream = TcpStream::connect(self.edge.address()).await.unwrap();
        let mut page =
            Page { client: RawClient::upgrade(stream, target, &self.headers(claims)).await, is_open: true };
        eventually(&format!("{target} has joined"), || async { self.joined() == before + joins }).await;
        page.heard().await;
        page
    }

    /// Alice's page for a place, in a role that may do what is done there.
    pub(crate) async fn page_for(&self, place: &Place) -> Page {
        let role = if place.target == "/ws/admin" { "admin" } else { "user" };
        self.page(place.target, &json!({ "sub": "alice", "role": role }), on_connect(place)).await
    }

    fn headers(&self, claims: &Value) -> String {
        let offer =
            if self.vocabulary == "graphql-ws" { "Sec-WebSocket-Protocol: graphql-ws\r\n" } else { "" };
        format!("{}{offer}", authorization(claims))
    }

    /// An HTTP call of this user; with null, of no one.
    pub(crate) async fn call(&self, method: &str, target: &str, claims: &Value, body: &str) -> Answer {
        self.call_with("", method, target, claims, body).await
    }

    /// The same with further headers, each with its line end.
    pub(crate) async fn call_with(
        &self,
        headers: &str,
        method: &str,
        target: &str,
        claims: &Value,
        body: &str,
    ) -> Answer {
        let authorization = if claims.is_null() { String::new() } else { authorization(claims) };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{authorization}{headers}");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        raw::ask(&self.edge.address(), request).await
    }

    /// A good message does what it should, and nothing else is joined.
    pub(crate) async fn works(&mut self, page: &mut Page, place: &Place) {
        let before = self.joined();
        page.send(&place.good()).await;
        match place.does {
            Does::Joins(channel) => {
                let joined = || async { self.joined() > before };
                eventually(&format!("{place:?} has joined"), joined).await;
                assert_eq!(self.joined(), before + 1, "{place:?}");
                self.edge.publish(&channel.replace('*', "x"), json!({ "symbol": MARK }).to_string()).await;
                page.until(MARK).await;
            }
            Does::Asks(_) if place.message.contains("acknowledge") => {
                page.until("acknowledged").await;
            }
            Does::Asks(_) => {
                page.until(MARK).await;
            }
            Does::Publishes(subject) => while self.next_published().await.subject.as_str() != subject {},
            Does::Leaves => {
                let heard = page.heard().await;
                assert!(!heard.iter().any(is_error), "{place:?}: {heard:?}");
            }
        }
    }

    async fn next_published(&mut self) -> async_nats::Message {
        within("something is published", self.spy.next()).await.unwrap()
    }

    /// What has been published until now, answers aside.
    pub(crate) async fn published(&mut self) -> Vec<async_nats::Message> {
        self.nats.publish("the.end", "".into()).await.unwrap();
        let mut published = Vec::new();
        loop {
            let message = self.next_published().await;
            match message.subject.as_str() {
                "the.end" => return published,
                // Answers, and what a node asks the server for itself.
                subject if subject.starts_with("_INBOX") || subject.starts_with("$SYS") => {}
                _ => published.push(message),
            }
        }
    }

    /// Nothing is published or subscribed to but on these subjects, and those of whoever comes in.
    pub(crate) async fn keeps_to(&mut self, allowed: &[&str]) {
        for message in self.published().await {
            let subject = message.subject.as_str();
            assert!(
                allowed.iter().any(|allowed| allowed.replace('*', "x") == subject),
                "{subject} was published"
            );
        }
        for subject in self.subscribed().await {
            let is_allowed = allowed.contains(&subject.as_str()) || EVERYBODY.contains(&subject.as_str());
            assert!(is_allowed, "{subject} was subscribed to");
        }
    }

    /// What the node has subscribed to for its clients: not its inboxes, nor where nodes ask each other.
    pub(crate) async fn subscribed(&self) -> Vec<String> {
        let mut subjects = self.edge.nats.subjects("tidegate/").await;
        subjects.retain(|subject| !subject.starts_with("_INBOX_tidegate.") && subject != "tidegate.nodes");
        subjects
    }
}

impl Page {
    pub(crate) async fn send(&mut self, message: &str) {
        self.client.send(&raw::text(message)).await;
    }

    /// What has come by the time that a ping is answered, or the end.
    pub(crate) async fn heard(&mut self) -> Vec<Value> {
        let mut heard = Vec::new();
        self.client.send(&raw::frame(0x89, b"heard?")).await;
        while let Some(frame) = self.client.frame().await {
            match frame.opcode {
                1 => heard.push(serde_json::from_slice(&frame.said()).unwrap()),
                10 => return heard,
                _ => {}
            }
        }
        self.is_open = false;
        heard
    }

    /// Messages until one with these words.
    pub(crate) async fn until(&mut self, words: &str) -> Value {
        loop {
            let message = self.client.message().await;
            assert!(!is_error(&message), "{words} was to come: {message}");
            if message.to_string().contains(words) {
                return message;
            }
        }
    }

    /// That the client is told of a mistake, or that its session ends.
    pub(crate) async fn is_refused(&mut self, what: &str) -> Vec<Value> {
        self.send(what).await;
        let heard = self.heard().await;
        let is_refused = !self.is_open || heard.iter().any(is_error);
        assert!(is_refused, "{what} is answered {heard:?}");
        heard
    }
}

/// What whoever comes in is joined to; all are alice.
#[rustfmt::skip]
pub(crate) const EVERYBODY: [&str; 17] = [
    "account.ACC1.updates", "predictions.AAPL", "market.AAPL", "alerts", "user.alice.notifications", "user.alice.transactions",
    "user.alice.balance", "system.announcements", "user.alice.balance_update", "user.alice.transaction_alert",
    "user.alice.fraud_alert", "user.alice.goal_progress", "user.alice.market_update", "user.alice.bill_reminder",
    "user.alice.insight_ready", "user.alice.system_notification", "user.alice.URGENT_FRAUD_ALERT",
];

/// How many channels that are.
fn on_connect(place: &Place) -> u64 {
    match place.vocabulary {
        "ara" => 1,
        "financegpt" => 10,
        "hoardrun" => 4,
        _ => 0,
    }
}

pub(crate) fn authorization(claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["accounts"] = json!(["ACC1"]);
    format!("Authorization: Bearer {}\r\n", token_with(&claims))
}

/// Whether a message says that something is wrong, in whichever of the vocabularies.
pub(crate) fn is_error(message: &Value) -> bool {
    message["type"] == "error" || message["error"].is_object()
}
