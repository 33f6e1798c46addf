//! `slow`: one of many readers pauses during a flood, and then stops reading for good.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use crate::Bench;
use crate::client::ClientConfig;
use crate::client_pool::ClientPool;
use crate::metrics::Metric;
use crate::metrics::Round;
use crate::metrics::number;
use crate::payload::Template;
use crate::process_usage;
use crate::producer::Producer;
use crate::sequence_tracker::SequenceTracker;
use crate::servers::Servers;
use crate::servers::Target;
use crate::servers::settings::Settings;

/// Longest time for readers to catch up.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Receive buffer of the reader that stops, in bytes. Small, so that the flood does not fit into it.
const RECEIVE_BUFFER: usize = 512 * 1024;
/// The calm channel: publications per second, and their payload size in bytes.
const CALM: (f64, usize) = (100.0, 200);

const PUBLISHED: Metric = Metric::plain("published", "publications of the flood", 0);
const RATE: Metric = Metric::plain("flood_mb_per_s", "the flood, MB/s", 1);
const CALM_COMPLETE: Metric = Metric::plain("calm_complete", "received all of the calm channel", 0);
const LEAST: Metric = Metric::plain("least_received", "fewest flood publications received by a reader", 0);
const PAUSED: Metric = Metric::plain("paused_received", "paused reader: received", 0);
const DROPPED: Metric = Metric::plain("paused_dropped", "- announced as missing", 0);
const DISCONNECTED: Metric =
    Metric::plain("disconnected_after_s", "stopped reader: disconnected after, s", 1);
const MEMORY: Metric = Metric::plain("memory_mib", "memory before, MiB", 1);
const PEAK: Metric = Metric::plain("peak_mib", "peak memory, MiB", 1);

/// The class of the flood's channel: it selects what Tidegate does when a client's outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Latest,
    Buffer,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Slow {
    pub class: Class,
    /// Number of sockets, including the one that stops reading.
    pub sockets: usize,
    /// Sockets that read the flood. The remaining sockets, except the one that stops, subscribe to a calm channel.
    pub flooded: usize,
    /// Rate of the flood in MB per second and socket.
    pub megabytes: f64,
    /// Payload size of the flood in bytes.
    pub size: usize,
    /// `limits.write_timeout_s`: a socket that accepts no data for this long is closed. Longer than the flood.
    pub write_timeout_s: u64,
    /// Outbox limit per socket in MiB. At 50 MB/s, 1 MiB is only 20 ms: readers on a busy machine need more.
    pub outbox_mib: u64,
    /// How much Tidegate's memory may grow, in MiB.
    pub growth_mib: u64,
}

/// A measurement in progress.
struct SlowRun<'a> {
    workload: &'a Slow,
    servers: Servers,
    pool: ClientPool,
    trackers: Vec<SequenceTracker>,
    flood: Arc<Template>,
    next: u64,
    /// The largest sample of Tidegate's memory, in bytes.
    peak: u64,
    last_sample: Instant,
}

/// The results for the reader that paused and then stopped.
struct StopResult {
    /// What the reader had received after its pause.
    paused: SequenceTracker,
    /// Publications until the end of the pause.
    published: u64,
    disconnected_after: Option<Duration>,
    ended: bool,
    mb_per_s: f64,
}

impl Slow {
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        if Duration::from_secs(self.write_timeout_s) <= bench.seconds {
            bail!("--write-timeout must be longer than --seconds, the length of a flood");
        }
        let extra_toml = format!(
            "[limits]\nwrite_timeout_s = {}\noutbox_bytes = {}\n\
             [log]\nfilter = \"warn,tidegate::connection=debug\"\nformat = \"json\"\n",
            self.write_timeout_s,
            self.outbox_mib * 1024 * 1024
        );
        let settings = Settings { extra_toml, ..bench.settings() };
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let class = match self.class {
            Class::Latest => "latest",
            Class::Buffer => "buffer",
        };
        let subjects = [format!("bench.{class}.flood"), format!("bench.{class}.calm")];
        let stopping = self.sockets - 1;
        let is_flooded = |client: usize| client < self.flooded || client == stopping;
        let config = |client| {
            let config =
                servers.client_config(client, &subjects, &[usize::from(!is_flooded(client))], &settings)?;
            let receive_buffer = if client == stopping { RECEIVE_BUFFER } else { config.receive_buffer };
            Ok(ClientConfig { receive_buffer, ..config })
        };
        let pool = ClientPool::connected((0..self.sockets).map(config))?;
        let calm = Arc::new(Template::for_nats(&subjects[1..], CALM.1));
        let calm = Producer::connect(&servers.destination(), calm)?.start_at_rate(CALM.0, 0)?;
        let before = process_usage::resident(servers.client_facing_pid()?)?;
        let mut run = SlowRun {
            workload: self,
            servers,
            pool,
            trackers: vec![SequenceTracker::default(); self.sockets],
            flood: Arc::new(Template::for_nats(&subjects[..1], self.size)),
            next: 0,
            peak: before,
            last_sample: Instant::now(),
        };
        let result = run.pause_and_stop(bench.seconds, stopping)?;
        let calm = calm.stop()?;
        let from = Instant::now();
        while from.elapsed() < TIMEOUT
            && run.trackers[self.flooded..stopping].iter().any(|one| one.next != calm)
        {
            run.poll()?;
        }
        Ok(run.metrics(&result, calm, before))
    }

    pub fn title(&self) -> String {
        format!(
            "class {:?}, {} sockets, {} MB/s to {} of them, one of which stops reading",
            self.class,
            number(self.sockets as f64, 0),
            number(self.megabytes, 0),
            self.flooded + 1
        )
        .to_lowercase()
        .replace("mb/s", "MB/s")
    }
}

impl SlowRun<'_> {
    /// Runs one flood during which the reader pauses, and one during which it stops.
    fn pause_and_stop(&mut self, seconds: Duration, stopping: usize) -> anyhow::Result<StopResult> {
        self.pool.pause(stopping);
        let mb_per_s = self.flood(seconds)?;
        let published = self.next;
        self.catch_up()?;
        let trackers = &mut self.trackers;
        self.pool.resume(stopping, &mut |client, event, _| trackers[client].record(event))?;
        let from = Instant::now();
        while self.trackers[stopping].next < published {
            if let Some(end) = &self.trackers[stopping].ended {
                bail!("the paused reader was disconnected: {end}");
            }
            if from.elapsed() > TIMEOUT {
                bail!("the paused reader did not receive the newest publication within {TIMEOUT:?}");
            }
            self.poll()?;
        }
        let paused = self.trackers[stopping].clone();
        self.pool.pause(stopping);
        let start = Instant::now();
        self.flood(seconds)?;
        let disconnected_after = self.wait_for_disconnect(start, seconds)?;
        self.catch_up()?;
        let trackers = &mut self.trackers;
        self.pool.resume(stopping, &mut |client, event, _| trackers[client].record(event))?;
        let from = Instant::now();
        while self.trackers[stopping].ended.is_none() && from.elapsed() < TIMEOUT {
            self.poll()?;
        }
        let ended = self.trackers[stopping].ended.is_some();
        Ok(StopResult { paused, published, disconnected_after, ended, mb_per_s })
    }

    fn flood(&mut self, seconds: Duration) -> anyhow::Result<f64> {
        let producer = Producer::connect(&self.servers.destination(), Arc::clone(&self.flood))?;
        let (first, start) = (self.next, Instant::now());
        let flood =
            producer.start_at_rate(self.workload.megabytes * 1e6 / self.workload.size as f64, first)?;
        while start.elapsed() < seconds {
            self.poll()?;
        }
        self.next = flood.stop()?;
        let published = (self.next - first) as f64 * self.workload.size as f64;
        Ok(published / 1e6 / start.elapsed().as_secs_f64())
    }

    fn poll(&mut self) -> anyhow::Result<()> {
        let trackers = &mut self.trackers;
        self.pool.poll(Duration::from_millis(5), &mut |client, event, _| trackers[client].record(event))?;
        if self.last_sample.elapsed() > Duration::from_millis(20) {
            self.last_sample = Instant::now();
            self.peak = self.peak.max(process_usage::resident_estimate(self.servers.client_facing_pid()?)?);
        }
        Ok(())
    }

    fn catch_up(&mut self) -> anyhow::Result<()> {
        let from = Instant::now();
        while from.elapsed() < TIMEOUT {
            let flooded = &self.trackers[..self.workload.flooded];
            if flooded.iter().all(|tracker| tracker.next == self.next) {
                break;
            }
            self.poll()?;
        }
        Ok(())
    }

    fn wait_for_disconnect(&mut self, start: Instant, seconds: Duration) -> anyhow::Result<Option<Duration>> {
        let timeout = seconds + Duration::from_secs(self.workload.write_timeout_s + 5);
        while start.elapsed() < timeout {
            if self.servers.count_log_lines(&["connection closed", "\"code\":4002"]) > 0 {
                return Ok(Some(start.elapsed()));
            }
            self.poll()?;
        }
        Ok(None)
    }

    fn metrics(&self, result: &StopResult, calm: u64, before: u64) -> Round {
        let Slow { sockets, flooded, growth_mib, class, .. } = *self.workload;
        let (flood, rest) = self.trackers.split_at(flooded);
        let others = &rest[..sockets - flooded - 1];
        let is_complete = |tracker: &&SequenceTracker| tracker.is_complete() && tracker.received == calm;
        let calm_complete = others.iter().filter(is_complete).count();
        let StopResult { paused, published, disconnected_after, ended, mb_per_s } = result;
        let mut round = Round::default();
        round.add(&PUBLISHED, self.next as f64);
        round.add(&RATE, *mb_per_s);
        round.add(&CALM_COMPLETE, calm_complete as f64);
        round.add(&LEAST, flood.iter().map(|tracker| tracker.received).min().unwrap_or_default() as f64);
        round.add(&PAUSED, paused.received as f64);
        round.add(&DROPPED, paused.dropped as f64);
        round.add(&DISCONNECTED, disconnected_after.map_or(f64::NAN, |cut| cut.as_secs_f64()));
        round.add(&MEMORY, before as f64 / 1_048_576.0);
        round.add(&PEAK, self.peak as f64 / 1_048_576.0);
        round.expect("all clients of the calm channel receive all of it", calm_complete == others.len());
        match class {
            Class::Latest => {
                let newest = flood.iter().all(|tracker| tracker.next == self.next && tracker.gaps.is_empty());
                round.expect("readers get the newest publication of the flood at once", newest);
                let is_conflated = paused.gaps.is_empty() && paused.received < *published;
                let is_newest = paused.next == *published && is_conflated;
                round.expect(
                    "the paused reader got the newest publications, in order, without a gap",
                    is_newest,
                );
            }
            Class::Buffer => {
                round.expect(
                    "readers get every publication of the flood",
                    flood.iter().all(SequenceTracker::is_complete),
                );
                let exact = paused.received + paused.dropped == *published && paused.unannounced == 0;
                let is_announced = exact && !paused.gaps.is_empty();
                round.expect("the gaps of the paused reader count exactly what it missed", is_announced);
            }
        }
        round.expect("the stopped reader was disconnected", disconnected_after.is_some() && *ended);
        let grown = self.peak.saturating_sub(before);
        let what = format!("memory grows by at most {growth_mib} MiB");
        round.expect(what, grown <= growth_mib * 1024 * 1024);
        round
    }
}
