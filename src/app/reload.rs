//! Applies a changed configuration to a node that runs: all that can change together, or nothing.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;

use crate::app::App;
use crate::app::parts;
use crate::config::Config;
use crate::config::endpoint::EndpointConfig;
use crate::config::limits::Limits;
use crate::telemetry;

impl App {
    /// Uses the tokens' keys and issuers, the roles, the access to endpoints, the origins, the limits of addresses, users
    /// and callers and the log filter of this configuration from now on, and fetches published keys again. Handshakes and
    /// credentials that come later are decided by them. A client that is connected keeps its permissions until it sends
    /// another token. Returns what else has changed and needs a restart: that stays as it is. Changes nothing if it returns
    /// an error.
    pub fn reload(&self, new: Config) -> anyhow::Result<Vec<&'static str>> {
        let current = self.config.borrow().clone();
        let (next, needs_restart) = merge(current, new);
        let earlier: Vec<_> = self.node.authenticator().key_sources().map(Arc::clone).collect();
        let authenticator = parts::authenticator(&next, &earlier)?;
        let tls = self.routes.borrow().iter().find_map(|routes| routes.tls.clone());
        let routes =
            parts::listener_routes(&next, tls.as_ref(), &authenticator, &self.node, self.address.tcp())?;
        telemetry::set_filter(&next.log).context("cannot change the log filter")?;
        authenticator.key_sources().for_each(|source| source.refresh(Instant::now()));
        self.node.change_limits(&parts::adjustable_limits(&next.limits));
        self.node.current_authenticator.replace(authenticator);
        self.routes.send_replace(routes);
        self.reload_certificates();
        self.config.send_replace(next);
        Ok(needs_restart)
    }
}

/// The current configuration with all changes that can be made while the node runs, and the names of the others.
fn merge(current: Config, new: Config) -> (Config, Vec<&'static str>) {
    let mut next = current;
    next.roles.clone_from(&new.roles);
    next.log.filter.clone_from(&new.log.filter);
    let (ticket, user_claim) = (next.auth.ticket, next.auth.user_claim.clone());
    let encodes_users = next.auth.encodes_users();
    next.auth.clone_from(&new.auth);
    next.auth.ticket = ticket;
    // Vocabularies are compiled for encoded names or for plain ones.
    if encodes_users != new.auth.encodes_users() {
        next.auth.user_claim = user_claim;
    }
    next.http.public_url.clone_from(&new.http.public_url);
    next.http.allowed_origins.clone_from(&new.http.allowed_origins);
    if next.endpoints.len() == new.endpoints.len()
        && next.endpoints.iter().zip(&new.endpoints).all(|(next, new)| is_same_place(next, new))
    {
        for (next, new) in next.endpoints.iter_mut().zip(&new.endpoints) {
            next.access.clone_from(&new.access);
            next.allowed_origins.clone_from(&new.allowed_origins);
            next.cookie = new.cookie;
        }
    }
    adjust(&mut next.limits, &new.limits);
    let differs = [
        ("[http]", next.http != new.http),
        ("[tls]", next.tls != new.tls),
        ("[nats]", next.nats != new.nats),
        ("auth.ticket_s", next.auth.ticket != new.auth.ticket),
        ("auth.user_claim", next.auth.user_claim != new.auth.user_claim),
        ("[[endpoint]]", next.endpoints != new.endpoints),
        ("[[class]]", next.classes != new.classes),
        ("[server]", next.server != new.server),
        ("[limits]", next.limits != new.limits),
        ("log.format", next.log != new.log),
    ];
    let names = differs.into_iter().filter_map(|(name, differs)| differs.then_some(name));
    let needs_restart = names.collect();
    (next, needs_restart)
}

/// Takes over the limits that can change while the node runs. Without a limit nothing is counted, so a change between a
/// limit and none needs a restart, except for the rate of handshakes of the node.
fn adjust(current: &mut Limits, new: &Limits) {
    (current.handshakes_per_s, current.handshakes_burst) = (new.handshakes_per_s, new.handshakes_burst);
    let rates = [
        ((&mut current.calls_per_s, &mut current.calls_burst), (new.calls_per_s, new.calls_burst)),
        (
            (&mut current.address_calls_per_s, &mut current.address_calls_burst),
            (new.address_calls_per_s, new.address_calls_burst),
        ),
        (
            (&mut current.address_handshakes_per_s, &mut current.address_handshakes_burst),
            (new.address_handshakes_per_s, new.address_handshakes_burst),
        ),
    ];
    for ((per_second, burst), new) in rates {
        if *per_second > 0 && new.0 > 0 {
            (*per_second, *burst) = new;
        }
    }
    for (current, new) in [
        (&mut current.connections_per_address, new.connections_per_address),
        (&mut current.connections_per_user, new.connections_per_user),
    ] {
        if *current > 0 && new > 0 {
            *current = new;
        }
    }
}

/// Whether two endpoints differ only in what can change while the node runs.
fn is_same_place(one: &EndpointConfig, other: &EndpointConfig) -> bool {
    let EndpointConfig {
        listen,
        path,
        vocabulary,
        file,
        access: _,
        allowed_origins: _,
        cookie: _,
        replace_connections,
        tls,
    } = one;
    (listen, path, vocabulary, file, replace_connections, tls)
        == (
            &other.listen,
            &other.path,
            &other.vocabulary,
            &other.file,
            &other.replace_connections,
            &other.tls,
        )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::origin::WebOrigin;

    #[test]
    fn what_can_change_is_taken_over_and_the_rest_is_named() {
        let (current, mut new) = (Config::default(), Config::default());
        new.roles.truncate(1);
        new.auth.issuer = "https://login.example.com".to_owned();
        new.auth.ticket = Duration::ZERO;
        new.http.allowed_origins = vec![WebOrigin::parse("https://app.example.com").unwrap()];
        new.endpoints[0].cookie = !new.endpoints[0].cookie;
        new.log.filter = "debug".to_owned();
        new.limits.connections += 1;
        new.limits.connections_per_address += 1;
        new.limits.connections_per_user += 1;
        let (next, needs_restart) = merge(current.clone(), new.clone());
        assert_eq!(needs_restart, ["auth.ticket_s", "[limits]"]);
        let mut expected = Config { limits: current.limits.clone(), ..new.clone() };
        expected.auth.ticket = current.auth.ticket;
        // By default, the connections of a user are not counted.
        expected.limits.connections_per_address += 1;
        assert_eq!(next, expected);
        new.auth.user_claim = "email".to_owned();
        new.endpoints[0].path = "/other".to_owned();
        let (next, needs_restart) = merge(current.clone(), new);
        assert_eq!(needs_restart, ["auth.ticket_s", "auth.user_claim", "[[endpoint]]", "[limits]"]);
        assert_eq!(next.endpoints, current.endpoints, "all or nothing");
        assert_eq!(next.auth.user_claim, current.auth.user_claim);
    }
}
