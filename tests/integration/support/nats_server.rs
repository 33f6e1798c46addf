//! The real nats-server, started, stopped, paused and killed.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use async_nats::Client;
use tidegate::config::nats::login::NatsLogin;
use tidegate::config::secret::Secret;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::support::eventually;
use crate::support::until_stopped;
use crate::support::within;

const CONFIGURATION: &str = "nats.conf";
/// The users of `nats/server.conf`.
const USERS: [&str; 4] = ["operator", "producer", "tidegate", "decider"];
/// Their password. It is not a number, which nats-server would not take for a text.
pub(crate) const PASSWORD: &str = "only-in-tests";
/// The lines of `nats/server.conf` that are for roles and classes.
const CLIENTS_SUBSCRIBE: &str = r#""prices.>", "user.>", "admin.>", "demo.>""#;
const CLIENTS_PUBLISH: &str = "\n            \"demo.>\"";
/// The first tokens of all subjects that roles and classes of tests name.
const SUBJECTS: [&str; 40] = [
    "a",
    "account",
    "admin",
    "alerts",
    "b",
    "chat",
    "demo",
    "family",
    "finance",
    "guest",
    "inbox",
    "market",
    "mcp",
    "news",
    "notes",
    "notifications",
    "open",
    "orders",
    "org",
    "other",
    "predict",
    "predictions",
    "prices",
    "quotes",
    "room",
    "signals",
    "svc",
    "system",
    "team",
    "tools",
    "u",
    "user",
    "webrtc",
    "x",
    "y",
    "z",
    "things",
    "items",
    "jobs",
    "rooms",
];
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A nats-server on a free port, with its own folder.
pub(crate) struct NatsServer {
    port: u16,
    monitor: u16,
    folder: PathBuf,
    child: Option<Child>,
    /// Whether it has the users of `nats/server.conf`.
    has_users: bool,
}

impl NatsServer {
    /// Starts one and waits until it listens. It has the users of `nats/server.conf`: nodes log in as `tidegate`, and
    /// clients without a login are `operator`, so that a test may act for producers, services and JetStream.
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// The same, with additions to the configuration. If these have users, or turn JetStream off, they are added to
    /// `nats/dev.conf`, where there is no user.
    pub(crate) async fn with(configuration: &str) -> Self {
        let mut server = Self::absent();
        server.has_users =
            !["authorization", "accounts", "jetstream"].iter().any(|word| configuration.contains(word));
        server.configure(configuration);
        for _ in 0..10 {
            if server.started().await {
                return server;
            }
            (server.port, server.monitor) = (free_port(), free_port());
        }
        panic!("nats-server ends at once: is its configuration right?\n{configuration}");
    }

    /// The same without users: everyone may do everything.
    pub(crate) async fn open() -> Self {
        Self::with("# without authorization").await
    }

    /// A server to start later with [`NatsServer::restart`].
    pub(crate) fn absent() -> Self {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tidegate-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let server = Self { port: free_port(), monitor: free_port(), folder, child: None, has_users: true };
        server.configure("");
        server
    }

    fn configure(&self, more: &str) {
        let open = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/nats/dev.conf"));
        let shipped = if self.has_users { with_users() } else { open.to_owned() };
        let store = format!("jetstream {{ store_dir: \"{}\"\n", self.folder.display());
        let shipped = shipped.replace("jetstream {", &store).replace("  store_dir: /data\n", "");
        std::fs::write(self.folder.join(CONFIGURATION), format!("{shipped}\n{more}\n")).unwrap();
    }

    /// The login of nodes.
    pub(crate) fn node_login(&self) -> NatsLogin {
        if !self.has_users {
            return NatsLogin::None;
        }
        NatsLogin::Password { user: "tidegate".to_owned(), password: Secret::new(PASSWORD) }
    }

    /// The address with the login of nodes.
    pub(crate) fn node_url(&self) -> String {
        if self.has_users { self.url_of("tidegate") } else { self.url() }
    }

    /// The address with the login of this user.
    pub(crate) fn url_of(&self, user: &str) -> String {
        format!("nats://{}@127.0.0.1:{}", Self::login_of(user), self.port)
    }

    /// The login of this user: `user:password`.
    pub(crate) fn login_of(user: &str) -> String {
        assert!(USERS.contains(&user));
        format!("{user}:{PASSWORD}")
    }

    /// A client that may do everything.
    pub(crate) async fn operator(&self) -> Client {
        if self.has_users { self.client_as("operator", PASSWORD).await } else { self.client().await }
    }

    /// A client with the login and the inbox of nodes.
    pub(crate) async fn node_client(&self) -> Client {
        let login =
            async_nats::ConnectOptions::with_user_and_password("tidegate".to_owned(), PASSWORD.to_owned());
        login.custom_inbox_prefix("_INBOX_tidegate").connect(self.url()).await.unwrap()
    }

    /// A client with the login of the service that decides for Tidegate.
    pub(crate) async fn decider(&self) -> Client {
        self.client_as("decider", PASSWORD).await
    }

    /// A client with the login of producers and services.
    pub(crate) async fn producer(&self) -> Client {
        self.client_as("producer", PASSWORD).await
    }

    /// A client with this login.
    pub(crate) async fn client_as(&self, user: &str, password: &str) -> Client {
        let login = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
        login.connect(self.url()).await.unwrap()
    }

    /// The address with a login that may do everything.
    pub(crate) fn operator_url(&self) -> String {
        if self.has_users { self.url_of("operator") } else { self.url() }
    }

    /// The users of the connections whose names have this prefix.
    pub(crate) async fn users(&self, prefix: &str) -> BTreeSet<String> {
        let connections = self.connz().await;
        let ours = connections.iter().filter(|entry| is_named(entry, prefix));
        ours.map(|entry| entry["authorized_user"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Reloads it with another configuration (SIGHUP).
    pub(crate) fn reload(&self, configuration: &str) {
        self.configure(configuration);
        self.signal("-HUP");
    }

    /// Puts it into lame-duck mode (SIGUSR2).
    pub(crate) fn lame_duck(&self) {
        self.signal("-USR2");
    }

    /// Writes a file next to its configuration.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// An unused port.
    pub(crate) fn free_port() -> u16 {
        free_port()
    }

    /// Whether it has announced other servers to its clients.
    pub(crate) async fn has_announced_peers(&self) -> bool {
        let answer: serde_json::Value = serde_json::from_str(&http_get(self.monitor, "/varz").await).unwrap();
        answer["connect_urls"].as_array().is_some_and(|urls| urls.len() > 1)
    }

    /// The address for clients.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// A new client without a login.
    pub(crate) async fn client(&self) -> Client {
        async_nats::connect(self.url()).await.unwrap()
    }

    /// Kills it (SIGKILL).
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Restarts it on the same port.
    pub(crate) async fn restart(&mut self) {
        assert!(self.started().await, "another process has taken its port");
    }

    /// Stops it (SIGSTOP), and waits until all its threads have stopped: its connections stay open and are silent.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
        until_stopped(self.child.as_ref().unwrap().id());
    }

    /// Continues it (SIGCONT).
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// Subscribes, and waits until the server has the subscription. A flush would only send it.
    pub(crate) async fn subscribe(&self, subject: &'static str) -> (Client, async_nats::Subscriber) {
        let client = self.client().await;
        let subscriber = client.subscribe(subject).await.unwrap();
        eventually("the server has the subscription", || async { self.subscriptions(subject).await > 0 })
            .await;
        (client, subscriber)
    }

    /// The number of subscriptions on subjects with this prefix, from its monitoring endpoint.
    pub(crate) async fn subscriptions(&self, prefix: &str) -> usize {
        let body = http_get(self.monitor, "/subsz?subs=1&limit=100000").await;
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        let list = answer["subscriptions_list"].as_array().cloned().unwrap_or_default();
        let ours =
            |entry: &&serde_json::Value| entry["subject"].as_str().is_some_and(|s| s.starts_with(prefix));
        list.iter().filter(ours).count()
    }

    /// The number of connections that it has ever had.
    pub(crate) async fn connections_made(&self) -> u64 {
        let answer: serde_json::Value = serde_json::from_str(&http_get(self.monitor, "/varz").await).unwrap();
        answer["total_connections"].as_u64().unwrap()
    }

    /// The number of connections whose names have this prefix.
    pub(crate) async fn connections(&self, prefix: &str) -> usize {
        self.connz().await.iter().filter(|entry| is_named(entry, prefix)).count()
    }

    /// The number of messages that it has sent to connections whose names have this prefix.
    pub(crate) async fn delivered(&self, prefix: &str) -> u64 {
        let connections = self.connz().await;
        connections
            .iter()
            .filter(|entry| is_named(entry, prefix))
            .map(|entry| entry["out_msgs"].as_u64().unwrap())
            .sum()
    }

    /// The subscriptions of connections whose names have this prefix.
    pub(crate) async fn subjects(&self, prefix: &str) -> Vec<String> {
        let connections = self.connz().await;
        let ours = connections.iter().filter(|entry| is_named(entry, prefix));
        let lists = ours.filter_map(|entry| entry["subscriptions_list"].as_array());
        lists.flatten().filter_map(|subject| subject.as_str().map(str::to_owned)).collect()
    }

    /// Waits until the server has a subscription of this user. The flush of a client waits only until it has been sent.
    pub(crate) async fn until_subscribed(&self, user: &str, subject: &str) {
        eventually(&format!("{user} to subscribe to {subject}"), async || {
            self.connz().await.iter().any(|connection| {
                let subjects = connection["subscriptions_list"].as_array();
                connection["authorized_user"] == user
                    && subjects.is_some_and(|subjects| subjects.iter().any(|known| known == subject))
            })
        })
        .await;
    }

    async fn connz(&self) -> Vec<serde_json::Value> {
        let body = http_get(self.monitor, "/connz?limit=10000&subs=1&auth=1").await;
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        answer["connections"].as_array().cloned().unwrap_or_default()
    }

    /// Starts it and waits until it listens; false if it has ended instead. It reports its port in a file: a connection
    /// to the port would not prove that it is this server.
    async fn started(&mut self) -> bool {
        let mut child = spawn(self.port, self.monitor, &self.folder);
        let ports = self.folder.join(format!("nats-server_{}.ports", child.id()));
        let mut ended = false;
        eventually("nats-server listens", || {
            ended = child.try_wait().unwrap().is_some();
            let done = ended || ports.exists();
            async move { done }
        })
        .await;
        self.child = Some(child);
        !ended
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

fn is_named(connection: &serde_json::Value, prefix: &str) -> bool {
    connection["name"].as_str().is_some_and(|name| name.starts_with(prefix))
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(port: u16, monitor: u16, folder: &std::path::Path) -> Child {
    let passwords = USERS.map(|user| (format!("NATS_{}_PASSWORD", user.to_uppercase()), PASSWORD));
    Command::new(program())
        .envs(passwords)
        .arg("-c")
        .arg(folder.join(CONFIGURATION))
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-m", &monitor.to_string()])
        .arg("--ports_file_dir")
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server starts")
}

/// `nats/server.conf` with the subjects of the tests, for which no login is needed.
fn with_users() -> String {
    let shipped = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/nats/server.conf"));
    // The user of the service that decides is an example.
    let with_decider =
        shipped.replace("    #{ user: decider", "    { user: decider").replace("\n    #    ", "\n        ");
    let shipped = with_decider.replace("\n    #} }", "\n    } }");
    let subjects: Vec<_> = SUBJECTS.iter().map(|first| format!("\"{first}\", \"{first}.>\"")).collect();
    let subjects = subjects.join(", ");
    for shipped_subjects in [CLIENTS_SUBSCRIBE, CLIENTS_PUBLISH] {
        assert_eq!(shipped.matches(shipped_subjects).count(), 1, "nats/server.conf: {shipped_subjects}");
    }
    let ours =
        shipped.replace(CLIENTS_SUBSCRIBE, &subjects).replace(CLIENTS_PUBLISH, &format!("\n{subjects}"));
    format!("{ours}\nno_auth_user: operator\n")
}

/// The nats-server to start. The script finds or downloads one, and explains what to do if it cannot.
pub(crate) fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/nats/get-nats-server.sh");
        let output = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "there is no nats-server: the output above explains how to get one");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

/// An unused port. It is fixed, because a server that is killed must return to it; and it is below the range of
/// outgoing connections, so that none of them takes it.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(977);
    loop {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = 12_000 + u16::try_from(number).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The body of an HTTP response.
pub(crate) async fn http_get(port: u16, path: &str) -> String {
    crate::support::raw::get(&format!("127.0.0.1:{port}"), path).await.1
}

/// A producer that can send arbitrary bytes as a message. It may do everything.
pub(crate) struct RawProducer(tokio::net::TcpStream);

/// A connection of a user that sends arbitrary commands and gets the server's errors.
pub(crate) struct RawUser(tokio::net::TcpStream);

impl RawUser {
    pub(crate) async fn connect(server: &NatsServer, user: &str) -> Self {
        let mut connection = Self(tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap());
        let login = format!("\"user\":\"{user}\",\"pass\":\"{PASSWORD}\"");
        let connect =
            format!("CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true,{login}}}\r\n");
        assert_eq!(connection.send(&connect).await, None);
        connection
    }

    /// Sends commands. Returns the first error before the server has read all of them.
    pub(crate) async fn send(&mut self, commands: &str) -> Option<String> {
        self.0.write_all(format!("{commands}PING\r\n").as_bytes()).await.unwrap();
        let (mut line, mut error) = (Vec::new(), None);
        loop {
            line.push(within("a line of nats-server", self.0.read_u8()).await.unwrap());
            if line.ends_with(b"\r\n") {
                let text = String::from_utf8_lossy(&line).trim().to_owned();
                match text.strip_prefix("-ERR ") {
                    Some(reason) => error = error.or_else(|| Some(reason.to_owned())),
                    None if text == "PONG" => return error,
                    None => {}
                }
                line.clear();
            }
        }
    }
}

impl RawProducer {
    /// Connects with the text protocol of NATS.
    pub(crate) async fn connect(server: &NatsServer) -> Self {
        let mut producer = Self(tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap());
        let login = if server.has_users {
            format!(",\"user\":\"operator\",\"pass\":\"{PASSWORD}\"")
        } else {
            String::new()
        };
        let connect = format!("CONNECT {{\"verbose\":false,\"headers\":true{login}}}\r\n");
        producer.send(connect.as_bytes()).await;
        producer
    }

    /// Publishes, and waits until the server has it.
    pub(crate) async fn publish(&mut self, subject: &[u8], headers: Option<&[u8]>, payload: &[u8]) {
        let sizes = match headers {
            Some(headers) => format!("{} {}", headers.len(), headers.len() + payload.len()),
            None => payload.len().to_string(),
        };
        let verb: &[u8] = if headers.is_some() { b"HPUB " } else { b"PUB " };
        let headers = headers.unwrap_or_default();
        let message = [verb, subject, b" ", sizes.as_bytes(), b"\r\n", headers, payload, b"\r\n"].concat();
        self.send(&message).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.write_all(b"PING\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"PONG\r\n") {
            let byte = within("a pong of nats-server", self.0.read_u8()).await.unwrap();
            answer.push(byte);
        }
        assert!(!answer.starts_with(b"-ERR"), "{}", String::from_utf8_lossy(&answer));
    }
}
