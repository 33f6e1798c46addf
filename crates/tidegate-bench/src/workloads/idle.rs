//! `idle`: sockets that receive nothing for a while. Measures memory per socket, and the CPU of connecting and keeping
//! them. In the end each receives one publication, which proves that all were connected.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use crate::Bench;
use crate::client_pool::ClientPool;
use crate::delivery_tracker::DeliveryTracker;
use crate::delivery_tracker::Guarantee;
use crate::delivery_tracker::Shape;
use crate::metrics::Metric;
use crate::metrics::Round;
use crate::metrics::number;
use crate::payload::Template;
use crate::producer::Producer;
use crate::servers::Servers;
use crate::servers::Target;
use crate::servers::settings::Settings;
use crate::workloads::messages::how_fed;

/// Longest time for the last publications to reach all clients.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Time before memory is measured, because programs return freed memory late.
pub(super) const SETTLE: Duration = Duration::from_secs(1);

const MEMORY: Metric = Metric::compared("socket_bytes", "memory per socket, bytes", 0);
const NATS: Metric = Metric::plain("nats_socket_bytes", "- share of nats-server", 0);
const FRONT: Metric = Metric::plain("front_socket_bytes", "- share of Tidegate or baseline", 0);
const CONNECT: Metric = Metric::compared("connect_us", "CPU of connecting, µs per socket", 1);
const IDLE_CPU: Metric = Metric::compared("idle_cpu_percent", "CPU while idle, % of a core", 2);
const RECEIVED: Metric = Metric::plain("received", "received, none missing", 0);

#[derive(Clone, Debug, PartialEq)]
pub struct Idle {
    pub sockets: usize,
    /// Whether each socket subscribes to a different subject. Otherwise all share one.
    pub private: bool,
    /// The `feed` key of the class of private subjects, or `own` for its `lane` key; left out if empty.
    pub feed: String,
    /// Whether clients offer permessage-deflate.
    pub compress: bool,
}

impl Idle {
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let settings = Settings { feed: self.feed.clone(), compress: self.compress, ..bench.settings() };
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let shape = Shape {
            sockets: self.sockets,
            subjects: if self.private { self.sockets } else { 1 },
            per_socket: 1,
        };
        let name = |number| format!("bench.user.U{number:06}.notifications");
        let subjects: Vec<_> = (0..shape.subjects).map(name).collect();
        let config = |client| servers.client_config(client, &subjects, &shape.subjects_of(client), &settings);
        let configs: anyhow::Result<Vec<_>> = (0..self.sockets).map(config).collect();
        let mut pool = ClientPool::new(configs?)?;
        let mut tracker = DeliveryTracker::new(shape, Guarantee::All)?;
        wait(&mut pool, &mut tracker, SETTLE)?;
        let (memory_before, cpu_before) = (servers.memory()?, servers.cpu()?);
        pool.connect_all(|_, _| {})?;
        wait(&mut pool, &mut tracker, SETTLE)?;
        let (memory_connected, cpu_connected) = (servers.memory()?, servers.cpu()?);
        let idle = Instant::now();
        wait(&mut pool, &mut tracker, bench.seconds)?;
        let (idle, cpu_idle) = (idle.elapsed(), servers.cpu()?);
        self.publish_to_all(&servers, &mut pool, &mut tracker, &subjects, target)?;

        let all = self.sockets as f64;
        let mut round = Round::default();
        let grown = |after: u64, before: u64| (after as f64 - before as f64) / all;
        let (nats, front) =
            (grown(memory_connected.0, memory_before.0), grown(memory_connected.1, memory_before.1));
        round.add(&MEMORY, nats + front);
        round.add(&NATS, nats);
        round.add(&FRONT, front);
        let spent = |after: (Duration, Duration), before: (Duration, Duration)| {
            (after.0 + after.1).saturating_sub(before.0 + before.1).as_secs_f64()
        };
        round.add(&CONNECT, spent(cpu_connected, cpu_before) * 1e6 / all);
        round.add(&IDLE_CPU, spent(cpu_idle, cpu_connected) * 100.0 / idle.as_secs_f64());
        round.add(&RECEIVED, tracker.deliveries as f64);
        Ok(round)
    }

    fn publish_to_all(
        &self,
        servers: &Servers,
        pool: &mut ClientPool,
        tracker: &mut DeliveryTracker,
        subjects: &[String],
        target: &Target,
    ) -> anyhow::Result<()> {
        let template = match target {
            Target::Baseline => Template::for_baseline(subjects, 100),
            Target::NatsServer
            | Target::Tidegate { .. }
            | Target::StockAgent { .. }
            | Target::Vocabulary { .. } => Template::for_nats(subjects, 100),
        };
        let mut producer = Producer::connect(&servers.destination(), Arc::new(template))?;
        let until = Instant::now() + TIMEOUT;
        let mut left = subjects.len();
        while left > 0 || tracker.in_flight() > 0 {
            let now = Instant::now();
            while left > 0 && tracker.in_flight() < 1000 {
                producer.add(tracker.record_sent(now));
                left -= 1;
            }
            producer.flush_all()?;
            wait(pool, tracker, Duration::from_millis(1))?;
            if now > until {
                bail!("{} publications did not reach all clients within {TIMEOUT:?}", tracker.in_flight());
            }
        }
        tracker.check_faults()
    }

    pub fn title(&self) -> String {
        let subjects = if self.private { "with a subject each" } else { "with one subject" };
        let feed = how_fed(&self.feed);
        let compress = if self.compress { ", compression negotiated" } else { "" };
        format!("{} idle sockets {subjects}{feed}{compress}", number(self.sockets as f64, 0))
    }
}

/// Polls the clients for this long, so that they answer pings. Fails at the first fault.
pub(super) fn wait(
    pool: &mut ClientPool,
    tracker: &mut DeliveryTracker,
    time: Duration,
) -> anyhow::Result<()> {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        pool.poll(left.min(Duration::from_millis(100)), &mut |client, event, now| {
            tracker.record(client, event, now, None);
        })?;
        tracker.check_faults()?;
        if left.is_zero() {
            return Ok(());
        }
    }
}
