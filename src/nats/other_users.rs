//! Checks that other NATS users may not speak as Tidegate or as JetStream, and may not read what is meant for Tidegate.

use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;

use crate::config::nats::NatsConfig;
use crate::config::nats::login::NatsLogin;
use crate::nats::buckets::BUCKETS;
use crate::nats::connect;
use crate::nats::finding::Finding;
use crate::nats::permissions::Access;
use crate::nats::permissions::UserInfo;
use crate::nats::probe_connection::NO_HEADERS;
use crate::nats::probe_connection::ProbeConnection;
use crate::nats::servers::Server;

/// What nats-server shows for the connection.
const NAME: &str = "tidegate/check/producer";
/// Where users of NATS receive replies by default.
const INBOX: &str = "_INBOX";
/// No stream has this name, so JetStream stores no message with this header.
const NEVER_STORED: &str = "NATS/1.0\r\nNats-Expected-Stream: tidegate-probe\r\n\r\n";
const FEWER_RIGHTS: &str = "deny it to that NATS user, as nats/server.conf does for its user `producer`";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Publish,
    Subscribe,
}

/// Something that only Tidegate, JetStream or an operator may do.
struct Reserved {
    direction: Direction,
    pattern: String,
    /// A subject of the pattern to try, and the header block to send. `None` where a try could do harm.
    attempt: Option<(String, &'static str)>,
    /// What the user could do: `it could …`.
    harm: &'static str,
}

/// Checks what this user may do.
pub(super) async fn with_login(
    url: &str,
    config: &NatsConfig,
    login: &NatsLogin,
    services_and_probe: (&[Subject], &str),
) -> Vec<Finding> {
    let who = match login {
        NatsLogin::Password { user, .. } => format!("user {user}"),
        NatsLogin::CredsFile(file) => format!("the user of {}", file.display()),
        NatsLogin::NkeyFile(_) | NatsLogin::Token(_) | NatsLogin::None => "that user".to_owned(),
    };
    let connection = match connection(url, config, login).await {
        Ok(connection) => connection,
        Err(reason) => {
            let text = format!("{url}: {who}: login refused: {reason}");
            return vec![Finding::failed(text, "check its name and password, or its credentials file")];
        }
    };
    check(connection, config, &who, services_and_probe).await
}

/// Checks what clients without a login may do. If there are none, other users cannot be tested.
pub(super) async fn without_a_login(
    url: &str,
    config: &NatsConfig,
    services: &[Subject],
    probe_id: &str,
) -> Finding {
    let who = "a client without a login";
    let Ok(connection) = connection(url, config, &NatsLogin::None).await else {
        return Finding::untested(
            format!("{url}: what other NATS users may do was not tested"),
            "run the check with the login of such a user: --producer USER:PASSWORD, or --producer-creds FILE",
        );
    };
    let findings = check(connection, config, who, (services, probe_id)).await;
    // Without any users, each line would say the same.
    if findings.len() > 1 {
        let text =
            format!("{url}: {who} may do what only Tidegate may, such as read and forge replies to clients");
        return Finding::warning(text, "give NATS users and passwords; nats/server.conf is an example");
    }
    findings.into_iter().next().unwrap_or_else(|| Finding::passed(format!("{url}: {who} may do nothing")))
}

async fn connection(url: &str, config: &NatsConfig, login: &NatsLogin) -> Result<ProbeConnection, String> {
    let server = Server::parse(url, None).ok_or("the address is invalid")?;
    let server = connect::connect(server, config.ca_file.clone()).await.map_err(|error| error.to_string())?;
    ProbeConnection::log_in(server, login, NAME).await
}

/// One finding for each reserved thing that the user may do, or one that says that there is none.
async fn check(
    mut connection: ProbeConnection,
    config: &NatsConfig,
    who: &str,
    services_and_probe: (&[Subject], &str),
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match found(&mut connection, config, services_and_probe).await {
        Ok(found) if found.is_empty() => findings.push(Finding::passed(format!(
            "{who} may neither speak as Tidegate or JetStream, nor read replies to Tidegate"
        ))),
        Ok(found) => {
            findings.extend(found.into_iter().map(|Reserved { direction, pattern, harm, .. }| {
                let verb = match direction {
                    Direction::Publish => "publish on",
                    Direction::Subscribe => "subscribe to",
                };
                Finding::warning(format!("{who} may {verb} {pattern}: it could {harm}"), FEWER_RIGHTS)
            }))
        }
        Err(reason) => findings.push(Finding::failed(
            format!("the connection of {who} ended while it was checked: {reason}"),
            "look for the reason in the log of nats-server",
        )),
    }
    findings
}

/// What the user may do of the reserved things: by its permissions if the server reports them, else by trying.
async fn found(
    connection: &mut ProbeConnection,
    config: &NatsConfig,
    (services, probe_id): (&[Subject], &str),
) -> Result<Vec<Reserved>, String> {
    let info = connection.user_info(INBOX).await?;
    let mut found = Vec::new();
    for reserved in reserved(&config.inbox_prefix, services, probe_id) {
        let may = match (&info, &reserved.attempt) {
            (Some(info), _) => reserved.is_allowed_by(info),
            (None, None) => false,
            (None, Some((subject, headers))) => {
                let error = match reserved.direction {
                    Direction::Publish => connection.publish_error(subject, headers).await?,
                    Direction::Subscribe => connection.subscribe_error(subject).await?,
                };
                error.is_none()
            }
        };
        found.extend(may.then_some(reserved));
    }
    Ok(found)
}

impl Reserved {
    fn is_allowed_by(&self, info: &UserInfo) -> bool {
        let rules = match self.direction {
            Direction::Publish => &info.publish,
            Direction::Subscribe => &info.subscribe,
        };
        Pattern::parse(&self.pattern).is_ok_and(|pattern| rules.access_to(&pattern) != Access::Denied)
    }
}

fn reserved(inbox_prefix: &str, services: &[Subject], probe_id: &str) -> Vec<Reserved> {
    let inboxes = format!("{inbox_prefix}.>");
    let publish = |pattern: &str, harm| Reserved {
        direction: Direction::Publish,
        pattern: pattern.to_owned(),
        attempt: Some((pattern.replace('>', &format!("probe.{probe_id}")), NO_HEADERS)),
        harm,
    };
    let subscribe = |pattern: &str, harm| Reserved {
        direction: Direction::Subscribe,
        pattern: pattern.to_owned(),
        attempt: Some((pattern.to_owned(), "")),
        harm,
    };
    let mut all = vec![
        subscribe(&inboxes, "read the replies of services to clients"),
        publish(&inboxes, "forge the replies of services to clients"),
        publish("tidegate.>", "close connections of clients, and answer for nodes"),
        publish("_live.>", "forge messages that JetStream sends on"),
    ];
    for service in services.iter().map(Subject::as_str) {
        // A try would receive or ask questions about clients.
        let untried = |reserved| Reserved { attempt: None, ..reserved };
        all.push(untried(subscribe(service, "read credentials, and decide in the place of the service")));
        all.push(untried(publish(service, "find out what the service decides")));
    }
    for bucket in BUCKETS {
        all.push(Reserved {
            attempt: Some((bucket.subject(&format!("probe.{probe_id}")), NEVER_STORED)),
            ..publish(&bucket.subjects(), "change what Tidegate stores there")
        });
        // The server refuses this: the name of the stream is not in the request.
        let update = format!("$JS.API.STREAM.UPDATE.{}", bucket.stream());
        all.push(publish(&update, "change the bucket of Tidegate"));
        for verb in ["DELETE", "PURGE", "MSG.DELETE"] {
            let subject = format!("$JS.API.STREAM.{verb}.{}", bucket.stream());
            all.push(Reserved { attempt: None, ..publish(&subject, "delete what Tidegate stores there") });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a user with these permissions may do.
    fn found(permissions: &str) -> Vec<String> {
        let info = format!(r#"{{"data":{{"user":"a","permissions":{permissions}}}}}"#);
        let info = UserInfo::parse(info.as_bytes()).unwrap();
        let found = reserved("_INBOX_tidegate", &[], "x")
            .into_iter()
            .filter(|reserved| reserved.is_allowed_by(&info));
        found.map(|reserved| reserved.pattern).collect()
    }

    #[test]
    fn a_user_may_do_what_its_permissions_leave_open() {
        let all = reserved("_INBOX_tidegate", &[], "x").len();
        assert_eq!(found("{}").len(), all);
        let shipped = r#"{"publish":{"deny":["tidegate.>","_INBOX_tidegate.>","_live.>","$KV.tidegate_revoked.>",
            "$KV.tidegate_tickets.>","$JS.>"]},"subscribe":{"deny":["_INBOX_tidegate.>"]}}"#;
        assert_eq!(found(shipped), [""; 0]);
        let narrow = r#"{"publish":{"allow":["prices.>"]},"subscribe":{"allow":["_INBOX.>"]}}"#;
        assert_eq!(found(narrow), [""; 0]);
        let part = r#"{"publish":{"allow":["prices.>","tidegate.nodes"]},"subscribe":{"allow":["_INBOX_tidegate.a.>"]}}"#;
        assert_eq!(found(part), ["_INBOX_tidegate.>", "tidegate.>"]);
        let wildcard =
            r#"{"publish":{"allow":["*.probe"]},"subscribe":{"allow":[">"],"deny":["_INBOX_tidegate.>"]}}"#;
        assert_eq!(found(wildcard), ["_INBOX_tidegate.>", "tidegate.>", "_live.>"]);
    }

    #[test]
    fn the_subjects_of_services_are_reserved_and_never_tried() {
        let service = [Subject::parse("auth.connect").unwrap()];
        let of_service: Vec<_> = reserved("_INBOX_tidegate", &service, "x")
            .into_iter()
            .filter(|reserved| reserved.pattern == "auth.connect")
            .collect();
        assert_eq!(of_service.len(), 2);
        assert!(of_service.iter().all(|reserved| reserved.attempt.is_none()));
    }

    #[test]
    fn attempts_reach_no_one_and_store_nothing() {
        for Reserved { direction, attempt, pattern, .. } in reserved("_INBOX_tidegate", &[], "x7") {
            let Some((subject, headers)) = attempt else { continue };
            let is_update = pattern.starts_with("$JS.API.STREAM.UPDATE.");
            let is_random = subject.contains("probe.x7");
            assert!(direction == Direction::Subscribe || is_random || is_update, "{subject}");
            assert!(!subject.starts_with("$KV.") || headers == NEVER_STORED, "{subject}");
        }
    }
}
