//! Checks that NATS provides what a node needs: a reachable server of a supported version, a login and permissions.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;

use crate::config::nats::NatsConfig;
use crate::config::nats::login::NatsLogin;
use crate::nats::buckets;
use crate::nats::client::Client;
use crate::nats::client::JetStream;
use crate::nats::connect;
use crate::nats::connect::ConnectError;
use crate::nats::connect::ServerConnection;
use crate::nats::error::NatsError;
use crate::nats::finding::Finding;
use crate::nats::finding::Verdict;
use crate::nats::login_help::LoginSource;
use crate::nats::login_help::login_help;
use crate::nats::login_help::login_keys;
use crate::nats::other_users;
use crate::nats::permissions::Access;
use crate::nats::permissions::USER_INFO;
use crate::nats::permissions::UserInfo;
use crate::nats::probe_connection::NO_HEADERS;
use crate::nats::probe_connection::ProbeConnection;
use crate::nats::servers::Server;
use crate::nats::version::OLDEST_SERVER;
use crate::nats::version::is_new_enough;
use crate::net::client_tls::ClientTlsError;

/// What nats-server shows for the connection.
const NAME: &str = "tidegate/check";
/// Requests that change or delete what JetStream stores. No node sends one.
const UNNEEDED: [&str; 4] = [
    "$JS.API.STREAM.DELETE.>",
    "$JS.API.STREAM.PURGE.>",
    "$JS.API.STREAM.UPDATE.>",
    "$JS.API.STREAM.MSG.DELETE.>",
];

/// What a node does on NATS for its clients, each with the role or class that needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub subscribe: Vec<(Pattern, String)>,
    pub publish: Vec<(Pattern, String)>,
    /// The same for what only shows this node and the others.
    pub discovery_subscribe: Vec<Pattern>,
    pub discovery_publish: Vec<Pattern>,
    /// The largest message that clients may publish, in bytes.
    pub max_message_bytes: usize,
    /// Whether nodes share one-time tickets, which needs JetStream.
    pub tickets: bool,
    /// Where services decide for the node.
    pub services: Vec<Subject>,
    /// A question to each of them, about no one.
    pub questions: Vec<(Subject, Bytes)>,
    /// How long a service may take for an answer.
    pub answer_limit: Duration,
}

/// Checks every configured server, and the permissions on the first that accepts the login: all servers of a cluster
/// have the same. It publishes only to the node's own inbox, and as `ordinary_users` on subjects that contain `probe_id`.
pub async fn probe(
    config: &NatsConfig,
    needs: &Needs,
    ordinary_users: &[NatsLogin],
    probe_id: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut are_permissions_checked = false;
    for url in &config.urls {
        let Some(mut connection) = connect_and_log_in(url, config, &mut findings).await else { continue };
        let max = connection.server().max_payload;
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
        let (has_jetstream, has_revocations) = ask_about_jetstream(config).await;
        let checked = check_permissions(&mut connection, config, needs, has_jetstream, &mut findings);
        if let Err(reason) = checked.await {
            findings.push(Finding::failed(
                format!("{url}: the connection ended while permissions were checked: {reason}"),
                "look for the reason in the log of nats-server",
            ));
        }
        findings.push(jetstream(has_jetstream, needs));
        findings.extend(ask_services(config, needs).await);
        if has_revocations == Some(false) {
            let bucket = buckets::REVOKED.name;
            findings.push(Finding::warning(
                format!(
                    "there is no bucket {bucket}: a node that restarts, or was away, forgets revocations"
                ),
                "create it with `tidegate streams apply`",
            ));
        }
        if ordinary_users.is_empty() {
            findings.push(other_users::without_a_login(url, config, &needs.services, probe_id).await);
        }
        for user in ordinary_users {
            findings.extend(other_users::with_login(url, config, user, (&needs.services, probe_id)).await);
        }
    }
    findings
}

/// Whether the account has JetStream and, if it has, the bucket of revocations.
async fn ask_about_jetstream(config: &NatsConfig) -> (JetStream, Option<bool>) {
    let Ok(client) = Client::connect(config, "tidegate/check/jetstream").await else {
        return (JetStream::Unknown, None);
    };
    match client.jetstream().await {
        enabled @ JetStream::Enabled { .. } => (enabled, client.has_stream(&buckets::REVOKED.stream()).await),
        other @ (JetStream::Disabled | JetStream::Unknown) => (other, None),
    }
}

/// Whether the services that decide for the node answer. A node works without them, but lets no one in.
async fn ask_services(config: &NatsConfig, needs: &Needs) -> Vec<Finding> {
    if needs.questions.is_empty() {
        return Vec::new();
    }
    let Ok(client) = Client::connect(config, "tidegate/check/services").await else { return Vec::new() };
    let ask = |(subject, question): &(Subject, Bytes)| {
        let (client, subject, question) = (client.clone(), subject.clone(), question.clone());
        async move {
            let answer = client.request(&subject, question, needs.answer_limit).await;
            service_finding(&subject, answer)
        }
    };
    futures_util::future::join_all(needs.questions.iter().map(ask)).await
}

fn service_finding(subject: &Subject, answer: Result<Bytes, NatsError>) -> Finding {
    match answer {
        Ok(_) => Finding::passed(format!("a service answers on {subject}")),
        Err(NatsError::NoResponders) => Finding::warning(
            format!(
                "no service subscribes to {subject}: clients for whom it decides are told to try again later"
            ),
            "start the service, or correct its subject: auth.service.subject, or `authorize` of a [[class]]",
        ),
        Err(error) => Finding::warning(
            format!("the service on {subject} gives no answer: {error}"),
            "look into the log of the service; its NATS user must be allowed to answer (allow_responses)",
        ),
    }
}

/// Reports whether the account has JetStream. Without it a node works, so its absence is no failure.
fn jetstream(has_jetstream: JetStream, needs: &Needs) -> Finding {
    match has_jetstream {
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
        Verdict::Passed | Verdict::Untested { .. } | Verdict::Warning { .. } => None,
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
    match ProbeConnection::log_in(connection, &config.login, NAME).await {
        Ok(connection) => {
            findings.push(Finding::passed(format!("{url}: login accepted ({})", login_keys(&config.login))));
            findings.extend(unencrypted_secret(url, config, &connection));
            Some(connection)
        }
        Err(reason) => {
            let text = format!("{url}: login refused: {reason}");
            findings
                .push(Finding::failed(text, login_help(&config.login, LoginSource::Configuration, &reason)));
            None
        }
    }
}

/// Warns about a password or token that is sent unencrypted. Logins with keys send only a signature.
fn unencrypted_secret(url: &str, config: &NatsConfig, connection: &ProbeConnection) -> Option<Finding> {
    let server = Server::parse(url, None)?;
    let is_sent = matches!(config.login, NatsLogin::Password { .. } | NatsLogin::Token(_));
    let is_here = server.host == "localhost" || server.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    (is_sent && !is_here && !connection.is_tls()).then(|| {
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
        ConnectError::Tls(ClientTlsError::Certificates { .. }) => {
            "set nats.ca_file to a file with PEM certificates"
        }
        ConnectError::Tls(ClientTlsError::Config(_) | ClientTlsError::Stopped(_)) => {
            "check the TLS configuration of nats-server, and nats.ca_file"
        }
        ConnectError::Timeout => {
            "check that host and port are those of a nats-server, and that no firewall is in between"
        }
    };
    Finding::failed(format!("{url}: cannot connect: {reason}"), help)
}

/// Checks what the login of Tidegate may do.
async fn check_permissions(
    connection: &mut ProbeConnection,
    config: &NatsConfig,
    needs: &Needs,
    has_jetstream: JetStream,
    findings: &mut Vec<Finding>,
) -> Result<(), String> {
    let info = check_inbox(connection, config, findings).await?;
    for (pattern, needed_by) in &needs.subscribe {
        let text = format!("subscribe to {pattern} ({needed_by})");
        findings.push(match connection.subscribe_error(pattern.as_str()).await? {
            None => subscribe_finding(text, pattern, info.as_ref()),
            Some(_) => Finding::failed(
                format!("{text}: NATS forbids it"),
                format!("let Tidegate's NATS user subscribe to {pattern}"),
            ),
        });
    }
    check_discovery(connection, needs, info.as_ref(), findings).await?;
    if let JetStream::Enabled { .. } = has_jetstream {
        check_buckets(connection, needs, info.as_ref(), findings).await?;
    }
    let Some(info) = info else {
        if !needs.publish.is_empty() {
            findings.push(Finding::warning(
                "publishing was not tried, because NATS does not report the permissions",
                format!("let Tidegate's NATS user publish on {USER_INFO}, and run the check again"),
            ));
        }
        return Ok(());
    };
    findings
        .extend(needs.publish.iter().map(|(pattern, needed_by)| publish_finding(&info, pattern, needed_by)));
    findings.extend(surplus_rights(&info).filter(|_| config.login != NatsLogin::None));
    Ok(())
}

/// Checks what `nats micro` and `/nodes` need. A node works without it.
async fn check_discovery(
    connection: &mut ProbeConnection,
    needs: &Needs,
    info: Option<&UserInfo>,
    findings: &mut Vec<Finding>,
) -> Result<(), String> {
    let before = findings.len();
    let missing = |verb: &str, pattern: &Pattern| {
        Finding::warning(
            format!("{verb} {pattern} (`nats micro` and /nodes): NATS forbids it"),
            format!("let Tidegate's NATS user {verb} {pattern}"),
        )
    };
    for pattern in &needs.discovery_subscribe {
        if connection.subscribe_error(pattern.as_str()).await?.is_some() {
            findings.push(missing("subscribe to", pattern));
        }
    }
    let is_denied =
        |pattern: &&Pattern| info.is_some_and(|info| info.publish.access_to(pattern) != Access::Full);
    findings.extend(
        needs.discovery_publish.iter().filter(is_denied).map(|pattern| missing("publish on", pattern)),
    );
    if findings.len() == before {
        findings.push(Finding::passed("nodes can be found (`nats micro` and /nodes)"));
    }
    Ok(())
}

/// Checks what a node needs of the buckets. Without it, it works like a node without JetStream.
async fn check_buckets(
    connection: &mut ProbeConnection,
    needs: &Needs,
    info: Option<&UserInfo>,
    findings: &mut Vec<Finding>,
) -> Result<(), String> {
    let denied = |verb: &str, subject: &str, who: &str| {
        Finding::warning(
            format!("{verb} {subject} ({who}): NATS forbids it"),
            format!("let Tidegate's NATS user {verb} {subject}"),
        )
    };
    let revocations = "revocations, for nodes that were away";
    if let Some(live) = buckets::REVOKED.live_subjects() {
        findings.push(match connection.subscribe_error(&live).await? {
            None => Finding::passed(format!("subscribe to {live} ({revocations})")),
            Some(_) => denied("subscribe to", &live, revocations),
        });
    }
    let Some(info) = info else { return Ok(()) };
    let of_tickets = buckets::TICKETS.needed_of_nodes().into_iter().filter(|_| needs.tickets);
    let published = buckets::REVOKED.needed_of_nodes().into_iter().map(|subject| (subject, revocations));
    for (subject, who) in published.chain(of_tickets.map(|subject| (subject, "tickets, for all nodes"))) {
        let Ok(pattern) = Pattern::parse(&subject) else { continue };
        findings.push(match info.publish.access_to(&pattern) {
            Access::Full => Finding::passed(format!("publish on {subject} ({who})")),
            Access::Partial { .. } | Access::Denied => denied("publish on", &subject, who),
        });
    }
    Ok(())
}

/// Checks the permissions for replies, and requests the user info with them.
async fn check_inbox(
    connection: &mut ProbeConnection,
    config: &NatsConfig,
    findings: &mut Vec<Finding>,
) -> Result<Option<UserInfo>, String> {
    let inboxes = format!("{}.>", config.inbox_prefix);
    let allow = |verb: &str| format!("let Tidegate's NATS user {verb} {inboxes}");
    let inbox = format!("{}.check-{}", config.inbox_prefix, std::process::id());
    if connection.subscribe_error(&inbox).await?.is_some() {
        let text = format!("subscribe to {inboxes} (replies): NATS forbids it");
        findings.push(Finding::failed(text, allow("subscribe to")));
        return Ok(None);
    }
    findings.push(Finding::passed(format!("subscribe to {inboxes} (replies)")));
    findings.push(match connection.publish_error(&inbox, NO_HEADERS).await? {
        None => Finding::passed(format!("publish on {inboxes} (nodes answer each other)")),
        Some(_) => {
            let text = format!("publish on {inboxes} (nodes answer each other): NATS forbids it");
            Finding::warning(text, allow("publish on"))
        }
    });
    connection.user_info(&config.inbox_prefix).await
}

/// Warns about rights that no node needs: a node that is taken over would have them too.
fn surplus_rights(info: &UserInfo) -> Option<Finding> {
    let has = |subject: &&&str| {
        Pattern::parse(subject).is_ok_and(|pattern| info.publish.access_to(&pattern) != Access::Denied)
    };
    let surplus: Vec<&str> = UNNEEDED.iter().filter(has).copied().collect();
    (!surplus.is_empty()).then(|| {
        Finding::warning(
            format!("Tidegate's NATS user may also publish on {}", surplus.join(", ")),
            "give Tidegate its own NATS user with fewer rights; nats/server.conf has one",
        )
    })
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
