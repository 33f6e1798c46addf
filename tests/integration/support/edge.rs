//! A whole node in this process: the real `App` on a free port, and the real nats-server next to it.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use serde_json::Value;
use serde_json::json;
use tidegate::app::App;
use tidegate::app::options::AppOptions;
use tidegate::auth::jwt;
use tidegate::config::Config;
use tidegate::config::auth::key::KeyConfig;
use tidegate::config::listen_address::ListenAddress;
use tidegate::config::report::ConfigReport;
use tidegate::config::secret::Secret;
use tidegate::config::tls::CertificateFiles;
use tidegate::hooks::Faults;
use tidegate::net::listener::Listener;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::template::Template;
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::secrets;
use crate::support::secrets::LogGuard;
use crate::support::secrets::registered;
use crate::support::within;

/// The key of all tokens.
pub(crate) const SECRET: &str = "a secret that is only ever used by these tests";

/// An eighth of the default stack size.
const SMALL_STACK: usize = 256 * 1024;

/// A node, and the NATS server that it uses.
pub(crate) struct TestEdge {
    pub(crate) nats: NatsServer,
    pub(crate) app: App,
    pub(crate) hooks: Arc<Faults>,
    config: Config,
    _logs: LogGuard,
}

impl TestEdge {
    /// A node with two shards, and so two lanes.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with a changed configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_options(change, false).await
    }

    /// The same; with `hold`, all subscriptions stay held.
    pub(crate) async fn with_options(change: impl FnOnce(&mut Config), hold: bool) -> Self {
        Self::with_nats(NatsServer::start().await, change, hold).await
    }

    /// The same on threads with a small stack.
    pub(crate) async fn with_small_stacks(change: impl FnOnce(&mut Config)) -> Self {
        let nats = NatsServer::start().await;
        let mut config = config(&nats);
        change(&mut config);
        let (app, hooks) = start(config.clone(), false, Some(SMALL_STACK)).await;
        Self { nats, app, hooks, config, _logs: LogGuard }
    }

    /// A node that speaks TLS, with the certificate of `support/tls`.
    pub(crate) async fn with_tls(change: impl FnOnce(&mut Config)) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/support/tls");
        Self::with(|config| {
            config.tls.certificates = vec![CertificateFiles {
                section: "tls".to_owned(),
                cert_file: format!("{folder}/server.pem").into(),
                key_file: format!("{folder}/server.key").into(),
            }];
            change(config);
        })
        .await
    }

    /// A node whose NATS server is not started yet.
    pub(crate) async fn without_nats() -> Self {
        Self::with_nats(NatsServer::absent(), |_| {}, false).await
    }

    /// A node on this NATS server.
    pub(crate) async fn with_nats(nats: NatsServer, change: impl FnOnce(&mut Config), hold: bool) -> Self {
        let mut config = config(&nats);
        change(&mut config);
        let (app, hooks) = start(config.clone(), hold, None).await;
        Self { nats, app, hooks, config, _logs: LogGuard }
    }

    /// Another node on the same NATS.
    pub(crate) async fn another_node(&self) -> App {
        start(self.config.clone(), false, None).await.0
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> String {
        self.app.address.to_string()
    }

    /// A client with role `user`, connected.
    pub(crate) async fn client(&self, user: &str) -> Client {
        Client::connect(&self.address(), &token(user)).await
    }

    /// A client with role `user` that can send arbitrary bytes, connected.
    pub(crate) async fn raw(&self, user: &str) -> RawClient {
        self.raw_on(TcpStream::connect(self.address()).await.unwrap(), user).await
    }

    /// The same on a stream that is already open.
    pub(crate) async fn raw_on(&self, stream: TcpStream, user: &str) -> RawClient {
        self.upgraded(stream, user, "").await
    }

    /// A client that negotiates permessage-deflate.
    pub(crate) async fn deflating(&self, user: &str) -> RawClient {
        self.deflating_on(TcpStream::connect(self.address()).await.unwrap(), user).await
    }

    /// The same on a stream that is already open.
    pub(crate) async fn deflating_on(&self, stream: TcpStream, user: &str) -> RawClient {
        let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
        self.upgraded(stream, user, offer).await
    }

    async fn upgraded(&self, stream: TcpStream, user: &str, headers: &str) -> RawClient {
        let headers = format!("Authorization: Bearer {}\r\n{headers}", token(user));
        let mut client = RawClient::upgrade(stream, "/ws", &headers).await;
        assert_eq!(client.message().await["type"], "connected");
        client
    }

    /// Two clients of the same user, one on each shard: connections go to the shard with fewer sockets.
    pub(crate) async fn pair(&self) -> (Client, Client) {
        (self.client("alice").await, self.client("alice").await)
    }

    /// A client on this shard.
    pub(crate) async fn client_on(&self, shard: usize) -> Client {
        // Connections go to the shard with fewer sockets, so the clients on the other shard are kept until one is on
        // this shard.
        let mut others = Vec::new();
        loop {
            let client = self.client("alice").await;
            if client.shard == shard {
                return client;
            }
            others.push(client);
        }
    }

    /// The same, with a small receive buffer.
    pub(crate) async fn small_client_on(&self, shard: usize) -> Client {
        let mut others = Vec::new();
        loop {
            let client = Client::connect_small(&self.address(), &token("alice")).await;
            if client.shard == shard {
                return client;
            }
            others.push(client);
        }
    }

    /// Subjects with this prefix that belong to this lane.
    pub(crate) fn subjects_of(&self, lane: usize, prefix: &str) -> impl Iterator<Item = String> {
        let owner = |subject: &String| self.app.node.lanes.by_hash(&Pattern::parse(subject).unwrap()).0;
        (0..).map(move |number| format!("{prefix}.s{number}")).filter(move |subject| owner(subject) == lane)
    }

    /// Publishes as any producer does, and waits until the server has it.
    pub(crate) async fn publish(&self, subject: &str, payload: impl Into<Vec<u8>>) {
        let client = self.nats.client().await;
        client.publish(subject.to_owned(), payload.into().into()).await.unwrap();
        client.flush().await.unwrap();
    }

    /// Publishes `{"n": 1}` and so on, in order, to each of the subjects, and waits until the server has all.
    pub(crate) async fn publish_numbers(&self, subjects: &[String], numbers: std::ops::RangeInclusive<u64>) {
        let client = self.nats.client().await;
        for number in numbers {
            for subject in subjects {
                client.publish(subject.clone(), format!("{{\"n\":{number}}}").into()).await.unwrap();
            }
        }
        client.flush().await.unwrap();
    }

    /// Status and body of `GET path`.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = within("an answer", raw::get(&self.address(), path)).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| json!(body)))
    }

    /// Kills the NATS server, and waits until every lane has noticed. `/readyz` answers 503 as soon as one has.
    pub(crate) async fn lose_nats(&mut self) {
        self.nats.kill();
        self.disconnected().await;
    }

    /// Waits until every lane has noticed that NATS is away.
    pub(crate) async fn disconnected(&self) {
        eventually("every lane has noticed", || async {
            self.app.node.readiness.lanes().iter().all(|lane| !lane.connected)
        })
        .await;
    }

    /// Waits until `/readyz` answers with this status.
    pub(crate) async fn readyz(&self, expected: u16) {
        eventually(&format!("/readyz {expected}"), || async { self.get("/readyz").await.0 == expected })
            .await;
    }
}

async fn start(config: Config, hold: bool, stack: Option<usize>) -> (App, Arc<Faults>) {
    let faults = Arc::new(Faults { hold, stack, ..Faults::default() });
    (start_with(config, &faults).await, faults)
}

async fn start_with(config: Config, faults: &Arc<Faults>) -> App {
    let address = match &config.http.listen {
        ListenAddress::Tcp(_) => "127.0.0.1:0".parse().unwrap(),
        unix @ ListenAddress::Unix(_) => unix.clone(),
    };
    let listener = Listener::bind(&address).unwrap();
    let hooks = Arc::clone(faults).into();
    secrets::check_logs();
    App::start(AppOptions { config, report: ConfigReport::default(), listener, hooks }).await.unwrap()
}

/// Role `user` may subscribe to prices, chats and its own subjects, publish to `chat.>`, and request `svc.>`;
/// `admin` may also subscribe to `admin.>`. Prices have class `latest` with a snapshot.
fn config(nats: &NatsServer) -> Config {
    let mut config = Config::default();
    config.nats.urls = vec![nats.url()];
    config.nats.login = nats.node_login();
    config.server.shards = 2;
    config.server.feed_linger = Duration::from_millis(200);
    config.server.lame_duck = Duration::ZERO;
    config.server.drain = Duration::from_millis(200);
    // A busy machine must not close a session.
    config.limits.ping_interval = Duration::from_mins(5);
    config.limits.write_timeout = Duration::from_mins(1);
    config.limits.auth_timeout = Duration::from_mins(1);
    config.limits.fragment_timeout = Duration::from_mins(1);
    config.auth.keys = vec![KeyConfig::hs256("test", Secret::new(SECRET))];
    let user = ["prices.>", "chat.>", "user.{sub}.>"];
    let admin = [&user[..], &["admin.>"]].concat();
    let (publish, request) = (["chat.>"], ["svc.>"]);
    config.roles = vec![role("user", &user, &publish, &request), role("admin", &admin, &publish, &request)];
    config.classes = vec![Class { kind: Kind::Latest, snapshot: true, ..class("prices.>") }];
    config
}

/// A class with default settings.
pub(crate) fn class(pattern: &str) -> Class {
    Class::plain(Pattern::parse(pattern).unwrap())
}

/// A role that may subscribe to, publish to and request these.
pub(crate) fn role(name: &str, subscribe: &[&str], publish: &[&str], request: &[&str]) -> Role {
    let rules = |allow: &[&str]| RuleTemplates {
        allow: allow.iter().map(|text| Template::parse(text).unwrap()).collect(),
        deny: Vec::new(),
    };
    Role {
        name: name.to_owned(),
        subscribe: rules(subscribe),
        publish: rules(publish),
        request: rules(request),
        ..Role::default()
    }
}

/// A token with role `user`, valid for an hour.
pub(crate) fn token(user: &str) -> String {
    token_with(&json!({ "sub": user }))
}

/// A token with these claims in addition to the default ones.
pub(crate) fn token_with(claims: &Value) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut all = json!({ "sub": "alice", "role": "user", "iat": now, "exp": now + 3600 });
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    signed(SECRET, Some("test"), &all)
}

/// A token with exactly these claims, signed with HS256.
pub(crate) fn signed(secret: &str, kid: Option<&str>, claims: &Value) -> String {
    registered(jwt::mint_hs256(&Secret::new(secret), kid, claims).unwrap())
}
