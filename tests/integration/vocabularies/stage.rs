//! A node that serves a shipped vocabulary with its shipped roles and classes, a NATS client that sees every message,
//! and pages that connect to the node.

use std::path::Path;
use std::path::PathBuf;
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
use tidegate_protocol::class::FeedBy;
use tidegate_vocabulary::compile::compile;
use tokio::net::TcpStream;

use crate::support::edge::TestEdge;
use crate::support::edge::token_with;
use crate::support::eventually;
use crate::support::raw;
use crate::support::raw::Answer;
use crate::support::raw::RawClient;
use crate::support::within;
use crate::vocabularies::table::Command;
use crate::vocabularies::table::Effect;

/// A text in every reply of a service and in publications. Its presence in a message shows where the message is from.
pub(crate) const MARK: &str = "mark-of-these-tests";

/// A node with one endpoint.
pub(crate) struct Stage {
    pub(crate) edge: TestEdge,
    pub(crate) nats: async_nats::Client,
    spy: async_nats::Subscriber,
    vocabulary: String,
}

/// A WebSocket client that is connected.
pub(crate) struct Page {
    client: RawClient,
    pub(crate) is_open: bool,
}

impl Stage {
    /// Starts a node with a shipped vocabulary and the roles and classes of its configuration.
    pub(crate) async fn shipped(vocabulary: &str) -> Self {
        Self::changed(vocabulary, |_| {}).await
    }

    /// The same with a changed configuration.
    pub(crate) async fn changed(vocabulary: &str, change: impl FnOnce(&mut Config)) -> Self {
        let theirs = shipped_config(vocabulary);
        let text = shipped_text(vocabulary);
        Self::start(vocabulary, &text, |config| {
            config.roles = theirs.roles;
            config.classes = theirs.classes;
            // Each channel has its own subscription, so that tests see which ones clients reach.
            for class in config.classes.iter_mut().filter(|class| class.feed == FeedBy::Always) {
                class.feed = FeedBy::Subject;
            }
            change(config);
            let guest = theirs.endpoints[0].access.anonymous_role.clone();
            let has_guests = config.roles.iter().any(|role| Some(&role.name) == guest.as_ref());
            let access = &mut config.endpoints[0].access;
            if has_guests && access.anonymous_role.is_none() && access.trust_client_identity.is_none() {
                access.anonymous_role = guest;
            }
        })
        .await
    }

    /// Starts a node with any vocabulary, and a service for each request subject of the shipped ones.
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
        // It sees what is published on all subjects, also those that are closed to producers.
        let nats = edge.nats.operator().await;
        let spy = nats.subscribe(">").await.unwrap();
        for subject in ["predict.*", "predict.*.*", "finance.*.>", "tools.*.*", "mcp.tools"] {
            let (nats, mut requests) = (nats.clone(), nats.subscribe(subject).await.unwrap());
            tokio::spawn(async move {
                while let Some(request) = requests.next().await {
                    let answer = json!({ "mark": MARK }).to_string();
                    nats.publish(request.reply.unwrap(), answer.into()).await.unwrap();
                }
            });
        }
        let mut stage = Self { edge, nats, spy, vocabulary: name.to_owned() };
        // When the spy receives this, the server has the subscriptions. A flush would only send them.
        stage.published().await;
        stage
    }

    /// The number of subscriptions that have become live so far.
    pub(crate) fn joined(&self) -> u64 {
        self.edge.hooks.joined.load(Ordering::SeqCst)
    }

    /// The response to a handshake of this user.
    pub(crate) async fn handshake(&self, target: &str, claims: &Value) -> Answer {
        raw::ask(&self.edge.address(), raw::handshake(target, &self.headers(claims))).await
    }

    /// A page of this user, once its `joins` subscriptions of `on_connect` are live.
    pub(crate) async fn page(&self, target: &str, claims: &Value, joins: u64) -> Page {
        let before = self.joined();
        let stream = TcpStream::connect(self.edge.address()).await.unwrap();
        let mut page =
            Page { client: RawClient::upgrade(stream, target, &self.headers(claims)).await, is_open: true };
        // A subscription of an earlier page may become live meanwhile.
        eventually(&format!("{target} has joined"), || async { self.joined() >= before + joins }).await;
        page.received().await;
        page
    }

    /// A page of alice for a command, with a role that permits it.
    pub(crate) async fn page_for(&self, command: &Command) -> Page {
        let role = if command.target == "/ws/admin" { "admin" } else { "user" };
        self.page(command.target, &json!({ "sub": "alice", "role": role }), joins_on_connect(command)).await
    }

    fn headers(&self, claims: &Value) -> String {
        let offer =
            if self.vocabulary == "graphql-ws" { "Sec-WebSocket-Protocol: graphql-ws\r\n" } else { "" };
        format!("{}{offer}", authorization(claims))
    }

    /// An HTTP call of this user, or without a credential if the claims are null.
    pub(crate) async fn call(&self, method: &str, target: &str, claims: &Value, body: &str) -> Answer {
        self.call_with("", method, target, claims, body).await
    }

    /// The same with more headers, each with its line end.
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

    /// Checks that the command with a good value has its effect, and no other.
    pub(crate) async fn assert_works(&mut self, page: &mut Page, command: &Command) {
        let before = self.joined();
        page.send(&command.good()).await;
        match command.effect {
            Effect::Subscribes(_) => {
                let all = before + command.effect.subjects().count() as u64;
                let joined = || async { self.joined() >= all };
                eventually(&format!("{command:?} has joined"), joined).await;
                assert_eq!(self.joined(), all, "{command:?}");
                self.publish_mark(command).await;
                page.until(MARK).await;
            }
            Effect::Requests(_) if command.message.contains("acknowledge") => {
                page.until("acknowledged").await;
            }
            Effect::Requests(_) => {
                page.until(MARK).await;
            }
            Effect::Publishes(subject) => while self.next_published().await.subject.as_str() != subject {},
            Effect::Unsubscribes => {
                let received = page.received().await;
                assert!(!received.iter().any(is_error), "{command:?}: {received:?}");
            }
        }
    }

    /// Publishes [`MARK`] on the last subject of a command that subscribes, about the symbol in the subject.
    pub(crate) async fn publish_mark(&self, command: &Command) {
        let subject = command.effect.subjects().last().unwrap().replace('*', "x");
        let symbol = subject.split_once('.').map_or("", |(_, symbol)| symbol);
        let value = json!({ "symbol": symbol, "mark": MARK, "change": MARK });
        self.edge.publish(&subject, value.to_string()).await;
    }

    /// The same until the page receives it, because its subscription may not be live yet.
    pub(crate) async fn publish_mark_until_received(&self, command: &Command, page: &mut Page) {
        let receives = async {
            loop {
                self.publish_mark(command).await;
                if page.received().await.iter().any(|message| message.to_string().contains(MARK)) {
                    return;
                }
            }
        };
        within(&format!("{command:?} receives"), receives).await;
    }

    async fn next_published(&mut self) -> async_nats::Message {
        within("something is published", self.spy.next()).await.unwrap()
    }

    /// All messages on NATS since the last call, except replies and those of nodes to each other.
    pub(crate) async fn published(&mut self) -> Vec<async_nats::Message> {
        self.nats.publish("the.end", "".into()).await.unwrap();
        let mut published = Vec::new();
        loop {
            let message = self.next_published().await;
            match message.subject.as_str() {
                "the.end" => return published,
                // Replies, and requests of the node itself.
                subject if subject.starts_with("_INBOX") || subject.starts_with("$SYS") => {}
                subject if NODE_SUBJECTS.contains(&subject) => {}
                _ => published.push(message),
            }
        }
    }

    /// Checks that nothing was published or subscribed to, except these subjects and those of `on_connect`.
    pub(crate) async fn assert_no_subject_but(&mut self, allowed: &[&str]) {
        for message in self.published().await {
            let subject = message.subject.as_str();
            assert!(
                allowed.iter().any(|allowed| allowed.replace('*', "x") == subject),
                "{subject} was published"
            );
        }
        for subject in self.subscribed().await {
            let is_allowed = allowed.contains(&subject.as_str()) || ON_CONNECT.contains(&subject.as_str());
            assert!(is_allowed, "{subject} was subscribed to");
        }
    }

    /// The NATS subscriptions that the node has for its clients, without its inboxes and its own.
    pub(crate) async fn subscribed(&self) -> Vec<String> {
        let mut subjects = self.edge.nats.subjects("tidegate/").await;
        subjects.retain(|subject| {
            !["_INBOX_tidegate.", "$SRV."].iter().any(|own| subject.starts_with(own))
                && !NODE_SUBJECTS.contains(&subject.as_str())
        });
        subjects
    }
}

impl Page {
    pub(crate) async fn send(&mut self, message: &str) {
        self.client.send(&raw::text(message)).await;
    }

    /// All messages that arrive before the answer to a ping, or before the connection closes.
    pub(crate) async fn received(&mut self) -> Vec<Value> {
        let mut received = Vec::new();
        self.client.send(&raw::frame(0x89, b"received?")).await;
        while let Some(frame) = self.client.frame().await {
            match frame.opcode {
                1 => received.push(serde_json::from_slice(&frame.message()).unwrap()),
                10 => return received,
                _ => {}
            }
        }
        self.is_open = false;
        received
    }

    /// Reads messages until one contains these words, which it returns.
    pub(crate) async fn until(&mut self, words: &str) -> Value {
        loop {
            let message = self.client.message().await;
            assert!(!is_error(&message), "an error instead of {words}: {message}");
            if message.to_string().contains(words) {
                return message;
            }
        }
    }

    /// Checks that this message gets an error or ends the session. Returns what the client received.
    pub(crate) async fn assert_rejected(&mut self, what: &str) -> Vec<Value> {
        self.send(what).await;
        let received = self.received().await;
        let is_rejected = !self.is_open || received.iter().any(is_error);
        assert!(is_rejected, "{what} got {received:?}");
        received
    }
}

/// The shipped configuration of a vocabulary.
pub(crate) fn shipped_config(vocabulary: &str) -> Config {
    let environment = vec![("TIDEGATE_AUTH__HMAC_SECRET".to_owned(), "x".repeat(32))];
    // This one has an endpoint in the configuration of another.
    let config = if vocabulary == "financegpt-tools" { "financegpt" } else { vocabulary };
    let file = Some(folder().join(format!("{config}.config.toml")));
    load(&Sources { file, environment, ..Sources::default() }).unwrap().config
}

/// The file of a shipped vocabulary.
pub(crate) fn shipped_text(vocabulary: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{vocabulary}.toml"))).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vocabularies")
}

/// The subjects on which nodes query each other and follow revocations.
const NODE_SUBJECTS: [&str; 5] = [
    "tidegate.nodes",
    "tidegate.users",
    "tidegate.revoke",
    "_live.$KV.tidegate_revoked.>",
    "$JS.API.DIRECT.GET.KV_tidegate_revoked",
];

/// The channels of `on_connect` in all vocabularies. The user is always alice.
#[rustfmt::skip]
pub(crate) const ON_CONNECT: [&str; 13] = [
    "account.ACC1.updates", "predictions.AAPL", "prices.AAPL", "market.AAPL", "alerts", "user.alice.*", "system.*", "user.alice.notifications",
    "user.alice.transactions", "user.alice.balance", "system.notifications", "system.announcements", "mcp.update.*",
];

/// The number of channels of `on_connect` for this command's vocabulary and path.
fn joins_on_connect(command: &Command) -> u64 {
    match command.vocabulary {
        "ara" if command.target.contains("predictions") => 1,
        "ara" => 2,
        "financegpt" => 3,
        "financegpt-tools" => 3,
        "hoardrun" => 5,
        _ => 0,
    }
}

pub(crate) fn authorization(claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["accounts"] = json!(["ACC1"]);
    format!("Authorization: Bearer {}\r\n", token_with(&claims))
}

/// Whether a message of any vocabulary is an error.
pub(crate) fn is_error(message: &Value) -> bool {
    message["type"] == "error" || message["error"].is_object() || message["result"]["error"].is_object()
}
