//! Applies a changed configuration to a node that runs: all that can change together, or nothing.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use tidegate_protocol::subject::Subject;

use crate::app::App;
use crate::app::descriptors;
use crate::app::parts;
use crate::config::Config;
use crate::config::auth::AuthConfig;
use crate::config::endpoint;
use crate::config::http::HttpConfig;
use crate::config::limits::Limits;
use crate::config::listen_address::ListenAddress;
use crate::config::log::LogConfig;
use crate::config::nats::NatsConfig;
use crate::config::report::ConfigReport;
use crate::config::server::ServerConfig;
use crate::config::tls::TlsConfig;
use crate::lane::LaneRequest;
use crate::shard::handle::ShardRequest;
use crate::telemetry;

impl App {
    /// Uses this configuration from now on, as far as it can change while the node runs: the tokens' keys and issuers, the
    /// roles, the endpoints with their vocabularies, the origins, the limits, the log filter. Fetches published keys and
    /// reads certificates again. Handshakes, calls and credentials that come later are decided by it. A client that is
    /// connected keeps the vocabulary and the limits of its connection, and its permissions until it sends another token.
    /// Returns what has changed, and what else has changed and needs a restart: that stays as it is. Changes nothing if it
    /// returns an error. `report` is that of the new configuration.
    pub async fn reload(&self, new: Config, report: ConfigReport) -> anyhow::Result<Reloaded> {
        let current = self.config.borrow().clone();
        let (next, needs_restart) = merge(&current, &new);
        let changed = differences(&current, &next);
        let node = &self.node;
        let earlier: Vec<_> = node.authenticator().key_sources().map(Arc::clone).collect();
        // Endpoints that need a restart may not fit the new rules.
        let fit = || match needs_restart.contains(&"[[endpoint]]") {
            true => {
                "the endpoints have changed in a way that needs a restart, and the ones that run do not fit the rest"
            }
            false => "the configuration does not fit together",
        };
        let authenticator = parts::authenticator(&next, &earlier).with_context(fit)?;
        let vocabularies = node.current_vocabularies.get().reloaded(&parts::vocabulary_files(&next));
        let vocabularies =
            vocabularies.context("the vocabularies have changed too often: restart the node")?;
        let tls = self.routes.borrow().iter().find_map(|routes| routes.tls.clone());
        let settings = parts::gate_settings(&next, &authenticator, &vocabularies, node);
        let routes =
            parts::listener_routes(&next, tls.as_ref(), settings, (self.address.tcp(), self.admin.as_ref()))
                .with_context(fit)?;
        telemetry::set_filter(&next.log).context("cannot change the log filter")?;
        // First what the new routes need. An error means that a thread has ended, and so the node does.
        for lane in node.lanes.iter() {
            let _ = lane.send(LaneRequest::Render(vocabularies.renderers())).await;
        }
        for shard in self.shards.iter() {
            let settings = Box::new(parts::connection_settings(&next, node));
            let _ = shard.send(ShardRequest::ChangeSettings(settings)).await;
        }
        node.current_vocabularies.replace(vocabularies);
        if parts::replaces_connections(&next) {
            node.latest_connections.begin_use();
        }
        authenticator.key_sources().for_each(|source| source.refresh(Instant::now()));
        let budget = descriptors::budget(parts::shard_count(&next), next.limits.connections);
        node.change_limits(&parts::adjustable_limits(&next.limits, budget));
        self.sockets.change_max(budget.sockets);
        node.current_authenticator.replace(authenticator);
        if let Some(admin) = &self.admin {
            let report = admin.view.get().report.reloaded(report, &needs_restart);
            admin.view.replace(parts::admin_view(&next, report, &routes));
        }
        self.routes.send_replace(routes);
        self.reload_certificates();
        self.config.send_replace(next);
        node.counts.reloads.count();
        Ok(Reloaded { changed, needs_restart })
    }
}

/// What a reload has found, by the names of sections and keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reloaded {
    /// What has changed and is in use.
    pub changed: Vec<&'static str>,
    /// What has changed and stays as it was until a restart.
    pub needs_restart: Vec<&'static str>,
}

/// The current configuration with all changes that can be made while the node runs, and the names of the others.
fn merge(current: &Config, new: &Config) -> (Config, Vec<&'static str>) {
    let mut next = current.clone();
    next.roles.clone_from(&new.roles);
    next.log.filter.clone_from(&new.log.filter);
    next.auth.clone_from(&new.auth);
    next.auth.ticket = current.auth.ticket;
    // Connected clients keep their permissions, which may reach a subject that is a service's only from now on.
    if service_subject(&current.auth) != service_subject(&new.auth) {
        next.auth.service.clone_from(&current.auth.service);
    }
    next.http.public_url.clone_from(&new.http.public_url);
    next.http.allowed_origins.clone_from(&new.http.allowed_origins);
    // Connected clients have subscribed with their names encoded, or plain.
    let encodes_alike = current.auth.encodes_users() == new.auth.encodes_users();
    if !encodes_alike {
        next.auth.user_claim.clone_from(&current.auth.user_claim);
    }
    // The vocabularies of the new endpoints are compiled for its kind of names.
    if encodes_alike && listeners(current) == listeners(new) {
        next.endpoints.clone_from(&new.endpoints);
    }
    let (limits, unchanged_limits) = adjusted(&current.limits, &new.limits);
    next.limits = limits;
    let mut needs_restart = differences(&next, new);
    // The changed limits are named one by one.
    needs_restart.retain(|name| *name != LIMITS);
    needs_restart.extend(unchanged_limits);
    (next, needs_restart)
}

const LIMITS: &str = "[limits]";

/// What differs: keys of sections of which only a part can change while the node runs, and other sections as a whole.
fn differences(one: &Config, other: &Config) -> Vec<&'static str> {
    let Config {
        http,
        admin,
        audit,
        traces,
        tls,
        nats,
        auth,
        roles,
        classes,
        endpoints,
        server,
        limits,
        log,
    } = one;
    let mut names = http_differences(http, &other.http);
    names.extend(tls_differences(tls, &other.tls));
    names.extend(nats_differences(nats, &other.nats));
    names.extend(auth_differences(auth, &other.auth));
    names.extend(server_differences(server, &other.server));
    names.extend(named([
        ("[admin]", *admin != other.admin),
        ("[audit]", *audit != other.audit),
        ("[traces]", *traces != other.traces),
        ("[[role]]", *roles != other.roles),
        ("[[endpoint]]", *endpoints != other.endpoints),
        ("[[class]]", *classes != other.classes),
        (LIMITS, *limits != other.limits),
    ]));
    let LogConfig { filter, format } = log;
    names.extend(named([
        ("log.filter", *filter != other.log.filter),
        ("log.format", *format != other.log.format),
    ]));
    names
}

/// The names of what differs.
fn named<const N: usize>(differs: [(&'static str, bool); N]) -> Vec<&'static str> {
    differs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

fn http_differences(one: &HttpConfig, other: &HttpConfig) -> Vec<&'static str> {
    let HttpConfig {
        listen,
        tls,
        redirect_listen,
        public_url,
        allowed_origins,
        allows_loopback_origins,
        console,
        trusted_proxies,
        proxy_protocol,
        keep_alive,
    } = one;
    let allows_others = *allowed_origins != other.allowed_origins
        || *allows_loopback_origins != other.allows_loopback_origins;
    named([
        ("http.listen", *listen != other.listen),
        ("http.tls", *tls != other.tls),
        ("http.redirect_listen", *redirect_listen != other.redirect_listen),
        ("http.public_url", *public_url != other.public_url),
        ("http.allowed_origins", allows_others),
        ("http.console", *console != other.console),
        ("http.trusted_proxies", *trusted_proxies != other.trusted_proxies),
        ("http.proxy_protocol", *proxy_protocol != other.proxy_protocol),
        ("http.keep_alive_s", *keep_alive != other.keep_alive),
    ])
}

fn tls_differences(one: &TlsConfig, other: &TlsConfig) -> Vec<&'static str> {
    let TlsConfig { certificates, min_version, client_ca_file, hsts, poll, acme } = one;
    named([
        ("the certificates of [tls]", *certificates != other.certificates),
        ("tls.min_version", *min_version != other.min_version),
        ("tls.client_ca_file", *client_ca_file != other.client_ca_file),
        ("tls.hsts_s", *hsts != other.hsts),
        ("tls.poll_s", *poll != other.poll),
        ("[tls.acme]", *acme != other.acme),
    ])
}

fn nats_differences(one: &NatsConfig, other: &NatsConfig) -> Vec<&'static str> {
    let NatsConfig { urls, login, ping_interval, ca_file, inbox_prefix, request_timeout } = one;
    named([
        ("nats.url", *urls != other.urls),
        ("the login of [nats]", *login != other.login),
        ("nats.ping_interval_s", *ping_interval != other.ping_interval),
        ("nats.ca_file", *ca_file != other.ca_file),
        ("nats.inbox_prefix", *inbox_prefix != other.inbox_prefix),
        ("nats.request_timeout_ms", *request_timeout != other.request_timeout),
    ])
}

/// Three keys of `[auth]` may need a restart; all others are one section.
fn auth_differences(one: &AuthConfig, other: &AuthConfig) -> Vec<&'static str> {
    let (ticket, user_claim) = (one.ticket, one.user_claim.clone());
    let has_another_service = service_subject(one) != service_subject(other);
    let service = if has_another_service { one.service.clone() } else { other.service.clone() };
    let rest = AuthConfig { ticket, user_claim, service, ..other.clone() };
    named([
        ("[auth]", *one != rest),
        ("auth.ticket_s", one.ticket != other.ticket),
        ("auth.user_claim", one.user_claim != other.user_claim),
        ("auth.service.subject", has_another_service),
    ])
}

fn service_subject(auth: &AuthConfig) -> Option<&Subject> {
    auth.service.as_ref().map(|service| &service.subject)
}

fn server_differences(one: &ServerConfig, other: &ServerConfig) -> Vec<&'static str> {
    let ServerConfig {
        shards,
        node,
        feed_linger,
        lame_duck,
        drain,
        compression,
        compression_min_bytes,
        compression_level,
    } = one;
    named([
        ("server.shards", *shards != other.shards),
        ("server.node", *node != other.node),
        ("server.feed_linger_ms", *feed_linger != other.feed_linger),
        ("server.lame_duck_s", *lame_duck != other.lame_duck),
        ("server.drain_s", *drain != other.drain),
        ("server.compression", *compression != other.compression),
        ("server.compression_min_bytes", *compression_min_bytes != other.compression_min_bytes),
        ("server.compression_level", *compression_level != other.compression_level),
    ])
}

/// The listeners of endpoints, and which of them use TLS.
fn listeners(config: &Config) -> Vec<(ListenAddress, bool)> {
    let listeners = endpoint::extra_listeners(&config.endpoints);
    listeners.map(|listen| (listen.clone(), config.uses_tls(Some(&listen)))).collect()
}

/// The new limits, except for those that cannot change while the node runs, and the names of these. Without a limit
/// nothing is counted, so a change between a limit and none needs a restart, except for the limits of the whole node.
fn adjusted(current: &Limits, new: &Limits) -> (Limits, Vec<&'static str>) {
    let (mut next, mut kept) = (new.clone(), Vec::new());
    for (name, next, current) in [
        ("limits.answer_bytes", &mut next.answer_bytes, current.answer_bytes),
        ("limits.address_answer_bytes", &mut next.address_answer_bytes, current.address_answer_bytes),
        ("limits.overlapping_feeds", &mut next.overlapping_feeds, current.overlapping_feeds),
        ("limits.send_buffer_bytes", &mut next.send_buffer_bytes, current.send_buffer_bytes),
        ("limits.inbox_bytes", &mut next.inbox_bytes, current.inbox_bytes),
        ("limits.lane_requests", &mut next.lane_requests, current.lane_requests),
        ("limits.delivery_max_bytes", &mut next.delivery_max_bytes, current.delivery_max_bytes),
        ("limits.feed_values", &mut next.feed_values, current.feed_values),
        ("limits.feed_value_bytes", &mut next.feed_value_bytes, current.feed_value_bytes),
    ] {
        if *next != current {
            *next = current;
            kept.push(name);
        }
    }
    for (name, next, current) in [
        ("limits.calls_per_s", &mut next.calls_per_s, current.calls_per_s),
        ("limits.address_calls_per_s", &mut next.address_calls_per_s, current.address_calls_per_s),
        (
            "limits.address_handshakes_per_s",
            &mut next.address_handshakes_per_s,
            current.address_handshakes_per_s,
        ),
        (
            "limits.connections_per_address",
            &mut next.connections_per_address,
            current.connections_per_address,
        ),
        ("limits.connections_per_origin", &mut next.connections_per_origin, current.connections_per_origin),
        ("limits.connections_per_user", &mut next.connections_per_user, current.connections_per_user),
    ] {
        if (*next > 0) != (current > 0) {
            *next = current;
            kept.push(name);
        }
    }
    // The kernel's own timeout of sockets is that of the start, and must come later.
    if next.write_timeout > current.write_timeout {
        next.write_timeout = current.write_timeout;
        kept.push("limits.write_timeout_s");
    }
    if next.connections_per_user_policy != current.connections_per_user_policy {
        next.connections_per_user_policy = current.connections_per_user_policy;
        kept.push("limits.connections_per_user_policy");
    }
    (next, kept)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::endpoint::EndpointConfig;
    use crate::config::load::load;
    use crate::config::origin::WebOrigin;
    use crate::config::source::Sources;

    #[test]
    fn what_can_change_is_taken_over_and_the_rest_is_named() {
        let (current, mut new) = (Config::default(), Config::default());
        new.roles.truncate(1);
        new.auth.issuer = "https://login.example.com".to_owned();
        new.auth.ticket = Duration::ZERO;
        new.http.allowed_origins = vec![WebOrigin::parse("https://app.example.com").unwrap()];
        new.endpoints[0].path = "/other".to_owned();
        new.log.filter = "debug".to_owned();
        let (next, needs_restart) = merge(&current, &new);
        assert_eq!(needs_restart, ["auth.ticket_s"]);
        let changed = differences(&current, &next);
        assert_eq!(changed, ["http.allowed_origins", "[auth]", "[[role]]", "[[endpoint]]", "log.filter"]);
        let mut expected = new.clone();
        expected.auth.ticket = current.auth.ticket;
        assert_eq!(next, expected);
    }

    #[test]
    fn another_service_needs_a_restart_because_connected_clients_may_reach_its_subject() {
        let service = |subject: &str| {
            let set = vec![("auth.service.subject".to_owned(), subject.to_owned())];
            load(&Sources { flags: set, ..Sources::default() }).unwrap().config
        };
        let (none, one, other) = (Config::default(), service("auth.connect"), service("auth.other"));
        for (current, new) in [(&none, &one), (&one, &none), (&one, &other)] {
            let (next, needs_restart) = merge(current, new);
            assert_eq!(
                (next.auth.service, needs_restart),
                (current.auth.service.clone(), vec!["auth.service.subject"])
            );
        }
        let mut slower = one.clone();
        slower.auth.service.as_mut().unwrap().timeout = Duration::from_secs(9);
        let (next, needs_restart) = merge(&one, &slower);
        assert_eq!((next, needs_restart), (slower, Vec::<&str>::new()));
    }

    #[test]
    fn endpoints_change_together_or_not_at_all() {
        let (current, mut new) = (Config::default(), Config::default());
        new.endpoints[0].path = "/other".to_owned();
        new.endpoints.push(EndpointConfig {
            listen: Some("127.0.0.1:9001".parse().unwrap()),
            ..EndpointConfig::default()
        });
        let (next, needs_restart) = merge(&current, &new);
        assert_eq!((needs_restart, next.endpoints), (vec!["[[endpoint]]"], current.endpoints.clone()));
        new.endpoints.pop();
        new.auth.user_claim = "email".to_owned();
        let (next, needs_restart) = merge(&current, &new);
        assert_eq!(needs_restart, ["auth.user_claim", "[[endpoint]]"]);
        assert_eq!((next.auth.user_claim, next.endpoints), (current.auth.user_claim, current.endpoints));
    }

    #[test]
    fn only_the_keys_that_need_a_restart_are_named() {
        let (current, mut new) = (Config::default(), Config::default());
        assert_eq!(merge(&current, &new), (current.clone(), Vec::new()));
        assert_eq!(differences(&current, &current), Vec::<&str>::new());
        new.http.redirect_listen = Some(([127, 0, 0, 1], 9080).into());
        new.http.public_url = WebOrigin::parse("https://live.example.com").ok();
        new.server.drain = Duration::from_secs(77);
        new.limits.max_errors += 1;
        let (next, needs_restart) = merge(&current, &new);
        assert_eq!(needs_restart, ["http.redirect_listen", "server.drain_s"]);
        assert_eq!(differences(&current, &next), ["http.public_url", "[limits]"]);
    }

    /// The keys are those of the shipped file, so that none is forgotten.
    #[test]
    fn every_limit_is_taken_over_or_named() {
        let current = Limits::default();
        let keys = include_str!("../../config.toml").lines().skip_while(|line| *line != "[limits]").skip(1);
        let keys = keys.take_while(|line| !line.starts_with('['));
        let keys: Vec<_> = keys.filter_map(|line| line.split_once(" = ")).collect();
        assert!(keys.len() > 50, "{}", keys.len());
        let mut kept = Vec::new();
        for (key, value) in keys {
            let value = match value.parse::<u64>() {
                Ok(number) => (number + 1).to_string(),
                Err(_) => "replace".to_owned(),
            };
            let sources = Sources { flags: vec![(format!("limits.{key}"), value)], ..Sources::default() };
            let new = load(&sources).unwrap().config.limits;
            assert_ne!(new, current, "{key}");
            let (next, names) = adjusted(&current, &new);
            match names[..] {
                [] => assert_eq!(next, new, "{key}"),
                [name] => {
                    assert_eq!((name.strip_prefix("limits."), &next), (Some(key), &current));
                    kept.push(key);
                }
                _ => panic!("{key}: {names:?}"),
            }
        }
        assert!(kept.contains(&"inbox_bytes") && kept.contains(&"connections_per_user"), "{kept:?}");
        assert!(!kept.contains(&"connections") && !kept.contains(&"outbox_bytes"), "{kept:?}");
    }
}
