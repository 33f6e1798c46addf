//! `idle`: sockets that receive nothing for a while. Measures memory per socket, and the CPU of connecting and keeping
//! them. In the end each receives one publication, which proves that all were connected.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use crate::Bench;
use crate::client_processes::ClientProcesses;
use crate::client_processes::IdleClient;
use crate::metrics::Metric;
use crate::metrics::Round;
use crate::metrics::number;
use crate::payload::Template;
use crate::producer::Producer;
use crate::servers::Servers;
use crate::servers::Target;
use crate::servers::settings::Settings;
use crate::workloads::messages::how_fed;

/// Longest time until the next client receives its publication.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Publications in flight in the end, for each client process.
const IN_FLIGHT: usize = 1000;

/// Time before memory is measured, because programs return freed memory late.
pub(super) const SETTLE: Duration = Duration::from_secs(1);

const MEMORY: Metric = Metric::compared("socket_bytes", "memory per socket, bytes", 0);
const NATS: Metric = Metric::plain("nats_socket_bytes", "- share of nats-server", 0);
const FRONT: Metric = Metric::plain("front_socket_bytes", "- share of Tidegate or baseline", 0);
const CONNECT: Metric = Metric::compared("connect_us", "CPU of connecting, µs per socket", 1);
const IDLE_CPU: Metric = Metric::compared("idle_cpu_percent", "CPU while idle, % of a core", 2);
pub(super) const IDLE_SOCKET: Metric =
    Metric::compared("idle_socket_us", "CPU while idle, µs per socket and second", 2);
pub(super) const CONNECTED: Metric = Metric::plain("connected", "connected", 0);
const RECEIVED: Metric = Metric::plain("received", "received, none missing", 0);

#[derive(Clone, Debug, PartialEq)]
pub struct Idle {
    pub sockets: usize,
    /// Number of Tidegate nodes, and of client processes.
    pub processes: usize,
    /// Whether each socket subscribes to a different subject. Otherwise all share one.
    pub private: bool,
    /// The `feed` key of the class of private subjects, or `own` for its `lane` key; left out if empty.
    pub feed: String,
    /// Whether clients offer permessage-deflate.
    pub compress: bool,
}

impl Idle {
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let settings = Settings {
            feed: self.feed.clone(),
            compress: self.compress,
            nodes: self.processes,
            ..bench.settings()
        };
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let name = |number| format!("bench.user.U{number:06}.notifications");
        let subjects: Vec<_> = (0..if self.private { self.sockets } else { 1 }).map(name).collect();
        let idle_client = |client: usize| {
            let subject = client % subjects.len();
            let config = servers.client_config(client, &subjects, &[subject], &settings)?;
            anyhow::Ok(IdleClient { config, expects: subject as u64 })
        };
        let idle_clients: Vec<_> = (0..self.sockets).map(idle_client).collect::<anyhow::Result<_>>()?;
        let mut clients =
            ClientProcesses::start(&bench.programs, &idle_clients, self.processes, bench.tls.as_ref())?;
        std::thread::sleep(SETTLE);
        let (memory_before, cpu_before) = (servers.memory()?, servers.cpu()?);
        clients.connect()?;
        std::thread::sleep(SETTLE);
        let (memory_connected, cpu_connected) = (servers.memory()?, servers.cpu()?);
        let idle = Instant::now();
        std::thread::sleep(bench.seconds);
        let (idle, cpu_idle) = (idle.elapsed(), servers.cpu()?);
        let connected = clients.report()?.connected;
        let received = self.publish_to_all(&servers, &mut clients, &subjects, target)?;

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
        let cores = spent(cpu_idle, cpu_connected) / idle.as_secs_f64();
        round.add(&IDLE_CPU, cores * 100.0);
        round.add(&IDLE_SOCKET, cores * 1e6 / all);
        round.add(&CONNECTED, connected as f64);
        round.add(&RECEIVED, received as f64);
        Ok(round)
    }

    /// Sends one publication to every client. Returns the number of clients that received it, which is all of them.
    fn publish_to_all(
        &self,
        servers: &Servers,
        clients: &mut ClientProcesses,
        subjects: &[String],
        target: &Target,
    ) -> anyhow::Result<u64> {
        let template = match target {
            Target::Baseline => Template::for_baseline(subjects, 100),
            Target::NatsServer
            | Target::Tidegate { .. }
            | Target::Centrifugo { .. }
            | Target::StockAgent { .. }
            | Target::Vocabulary { .. } => Template::for_nats(subjects, 100),
        };
        let mut producer = Producer::connect(&servers.destination(), Arc::new(template))?;
        let receivers = (self.sockets / subjects.len()) as u64;
        let (mut sent, mut received, mut last) = (0_u64, 0, Instant::now());
        while received < self.sockets as u64 {
            let in_flight = (IN_FLIGHT * self.processes) as u64;
            while sent < subjects.len() as u64 && sent - received / receivers < in_flight {
                producer.add(sent);
                sent += 1;
            }
            producer.flush_all()?;
            let before = std::mem::replace(&mut received, clients.report()?.received);
            if received > before {
                last = Instant::now();
            } else if last.elapsed() > TIMEOUT {
                let missing = self.sockets as u64 - received;
                bail!(
                    "{missing} clients did not receive their publication, and for {TIMEOUT:?} no client did"
                );
            }
        }
        Ok(received)
    }

    pub fn title(&self) -> String {
        let subjects = if self.private { "with a subject each" } else { "with one subject" };
        let feed = how_fed(&self.feed);
        let compress = if self.compress { ", compression negotiated" } else { "" };
        let nodes = on_nodes(self.processes);
        format!("{} idle sockets {subjects}{feed}{compress}{nodes}", number(self.sockets as f64, 0))
    }
}

/// The part of a title about the number of nodes.
pub(super) fn on_nodes(nodes: usize) -> String {
    if nodes == 1 { String::new() } else { format!(", on {nodes} nodes") }
}
