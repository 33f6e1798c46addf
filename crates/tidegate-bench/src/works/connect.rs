//! `connect` and `storm`: handshake, token and one subscription, over and over; or once for all at the same moment.

use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use hdrhistogram::Histogram;

use crate::Bench;
use crate::client::ear::Heard;
use crate::crowd::Crowd;
use crate::figures::Figure;
use crate::figures::Round;
use crate::figures::number;
use crate::flow::quantile_ms;
use crate::servers::Servers;
use crate::servers::Target;

/// How long no handshake may succeed before it counts as never.
const PATIENCE: Duration = Duration::from_secs(20);

pub const RATE: Figure = Figure::compared("connections_per_s", "connections/s", 0);
pub const CPU: Figure = Figure::compared("cpu_us", "CPU µs a connection", 1);
const NATS: Figure = Figure::shown("nats_us", "- of it nats-server", 1);
const FRONT: Figure = Figure::shown("front_us", "- of it Tidegate or floor", 1);
const CLIENTS: Figure = Figure::shown("clients_us", "clients, not counted", 1);
const ALL: Figure = Figure::compared("all_back_ms", "until all are back, ms", 0);
const P50: Figure = Figure::compared("p50_ms", "handshake to subscribed p50, ms", 2);
const P99: Figure = Figure::compared("p99_ms", "handshake to subscribed p99, ms", 2);
const MAX: Figure = Figure::compared("max_ms", "handshake to subscribed max, ms", 2);
const REFUSED: Figure = Figure::shown("refused", "refused with 503, came again", 0);
const FAILED: Figure = Figure::shown("failed", "failed, came again", 0);
const DONE: Figure = Figure::shown("connections", "connections", 0);

const SUBJECT: &str = "bench.fanout";

/// Connections one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    /// Handshakes under way at any time.
    pub at_once: usize,
    /// One token for all, in place of a new one for each.
    pub same_token: bool,
}

/// All at once, when all had been there before.
#[derive(Clone, Debug, PartialEq)]
pub struct Storm {
    pub sockets: usize,
    /// Channels of each socket. One is the same for all; of several, each has its own.
    pub channels: usize,
}

impl Connect {
    /// Measures a target once.
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let settings = bench.settings();
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let subjects = [SUBJECT.to_owned()];
        let mut number = 0;
        let mut wish = |client: usize| {
            number += 1;
            let wish = servers.wish(if self.same_token { 0 } else { number }, &subjects, &[0], &settings)?;
            // To the same port as before, and from there to the least loaded thread.
            anyhow::Ok(crate::client::Wish { address: servers.address(client), ..wish })
        };
        let wishes: anyhow::Result<Vec<_>> = (0..self.at_once).map(&mut wish).collect();
        let mut crowd = Crowd::new(wishes?)?;
        crowd.set_at_once(self.at_once);
        (0..self.at_once).for_each(|client| crowd.again(client, None));
        let mut latency = Histogram::<u64>::new_with_max(600_000_000_000, 3)?;
        let (start, mut last) = (Instant::now(), Instant::now());
        let (mut done, mut before) = (0_u64, None);
        let after = loop {
            let mut arrived = Vec::new();
            crowd.turn(Duration::from_millis(20), &mut |client, heard, _| {
                if let Heard::Live { after } = heard {
                    latency.saturating_record(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
                    arrived.push(client);
                }
            })?;
            if !arrived.is_empty() {
                last = Instant::now();
            }
            for client in arrived {
                done += 1;
                crowd.again(client, Some(wish(client)?));
            }
            if last.elapsed() > PATIENCE || crowd.failed.0 > 100 {
                bail!("{done} connections, and then: {} ({} failed)", crowd.failed.1, crowd.failed.0);
            }
            let elapsed = start.elapsed();
            if before.is_none() && elapsed >= bench.warm_up {
                before = Some((Instant::now(), done, Spent::now(&servers)?));
                latency.reset();
            } else if elapsed >= bench.warm_up + bench.seconds {
                break (Instant::now(), done, Spent::now(&servers)?);
            }
        };
        let Some(before) = before else { bail!("nothing was measured") };
        let mut round = Round::default();
        let count = (after.1 - before.1) as f64;
        round.add(&RATE, count / (after.0 - before.0).as_secs_f64());
        after.2.add_to(&mut round, &before.2, count);
        add_latency(&mut round, &latency);
        round.add(&REFUSED, crowd.refused as f64);
        round.add(&FAILED, crowd.failed.0 as f64);
        round.add(&DONE, count);
        Ok(round)
    }

    /// What it is, in a line.
    pub fn title(&self) -> String {
        let token = if self.same_token { "one token for all" } else { "a new token each" };
        format!("handshake, {token}, one subscription; {} at once", number(self.at_once as f64, 0))
    }
}

impl Storm {
    /// Measures a target once.
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let settings = bench.settings();
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let wanted: Vec<_> = (0..self.channels).collect();
        let wish = |client| servers.wish(client, &self.subjects(client), &wanted, &settings);
        let mut crowd = Crowd::connected((0..self.sockets).map(wish))?;
        let calm = Instant::now() + bench.warm_up;
        while Instant::now() < calm {
            crowd.turn(Duration::from_millis(50), &mut |_, _, _| {})?;
        }
        crowd.end_all();
        crowd.set_at_once(self.sockets);
        crowd.refused = 0;
        let (start, before) = (Instant::now(), Spent::now(&servers)?);
        let mut latency = Histogram::<u64>::new_with_max(600_000_000_000, 3)?;
        crowd.connect_all(|_, heard| {
            // Since the storm began: whoever is refused waits longer, not anew.
            if let Heard::Live { .. } = heard {
                let took = start.elapsed().as_nanos();
                latency.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
            }
        })?;
        let (took, after) = (start.elapsed(), Spent::now(&servers)?);
        let all = self.sockets as f64;
        let mut round = Round::default();
        round.add(&ALL, took.as_secs_f64() * 1e3);
        after.add_to(&mut round, &before, all);
        round.add(&RATE, all / took.as_secs_f64());
        add_latency(&mut round, &latency);
        round.add(&REFUSED, crowd.refused as f64);
        round.add(&FAILED, crowd.failed.0 as f64);
        round.add(&DONE, crowd.live() as f64);
        if self.channels > 1 {
            let whole = crowd.live() == self.sockets && crowd.failed.0 == 0;
            round.expect("all have all their channels, and no subscription was refused", whole);
        }
        Ok(round)
    }

    fn subjects(&self, client: usize) -> Vec<String> {
        match self.channels {
            1 => vec![SUBJECT.to_owned()],
            channels => (0..channels).map(|number| format!("bench.storm.c{client}x{number}")).collect(),
        }
    }

    /// What it is, in a line.
    pub fn title(&self) -> String {
        let sockets = number(self.sockets as f64, 0);
        match self.channels {
            1 => format!("{sockets} sockets come back at once, with the tokens they had"),
            channels => format!("{sockets} sockets with {channels} channels each come back at once"),
        }
    }
}

/// CPU that has been spent so far.
pub(super) struct Spent {
    nats: Duration,
    front: Duration,
    own: Duration,
}

impl Spent {
    /// Up to now.
    pub(super) fn now(servers: &Servers) -> anyhow::Result<Self> {
        let (nats, front) = servers.cpu()?;
        Ok(Self { nats, front, own: crate::usage::cpu(std::process::id())? })
    }

    /// Adds what each of so many connections has cost since then.
    fn add_to(&self, round: &mut Round, before: &Self, count: f64) {
        self.add_as(&CPU, round, before, count);
    }

    /// Adds what each of so many things has cost since then.
    pub(super) fn add_as(&self, figure: &'static Figure, round: &mut Round, before: &Self, count: f64) {
        let cost =
            |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() * 1e6 / count;
        let (nats, front) = (cost(self.nats, before.nats), cost(self.front, before.front));
        round.add(figure, nats + front);
        round.add(&NATS, nats);
        round.add(&FRONT, front);
        round.add(&CLIENTS, cost(self.own, before.own));
    }
}

fn add_latency(round: &mut Round, latency: &Histogram<u64>) {
    for (figure, quantile) in [(&P50, 0.5), (&P99, 0.99), (&MAX, 1.0)] {
        round.add(figure, quantile_ms(latency, quantile));
    }
}
