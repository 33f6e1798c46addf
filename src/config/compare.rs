//! Rules between sections: values that are valid alone, but wrong or probably not intended in combination.

mod tls;

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::time::Duration;

use tidegate_document::quote::quoted;
use tidegate_protocol::class::Classes;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::permissions::StatsAccess;
use tidegate_protocol::permissions::system_root;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::template::Template;

use crate::config::Config;
use crate::config::audit;
use crate::config::auth::AuthConfig;
use crate::config::auth::issuer::IssuerConfig;
use crate::config::browsers;
use crate::config::endpoint;
use crate::config::endpoint::EndpointConfig;
use crate::config::endpoint::VocabularyFile;
use crate::config::endpoint::access::AccessConfig;
use crate::config::endpoint::access::without_credential;
use crate::config::http::HttpConfig;
use crate::config::listen_address::ListenAddress;
use crate::config::network::Network;
use crate::config::table::ConfigTable;

/// Reports all errors and warnings.
pub(super) fn sections(root: &ConfigTable<'_>, config: &Config) {
    times(root, config);
    sizes(root, config);
    listeners(root, config);
    addresses(root, config);
    unencrypted(root, config);
    tls::tls(root, config);
    endpoints(root, config);
    browsers::check(root, config);
    vocabularies(root, config);
    dotted_names(root, config);
    classes(root, config);
    access(root, config);
    default_roles(root, config);
}

/// How long Kubernetes waits before it kills a process that shuts down. Other service managers wait about as long.
const SHUTDOWN_TIME: Duration = Duration::from_secs(30);

fn times(root: &ConfigTable<'_>, config: &Config) {
    let longest = config.limits.request_timeout_max;
    if config.nats.request_timeout > longest {
        let key = root.conflict_key("nats.request_timeout_ms", "limits.request_timeout_max_ms");
        let message = format!(
            "nats.request_timeout_ms ({}) is more than limits.request_timeout_max_ms ({})",
            config.nats.request_timeout.as_millis(),
            longest.as_millis()
        );
        root.error(key, message, "lower the first, or raise the second");
    }
    let end = config.server.lame_duck + config.server.drain;
    if end >= SHUTDOWN_TIME {
        let message = format!(
            "shutting down takes server.lame_duck_s and server.drain_s ({} seconds together), but many service \
             managers kill a process after {} seconds; lower them, or make yours wait longer",
            end.as_secs(),
            SHUTDOWN_TIME.as_secs()
        );
        root.warning(root.conflict_key("server.lame_duck_s", "server.drain_s"), message);
    }
    let (keep_alive, handshake_timeout) = (config.http.keep_alive, config.limits.handshake_timeout);
    if keep_alive < handshake_timeout {
        let message = format!(
            "http.keep_alive_s ({}) is less than limits.handshake_timeout_s ({}), which is used instead; raise the \
             first, or lower the second",
            keep_alive.as_secs(),
            handshake_timeout.as_secs()
        );
        root.warning(root.conflict_key("http.keep_alive_s", "limits.handshake_timeout_s"), message);
    }
    let (warning, lifetime) = (config.limits.expiry_warning, config.auth.max_token_lifetime);
    if !lifetime.is_zero() && warning >= lifetime {
        let message = format!(
            "limits.expiry_warning_s ({}) is not less than auth.max_token_lifetime_s ({}), so clients are warned as \
             soon as they connect; lower the first, or raise the second",
            warning.as_secs(),
            lifetime.as_secs()
        );
        root.warning(root.conflict_key("limits.expiry_warning_s", "auth.max_token_lifetime_s"), message);
    }
}

/// Sizes that are larger than what contains them.
fn sizes(root: &ConfigTable<'_>, config: &Config) {
    let (limits, auth) = (&config.limits, &config.auth);
    let pairs = [
        (
            ("auth.max_token_bytes", auth.max_token_bytes),
            ("limits.max_header_bytes", limits.max_header_bytes),
            "a header has no room for tokens of the maximum size",
        ),
        (
            ("limits.publish_max_bytes", limits.publish_max_bytes),
            ("limits.max_message_bytes", limits.max_message_bytes),
            "messages of the maximum size are rejected before they are published",
        ),
        (
            ("limits.feed_value_bytes", limits.feed_value_bytes),
            ("limits.outbox_bytes", limits.outbox_bytes),
            "of the last values of one feed, a new subscriber with a vocabulary gets only the newest that fit, and one \
             of the native protocol may be disconnected",
        ),
        (
            ("limits.feed_values", limits.feed_values),
            ("limits.outbox_frames", limits.outbox_frames),
            "of the last values of one feed, a new subscriber with a vocabulary gets only the newest that fit",
        ),
    ];
    for ((inner, size), (outer, room), effect) in pairs {
        if size > room {
            let key = root.conflict_key(inner, outer);
            root.warning(key, format!("{inner} ({size}) is more than {outer} ({room}): {effect}"));
        }
    }
}

/// Addresses that conflict, test pages on a public address, and proxies that are not limited.
fn listeners(root: &ConfigTable<'_>, config: &Config) {
    let HttpConfig { ref listen, console, .. } = config.http;
    let all = std::iter::once(("http.listen".to_owned(), listen));
    let own = config.endpoints.iter().enumerate();
    let own =
        own.filter_map(|(at, endpoint)| Some((format!("endpoint[{at}].listen"), endpoint.listen.as_ref()?)));
    let redirect = config.http.redirect_listen.map(ListenAddress::Tcp);
    let redirect = redirect.iter().map(|address| ("http.redirect_listen".to_owned(), address));
    let all: Vec<(String, &ListenAddress)> = all.chain(own).chain(redirect).collect();
    admin_listener(root, config, &all);
    audit_feed(root, config);
    for (at, (key, address)) in all.iter().enumerate() {
        let earlier = all[..at].iter().find(|(_, other)| collide(other, address));
        if let Some((other, taken)) = earlier {
            let message =
                format!("{address} and {taken} ({other}) use the same port on some of the interfaces");
            root.error(key, message, "write the same address in both, or choose another port");
        }
    }
    let public = all.iter().map(|(_, address)| address).find(|address| address.is_public());
    if let Some(listen) = public.filter(|_| console) {
        let message = format!(
            "everyone who can reach {listen} can open the demo page and the test pages, which are meant for trying \
             things out; turn it off, or listen on 127.0.0.1 only"
        );
        root.warning("http.console", message);
    }
    if config.http.trusted_proxies.iter().any(Network::is_everything) {
        let message =
            "every client can fake its address in a header; list only the addresses of your proxies";
        root.warning("http.trusted_proxies", message);
    }
    let has_proxies =
        !config.http.trusted_proxies.is_empty() || all.iter().any(|(_, address)| address.is_unix());
    if config.http.proxy_protocol && !has_proxies {
        let key = root.conflict_key("http.proxy_protocol", "http.trusted_proxies");
        let message = "http.proxy_protocol is true, but http.trusted_proxies lists no proxy, so no PROXY header would \
                       be read";
        root.error(key, message, "list the proxies, or set it to false");
    }
}

/// A listener that others can reach without TLS, if no proxy is known that could have it.
fn unencrypted(root: &ConfigTable<'_>, config: &Config) {
    if !config.http.trusted_proxies.is_empty() {
        return;
    }
    let own = config.endpoints.iter().enumerate();
    let own = own.filter_map(|(at, endpoint)| {
        Some((format!("endpoint[{at}].listen"), Some(endpoint.listen.as_ref()?)))
    });
    for (key, listen) in std::iter::once(("http.listen".to_owned(), None)).chain(own) {
        let address = listen.unwrap_or(&config.http.listen);
        if address.is_public() && !config.uses_tls(listen) {
            let message = format!(
                "clients reach {address} without TLS, so tokens can be read on their way; add [tls], or listen where only a \
                 proxy with TLS reaches it, and list the proxy in http.trusted_proxies"
            );
            return root.warning(&key, message);
        }
    }
}

/// What is wrong with the address of the admin listener. `public` are the other addresses, with their keys.
fn admin_listener(root: &ConfigTable<'_>, config: &Config, public: &[(String, &ListenAddress)]) {
    const KEY: &str = "admin.listen";
    let Some(listen) = &config.admin.listen else { return };
    let is_taken =
        |address: &ListenAddress| collide(address, listen) || address == listen && !address.is_any_port();
    if let Some((other, taken)) = public.iter().find(|(_, address)| is_taken(address)) {
        let message = format!("{listen} and {taken} ({other}) are the same port: clients could reach it");
        root.error(KEY, message, "choose another port");
    }
    let Some(address) = config.admin.public_address() else { return };
    if !config.roles.iter().any(|role| role.admin) {
        let message = format!(
            "every request to {address} needs a token of a role with admin = true, and there is no such role; add \
             one, or listen on 127.0.0.1"
        );
        root.warning(KEY, message);
    }
    if !config.admin_uses_tls() {
        let message = format!(
            "tokens are sent to {address} without encryption; set tls.cert_file, or listen on 127.0.0.1"
        );
        root.warning(KEY, message);
    }
}

/// No role may write into the audit feed, and those that may read it say so.
fn audit_feed(root: &ConfigTable<'_>, config: &Config) {
    let Some(subject) = &config.audit.subject else { return };
    for message in audit::open_to(subject, &config.roles) {
        let help = "choose a subject of Tidegate, such as \"tidegate.audit\", which clients never reach; or deny the subject \
                    to the role; a role that may read the feed must allow exactly this subject";
        root.error("audit.subject", message, help);
    }
}

/// Without limits for addresses, one client can use up those of the node.
fn addresses(root: &ConfigTable<'_>, config: &Config) {
    let redirect = config.http.redirect_listen.map(ListenAddress::Tcp);
    let listens =
        endpoint::extra_listeners(&config.endpoints).chain([config.http.listen.clone()]).chain(redirect);
    let Some(listen) = listens.into_iter().find(ListenAddress::is_public) else { return };
    let limits = &config.limits;
    for (key, is_off, instead) in [
        ("limits.connections_per_address", limits.connections_per_address == 0, "1000"),
        ("limits.address_handshakes_per_s", limits.address_handshakes_per_s == 0, "500"),
    ] {
        if is_off {
            let message = format!(
                "is 0, so one client that can reach {listen} can use up what the node has for all; write a limit, such \
                 as {instead}"
            );
            root.warning(key, message);
        }
    }
}

/// Whether one address is that of all interfaces, and so includes the port of the other.
fn collide(left: &ListenAddress, right: &ListenAddress) -> bool {
    let (Some(left), Some(right)) = (left.tcp(), right.tcp()) else { return false };
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
            let message = "there is no [[auth.api_key]], so this has no effect; add one, or remove this key";
            root.warning(&format!("endpoint[{at}].api_keys"), message);
        }
        let key = format!("endpoint[{at}].replace_connections");
        if endpoint.replace_connections && endpoint.access.trust_client_identity.is_some() {
            let message = "a client without a credential can close the connection of any user by naming it, as \
                           trust_client_identity allows; use this in closed networks only";
            root.warning(&key, message);
        }
        if endpoint.replace_connections && has_anonymous_clients_only(endpoint, &config.auth) {
            let message = "this has no effect, because all clients of this endpoint are anonymous and so no user is \
                           known: there is no [[auth.key]] for tokens, and no API key that it accepts; add an \
                           [[auth.key]], or remove this key";
            root.warning(&key, message);
        }
    }
}

/// Whether no client of an endpoint can prove who it is, and anonymous ones are accepted.
fn has_anonymous_clients_only(endpoint: &EndpointConfig, auth: &AuthConfig) -> bool {
    let AccessConfig { api_keys, anonymous_role, trust_client_identity, .. } = &endpoint.access;
    let role = anonymous_role.as_ref().unwrap_or(&auth.anonymous_role);
    let has_users = !auth.keys.is_empty()
        || auth.service.is_some()
        || trust_client_identity.is_some()
        || *api_keys && !auth.api_keys.is_empty();
    !role.is_empty() && !has_users
}

/// Last values and headers that a vocabulary uses, but no class provides.
fn vocabularies(root: &ConfigTable<'_>, config: &Config) {
    let classes = Classes::new(config.classes.clone());
    // A narrower class keeps the last values of some of the channels.
    let keeps_some =
        |of: &Pattern| config.classes.iter().any(|class| class.snapshot && of.covers(&class.pattern));
    let keeps = |of: &Pattern, is_one: bool| classes.of(of).snapshot || !is_one && keeps_some(of);
    let passes_on = |of: &Pattern, header: &str| {
        let mut of = config.classes.iter().filter(|class| class.pattern.overlaps(of));
        of.any(|class| class.headers.iter().any(|name| name == "*" || name.eq_ignore_ascii_case(header)))
    };
    for (at, endpoint) in config.endpoints.iter().enumerate() {
        let Some(VocabularyFile(vocabulary)) = &endpoint.file else { continue };
        let key = format!("endpoint[{at}].vocabulary");
        for (path, channels, _) in vocabulary.last_values().filter(|(_, of, is_one)| !keeps(of, *is_one)) {
            let message = format!(
                "{path} returns no last values, because the class of {channels} keeps none; add a [[class]] with this \
                 pattern and snapshot = true"
            );
            root.warning(&key, message);
        }
        for (pattern, header) in vocabulary.nats_headers().filter(|(of, header)| !passes_on(of, header)) {
            let message = format!(
                "{{nats.{header}}} is always absent, because no class of {pattern} passes on this header; add a \
                 [[class]] with this pattern and headers = [\"{header}\"]"
            );
            root.warning(&key, message);
        }
    }
}

/// Patterns of roles with `>` where a vocabulary has names with dots, such as `BRK.B`: they allow more than such names.
fn dotted_names(root: &ConfigTable<'_>, config: &Config) {
    let files = config.endpoints.iter().filter_map(|endpoint| endpoint.file.as_ref());
    let dotted = files.flat_map(|VocabularyFile(vocabulary)| {
        vocabulary.dotted_subjects().map(|(operation, reach)| (&*vocabulary.name, operation, reach))
    });
    let dotted: Vec<(&str, Operation, Pattern)> = dotted.collect();
    for (at, role) in config.roles.iter().enumerate() {
        for (key, operation, rules) in [
            ("subscribe", Operation::Subscribe, &role.subscribe),
            ("publish", Operation::Publish, &role.publish),
            ("request", Operation::Request, &role.request),
        ] {
            for template in &rules.allow {
                let mut reaches = dotted.iter().filter(|(_, of, _)| *of == operation);
                let opened = reaches.find_map(|(name, _, reach)| Some((name, names_below(template, reach)?)));
                if let Some((name, below)) = opened {
                    let message = format!(
                        "{} in role {} also allows all other subjects below it, not only the names of the vocabulary {name}; \
                         write {} and {}",
                        quoted(template.as_str()),
                        quoted(&role.name),
                        quoted(&format!("{below}*")),
                        quoted(&format!("{below}*.*"))
                    );
                    root.warning(&format!("role[{at}].{key}.allow"), message);
                }
            }
        }
    }
}

/// What comes before the names of a vocabulary's subjects, if this pattern of a role ends with `>` at or above them. Of
/// `prices.*.>` too, where `*` is the first token of a name.
fn names_below<'r>(template: &'r Template, reach: &'r Pattern) -> Option<&'r str> {
    let widest = template.covering_pattern();
    // Another warning is about patterns whose first token is free.
    if widest.tokens().next().is_some_and(|first| matches!(first, "*" | ">")) || !widest.overlaps(reach) {
        return None;
    }
    let before = template.as_str().strip_suffix('>')?;
    let (mine, theirs) = (widest.tokens().count(), reach.tokens().count());
    match mine.cmp(&theirs) {
        Ordering::Less => reach.as_str().strip_suffix('>'),
        Ordering::Equal => Some(before),
        Ordering::Greater => (theirs..mine).try_fold(before, |before, _| before.strip_suffix("*.")),
    }
}

/// Classes that no client can use; their pattern is probably misspelt.
fn classes(root: &ConfigTable<'_>, config: &Config) {
    let allowed = config.roles.iter().flat_map(|role| &role.subscribe.allow).map(Template::covering_pattern);
    let allowed: Vec<Pattern> = allowed.collect();
    for (at, class) in config.classes.iter().enumerate() {
        let pattern = &class.pattern;
        let key = format!("class[{at}].pattern");
        if pattern.tokens().next().and_then(system_root).is_some() {
            let message = format!(
                "{pattern} belongs to NATS or Tidegate and clients can never use it, so this class has no effect"
            );
            root.warning(&key, message);
        } else if !allowed.is_empty() && !allowed.iter().any(|allowed| allowed.overlaps(pattern)) {
            let message = format!(
                "no [[role]] allows a subscription that matches {pattern}, so this class has no effect; is the pattern \
                 misspelt?"
            );
            root.warning(&key, message);
        }
    }
}

/// What clients without a credential may do, and whether any client can connect at all.
fn access(root: &ConfigTable<'_>, config: &Config) {
    for (at, role) in config.roles.iter().enumerate() {
        if role.stats == StatsAccess::All && is_without_credential(&role.name, config) {
            let message = "clients without a credential can read every client's id and channels";
            root.warning(&format!("role[{at}].stats"), message);
        }
    }
    let is_used = config.endpoints.iter().any(|endpoint| endpoint.access.anonymous_role.is_none());
    if let Some(message) = without_credential("clients", &config.auth.anonymous_role, &config.roles)
        && is_used
    {
        root.warning("auth.anonymous_role", message);
    }
    if !admits_any_client(config) {
        let message = "every WebSocket client will be rejected, because none can authenticate: there is no [[auth.key]] \
                       for tokens, no anonymous role, and no API key that an endpoint accepts; add an [[auth.key]], \
                       set TIDEGATE_AUTH__HMAC_SECRET, or set auth.anonymous_role";
        root.warning("auth.key", message);
    }
    if config.roles.is_empty() {
        root.warning(
            "role",
            "the list of roles is empty, so no client may subscribe to anything; add a [[role]], or remove the list to have \
             the default roles",
        );
    }
}

/// Tokens without a role must be access tokens of the issuer for Tidegate: other tokens under the same key, such as
/// refresh tokens, often have no role either.
fn default_roles(root: &ConfigTable<'_>, config: &Config) {
    let is_list = !config.auth.issuers.is_empty();
    let issuers = config.auth.all_issuers();
    let key = |at: usize, name: &str| {
        if is_list { format!("auth.issuer[{at}].{name}") } else { format!("auth.{name}") }
    };
    for (at, IssuerConfig { token_types, token_type_claim, .. }) in issuers.iter().enumerate() {
        if !token_type_claim.is_empty() && token_types.is_empty() {
            let types = key(at, "token_types");
            let message = format!("has no effect, because {types} is empty");
            let help = format!("list the types to accept, such as {types} = [\"access\"]");
            root.error(&key(at, "token_type_claim"), message, help);
        }
    }
    let is_open = |(_, issuer): &(usize, &IssuerConfig)| {
        issuer.token_types.is_empty() && (issuer.issuer.is_empty() || issuer.audience.is_empty())
    };
    let open: Vec<_> = issuers.iter().enumerate().filter(is_open).collect();
    let of_paths = config
        .endpoints
        .iter()
        .enumerate()
        .filter(|(_, endpoint)| !open.is_empty() && !endpoint.access.path_roles.is_empty());
    let of_issuers = open.iter().filter(|(_, issuer)| !issuer.default_role.is_empty());
    let keys = of_issuers.map(|(at, _)| key(*at, "default_role"));
    for key in keys.chain(of_paths.map(|(at, _)| format!("endpoint[{at}].roles"))) {
        let message = "would also accept tokens that are not for Tidegate, such as refresh tokens: nothing in the \
                       configuration tells them apart";
        let help = "set auth.issuer and auth.audience; or auth.token_types, and auth.token_type_claim if the type is a \
                    claim";
        root.error(&key, message, help);
    }
}

/// Whether clients can get this role without a credential.
fn is_without_credential(role: &str, config: &Config) -> bool {
    let has_role = |endpoint: &EndpointConfig| {
        let AccessConfig { anonymous_role, anonymous_http_role, trust_client_identity, .. } =
            &endpoint.access;
        let trusted = trust_client_identity.as_ref().map(|trusted| trusted.role.as_str());
        [anonymous_role.as_deref(), anonymous_http_role.as_deref(), trusted].contains(&Some(role))
    };
    config.auth.anonymous_role == role || config.endpoints.iter().any(has_role)
}

/// Whether a WebSocket client can connect to at least one endpoint.
fn admits_any_client(config: &Config) -> bool {
    let AuthConfig { api_keys, anonymous_role, .. } = &config.auth;
    let has_keys = |issuer: &IssuerConfig| !issuer.keys.is_empty() || issuer.remote_keys.is_some();
    let has_keys = config.auth.all_issuers().iter().any(has_keys);
    let admits = |endpoint: &EndpointConfig| {
        let access = &endpoint.access;
        let role = access.anonymous_role.as_ref().unwrap_or(anonymous_role);
        !role.is_empty() || access.trust_client_identity.is_some() || access.api_keys && !api_keys.is_empty()
    };
    has_keys || config.auth.service.is_some() || config.endpoints.iter().any(admits)
}
