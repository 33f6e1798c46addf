//! Servers: where a connection may be made, in which order that is tried, and how long it waits between two attempts.

use std::time::Duration;

use fastrand::Rng;

/// Two attempts are at most so long apart, half of it by chance, so that nodes do not return in step.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// No word to it without TLS.
    pub(super) tls: bool,
    /// What its certificate must name.
    pub(super) tls_name: String,
}

impl Server {
    /// From `scheme://host:port`, or `host:port` as servers write it, which then takes the rest from `from`. `None` if
    /// it is neither.
    pub(super) fn parse(url: &str, from: Option<&Self>) -> Option<Self> {
        let (scheme, place) = url.split_once("://").unwrap_or(("nats", url));
        let (host, port) = place.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        // Certificates name hosts, clusters announce addresses.
        let name = from.map(|server| &server.tls_name).filter(|_| is_address);
        Some(Self {
            host: host.to_owned(),
            port: port.parse().ok()?,
            tls: scheme == "tls" || from.is_some_and(|server| server.tls),
            tls_name: name.map_or_else(|| host.to_owned(), String::clone),
        })
    }
}

/// The longest pause in this round of attempts, the first of which is 0.
pub(super) fn longest_pause(round: usize) -> Duration {
    let round = u32::try_from(round).unwrap_or(u32::MAX);
    (Duration::from_millis(10) * 2_u32.pow(round.min(10))).min(LONGEST_PAUSE)
}

/// All servers that are known.
#[derive(Debug)]
pub(super) struct Servers {
    configured: Vec<Server>,
    discovered: Vec<Server>,
    /// The place of the one that was tried last.
    at: usize,
    /// Attempts since a connection stood last for a while.
    failures: usize,
    rng: Rng,
}

impl Servers {
    /// Those of the configuration, of which there is at least one. `seed` decides on the order and the pauses.
    pub(super) fn new(urls: &[String], seed: u64) -> Self {
        let mut servers = Self {
            configured: urls.iter().filter_map(|url| Server::parse(url, None)).collect(),
            discovered: Vec::new(),
            at: 0,
            failures: 0,
            rng: Rng::with_seed(seed),
        };
        servers.at = servers.rng.usize(..servers.configured.len().max(1));
        servers
    }

    /// The one to try now.
    pub(super) fn next(&mut self) -> Option<Server> {
        self.at = (self.at + 1) % self.count().max(1);
        self.configured.iter().chain(&self.discovered).nth(self.at).cloned()
    }

    /// How long to wait after an attempt that failed, or a connection that ended. It doubles from 10 ms with every
    /// round through all servers; the upper half is drawn.
    pub(super) fn pause(&mut self) -> Duration {
        let half = longest_pause(self.failures / self.count().max(1)) / 2;
        self.failures += 1;
        half + self.part_of(half)
    }

    /// A connection has was for a while.
    pub(super) fn stood(&mut self) {
        self.failures = 0;
    }

    /// What the server `from` says of others.
    pub(super) fn discover(&mut self, from: &Server, urls: &[String]) {
        let found = urls.iter().filter_map(|url| Server::parse(url, Some(from)));
        let is_known = |server: &Server| {
            self.configured.iter().any(|known| (&known.host, known.port) == (&server.host, server.port))
        };
        let discovered: Vec<_> = found.filter(|server| !is_known(server)).collect();
        if !discovered.is_empty() {
            self.discovered = discovered;
        }
        self.at = self.at.min(self.count());
    }

    /// Whether there is another one to go to.
    pub(super) fn has_another(&self) -> bool {
        self.count() > 1
    }

    /// A part of `limit`, by chance.
    pub(super) fn part_of(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(self.rng.f64())
    }

    fn count(&self) -> usize {
        self.configured.len() + self.discovered.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(hosts: &[&str]) -> Vec<String> {
        hosts.iter().map(|host| format!("nats://{host}:4222")).collect()
    }

    #[test]
    fn addresses_of_servers() {
        let parse = |url, from: Option<&Server>| {
            let Server { host, port, tls, tls_name } = Server::parse(url, from).unwrap();
            format!("{host} {port} {tls} {tls_name}")
        };
        assert_eq!(parse("nats://a.b:4222", None), "a.b 4222 false a.b");
        assert_eq!(parse("tls://[::1]:1", None), "::1 1 true ::1");
        let secure = Server::parse("tls://nats.example.com:4222", None).unwrap();
        assert_eq!(parse("10.0.0.7:4222", Some(&secure)), "10.0.0.7 4222 true nats.example.com");
        assert_eq!(parse("[::2]:4222", Some(&secure)), "::2 4222 true nats.example.com");
        assert_eq!(parse("other:4222", Some(&secure)), "other 4222 true other");
        assert_eq!(Server::parse("nonsense", None), None);
        assert_eq!(Server::parse("a:70000", None), None);
    }

    #[test]
    fn all_servers_have_their_turn() {
        let mut servers = Servers::new(&urls(&["a", "b"]), 7);
        let from = servers.next().unwrap();
        let found = ["a:4222", "c:4222", "d:4222", "nonsense"].map(str::to_owned);
        servers.discover(&from, &found);
        let mut round: Vec<_> = (0..4).map(|_| servers.next().unwrap().host).collect();
        round.sort();
        assert_eq!(round, ["a", "b", "c", "d"]);
        servers.discover(&from, &[]);
        assert!(servers.has_another(), "who says nothing of others does not say that there are none");
        assert!(!Servers::new(&urls(&["a"]), 7).has_another());
    }

    #[test]
    fn who_begins_where_is_drawn() {
        let first = |seed: u64| Servers::new(&urls(&["a", "b", "c"]), seed).next().unwrap().host;
        let firsts: std::collections::BTreeSet<_> = (1..100).map(first).collect();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn nat_06_pauses_grow_to_their_bound_and_differ() {
        let last = |seed: u64| {
            let mut servers = Servers::new(&urls(&["a"]), seed);
            assert!(servers.pause() <= Duration::from_millis(10));
            (0..20).map(|_| servers.pause()).last().unwrap()
        };
        let mut pauses: Vec<_> = (1..100).map(last).collect();
        assert!(pauses.iter().all(|pause| (LONGEST_PAUSE / 2..=LONGEST_PAUSE).contains(pause)));
        pauses.sort_unstable();
        pauses.dedup();
        assert!(pauses.len() > 50, "{} distinct", pauses.len());
    }

    #[test]
    fn a_connection_that_stood_begins_anew() {
        let mut servers = Servers::new(&urls(&["a"]), 7);
        assert!((0..20).map(|_| servers.pause()).last().unwrap() > Duration::from_secs(1));
        servers.stood();
        assert!(servers.pause() <= Duration::from_millis(10));
    }
}
