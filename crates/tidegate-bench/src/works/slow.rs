//! `slow`: one of many readers stops reading a flood, first for a while, then for good.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;

use crate::Bench;
use crate::account::Account;
use crate::client::Wish;
use crate::crowd::Crowd;
use crate::figures::Figure;
use crate::figures::Round;
use crate::figures::number;
use crate::payload::Template;
use crate::producer::Producer;
use crate::servers::Servers;
use crate::servers::Target;
use crate::servers::settings::Settings;
use crate::usage;

/// How long readers may take to catch up.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the kernel keeps for the reader that stops: a flood must not fit into it.
const RECEIVE_BUFFER: usize = 512 * 1024;
/// Publications a second on the channel next to the flood, and their size.
const CALM: (f64, usize) = (100.0, 200);

const PUBLISHED: Figure = Figure::shown("published", "publications of the flood", 0);
const RATE: Figure = Figure::shown("flood_mb_per_s", "the flood, MB/s", 1);
const CALM_WHOLE: Figure = Figure::shown("calm_whole", "heard all of the calm channel", 0);
const LEAST: Figure = Figure::shown("least_received", "of the flood, by those who read, at least", 0);
const PAUSED: Figure = Figure::shown("paused_received", "the reader that paused: received", 0);
const TOLD: Figure = Figure::shown("paused_dropped", "- announced as missing", 0);
const CUT: Figure = Figure::shown("cut_s", "the reader that stopped: cut after s", 1);
const MEMORY: Figure = Figure::shown("memory_mib", "memory before, MiB", 1);
const PEAK: Figure = Figure::shown("peak_mib", "memory at most, MiB", 1);

/// What Tidegate does with what a client cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Latest,
    Buffer,
}

/// How much of what.
#[derive(Clone, Debug, PartialEq)]
pub struct Slow {
    pub class: Class,
    /// The one that stops among them.
    pub sockets: usize,
    /// Sockets that subscribe to the flood like the one that stops, and read it. All others hear a calm channel.
    pub flooded: usize,
    /// MB a second of the flood, for each of its sockets.
    pub megabytes: f64,
    /// Bytes of a payload of the flood.
    pub size: usize,
    /// How long a socket may take nothing before it is cut; longer than a flood.
    pub write_timeout_s: u64,
    /// MiB that may wait for one socket. At 50 MB/s, 1 MiB is 20 ms: readers on a busy machine need more.
    pub outbox_mib: u64,
    /// MiB by which Tidegate's memory may grow.
    pub growth_mib: u64,
}

/// One flood and those who hear it.
struct SlowRun<'a> {
    work: &'a Slow,
    servers: Servers,
    crowd: Crowd,
    accounts: Vec<Account>,
    flood: Arc<Template>,
    next: u64,
    /// The most memory that was seen, and when it was looked for.
    peak: u64,
    looked: Instant,
}

/// What became of the reader that stopped.
struct Fate {
    /// When it had paused and read on: what it had, and what there was.
    paused: Account,
    published: u64,
    cut_after: Option<Duration>,
    ended: bool,
    mb_per_s: f64,
}

impl Slow {
    /// Measures Tidegate once.
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        if Duration::from_secs(self.write_timeout_s) <= bench.seconds {
            bail!("--write-timeout must be longer than a flood, which is --seconds");
        }
        let more = format!(
            "[limits]\nwrite_timeout_s = {}\noutbox_bytes = {}\n\
             [log]\nfilter = \"warn,tidegate::connection=debug\"\nformat = \"json\"\n",
            self.write_timeout_s,
            self.outbox_mib * 1024 * 1024
        );
        let settings = Settings { more, ..bench.settings() };
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let class = match self.class {
            Class::Latest => "latest",
            Class::Buffer => "buffer",
        };
        let subjects = [format!("bench.{class}.flood"), format!("bench.{class}.calm")];
        let stopping = self.sockets - 1;
        let is_flooded = |client: usize| client < self.flooded || client == stopping;
        let wish = |client| {
            let wish = servers.wish(client, &subjects, &[usize::from(!is_flooded(client))], &settings)?;
            let receive_buffer = if client == stopping { RECEIVE_BUFFER } else { wish.receive_buffer };
            Ok(Wish { receive_buffer, ..wish })
        };
        let crowd = Crowd::connected((0..self.sockets).map(wish))?;
        let calm = Arc::new(Template::for_nats(&subjects[1..], CALM.1));
        let calm = Producer::connect(&servers.outlet(), calm)?.steadily(CALM.0, 0)?;
        let before = usage::resident(servers.facing()?)?;
        let mut run = SlowRun {
            work: self,
            servers,
            crowd,
            accounts: vec![Account::default(); self.sockets],
            flood: Arc::new(Template::for_nats(&subjects[..1], self.size)),
            next: 0,
            peak: before,
            looked: Instant::now(),
        };
        let fate = run.stop_one(bench.seconds, stopping)?;
        let calm = calm.stop()?;
        let from = Instant::now();
        while from.elapsed() < PATIENCE
            && run.accounts[self.flooded..stopping].iter().any(|one| one.next != calm)
        {
            run.turn()?;
        }
        Ok(run.figures(&fate, calm, before))
    }

    /// What it is, in a line.
    pub fn title(&self) -> String {
        format!(
            "class {:?}, {} sockets, {} MB/s to {} of them, of which one stops reading",
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
    /// A flood during which the reader pauses, and one during which it stops.
    fn stop_one(&mut self, seconds: Duration, stopping: usize) -> anyhow::Result<Fate> {
        self.crowd.pause(stopping);
        let mb_per_s = self.flood(seconds)?;
        let published = self.next;
        self.catch_up()?;
        let accounts = &mut self.accounts;
        self.crowd.resume(stopping, &mut |client, heard, _| accounts[client].hear(heard))?;
        let from = Instant::now();
        while self.accounts[stopping].next < published {
            if let Some(end) = &self.accounts[stopping].ended {
                bail!("the reader that paused has ended: {end}");
            }
            if from.elapsed() > PATIENCE {
                bail!("the reader that paused never got the newest publication");
            }
            self.turn()?;
        }
        let paused = self.accounts[stopping].clone();
        self.crowd.pause(stopping);
        let start = Instant::now();
        self.flood(seconds)?;
        let cut_after = self.wait_for_cut(start, seconds)?;
        self.catch_up()?;
        let accounts = &mut self.accounts;
        self.crowd.resume(stopping, &mut |client, heard, _| accounts[client].hear(heard))?;
        let from = Instant::now();
        while self.accounts[stopping].ended.is_none() && from.elapsed() < PATIENCE {
            self.turn()?;
        }
        let ended = self.accounts[stopping].ended.is_some();
        Ok(Fate { paused, published, cut_after, ended, mb_per_s })
    }

    fn flood(&mut self, seconds: Duration) -> anyhow::Result<f64> {
        let producer = Producer::connect(&self.servers.outlet(), Arc::clone(&self.flood))?;
        let (first, start) = (self.next, Instant::now());
        let flood = producer.steadily(self.work.megabytes * 1e6 / self.work.size as f64, first)?;
        while start.elapsed() < seconds {
            self.turn()?;
        }
        self.next = flood.stop()?;
        let published = (self.next - first) as f64 * self.work.size as f64;
        Ok(published / 1e6 / start.elapsed().as_secs_f64())
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        let accounts = &mut self.accounts;
        self.crowd.turn(Duration::from_millis(5), &mut |client, heard, _| accounts[client].hear(heard))?;
        if self.looked.elapsed() > Duration::from_millis(20) {
            self.looked = Instant::now();
            self.peak = self.peak.max(usage::resident_now(self.servers.facing()?)?);
        }
        Ok(())
    }

    fn catch_up(&mut self) -> anyhow::Result<()> {
        let from = Instant::now();
        while from.elapsed() < PATIENCE {
            let flooded = &self.accounts[..self.work.flooded];
            if flooded.iter().all(|account| account.next == self.next) {
                break;
            }
            self.turn()?;
        }
        Ok(())
    }

    fn wait_for_cut(&mut self, start: Instant, seconds: Duration) -> anyhow::Result<Option<Duration>> {
        let patience = seconds + Duration::from_secs(self.work.write_timeout_s + 5);
        while start.elapsed() < patience {
            if self.servers.logged(&["connection closed", "\"code\":4002"]) > 0 {
                return Ok(Some(start.elapsed()));
            }
            self.turn()?;
        }
        Ok(None)
    }

    fn figures(&self, fate: &Fate, calm: u64, before: u64) -> Round {
        let Slow { sockets, flooded, growth_mib, class, .. } = *self.work;
        let (flood, rest) = self.accounts.split_at(flooded);
        let others = &rest[..sockets - flooded - 1];
        let whole = |account: &&Account| account.is_whole() && account.received == calm;
        let calm_whole = others.iter().filter(whole).count();
        let Fate { paused, published, cut_after, ended, mb_per_s } = fate;
        let mut round = Round::default();
        round.add(&PUBLISHED, self.next as f64);
        round.add(&RATE, *mb_per_s);
        round.add(&CALM_WHOLE, calm_whole as f64);
        round.add(&LEAST, flood.iter().map(|account| account.received).min().unwrap_or_default() as f64);
        round.add(&PAUSED, paused.received as f64);
        round.add(&TOLD, paused.dropped as f64);
        round.add(&CUT, cut_after.map_or(f64::NAN, |cut| cut.as_secs_f64()));
        round.add(&MEMORY, before as f64 / 1_048_576.0);
        round.add(&PEAK, self.peak as f64 / 1_048_576.0);
        round.expect("the calm channel is complete for all", calm_whole == others.len());
        match class {
            Class::Latest => {
                let newest = flood.iter().all(|account| account.next == self.next && account.gaps.is_empty());
                round.expect("whoever reads has the newest of the flood at once", newest);
                let skipped = paused.gaps.is_empty() && paused.received < *published;
                let held = paused.next == *published && skipped;
                round.expect("the reader that paused got the newest, in order, and no gap", held);
            }
            Class::Buffer => {
                round.expect("whoever reads has all of the flood", flood.iter().all(Account::is_whole));
                let exact = paused.received + paused.dropped == *published && paused.unannounced == 0;
                let told = exact && !paused.gaps.is_empty();
                round.expect("the reader that paused was told exactly what it has not got", told);
            }
        }
        round.expect("the reader that stopped was cut", cut_after.is_some() && *ended);
        let grown = self.peak.saturating_sub(before);
        let what = format!("memory grows by at most {growth_mib} MiB");
        round.expect(what, grown <= growth_mib * 1024 * 1024);
        round
    }
}
