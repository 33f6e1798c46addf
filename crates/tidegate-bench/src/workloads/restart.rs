//! `restart`: nats-server is killed and restarted while many sockets receive publications.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use crate::Bench;
use crate::client_pool::ClientPool;
use crate::metrics::Metric;
use crate::metrics::Round;
use crate::metrics::number;
use crate::payload::Template;
use crate::producer::Producer;
use crate::producer::SteadyProducer;
use crate::sequence_tracker::SequenceTracker;
use crate::servers::Servers;
use crate::servers::Target;

const SUBJECT: &str = "bench.fanout";
/// Longest wait for each step.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time from a lost NATS connection to 503, and from a new one to 200.
const GOAL: Duration = Duration::from_secs(3);

const UNREADY: Metric = Metric::plain("unready_ms", "from the kill to 503 on /readyz, ms", 0);
const READY: Metric = Metric::plain("ready_ms", "from the restart to 200 on /readyz, ms", 0);
const GAP: Metric = Metric::plain("gap_ms", "from the kill until all had received a gap, ms", 0);
const LIVE: Metric = Metric::plain("live_ms", "from the restart until all had a new publication, ms", 0);
const RECEIVED_GAP: Metric = Metric::plain("received_gap", "received a gap with cause `nats`", 0);
const MOST_GAPS: Metric = Metric::plain("most_gaps", "most gaps of one client", 0);
const STAYED_CONNECTED: Metric = Metric::plain("stayed_connected", "stayed connected", 0);
const MISSED_SILENTLY: Metric = Metric::plain("missed_silently", "missed a publication without a gap", 0);
const UP_TO_DATE: Metric = Metric::plain("have_last", "have the last publication", 0);

#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    pub sockets: usize,
    /// Publications per second.
    pub rate: f64,
    /// Payload size in bytes.
    pub size: usize,
    /// How long nats-server is down.
    pub downtime: Duration,
}

/// A measurement in progress.
struct RestartRun<'a> {
    workload: &'a Restart,
    servers: Servers,
    pool: ClientPool,
    trackers: Vec<SequenceTracker>,
    template: Arc<Template>,
    /// `None` while nats-server is down.
    producer: Option<SteadyProducer>,
    /// The number of the next publication.
    next: u64,
}

impl Restart {
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let settings = bench.settings();
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let subjects = [SUBJECT.to_owned()];
        let config = |client| servers.client_config(client, &subjects, &[0], &settings);
        let pool = ClientPool::connected((0..self.sockets).map(config))?;
        let run = RestartRun {
            workload: self,
            servers,
            pool,
            trackers: vec![SequenceTracker::default(); self.sockets],
            template: Arc::new(Template::for_nats(&subjects, self.size)),
            producer: None,
            next: 0,
        };
        run.kill_and_restart(bench.seconds)
    }

    pub fn title(&self) -> String {
        format!(
            "{} sockets, {} messages/s; nats-server is killed and restarted after {:.1} s",
            number(self.sockets as f64, 0),
            number(self.rate, 0),
            self.downtime.as_secs_f64()
        )
    }
}

impl RestartRun<'_> {
    fn kill_and_restart(mut self, seconds: Duration) -> anyhow::Result<Round> {
        self.run_until(Instant::now() + seconds)?;
        if let Some(end) = self.trackers.iter().find_map(|tracker| tracker.ended.as_deref()) {
            bail!("a client was disconnected before the restart: {end}");
        }
        let killed = Instant::now();
        self.servers.kill_nats();
        let unready = self.until_readyz(503, killed)?;
        self.run_until(killed + self.workload.downtime)?;
        let resumed = self.next;
        self.servers.start_nats()?;
        let back = Instant::now();
        let ready = self.until_readyz(200, back)?;
        let gap = self.wait_until(killed, |tracker| !tracker.gaps.is_empty())?;
        let live = self.wait_until(back, |tracker| tracker.next > resumed)?;
        self.run_until(Instant::now() + seconds)?;
        if let Some(producer) = self.producer.take() {
            self.next = producer.stop()?;
        }
        let last = self.next;
        let from = Instant::now();
        while from.elapsed() < TIMEOUT && self.trackers.iter().any(|tracker| tracker.next != last) {
            self.poll()?;
        }

        let all = self.workload.sockets;
        let count = |holds: &dyn Fn(&SequenceTracker) -> bool| {
            self.trackers.iter().filter(|tracker| holds(tracker)).count()
        };
        let received_gap = count(&|tracker| tracker.gaps.iter().any(|cause| cause == "nats"));
        let stayed_connected = count(&|tracker| tracker.ended.is_none());
        let missed_silently = count(&|tracker| tracker.unannounced > 0);
        let up_to_date = count(&|tracker| tracker.next == last);
        let most = self.trackers.iter().map(|tracker| tracker.gaps.len()).max().unwrap_or_default();
        let mut round = Round::default();
        for (metric, took) in [(&UNREADY, Some(unready)), (&READY, Some(ready)), (&GAP, gap), (&LIVE, live)] {
            round.add(metric, took.map_or(f64::NAN, |took| took.as_secs_f64() * 1e3));
        }
        for (metric, value) in [
            (&RECEIVED_GAP, received_gap),
            (&MOST_GAPS, most),
            (&STAYED_CONNECTED, stayed_connected),
            (&MISSED_SILENTLY, missed_silently),
            (&UP_TO_DATE, up_to_date),
        ] {
            round.add(metric, value as f64);
        }
        round.expect("every client receives a gap", received_gap == all);
        round.expect("no client misses a publication without a gap", missed_silently == 0);
        round.expect("no client has to reconnect", stayed_connected == all);
        round.expect("deliveries resume: every client has the last publication", up_to_date == all);
        round.expect("/readyz changes within 3 s, both ways", unready <= GOAL && ready <= GOAL);
        Ok(round)
    }

    /// Publishes and receives until this time.
    fn run_until(&mut self, until: Instant) -> anyhow::Result<()> {
        while Instant::now() < until {
            self.keep_producing();
            self.poll()?;
        }
        Ok(())
    }

    fn poll(&mut self) -> anyhow::Result<()> {
        let trackers = &mut self.trackers;
        self.pool.poll(Duration::from_millis(5), &mut |client, event, _| trackers[client].record(event))
    }

    /// Starts a producer if there is none and nats-server accepts it. The next one continues with the next number, so
    /// clients must get a gap for publications that a broken producer did not send.
    fn keep_producing(&mut self) {
        if let Some(producer) = &self.producer {
            self.next = producer.next();
            if producer.has_ended() {
                self.producer = None;
            }
        } else if let Ok(producer) =
            Producer::connect(&self.servers.destination(), Arc::clone(&self.template))
        {
            self.producer = producer.start_at_rate(self.workload.rate, self.next).ok();
        }
    }

    fn until_readyz(&mut self, status: u16, since: Instant) -> anyhow::Result<Duration> {
        while self.servers.readyz()? != status {
            if since.elapsed() > TIMEOUT {
                bail!("/readyz did not change to {status} within {TIMEOUT:?}");
            }
            self.keep_producing();
            self.poll()?;
        }
        Ok(since.elapsed())
    }

    /// Waits until a condition holds for every client. Returns the time since `since`, or `None` after [`TIMEOUT`].
    fn wait_until(
        &mut self,
        since: Instant,
        holds: impl Fn(&SequenceTracker) -> bool,
    ) -> anyhow::Result<Option<Duration>> {
        let from = Instant::now();
        while !self.trackers.iter().all(&holds) {
            if from.elapsed() > TIMEOUT {
                return Ok(None);
            }
            self.keep_producing();
            self.poll()?;
        }
        Ok(Some(since.elapsed()))
    }
}
