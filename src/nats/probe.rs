//! Checks that NATS provides what a node needs: a reachable server of a supported version, a login and permissions.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use bytes::BytesMut;
use tidegate_protocol::subject::Pattern;

use crate::config::nats::NatsConfig;
use crate::config::nats::login::NatsLogin;
use crate::nats::client::Client;
use crate::nats::client::JetStream;
use crate::nats::connect;
use crate::nats::connect::ConnectError;
use crate::nats::connect::ServerConnection;
use crate::nats::login;
use crate::nats::permissions::Access;
use crate::nats::permissions::USER_INFO;
use crate::nats::permissions::UserInfo;
use crate::nats::servers::Server;
use crate::nats::version::OLDEST_SERVER;
use crate::nats::version::is_new_enough;
use crate::nats::wire::ServerOp;
use crate::nats::wire::WireParser;

/// How long a server may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How much to read at a time.
const READ_BYTES: usize = 16 * 1024;

/// What a node does on NATS for its clients, each with the role or class that needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub subscribe: Vec<(Pattern, String)>,
    pub publish: Vec<(Pattern, String)>,
    /// The largest message that clients may publish, in bytes.
    pub max_message_bytes: usize,
    /// Whether nodes share one-time tickets, which needs JetStream.
    pub tickets: bool,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub text: String,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// The node starts, but something may not work as expected.
    Warning {
        help: String,
    },
    Failed {
        help: String,
    },
}

impl Finding {
    fn passed(text: impl Into<String>) -> Self {
        Self { text: text.into(), verdict: Verdict::Passed }
    }

    fn warning(text: impl Into<String>, help: impl Into<String>) -> Self {
        Self { text: text.into(), verdict: Verdict::Warning { help: help.into() } }
    }

    fn failed(text: impl Into<String>, help: impl Into<String>) -> Self {
        Self { text: text.into(), verdict: Verdict::Failed { help: help.into() } }
    }
}

/// Checks every configured server, and the permissions on the first that accepts the login: all servers of a cluster
/// have the same. It publishes only to the node's own inbox.
pub async fn probe(config: &NatsConfig, needs: &Needs) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut are_permissions_checked = false;
    for url in &config.urls {
        let Some(mut connection) = connect_and_log_in(url, config, &mut findings).await else { continue };
        let max = connection.server.info.max_payload;
        if (1..needs.max_message_bytes).contains(&max) {
            findings.push(Finding::warning(
                format!(
                    "{url}: accepts messages of at most {max} bytes, and clients may publish {}",
                    needs.max_message_bytes
                ),
                "raise max_payload of nats-server, or lower limits.publish_max_bytes",
            ));
        }
        if std::mem::replace(&mut are_permissions_checked, true) {
            continue;
        }
        if let Err(reason) = connection.check_permissions(config, needs, &mut findings).await {
            findings.push(Finding::failed(
                format!("{url}: the connection ended while permissions were checked: {reason}"),
                "look for the reason in the log of nats-server",
            ));
        }
        findings.push(jetstream(config, needs).await);
    }
    findings
}

/// Reports whether the account has JetStream. Without it a node works, so its absence is no failure.
async fn jetstream(config: &NatsConfig, needs: &Needs) -> Finding {
    let has = match Client::connect(config, "tidegate/check/jetstream").await {
        Ok(client) => client.jetstream().await,
        Err(_) => JetStream::Unknown,
    };
    match has {
        JetStream::Enabled { streams } => {
            Finding::passed(format!("JetStream is enabled for this account (streams: {streams})"))
        }
        JetStream::Disabled if needs.tickets => Finding::warning(
            "JetStream is not enabled for this account: a ticket is valid only on the node that issued it",
            "with several nodes, enable JetStream, or set auth.ticket_s to 0",
        ),
        JetStream::Disabled => {
            Finding::passed("JetStream is not enabled for this account; Tidegate does not need it")
        }
        JetStream::Unknown => Finding::passed(
            "it is unknown whether JetStream is enabled: NATS did not answer, or forbids the question; only tickets \
             need it",
        ),
    }
}

/// Why no server can be used: the failure of each server, and what to do about it.
pub async fn connection_failures(config: &NatsConfig) -> Vec<String> {
    let mut findings = Vec::new();
    for url in &config.urls {
        connect_and_log_in(url, config, &mut findings).await;
    }
    let failed = findings.into_iter().filter_map(|Finding { text, verdict }| match verdict {
        Verdict::Passed | Verdict::Warning { .. } => None,
        Verdict::Failed { help } => Some(format!("{text}: {help}")),
    });
    failed.collect()
}

/// Connects and logs in, and adds the outcome to `findings`.
async fn connect_and_log_in(
    url: &str,
    config: &NatsConfig,
    findings: &mut Vec<Finding>,
) -> Option<ProbeConnection> {
    let connection = match connect::connect(Server::parse(url, None)?, config.ca_file.clone()).await {
        Ok(connection) => connection,
        Err(error) => {
            findings.push(connect_failure(url, &error));
            return None;
        }
    };
    findings.push(version(url, &connection));
    match ProbeConnection::log_in(connection, config).await {
        Ok(connection) => {
            findings.push(Finding::passed(format!("{url}: login accepted ({})", login_keys(&config.login))));
            findings.extend(unencrypted_secret(url, config, &connection));
            Some(connection)
        }
        Err(reason) => {
            let text = format!("{url}: login refused: {reason}");
            findings.push(Finding::failed(text, login_help(&config.login, &reason)));
            None
        }
    }
}

/// Warns about a password or token that is sent unencrypted. Logins with keys send only a signature.
fn unencrypted_secret(url: &str, config: &NatsConfig, connection: &ProbeConnection) -> Option<Finding> {
    let server = Server::parse(url, None)?;
    let is_sent = matches!(config.login, NatsLogin::Password { .. } | NatsLogin::Token(_));
    let is_here = server.host == "localhost" || server.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    (is_sent && !is_here && !connection.server.socket.is_tls()).then(|| {
        Finding::warning(
            format!("{url}: {} is sent unencrypted", login_keys(&config.login)),
            "enable TLS in nats-server and write tls:// in nats.url, or log in with a key (nats.creds_file)",
        )
    })
}

fn version(url: &str, connection: &ServerConnection) -> Finding {
    let version = &connection.info.version;
    if is_new_enough(version) {
        return Finding::passed(format!("{url}: nats-server {version}"));
    }
    let (major, minor) = OLDEST_SERVER;
    Finding::failed(
        format!("{url}: nats-server {version} is too old"),
        format!("upgrade it to {major}.{minor} or newer"),
    )
}

fn connect_failure(url: &str, error: &ConnectError) -> Finding {
    let reason = error.to_string();
    let help = match error {
        ConnectError::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
            "nothing listens there: start a server with `nats-server -js`, or set nats.url or NATS_URL to another one"
        }
        ConnectError::Io(_) if reason.contains("certificate") => {
            "the server's certificate is not trusted: set nats.ca_file to the certificate of its authority, and use the \
             host name that is in the server's certificate"
        }
        ConnectError::Io(_) if reason.contains("lookup") => "correct the host name in nats.url, or your DNS",
        ConnectError::Io(_) => {
            "check that this is the client port of a nats-server (4222 by default), and that this machine can reach it"
        }
        ConnectError::NoInfo | ConnectError::Protocol(_) => {
            "set nats.url to the client port of a nats-server (4222 by default)"
        }
        ConnectError::NoTls => "write nats:// in nats.url, or enable TLS in nats-server",
        ConnectError::Certificates { .. } => "set nats.ca_file to a file with PEM certificates",
        ConnectError::Tls(_) => "check the TLS configuration of nats-server, and nats.ca_file",
        ConnectError::Timeout => {
            "check that host and port are those of a nats-server, and that no firewall is in between"
        }
    };
    Finding::failed(format!("{url}: cannot connect: {reason}"), help)
}

fn login_keys(login: &NatsLogin) -> &'static str {
    match login {
        NatsLogin::None => "without a login",
        NatsLogin::CredsFile(_) => "nats.creds_file",
        NatsLogin::NkeyFile(_) => "nats.nkey_file",
        NatsLogin::Password { .. } => "nats.user and nats.password",
        NatsLogin::Token(_) => "nats.token",
    }
}

fn login_help(login: &NatsLogin, reason: &str) -> String {
    if reason.to_ascii_lowercase().contains("expired") {
        return "the credentials have expired: create new ones, for example with `nsc generate creds`"
            .to_owned();
    }
    match login {
        NatsLogin::None => {
            "this server requires a login: set nats.creds_file, nats.nkey_file, nats.user and nats.password, or nats.token"
                .to_owned()
        }
        NatsLogin::Password { .. } => {
            "check nats.user and nats.password (or NATS_USER and NATS_PASSWORD, or the login in nats.url) against the server's configuration"
                .to_owned()
        }
        NatsLogin::CredsFile(_) | NatsLogin::NkeyFile(_) | NatsLogin::Token(_) => {
            format!("check {} against the server's configuration", login_keys(login))
        }
    }
}

/// A connection that is logged in.
struct ProbeConnection {
    server: ServerConnection,
    wire: WireParser,
    buffer: BytesMut,
    subscriptions: u64,
}

/// What arrived before the `PONG`.
#[derive(Default)]
struct Replies {
    errors: Vec<String>,
    messages: Vec<bytes::Bytes>,
}

impl ProbeConnection {
    /// Logs in. An error is the server's reason.
    async fn log_in(mut server: ServerConnection, config: &NatsConfig) -> Result<Self, String> {
        let connect = login::connect_command(
            &config.login,
            "tidegate/check",
            &server.info.nonce,
            server.socket.is_tls(),
        );
        let connect = connect.map_err(|error| error.to_string())?;
        let buffer = std::mem::take(&mut server.unread);
        let mut connection = Self { server, wire: WireParser::default(), buffer, subscriptions: 0 };
        let replies = connection.send_and_flush(&connect).await?;
        replies.errors.into_iter().next().map_or(Ok(connection), Err)
    }

    /// Sends these bytes and a `PING`, and reads until the `PONG`.
    async fn send_and_flush(&mut self, bytes: &[u8]) -> Result<Replies, String> {
        let exchange = async {
            let whole = [bytes, b"PING\r\n"].concat();
            let mut sent = 0;
            while sent < whole.len() {
                let socket = &mut self.server.socket;
                let wrote = poll_fn(|context| socket.poll_write(context, &whole[sent..])).await;
                sent += wrote.map_err(|error| error.to_string())?;
            }
            let socket = &mut self.server.socket;
            poll_fn(|context| socket.poll_flush(context)).await.map_err(|error| error.to_string())?;
            self.read_until_pong().await
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err("the server did not answer in time".to_owned()))
    }

    async fn read_until_pong(&mut self) -> Result<Replies, String> {
        let mut replies = Replies::default();
        loop {
            match self.next().await {
                Ok(ServerOp::Pong) => return Ok(replies),
                Ok(ServerOp::Error(reason)) => replies.errors.push(reason),
                Ok(ServerOp::Message(_, message)) => replies.messages.push(message.payload()),
                Ok(ServerOp::Info(_) | ServerOp::Malformed(_) | ServerOp::Ping | ServerOp::Ok) => {}
                // The server sends the reason before it closes.
                Err(reason) => return if replies.errors.is_empty() { Err(reason) } else { Ok(replies) },
            }
        }
    }

    async fn next(&mut self) -> Result<ServerOp, String> {
        loop {
            match self.wire.next(&mut self.buffer).map_err(|error| error.to_string())? {
                Some(op) => return Ok(op),
                None => {
                    self.buffer.reserve(READ_BYTES);
                    let (socket, buffer) = (&mut self.server.socket, &mut self.buffer);
                    let read = poll_fn(|context| socket.poll_read(context, buffer)).await;
                    if read.map_err(|error| error.to_string())? == 0 {
                        return Err("the server closed the connection".to_owned());
                    }
                }
            }
        }
    }

    /// Subscribes and unsubscribes at once. Returns the server's error, if any.
    async fn subscribe_error(&mut self, pattern: &str) -> Result<Option<String>, String> {
        self.subscriptions += 1;
        let sid = self.subscriptions;
        let replies =
            self.send_and_flush(format!("SUB {pattern} {sid}\r\nUNSUB {sid}\r\n").as_bytes()).await?;
        Ok(replies.errors.into_iter().next())
    }

    async fn check_permissions(
        &mut self,
        config: &NatsConfig,
        needs: &Needs,
        findings: &mut Vec<Finding>,
    ) -> Result<(), String> {
        let info = self.request_user_info(config, findings).await?;
        for (pattern, needed_by) in &needs.subscribe {
            let text = format!("subscribe to {pattern} ({needed_by})");
            findings.push(match self.subscribe_error(pattern.as_str()).await? {
                None => subscribe_finding(text, pattern, info.as_ref()),
                Some(_) => Finding::failed(
                    format!("{text}: NATS forbids it"),
                    format!("let Tidegate's NATS user subscribe to {pattern}"),
                ),
            });
        }
        let Some(info) = info.filter(|_| !needs.publish.is_empty()) else {
            if !needs.publish.is_empty() {
                findings.push(Finding::warning(
                    "publishing was not tried, because NATS does not report the permissions",
                    format!("let Tidegate's NATS user publish on {USER_INFO}, and run the check again"),
                ));
            }
            return Ok(());
        };
        findings.extend(
            needs.publish.iter().map(|(pattern, needed_by)| publish_finding(&info, pattern, needed_by)),
        );
        Ok(())
    }

    /// Requests the user info over the inbox prefix that the node uses too, which also checks the permissions for that.
    async fn request_user_info(
        &mut self,
        config: &NatsConfig,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<UserInfo>, String> {
        let inbox = format!("{}.check-{}", config.inbox_prefix, std::process::id());
        let allow = |verb: &str| format!("let Tidegate's NATS user {verb} {}.>", config.inbox_prefix);
        self.subscriptions += 1;
        let subscribe = format!("SUB {inbox} {}\r\n", self.subscriptions);
        if !self.send_and_flush(subscribe.as_bytes()).await?.errors.is_empty() {
            let text = format!("subscribe to {}.> (replies): NATS forbids it", config.inbox_prefix);
            findings.push(Finding::failed(text, allow("subscribe to")));
            return Ok(None);
        }
        findings.push(Finding::passed(format!("subscribe to {}.> (replies)", config.inbox_prefix)));
        let replies = self.send_and_flush(format!("PUB {inbox} 0\r\n\r\n").as_bytes()).await?;
        findings.push(if replies.errors.is_empty() {
            Finding::passed(format!("publish on {}.> (nodes answer each other)", config.inbox_prefix))
        } else {
            let inboxes = format!("{}.>", config.inbox_prefix);
            let text = format!("publish on {inboxes} (nodes answer each other): NATS forbids it");
            Finding::warning(text, allow("publish on"))
        });
        let mut replies =
            self.send_and_flush(format!("PUB {USER_INFO} {inbox} 0\r\n\r\n").as_bytes()).await?;
        let until = tokio::time::Instant::now() + TIMEOUT / 2;
        loop {
            let found = replies.messages.iter().find_map(|message| UserInfo::parse(message));
            if found.is_some() || !replies.errors.is_empty() || tokio::time::Instant::now() > until {
                return Ok(found);
            }
            replies = self.send_and_flush(b"").await?;
        }
    }
}

/// The finding for a subscription that the server accepts, although it may deny a part of it.
fn subscribe_finding(text: String, pattern: &Pattern, info: Option<&UserInfo>) -> Finding {
    match info.map(|info| info.subscribe.access_to(pattern)) {
        Some(Access::Partial { denied }) => Finding::warning(
            format!("{text}: NATS denies {denied}, and clients miss those messages without notice"),
            format!("let Tidegate's NATS user subscribe to {denied}, or deny it in the [[role]]"),
        ),
        Some(Access::Full | Access::Denied) | None => Finding::passed(text),
    }
}

fn publish_finding(info: &UserInfo, pattern: &Pattern, needed_by: &str) -> Finding {
    let text = format!("publish on {pattern} ({needed_by})");
    let help = format!("let Tidegate's NATS user publish on {pattern}");
    match info.publish.access_to(pattern) {
        Access::Full => Finding::passed(text),
        Access::Partial { denied } => Finding::warning(format!("{text}: NATS forbids {denied}"), help),
        Access::Denied => Finding::failed(format!("{text}: NATS forbids it"), help),
    }
}
