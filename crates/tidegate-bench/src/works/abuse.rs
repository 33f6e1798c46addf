//! `abuse`: good clients on a load of prices, while others do their worst: first to another node on the same NATS and
//! the same machine, as a control, and then to the node that the good ones are on.

pub mod attack;
pub mod pest;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use crate::Bench;
use crate::crowd::Crowd;
use crate::figures::Figure;
use crate::figures::Round;
use crate::figures::number;
use crate::flow::Flow;
use crate::flow::Promise;
use crate::flow::Shape;
use crate::flow::quantile_ms;
use crate::payload::Template;
use crate::producer::Producer;
use crate::producer::Steady;
use crate::servers::Servers;
use crate::servers::Target;
use crate::servers::settings::Settings;
use crate::usage;
use crate::works::abuse::attack::Attack;

/// How long the last publications may be on their way.
const PATIENCE: Duration = Duration::from_secs(20);
/// From the begin of an attack to the measurement, and from its end to the next thing.
const SETTLE: Duration = Duration::from_secs(1);
/// Subjects of the good clients, and those of each.
const SUBJECTS: (usize, usize) = (100, 10);
/// How much longer the slowest hundredth may take than in the control.
const GOAL: f64 = 2.0;
/// By how much memory may grow: less than the attacks asked for, more than what an allocator keeps.
const GROWTH_MIB: f64 = 64.0;

const QUIET_P50: Figure = Figure::shown("quiet_p50_ms", "nobody attacks: p50, ms", 2);
const QUIET_P99: Figure = Figure::shown("quiet_p99_ms", "nobody attacks: p99, ms", 2);
const CONTROL_P50: Figure = Figure::shown("control_p50_ms", "the other node is attacked: p50, ms", 2);
const CONTROL_P99: Figure = Figure::shown("control_p99_ms", "the other node is attacked: p99, ms", 2);
const P50: Figure = Figure::shown("p50_ms", "this node is attacked: p50, ms", 2);
const P99: Figure = Figure::shown("p99_ms", "this node is attacked: p99, ms", 2);
const RATIO: Figure = Figure::shown("ratio", "p99 ÷ p99 of the control", 2);
const FAULTS: Figure = Figure::shown("faults", "lost, out of order, gaps, ends", 0);
const MISSING: Figure = Figure::shown("missing", "publications not received", 0);
const RECEIVED: Figure = Figure::shown("received", "publications received", 0);
const SENT: Figure = Figure::shown("attack_mib", "sent by attackers to this node, MiB", 1);
const MEMORY: Figure = Figure::shown("memory_mib", "memory before the attack, MiB", 1);
const PEAK: Figure = Figure::shown("peak_mib", "memory at most, MiB", 1);
const AFTER: Figure = Figure::shown("after_mib", "memory after the attack, MiB", 1);

/// How many of what.
#[derive(Clone, Debug, PartialEq)]
pub struct Abuse {
    pub attack: Attack,
    /// How many do it, where that can be chosen.
    pub attackers: usize,
    /// Good clients.
    pub sockets: usize,
    /// Publications a second that concern them.
    pub rate: f64,
}

/// Good clients, and what they hear.
struct AbuseRun {
    servers: Servers,
    crowd: Crowd,
    flow: Flow,
    steady: Steady,
    peak: u64,
    looked: Instant,
}

/// Latencies of a while.
struct Latency {
    p50: f64,
    p99: f64,
}

impl Abuse {
    /// Measures Tidegate once.
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let vocabulary = Servers::file(&bench.programs, "abused.toml", &attack::vocabulary())?;
        let more = attack::configuration(&vocabulary);
        let settings = Settings { more, files: self.attack.files(self.sockets), ..bench.settings() };
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let (another, _process) = servers.start_another(&settings)?;
        let shape = Shape { sockets: self.sockets, subjects: SUBJECTS.0, per_socket: SUBJECTS.1 };
        let subjects: Vec<_> =
            (0..shape.subjects).map(|subject| format!("bench.prices.S{subject:05}")).collect();
        let wish = |client| servers.wish(client, &subjects, &shape.wanted(client), &settings);
        let crowd = Crowd::connected((0..self.sockets).map(wish))?;
        let producer = Producer::connect(&servers.outlet(), Arc::new(Template::for_nats(&subjects, 200)))?;
        let (this, nats) = (servers.address(0), servers.outlet());
        let mut run = AbuseRun {
            servers,
            crowd,
            flow: Flow::new(shape, Promise::All)?,
            steady: producer.steadily(self.rate, 0)?,
            peak: 0,
            looked: Instant::now(),
        };
        run.go_on(bench.warm_up)?;
        let quiet = run.measure(bench.seconds)?;
        let control = run.attacked(another, self, &nats, bench.seconds)?.0;
        let before = run.memory()?;
        run.peak = before;
        let (latency, sent) = run.attacked(this, self, &nats, bench.seconds)?;
        let after = run.memory()?;
        run.end([quiet, control, latency], [before, after], sent)
    }

    /// What it is, in a line.
    pub fn title(&self) -> String {
        format!(
            "{} good sockets, {} messages/s, and {}",
            number(self.sockets as f64, 0),
            number(self.rate, 0),
            self.attack.title(self.attackers)
        )
    }
}

impl AbuseRun {
    /// Measures while a node is attacked. Also, how many bytes the attackers have sent.
    fn attacked(
        &mut self,
        node: SocketAddr,
        work: &Abuse,
        nats: &crate::producer::Outlet,
        seconds: Duration,
    ) -> anyhow::Result<(Latency, u64)> {
        let attackers = work.attack.begin(work.attackers, node, nats)?;
        self.go_on(SETTLE)?;
        let latency = self.measure(seconds)?;
        let sent = attackers.end();
        self.go_on(SETTLE)?;
        Ok((latency, sent))
    }

    fn measure(&mut self, seconds: Duration) -> anyhow::Result<Latency> {
        self.flow.begin();
        self.go_on(seconds)?;
        // What is late counts as late, and not as if it had never been.
        let (next, since) = (self.steady.next(), Instant::now());
        while !self.flow.is_settled(next) && since.elapsed() < PATIENCE {
            self.turn()?;
        }
        let [p50, p99] = [0.5, 0.99].map(|quantile| quantile_ms(&self.flow.latency, quantile));
        Ok(Latency { p50, p99 })
    }

    fn go_on(&mut self, seconds: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + seconds;
        while Instant::now() < until {
            self.turn()?;
            if self.steady.has_ended() {
                bail!("the producer has ended by itself");
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        let (flow, steady) = (&mut self.flow, &self.steady);
        let due = |number| steady.due(number);
        self.crowd.turn(Duration::from_millis(10), &mut |client, heard, now| {
            flow.hear(client, heard, now, Some(&due));
        })?;
        if self.looked.elapsed() > Duration::from_millis(50) {
            self.looked = Instant::now();
            self.peak = self.peak.max(usage::resident_now(self.servers.facing()?)?);
        }
        Ok(())
    }

    fn memory(&self) -> anyhow::Result<u64> {
        usage::resident(self.servers.facing()?)
    }

    /// Waits for what is on its way, and counts.
    fn end(
        mut self,
        [quiet, control, latency]: [Latency; 3],
        [before, after]: [u64; 2],
        sent: u64,
    ) -> anyhow::Result<Round> {
        let (crowd, flow) = (&mut self.crowd, &mut self.flow);
        let next = self.steady.stop()?;
        let (start, due) = (Instant::now(), |_| Instant::now());
        while !flow.is_settled(next) && start.elapsed() < PATIENCE {
            crowd.turn(Duration::from_millis(10), &mut |client, heard, now| {
                flow.hear(client, heard, now, Some(&due));
            })?;
        }
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        let missing = flow.owed(next).saturating_sub(flow.deliveries);
        let (faults, first) = flow.faults();
        let ratio = latency.p99 / control.p99;
        let mut round = Round::default();
        for (figure, value) in [
            (&P99, latency.p99),
            (&RATIO, ratio),
            (&P50, latency.p50),
            (&CONTROL_P50, control.p50),
            (&CONTROL_P99, control.p99),
            (&QUIET_P50, quiet.p50),
            (&QUIET_P99, quiet.p99),
            (&FAULTS, faults as f64),
            (&MISSING, missing as f64),
            (&RECEIVED, flow.deliveries as f64),
            (&SENT, mib(sent)),
            (&MEMORY, mib(before)),
            (&PEAK, mib(self.peak)),
            (&AFTER, mib(after)),
        ] {
            round.add(figure, value);
        }
        if faults > 0 {
            println!("  the first fault: {first}");
        }
        round.expect("good clients lose nothing", faults == 0 && missing == 0);
        round.expect(format!("their p99 is at most {GOAL} × that of the control"), ratio <= GOAL);
        let grown = mib(self.peak) - mib(before);
        round.expect(format!("memory grows by at most {GROWTH_MIB} MiB"), grown <= GROWTH_MIB);
        round.expect("/readyz is 200 in the end", self.servers.readyz()? == 200);
        Ok(round)
    }
}
