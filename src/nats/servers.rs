//! The servers to connect to, the order in which they are tried, and the pauses between attempts.

use std::time::Duration;

use fastrand::Rng;

/// The longest pause between two attempts. Half of it is random, so that nodes do not reconnect in step.
const MAX_PAUSE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// TLS is required.
    pub(super) tls: bool,
    /// The name that the server's certificate must have.
    pub(super) tls_name: String,
}

impl Server {
    /// Parses `scheme://host:port`, or the `host:port` of `connect_urls`, which takes the other fields from `from`.
    /// `None` if it is neither.
    pub(super) fn parse(url: &str, from: Option<&Self>) -> Option<Self> {
        let (scheme, place) = url.split_once("://").unwrap_or(("nats", url));
        let (host, port) = place.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        // Certificates name hosts, but clusters announce addresses.
        let name = from.map(|server| &server.tls_name).filter(|_| is_address);
        Some(Self {
            host: host.to_owned(),
            port: port.parse().ok()?,
            tls: scheme == "tls" || from.is_some_and(|server| server.tls),
            tls_name: name.map_or_else(|| host.to_owned(), String::clone),
        })
    }
}

/// The longest pause in this round of attempts, counted from 0.
pub(super) fn max_pause(round: usize) -> Duration {
    let round = u32::try_from(round).unwrap_or(u32::MAX);
    (Duration::from_millis(10) * 2_u32.pow(round.min(10))).min(MAX_PAUSE)
}

/// All known servers.
#[derive(Debug)]
pub(super) struct Servers {
    configured: Vec<Server>,
    discovered: Vec<Server>,
    /// The index of the server that was tried last.
    current: usize,
    /// Failed attempts since the last stable connection.
    failures: usize,
    rng: Rng,
}

impl Servers {
    /// The configured servers, of which there is at least one. `seed` decides the order and the pauses.
    pub(super) fn new(urls: &[String], seed: u64) -> Self {
        let mut servers = Self {
            configured: urls.iter().filter_map(|url| Server::parse(url, None)).collect(),
            discovered: Vec::new(),
            current: 0,
            failures: 0,
            rng: Rng::with_seed(seed),
        };
        servers.current = servers.rng.usize(..servers.configured.len().max(1));
        servers
    }

    /// The next server to try.
    pub(super) fn next(&mut self) -> Option<Server> {
        self.current = (self.current + 1) % self.count().max(1);
        self.configured.iter().chain(&self.discovered).nth(self.current).cloned()
    }

    /// How long to wait after a failed attempt or a lost connection. It doubles from 10 ms with every round through all
    /// servers; the upper half is random.
    pub(super) fn next_pause(&mut self) -> Duration {
        let half = max_pause(self.failures / self.count().max(1)) / 2;
        self.failures += 1;
        half + self.random_part_of(half)
    }

    /// A connection has been stable: pauses are short again.
    pub(super) fn reset_pause(&mut self) {
        self.failures = 0;
    }

    /// Adds the servers that the server `from` announces.
    pub(super) fn discover(&mut self, from: &Server, urls: &[String]) {
        let found = urls.iter().filter_map(|url| Server::parse(url, Some(from)));
        let is_known = |server: &Server| {
            self.configured.iter().any(|known| (&known.host, known.port) == (&server.host, server.port))
        };
        let discovered: Vec<_> = found.filter(|server| !is_known(server)).collect();
        if !discovered.is_empty() {
            self.discovered = discovered;
        }
        self.current = self.current.min(self.count());
    }

    pub(super) fn has_other(&self) -> bool {
        self.count() > 1
    }

    /// A random part of `limit`.
    pub(super) fn random_part_of(&mut self, limit: Duration) -> Duration {
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
    fn all_servers_are_tried_in_turn() {
        let mut servers = Servers::new(&urls(&["a", "b"]), 7);
        let from = servers.next().unwrap();
        let found = ["a:4222", "c:4222", "d:4222", "nonsense"].map(str::to_owned);
        servers.discover(&from, &found);
        let mut round: Vec<_> = (0..4).map(|_| servers.next().unwrap().host).collect();
        round.sort();
        assert_eq!(round, ["a", "b", "c", "d"]);
        servers.discover(&from, &[]);
        assert!(servers.has_other(), "an empty list removes no servers");
        assert!(!Servers::new(&urls(&["a"]), 7).has_other());
    }

    #[test]
    fn the_first_server_is_random() {
        let first = |seed: u64| Servers::new(&urls(&["a", "b", "c"]), seed).next().unwrap().host;
        let firsts: std::collections::BTreeSet<_> = (1..100).map(first).collect();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn nat_06_pauses_grow_to_their_bound_and_differ() {
        let last = |seed: u64| {
            let mut servers = Servers::new(&urls(&["a"]), seed);
            assert!(servers.next_pause() <= Duration::from_millis(10));
            (0..20).map(|_| servers.next_pause()).last().unwrap()
        };
        let mut pauses: Vec<_> = (1..100).map(last).collect();
        assert!(pauses.iter().all(|pause| (MAX_PAUSE / 2..=MAX_PAUSE).contains(pause)));
        pauses.sort_unstable();
        pauses.dedup();
        assert!(pauses.len() > 50, "{} distinct", pauses.len());
    }

    #[test]
    fn a_stable_connection_resets_the_pauses() {
        let mut servers = Servers::new(&urls(&["a"]), 7);
        assert!((0..20).map(|_| servers.next_pause()).last().unwrap() > Duration::from_secs(1));
        servers.reset_pause();
        assert!(servers.next_pause() <= Duration::from_millis(10));
    }
}
