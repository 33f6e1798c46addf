//! Probe: tries what a node needs of NATS (a server, its version, a login, permissions) and says what of it is missing.

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
use crate::nats::dial;
use crate::nats::dial::DialError;
use crate::nats::dial::Dialed;
use crate::nats::login;
use crate::nats::permissions::Granted;
use crate::nats::permissions::USER_INFO;
use crate::nats::permissions::UserInfo;
use crate::nats::servers::Server;
use crate::nats::version::OLDEST_SERVER;
use crate::nats::version::is_new_enough;
use crate::nats::wire::Said;
use crate::nats::wire::Wire;

/// How long a server may take for one answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Room for one more read.
const READ: usize = 16 * 1024;

/// What a node does on NATS for its clients; each with who needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub subscribe: Vec<(Pattern, String)>,
    pub publish: Vec<(Pattern, String)>,
    /// The largest message, in bytes.
    pub largest: usize,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Works,
    /// The node starts, and something will not work as it seems.
    Doubt {
        help: String,
    },
    Fails {
        help: String,
    },
}

impl Finding {
    fn works(what: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Works }
    }

    fn doubt(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Doubt { help: help.into() } }
    }

    fn fails(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Fails { help: help.into() } }
    }
}

/// Tries every server of the configuration, and permissions on the first one that takes the login: they are the same on
/// all of a cluster. Nothing is published but to the node's own inbox.
pub async fn probe(config: &NatsConfig, needs: &Needs) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut is_tried = false;
    for url in &config.urls {
        let Some(mut talk) = enter(url, config, &mut findings).await else { continue };
        let max = talk.dialed.info.max_payload;
        if (1..needs.largest).contains(&max) {
            findings.push(Finding::doubt(
                format!(
                    "{url}: takes messages of at most {max} bytes, and clients may publish {}",
                    needs.largest
                ),
                "raise max_payload of nats-server, or lower limits.publish_max_bytes",
            ));
        }
        if std::mem::replace(&mut is_tried, true) {
            continue;
        }
        if let Err(words) = talk.try_permissions(config, needs, &mut findings).await {
            findings.push(Finding::fails(
                format!("{url}: the connection ended while permissions were tried: {words}"),
                "look into the log of nats-server for the reason",
            ));
        }
        findings.push(jetstream(config).await);
    }
    findings
}

/// Whether the account has JetStream: good to know, and no fault, for nothing needs it.
async fn jetstream(config: &NatsConfig) -> Finding {
    let has = match Client::connect(config, "tidegate/check/jetstream").await {
        Ok(client) => client.jetstream().await,
        Err(_) => JetStream::Unknown,
    };
    Finding::works(match has {
        JetStream::Enabled { streams } => {
            format!("JetStream is enabled for this account (streams: {streams})")
        }
        JetStream::Disabled => "JetStream is not enabled for this account; nothing needs it".to_owned(),
        JetStream::Unknown => "JetStream was not tried: NATS gives no answer; nothing needs it".to_owned(),
    })
}

/// Why no server can be used: what failed with each, and how to mend it, in words.
pub async fn trouble(config: &NatsConfig) -> Vec<String> {
    let mut findings = Vec::new();
    for url in &config.urls {
        enter(url, config, &mut findings).await;
    }
    let failed = findings.into_iter().filter_map(|Finding { what, verdict }| match verdict {
        Verdict::Works | Verdict::Doubt { .. } => None,
        Verdict::Fails { help } => Some(format!("{what}: {help}")),
    });
    failed.collect()
}

/// Connects and logs in; what becomes of that is found.
async fn enter(url: &str, config: &NatsConfig, findings: &mut Vec<Finding>) -> Option<Talk> {
    let dialed = match dial::dial(Server::parse(url, None)?, config.ca_file.clone()).await {
        Ok(dialed) => dialed,
        Err(error) => {
            findings.push(unreachable(url, &error));
            return None;
        }
    };
    findings.push(version(url, &dialed));
    match Talk::begin(dialed, config).await {
        Ok(talk) => {
            findings.push(Finding::works(format!("{url}: login accepted ({})", kind(&config.login))));
            findings.extend(in_the_clear(url, config, &talk));
            Some(talk)
        }
        Err(words) => {
            let what = format!("{url}: login refused: {words}");
            findings.push(Finding::fails(what, login_help(&config.login, &words)));
            None
        }
    }
}

/// A password or a token that anybody on the way can read. Keys sign what the server has drawn, and are never sent.
fn in_the_clear(url: &str, config: &NatsConfig, talk: &Talk) -> Option<Finding> {
    let server = Server::parse(url, None)?;
    let is_sent = matches!(config.login, NatsLogin::Password { .. } | NatsLogin::Token(_));
    let is_here = server.host == "localhost" || server.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    (is_sent && !is_here && !talk.dialed.socket.is_tls()).then(|| {
        Finding::doubt(
            format!("{url}: {} travels in the clear", kind(&config.login)),
            "turn TLS on in nats-server and write tls:// in nats.url, or log in with a key (nats.creds_file)",
        )
    })
}

fn version(url: &str, dialed: &Dialed) -> Finding {
    let version = &dialed.info.version;
    if is_new_enough(version) {
        return Finding::works(format!("{url}: nats-server {version}"));
    }
    let (major, minor) = OLDEST_SERVER;
    Finding::fails(
        format!("{url}: nats-server {version} is too old"),
        format!("upgrade it to {major}.{minor} or newer"),
    )
}

fn unreachable(url: &str, error: &DialError) -> Finding {
    let words = error.to_string();
    let help = match error {
        DialError::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
            "nothing listens there: start one with `nats-server -js`, or name another with nats.url or NATS_URL"
        }
        DialError::Io(_) if words.contains("certificate") => {
            "the server's certificate is not trusted: name those who vouch for it with nats.ca_file, and use the host \
             name that is in the certificate"
        }
        DialError::Io(_) if words.contains("lookup") => "mend the host name in nats.url, or your DNS",
        DialError::Io(_) => {
            "is it the client port of a nats-server (4222 by default), and may this machine reach it?"
        }
        DialError::NoInfo | DialError::Wire(_) => {
            "name the client port of a nats-server (4222 by default) in nats.url"
        }
        DialError::NoTls => "write nats:// in nats.url, or turn TLS on in nats-server",
        DialError::Certificates { .. } => "mend nats.ca_file",
        DialError::Tls(_) => "mend the TLS of nats-server, or nats.ca_file",
        DialError::Timeout => "does a firewall lie between? Try `nc HOST PORT` from this machine",
    };
    Finding::fails(format!("{url}: cannot connect: {words}"), help)
}

fn kind(login: &NatsLogin) -> &'static str {
    match login {
        NatsLogin::None => "without a login",
        NatsLogin::CredsFile(_) => "nats.creds_file",
        NatsLogin::NkeyFile(_) => "nats.nkey_file",
        NatsLogin::Password { .. } => "nats.user and nats.password",
        NatsLogin::Token(_) => "nats.token",
    }
}

fn login_help(login: &NatsLogin, words: &str) -> String {
    if words.to_ascii_lowercase().contains("expired") {
        return "the credentials have expired: get new ones, such as with `nsc generate creds`".to_owned();
    }
    match login {
        NatsLogin::None => {
            "this server wants a login: set nats.creds_file, nats.nkey_file, nats.user and nats.password, or nats.token"
                .to_owned()
        }
        NatsLogin::Password { .. } => {
            "check nats.user and nats.password (or NATS_USER and NATS_PASSWORD) against the server's configuration"
                .to_owned()
        }
        NatsLogin::CredsFile(_) | NatsLogin::NkeyFile(_) | NatsLogin::Token(_) => {
            format!("check {} against the server's configuration", kind(login))
        }
    }
}

/// A connection that is logged in.
struct Talk {
    dialed: Dialed,
    wire: Wire,
    buffer: BytesMut,
    subscriptions: u64,
}

/// What came before the `PONG` to a `PING`.
#[derive(Default)]
struct Heard {
    errors: Vec<String>,
    messages: Vec<bytes::Bytes>,
}

impl Talk {
    /// Logs in. `Err` has the words of whoever refuses.
    async fn begin(mut dialed: Dialed, config: &NatsConfig) -> Result<Self, String> {
        let connect =
            login::connect(&config.login, "tidegate/check", &dialed.info.nonce, dialed.socket.is_tls());
        let connect = connect.map_err(|error| error.to_string())?;
        let buffer = std::mem::take(&mut dialed.rest);
        let mut talk = Self { dialed, wire: Wire::default(), buffer, subscriptions: 0 };
        let heard = talk.ask(&connect).await?;
        heard.errors.into_iter().next().map_or(Ok(talk), Err)
    }

    /// Sends something and a `PING`, and reads until its `PONG`.
    async fn ask(&mut self, bytes: &[u8]) -> Result<Heard, String> {
        let asked = async {
            let whole = [bytes, b"PING\r\n"].concat();
            let mut sent = 0;
            while sent < whole.len() {
                let socket = &mut self.dialed.socket;
                let wrote = poll_fn(|context| socket.poll_write(context, &whole[sent..])).await;
                sent += wrote.map_err(|error| error.to_string())?;
            }
            let socket = &mut self.dialed.socket;
            poll_fn(|context| socket.poll_flush(context)).await.map_err(|error| error.to_string())?;
            self.until_pong().await
        };
        tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_| Err("it does not answer".to_owned()))
    }

    async fn until_pong(&mut self) -> Result<Heard, String> {
        let mut heard = Heard::default();
        loop {
            match self.next().await {
                Ok(Said::Pong) => return Ok(heard),
                Ok(Said::Error(words)) => heard.errors.push(words),
                Ok(Said::Message(_, message)) => heard.messages.push(message.payload()),
                Ok(Said::Info(_) | Said::Malformed(_) | Said::Ping | Said::Ok) => {}
                // A server says why, and hangs up.
                Err(words) => return if heard.errors.is_empty() { Err(words) } else { Ok(heard) },
            }
        }
    }

    async fn next(&mut self) -> Result<Said, String> {
        loop {
            match self.wire.next(&mut self.buffer).map_err(|error| error.to_string())? {
                Some(said) => return Ok(said),
                None => {
                    self.buffer.reserve(READ);
                    let (socket, buffer) = (&mut self.dialed.socket, &mut self.buffer);
                    let read = poll_fn(|context| socket.poll_read(context, buffer)).await;
                    if read.map_err(|error| error.to_string())? == 0 {
                        return Err("it hung up".to_owned());
                    }
                }
            }
        }
    }

    /// Subscribes for a moment. `Some`: why that is not allowed.
    async fn refusal_of(&mut self, pattern: &str) -> Result<Option<String>, String> {
        self.subscriptions += 1;
        let sid = self.subscriptions;
        let heard = self.ask(format!("SUB {pattern} {sid}\r\nUNSUB {sid}\r\n").as_bytes()).await?;
        Ok(heard.errors.into_iter().next())
    }

    async fn try_permissions(
        &mut self,
        config: &NatsConfig,
        needs: &Needs,
        findings: &mut Vec<Finding>,
    ) -> Result<(), String> {
        let info = self.user_info(config, findings).await?;
        for (pattern, who) in &needs.subscribe {
            let what = format!("subscribe to {pattern} ({who})");
            findings.push(match self.refusal_of(pattern.as_str()).await? {
                None => heard_in_part(what, pattern, info.as_ref()),
                Some(_) => Finding::fails(
                    format!("{what}: NATS forbids it"),
                    format!("let Tidegate's NATS user subscribe to {pattern}"),
                ),
            });
        }
        let Some(info) = info.filter(|_| !needs.publish.is_empty()) else {
            if !needs.publish.is_empty() {
                findings.push(Finding::doubt(
                    "publishing was not tried, and NATS does not say what is allowed",
                    format!("let Tidegate's NATS user publish on {USER_INFO}, and check again"),
                ));
            }
            return Ok(());
        };
        findings.extend(needs.publish.iter().map(|(pattern, who)| published(&info, pattern, who)));
        Ok(())
    }

    /// Asks the server what is allowed, over the inbox that the node uses too, which is tried by that.
    async fn user_info(
        &mut self,
        config: &NatsConfig,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<UserInfo>, String> {
        let inbox = format!("{}.check-{}", config.inbox_prefix, std::process::id());
        let mend = |verb: &str| format!("let Tidegate's NATS user {verb} {}.>", config.inbox_prefix);
        self.subscriptions += 1;
        let subscribe = format!("SUB {inbox} {}\r\n", self.subscriptions);
        if !self.ask(subscribe.as_bytes()).await?.errors.is_empty() {
            let what = format!("subscribe to {}.> (replies): NATS forbids it", config.inbox_prefix);
            findings.push(Finding::fails(what, mend("subscribe to")));
            return Ok(None);
        }
        findings.push(Finding::works(format!("subscribe to {}.> (replies)", config.inbox_prefix)));
        let heard = self.ask(format!("PUB {inbox} 0\r\n\r\n").as_bytes()).await?;
        findings.push(if heard.errors.is_empty() {
            Finding::works(format!("publish on {}.> (nodes answer each other)", config.inbox_prefix))
        } else {
            let inboxes = format!("{}.>", config.inbox_prefix);
            let what = format!("publish on {inboxes} (nodes answer each other): NATS forbids it");
            Finding::doubt(what, mend("publish on"))
        });
        let mut heard = self.ask(format!("PUB {USER_INFO} {inbox} 0\r\n\r\n").as_bytes()).await?;
        let until = tokio::time::Instant::now() + LIMIT / 2;
        loop {
            let found = heard.messages.iter().find_map(|message| UserInfo::read(message));
            if found.is_some() || !heard.errors.is_empty() || tokio::time::Instant::now() > until {
                return Ok(found);
            }
            heard = self.ask(b"").await?;
        }
    }
}

/// What NATS takes as a subscription, and of which it does not send everything.
fn heard_in_part(what: String, pattern: &Pattern, info: Option<&UserInfo>) -> Finding {
    match info.map(|info| info.subscribe.grants(pattern)) {
        Some(Granted::InPart { but }) => Finding::doubt(
            format!("{what}: NATS keeps back {but}, and clients are not told so"),
            format!("let Tidegate's NATS user subscribe to {but}, or deny it in the [[role]]"),
        ),
        Some(Granted::Wholly | Granted::Not) | None => Finding::works(what),
    }
}

fn published(info: &UserInfo, pattern: &Pattern, who: &str) -> Finding {
    let what = format!("publish on {pattern} ({who})");
    let help = format!("let Tidegate's NATS user publish on {pattern}");
    match info.publish.grants(pattern) {
        Granted::Wholly => Finding::works(what),
        Granted::InPart { but } => Finding::doubt(format!("{what}: NATS forbids {but}"), help),
        Granted::Not => Finding::fails(format!("{what}: NATS forbids it"), help),
    }
}
