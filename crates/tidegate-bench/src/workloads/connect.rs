//! `connect` and `storm`: handshake, token verification and subscription, either repeated or by all sockets at once.

use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use hdrhistogram::Histogram;

use crate::Bench;
use crate::client::frame_parser::ClientEvent;
use crate::client_pool::ClientPool;
use crate::delivery_tracker::quantile_ms;
use crate::metrics::Metric;
use crate::metrics::Round;
use crate::metrics::number;
use crate::servers::Servers;
use crate::servers::Target;

/// The measurement fails if no handshake succeeds for this long.
const TIMEOUT: Duration = Duration::from_secs(20);

pub const RATE: Metric = Metric::compared("connections_per_s", "connections/s", 0);
pub const CPU: Metric = Metric::compared("cpu_us", "CPU µs per connection", 1);
const NATS: Metric = Metric::plain("nats_us", "- share of nats-server", 1);
const FRONT: Metric = Metric::plain("front_us", "- share of Tidegate or baseline", 1);
const CLIENTS: Metric = Metric::plain("clients_us", "clients, not counted", 1);
const ALL_RECONNECTED: Metric = Metric::compared("all_reconnected_ms", "until all have reconnected, ms", 0);
const P50: Metric = Metric::compared("p50_ms", "handshake to subscribed p50, ms", 2);
const P99: Metric = Metric::compared("p99_ms", "handshake to subscribed p99, ms", 2);
const MAX: Metric = Metric::compared("max_ms", "handshake to subscribed max, ms", 2);
const REJECTED: Metric = Metric::plain("rejected", "rejected with 503, retried", 0);
const FAILED: Metric = Metric::plain("failed", "failed, retried", 0);
const DONE: Metric = Metric::plain("connections", "connections", 0);

const SUBJECT: &str = "bench.fanout";

/// Clients that connect, subscribe, disconnect and repeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    /// Handshakes in progress at any time.
    pub at_once: usize,
    /// The same token for all connections, instead of a new one for each.
    pub same_token: bool,
}

/// Connected clients that lose their connections and reconnect all at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Storm {
    pub sockets: usize,
    /// Channels per socket. With 1, all sockets share one channel; with more, each socket has its own channels.
    pub channels: usize,
}

impl Connect {
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let settings = bench.settings();
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let subjects = [SUBJECT.to_owned()];
        let mut number = 0;
        let mut config = |client: usize| {
            number += 1;
            let config = servers.client_config(
                if self.same_token { 0 } else { number },
                &subjects,
                &[0],
                &settings,
            )?;
            // Keeps the port of each client: the baseline has one port per thread, with the same number of clients on
            // each.
            anyhow::Ok(crate::client::ClientConfig { address: servers.address(client), ..config })
        };
        let configs: anyhow::Result<Vec<_>> = (0..self.at_once).map(&mut config).collect();
        let mut pool = ClientPool::new(configs?)?;
        pool.set_max_handshakes(self.at_once);
        (0..self.at_once).for_each(|client| pool.reconnect(client, None));
        let mut latency = Histogram::<u64>::new_with_max(600_000_000_000, 3)?;
        let (start, mut last) = (Instant::now(), Instant::now());
        let (mut done, mut before) = (0_u64, None);
        let after = loop {
            let mut arrived = Vec::new();
            pool.poll(Duration::from_millis(20), &mut |client, event, _| {
                if let ClientEvent::Live { after } = event {
                    latency.saturating_record(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
                    arrived.push(client);
                }
            })?;
            if !arrived.is_empty() {
                last = Instant::now();
            }
            for client in arrived {
                done += 1;
                pool.reconnect(client, Some(config(client)?));
            }
            if last.elapsed() > TIMEOUT || pool.failed.0 > 100 {
                bail!(
                    "{done} connections succeeded, then they failed: {} ({} failures)",
                    pool.failed.1,
                    pool.failed.0
                );
            }
            let elapsed = start.elapsed();
            if before.is_none() && elapsed >= bench.warm_up {
                before = Some((Instant::now(), done, CpuTimes::now(&servers)?));
                latency.reset();
            } else if elapsed >= bench.warm_up + bench.seconds {
                break (Instant::now(), done, CpuTimes::now(&servers)?);
            }
        };
        let Some(before) = before else { bail!("nothing was measured") };
        let mut round = Round::default();
        let count = (after.1 - before.1) as f64;
        round.add(&RATE, count / (after.0 - before.0).as_secs_f64());
        after.2.add_to(&mut round, &before.2, count);
        add_latency(&mut round, &latency);
        round.add(&REJECTED, pool.rejected as f64);
        round.add(&FAILED, pool.failed.0 as f64);
        round.add(&DONE, count);
        Ok(round)
    }

    pub fn title(&self) -> String {
        let token = if self.same_token { "one token for all" } else { "a new token each" };
        format!("handshake, {token}, one subscription; {} at once", number(self.at_once as f64, 0))
    }
}

impl Storm {
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let settings = bench.settings();
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let channels: Vec<_> = (0..self.channels).collect();
        let config = |client| servers.client_config(client, &self.subjects(client), &channels, &settings);
        let mut pool = ClientPool::connected((0..self.sockets).map(config))?;
        let warm_up_end = Instant::now() + bench.warm_up;
        while Instant::now() < warm_up_end {
            pool.poll(Duration::from_millis(50), &mut |_, _, _| {})?;
        }
        pool.reset_all();
        pool.set_max_handshakes(self.sockets);
        pool.rejected = 0;
        let (start, before) = (Instant::now(), CpuTimes::now(&servers)?);
        let mut latency = Histogram::<u64>::new_with_max(600_000_000_000, 3)?;
        pool.connect_all(|_, event| {
            // Counts from the start of the storm, so that a rejected client's wait is included.
            if let ClientEvent::Live { .. } = event {
                let took = start.elapsed().as_nanos();
                latency.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
            }
        })?;
        let (took, after) = (start.elapsed(), CpuTimes::now(&servers)?);
        let all = self.sockets as f64;
        let mut round = Round::default();
        round.add(&ALL_RECONNECTED, took.as_secs_f64() * 1e3);
        after.add_to(&mut round, &before, all);
        round.add(&RATE, all / took.as_secs_f64());
        add_latency(&mut round, &latency);
        round.add(&REJECTED, pool.rejected as f64);
        round.add(&FAILED, pool.failed.0 as f64);
        round.add(&DONE, pool.live() as f64);
        let whole = pool.live() == self.sockets && pool.failed.0 == 0;
        if self.channels > 1 {
            round.expect("all have all their channels, and no subscription was rejected", whole);
        } else if matches!(target, Target::Tidegate { .. }) {
            round.expect("all have reconnected, and no attempt failed", whole);
        }
        Ok(round)
    }

    fn subjects(&self, client: usize) -> Vec<String> {
        match self.channels {
            1 => vec![SUBJECT.to_owned()],
            channels => (0..channels).map(|number| format!("bench.storm.c{client}x{number}")).collect(),
        }
    }

    pub fn title(&self) -> String {
        let sockets = number(self.sockets as f64, 0);
        match self.channels {
            1 => format!("{sockets} sockets reconnect at once, with their old tokens"),
            channels => format!("{sockets} sockets with {channels} channels each reconnect at once"),
        }
    }
}

/// CPU time that each process has used so far.
pub(super) struct CpuTimes {
    nats: Duration,
    front: Duration,
    own: Duration,
}

impl CpuTimes {
    pub(super) fn now(servers: &Servers) -> anyhow::Result<Self> {
        let (nats, front) = servers.cpu()?;
        Ok(Self { nats, front, own: crate::process_usage::cpu(std::process::id())? })
    }

    /// Adds the CPU time per connection since `before`. `count` is the number of connections.
    fn add_to(&self, round: &mut Round, before: &Self, count: f64) {
        self.add_as(&CPU, round, before, count);
    }

    /// Adds the CPU time per operation since `before`. `count` is the number of operations.
    pub(super) fn add_as(&self, metric: &'static Metric, round: &mut Round, before: &Self, count: f64) {
        let cost =
            |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / count;
        let (nats, front) = (cost(self.nats, before.nats), cost(self.front, before.front));
        round.add(metric, nats + front);
        round.add(&NATS, nats);
        round.add(&FRONT, front);
        round.add(&CLIENTS, cost(self.own, before.own));
    }
}

fn add_latency(round: &mut Round, latency: &Histogram<u64>) {
    for (metric, quantile) in [(&P50, 0.5), (&P99, 0.99), (&MAX, 1.0)] {
        round.add(metric, quantile_ms(latency, quantile));
    }
}
