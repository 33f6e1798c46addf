//! `restart`: nats-server is killed and started again while publications flow to many sockets.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use crate::Bench;
use crate::account::Account;
use crate::crowd::Crowd;
use crate::figures::Figure;
use crate::figures::Round;
use crate::figures::number;
use crate::payload::Template;
use crate::producer::Producer;
use crate::producer::Steady;
use crate::servers::Servers;
use crate::servers::Target;

const SUBJECT: &str = "bench.fanout";
/// How long anything here may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(30);
/// From a closed link to 503, and from a new one to 200.
const GOAL: Duration = Duration::from_secs(3);

const UNREADY: Figure = Figure::shown("unready_ms", "from the kill to 503 on /readyz, ms", 0);
const READY: Figure = Figure::shown("ready_ms", "from listening again to 200 on /readyz, ms", 0);
const GAP: Figure = Figure::shown("gap_ms", "from the kill until all had heard a gap, ms", 0);
const LIVE: Figure = Figure::shown("live_ms", "from listening again until all had something new, ms", 0);
const TOLD: Figure = Figure::shown("told", "heard a gap with cause `nats`", 0);
const MOST: Figure = Figure::shown("most_gaps", "gaps of one client, at most", 0);
const STAYED: Figure = Figure::shown("stayed", "stayed connected", 0);
const SILENT: Figure = Figure::shown("silent", "missed a publication without a gap", 0);
const CURRENT: Figure = Figure::shown("current", "have the last publication", 0);

/// How many of what.
#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    pub sockets: usize,
    /// Publications a second.
    pub rate: f64,
    /// Bytes of a payload.
    pub size: usize,
    /// How long nats-server is away.
    pub away: Duration,
}

/// A restart under way.
struct RestartRun<'a> {
    work: &'a Restart,
    servers: Servers,
    crowd: Crowd,
    accounts: Vec<Account>,
    template: Arc<Template>,
    /// None while nats-server takes no producers.
    producer: Option<Steady>,
    /// The number of the next publication.
    next: u64,
}

impl Restart {
    /// Measures Tidegate once.
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let settings = bench.settings();
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let subjects = [SUBJECT.to_owned()];
        let wish = |client| servers.wish(client, &subjects, &[0], &settings);
        let crowd = Crowd::connected((0..self.sockets).map(wish))?;
        let run = RestartRun {
            work: self,
            servers,
            crowd,
            accounts: vec![Account::default(); self.sockets],
            template: Arc::new(Template::for_nats(&subjects, self.size)),
            producer: None,
            next: 0,
        };
        run.kill_and_start(bench.seconds)
    }

    /// What it is, in a line.
    pub fn title(&self) -> String {
        format!(
            "{} sockets, {} messages/s; nats-server is killed and comes back after {:.1} s",
            number(self.sockets as f64, 0),
            number(self.rate, 0),
            self.away.as_secs_f64()
        )
    }
}

impl RestartRun<'_> {
    fn kill_and_start(mut self, seconds: Duration) -> anyhow::Result<Round> {
        self.go_on(Instant::now() + seconds)?;
        if let Some(end) = self.accounts.iter().find_map(|account| account.ended.as_deref()) {
            bail!("a client has ended before anything happened: {end}");
        }
        let killed = Instant::now();
        self.servers.kill_nats();
        let unready = self.until_readyz(503, killed)?;
        self.go_on(killed + self.work.away)?;
        let resumed = self.next;
        self.servers.start_nats()?;
        let back = Instant::now();
        let ready = self.until_readyz(200, back)?;
        let gap = self.until(killed, |account| !account.gaps.is_empty())?;
        let live = self.until(back, |account| account.next > resumed)?;
        self.go_on(Instant::now() + seconds)?;
        if let Some(producer) = self.producer.take() {
            self.next = producer.stop()?;
        }
        let last = self.next;
        let from = Instant::now();
        while from.elapsed() < PATIENCE && self.accounts.iter().any(|account| account.next != last) {
            self.turn()?;
        }

        let all = self.work.sockets;
        let count =
            |holds: &dyn Fn(&Account) -> bool| self.accounts.iter().filter(|account| holds(account)).count();
        let told = count(&|account| account.gaps.iter().any(|cause| cause == "nats"));
        let stayed = count(&|account| account.ended.is_none());
        let silent = count(&|account| account.unannounced > 0);
        let current = count(&|account| account.next == last);
        let most = self.accounts.iter().map(|account| account.gaps.len()).max().unwrap_or_default();
        let mut round = Round::default();
        for (figure, took) in [(&UNREADY, Some(unready)), (&READY, Some(ready)), (&GAP, gap), (&LIVE, live)] {
            round.add(figure, took.map_or(f64::NAN, |took| took.as_secs_f64() * 1e3));
        }
        for (figure, value) in
            [(&TOLD, told), (&MOST, most), (&STAYED, stayed), (&SILENT, silent), (&CURRENT, current)]
        {
            round.add(figure, value as f64);
        }
        round.expect("every client hears the gap", told == all);
        round.expect("nobody misses a publication without a gap", silent == 0);
        round.expect("nobody has to reconnect", stayed == all);
        round.expect("deliveries go on: everybody has the last publication", current == all);
        round.expect("/readyz follows within 3 s, both ways", unready <= GOAL && ready <= GOAL);
        Ok(round)
    }

    /// Lets publications flow until then.
    fn go_on(&mut self, until: Instant) -> anyhow::Result<()> {
        while Instant::now() < until {
            self.produce();
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        let accounts = &mut self.accounts;
        self.crowd.turn(Duration::from_millis(5), &mut |client, heard, _| accounts[client].hear(heard))
    }

    /// Has a producer whenever there can be one. What it could not send any more is announced as a gap.
    fn produce(&mut self) {
        if let Some(producer) = &self.producer {
            self.next = producer.next();
            if producer.has_ended() {
                self.producer = None;
            }
        } else if let Ok(producer) = Producer::connect(&self.servers.outlet(), Arc::clone(&self.template)) {
            self.producer = producer.steadily(self.work.rate, self.next).ok();
        }
    }

    fn until_readyz(&mut self, status: u16, since: Instant) -> anyhow::Result<Duration> {
        while self.servers.readyz()? != status {
            if since.elapsed() > PATIENCE {
                bail!("/readyz does not say {status} within {PATIENCE:?}");
            }
            self.produce();
            self.turn()?;
        }
        Ok(since.elapsed())
    }

    /// Waits until it holds of every client; how long that took, if it did.
    fn until(
        &mut self,
        since: Instant,
        holds: impl Fn(&Account) -> bool,
    ) -> anyhow::Result<Option<Duration>> {
        let from = Instant::now();
        while !self.accounts.iter().all(&holds) {
            if from.elapsed() > PATIENCE {
                return Ok(None);
            }
            self.produce();
            self.turn()?;
        }
        Ok(Some(since.elapsed()))
    }
}
