//! Rules between sections: what is right by itself and wrong, or probably not meant, next to something else.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_protocol::class::Classes;
use tidegate_protocol::permissions::StatsAccess;
use tidegate_protocol::permissions::system_root;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::template::Template;

use crate::config::Config;
use crate::config::auth::AuthConfig;
use crate::config::endpoint::EndpointConfig;
use crate::config::endpoint::VocabularyFile;
use crate::config::endpoint::access;
use crate::config::endpoint::access::AccessConfig;
use crate::config::http::HttpConfig;
use crate::config::network::Network;
use crate::config::table::ConfigTable;

/// Notes all of them.
pub(super) fn sections(root: &ConfigTable<'_>, config: &Config) {
    times(root, config);
    sizes(root, config);
    listeners(root, config);
    endpoints(root, config);
    vocabularies(root, config);
    classes(root, config);
    entrances(root, config);
}

/// What Kubernetes grants a process that is told to end, and others about as much.
const GRANTED: Duration = Duration::from_secs(30);

fn times(root: &ConfigTable<'_>, config: &Config) {
    let longest = config.limits.request_timeout_max;
    if config.nats.request_timeout > longest {
        let key = root.written_of("nats.request_timeout_ms", "limits.request_timeout_max_ms");
        let problem = format!(
            "nats.request_timeout_ms ({}) is more than limits.request_timeout_max_ms ({})",
            config.nats.request_timeout.as_millis(),
            longest.as_millis()
        );
        root.mistake(key, problem, "lower the first, or raise the second");
    }
    let end = config.server.lame_duck + config.server.drain;
    if end >= GRANTED {
        let text = format!(
            "a node needs server.lame_duck_s and server.drain_s ({} seconds together) to end, and many service managers kill \
             after {}; lower them, or let yours wait for longer",
            end.as_secs(),
            GRANTED.as_secs()
        );
        root.warning(root.written_of("server.lame_duck_s", "server.drain_s"), text);
    }
    let (expiring, lifetime) = (config.limits.expiring, config.auth.max_lifetime);
    if !lifetime.is_zero() && expiring >= lifetime {
        let text = format!(
            "limits.expiring_s ({}) is not less than auth.max_lifetime_s ({}), so clients are told at once that their \
             token expires; lower the first, or raise the second",
            expiring.as_secs(),
            lifetime.as_secs()
        );
        root.warning(root.written_of("limits.expiring_s", "auth.max_lifetime_s"), text);
    }
}

/// What is allowed, and does not fit into what carries it.
fn sizes(root: &ConfigTable<'_>, config: &Config) {
    let (limits, auth) = (&config.limits, &config.auth);
    let pairs = [
        (
            ("auth.max_token_bytes", auth.max_token_bytes),
            ("limits.max_header_bytes", limits.max_header_bytes),
            "tokens this long never come in a header",
        ),
        (
            ("limits.publish_max_bytes", limits.publish_max_bytes),
            ("limits.max_message_bytes", limits.max_message_bytes),
            "a message this long is refused before it is published",
        ),
        (
            ("limits.feed_value_bytes", limits.feed_value_bytes),
            ("limits.outbox_bytes", limits.outbox_bytes),
            "the last values of one channel do not fit into what may wait for a socket",
        ),
    ];
    for ((inner, size), (outer, room), so) in pairs {
        if size > room {
            let key = root.written_of(inner, outer);
            root.warning(key, format!("{inner} ({size}) is more than {outer} ({room}): {so}"));
        }
    }
}

/// Two sockets cannot have one port, and a page to try things out is not for everybody.
fn listeners(root: &ConfigTable<'_>, config: &Config) {
    let HttpConfig { listen, console, .. } = config.http;
    let all = std::iter::once(("http.listen".to_owned(), listen));
    let own = config.endpoints.iter().enumerate();
    let own = own.filter_map(|(at, endpoint)| Some((format!("endpoint[{at}].listen"), endpoint.listen?)));
    let all: Vec<(String, SocketAddr)> = all.chain(own).collect();
    for (at, (key, address)) in all.iter().enumerate() {
        let earlier = all[..at].iter().find(|(_, other)| collide(*other, *address));
        if let Some((other, taken)) = earlier {
            let problem = format!("{address} and {taken} ({other}) are one port on some of the interfaces");
            root.mistake(key, problem, "write the same address in both, or choose another port");
        }
    }
    if console && !listen.ip().is_loopback() {
        let text = format!(
            "everybody who reaches {listen} gets the demo page and the vocabularies' test pages; they are for trying \
             things out, so turn it off, or set http.listen to 127.0.0.1"
        );
        root.warning("http.console", text);
    }
    if config.http.trusted_proxies.iter().any(Network::is_everybody) {
        let text = "every client is believed to be at whatever address it names; name the proxies alone";
        root.warning("http.trusted_proxies", text);
    }
}

/// Whether one is all interfaces, and so has the port of the other too.
fn collide(left: SocketAddr, right: SocketAddr) -> bool {
    let covers = |left: SocketAddr, right: SocketAddr| {
        left.ip().is_unspecified() && (left.is_ipv6() || right.is_ipv4())
    };
    left != right
        && left.port() == right.port()
        && left.port() != 0
        && (covers(left, right) || covers(right, left))
}

fn endpoints(root: &ConfigTable<'_>, config: &Config) {
    for (at, endpoint) in config.endpoints.iter().enumerate() {
        if endpoint.access.api_keys && config.auth.api_keys.is_empty() {
            let text = "there is no [[auth.api_key]], so none is taken; write one, or remove the key";
            root.warning(&format!("endpoint[{at}].api_keys"), text);
        }
    }
}

/// What vocabularies show, and classes do not give them.
fn vocabularies(root: &ConfigTable<'_>, config: &Config) {
    let classes = Classes::new(config.classes.clone());
    // A narrower class keeps those of some of the channels.
    let keeps_some =
        |of: &Pattern| config.classes.iter().any(|class| class.snapshot && of.covers(&class.pattern));
    let keeps = |of: &Pattern, is_one: bool| classes.of(of).snapshot || !is_one && keeps_some(of);
    let lets_through = |of: &Pattern, header: &str| {
        let mut of = config.classes.iter().filter(|class| class.pattern.overlaps(of));
        of.any(|class| class.headers.iter().any(|name| name == "*" || name.eq_ignore_ascii_case(header)))
    };
    for (at, endpoint) in config.endpoints.iter().enumerate() {
        let Some(VocabularyFile(described)) = &endpoint.file else { continue };
        let key = format!("endpoint[{at}].vocabulary");
        for (path, channels, _) in described.last_values().filter(|(_, of, is_one)| !keeps(of, *is_one)) {
            let text = format!(
                "calls of {path} find no last values, because the class of {channels} keeps none; write a [[class]] with \
                 this pattern and snapshot = true"
            );
            root.warning(&key, text);
        }
        for (pattern, header) in described.nats_headers().filter(|(of, header)| !lets_through(of, header)) {
            let text = format!(
                "{{nats.{header}}} is always absent, because no class of {pattern} lets this header through; write a \
                 [[class]] with this pattern and headers = [\"{header}\"]"
            );
            root.warning(&key, text);
        }
    }
}

/// A class that no one can come to is probably misspelt.
fn classes(root: &ConfigTable<'_>, config: &Config) {
    let allowed = config.roles.iter().flat_map(|role| &role.subscribe.allow).map(Template::covering_pattern);
    let allowed: Vec<Pattern> = allowed.collect();
    for (at, class) in config.classes.iter().enumerate() {
        let pattern = &class.pattern;
        let key = format!("class[{at}].pattern");
        if pattern.tokens().next().and_then(system_root).is_some() {
            let text = format!(
                "{pattern} belongs to NATS or Tidegate and is never open to clients, so this class is for nothing"
            );
            root.warning(&key, text);
        } else if !allowed.is_empty() && !allowed.iter().any(|allowed| allowed.overlaps(pattern)) {
            let text = format!(
                "no [[role]] may subscribe to anything of {pattern}, so this class is for nothing; is it misspelt?"
            );
            root.warning(&key, text);
        }
    }
}

/// Who comes in, and what everybody sees.
fn entrances(root: &ConfigTable<'_>, config: &Config) {
    for (at, role) in config.roles.iter().enumerate() {
        if role.stats == StatsAccess::All && is_everybodys(&role.name, config) {
            let text = "everybody is told every client's id and channels";
            root.warning(&format!("role[{at}].stats"), text);
        }
    }
    let is_used = config.endpoints.iter().any(|endpoint| endpoint.access.anonymous_role.is_none());
    if let Some(text) = access::opening("clients", &config.auth.anonymous_role, &config.roles)
        && is_used
    {
        root.warning("auth.anonymous_role", text);
    }
    if lets_nobody_in(config) {
        let text = "there is neither a key for tokens nor an anonymous role, so every client is refused; write an \
                    [[auth.key]], set TIDEGATE_AUTH__HMAC_SECRET, or name an auth.anonymous_role";
        root.warning("auth.key", text);
    }
    if config.roles.is_empty() {
        let text = "there is no [[role]], so no client may subscribe to anything; write at least one";
        root.warning("role", text);
    }
}

/// Whether a role is had without a credential.
fn is_everybodys(role: &str, config: &Config) -> bool {
    let named = |endpoint: &EndpointConfig| {
        let AccessConfig { anonymous_role, http_role, believe, .. } = &endpoint.access;
        let believed = believe.as_ref().map(|believe| believe.role.as_str());
        [anonymous_role.as_deref(), http_role.as_deref(), believed].contains(&Some(role))
    };
    config.auth.anonymous_role == role || config.endpoints.iter().any(named)
}

fn lets_nobody_in(config: &Config) -> bool {
    let AuthConfig { keys, api_keys, anonymous_role, .. } = &config.auth;
    let lets_somebody_in = |endpoint: &EndpointConfig| {
        let access = &endpoint.access;
        let role = access.anonymous_role.as_ref().unwrap_or(anonymous_role);
        !role.is_empty() || access.believe.is_some() || access.api_keys && !api_keys.is_empty()
    };
    keys.is_empty() && !config.endpoints.iter().any(lets_somebody_in)
}
