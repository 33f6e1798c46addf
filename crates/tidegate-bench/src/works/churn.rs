//! `churn`: clients subscribe to a subject of their own and leave it again, over and over. In the end nats-server must
//! have exactly the subscriptions that it had before.

use std::collections::VecDeque;
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
use crate::servers::settings::Settings;
use crate::usage;
use crate::works::connect::Spent;

/// How long nothing may be answered before it counts as never.
const PATIENCE: Duration = Duration::from_secs(20);
/// Room for what a client does here, which no browser does.
const LIMITS: &str = "[limits]\ncommands_per_s = 100000\ncommands_burst = 1000000\n\
                      inbound_bytes_per_s = 1073741824\ninbound_burst_bytes = 1073741824\n";

const RATE: Figure = Figure::compared("commands_per_s", "commands/s", 0);
const CPU: Figure = Figure::compared("cpu_us", "CPU µs a command", 1);
const P50: Figure = Figure::compared("p50_ms", "answer p50, ms", 2);
const P99: Figure = Figure::compared("p99_ms", "answer p99, ms", 2);
const DRIFT: Figure = Figure::shown("drift_percent", "memory grown while measured, %", 1);
const LEFT: Figure = Figure::shown("subscriptions_left", "subscriptions left over on nats-server", 0);
const DONE: Figure = Figure::shown("commands", "commands answered", 0);

/// How many of what.
#[derive(Clone, Debug, PartialEq)]
pub struct Churn {
    pub sockets: usize,
    /// Commands a second of all together; 0 for as many as are answered.
    pub rate: f64,
}

/// The clients' commands.
struct Commands {
    /// Who may give one, and whether it is to leave.
    ready: VecDeque<(usize, bool)>,
    /// By client: whether it leaves, and when it said so.
    asked: Vec<Option<(bool, Instant)>>,
    latency: Histogram<u64>,
    given: u64,
    done: u64,
    fault: Option<String>,
}

impl Churn {
    /// Measures a target once.
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let settings = Settings { more: LIMITS.to_owned(), ..bench.settings() };
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let wish = |client| servers.wish(client, &["bench.fanout".to_owned()], &[0], &settings);
        let mut crowd = Crowd::connected((0..self.sockets).map(wish))?;
        let baseline = servers.nats_subscriptions()?;
        let mut commands = Commands {
            ready: (0..self.sockets).map(|client| (client, false)).collect(),
            asked: vec![None; self.sockets],
            latency: Histogram::new_with_max(600_000_000_000, 3)?,
            given: 0,
            done: 0,
            fault: None,
        };
        let start = Instant::now();
        let (mut before, mut last) = (None, (0, start));
        let after = loop {
            let elapsed = start.elapsed();
            let due = if self.rate > 0.0 { (elapsed.as_secs_f64() * self.rate) as u64 } else { u64::MAX };
            commands.give(&mut crowd, due)?;
            commands.hear(&mut crowd)?;
            if commands.done != last.0 {
                last = (commands.done, Instant::now());
            } else if last.1.elapsed() > PATIENCE {
                bail!("nothing is answered for {PATIENCE:?} after {} commands", commands.done);
            }
            if before.is_none() && elapsed >= bench.warm_up {
                before = Some(Moment::now(&servers, commands.done)?);
                commands.latency.reset();
            } else if elapsed >= bench.warm_up + bench.seconds {
                break Moment::now(&servers, commands.done)?;
            }
        };
        let Some(before) = before else { bail!("nothing was measured") };
        let latency = commands.latency.clone();
        commands.leave_all(&mut crowd)?;
        let left = settled(&servers, baseline, &mut crowd)?;

        let count = (after.done - before.done) as f64;
        let mut round = Round::default();
        round.add(&RATE, count / (after.at - before.at).as_secs_f64());
        after.spent.add_as(&CPU, &mut round, &before.spent, count);
        round.add(&P50, quantile_ms(&latency, 0.5));
        round.add(&P99, quantile_ms(&latency, 0.99));
        round.add(&DRIFT, (after.memory as f64 / before.memory as f64 - 1.0) * 100.0);
        round.add(&LEFT, left);
        round.add(&DONE, count);
        round.expect("nats-server has exactly the subscriptions that it had before", left == 0.0);
        Ok(round)
    }

    /// What it is, in a line.
    pub fn title(&self) -> String {
        let rate = if self.rate > 0.0 {
            format!("{} commands/s", number(self.rate, 0))
        } else {
            "as fast as it goes".to_owned()
        };
        format!("{} sockets subscribe and leave, {rate}", number(self.sockets as f64, 0))
    }
}

struct Moment {
    at: Instant,
    done: u64,
    spent: Spent,
    memory: u64,
}

impl Moment {
    fn now(servers: &Servers, done: u64) -> anyhow::Result<Self> {
        let memory = usage::resident(servers.facing()?)?;
        Ok(Self { at: Instant::now(), done, spent: Spent::now(servers)?, memory })
    }
}

impl Commands {
    /// Gives commands until so many have been given.
    fn give(&mut self, crowd: &mut Crowd, due: u64) -> anyhow::Result<()> {
        while self.given < due
            && let Some((client, leaves)) = self.ready.pop_front()
        {
            let channel = format!("bench.churn.U{client:06}");
            self.asked[client] = Some((leaves, Instant::now()));
            self.given += 1;
            let client = crowd.client(client);
            if leaves { client.remove_channel(&channel)? } else { client.add_channel(&channel)? }
        }
        Ok(())
    }

    fn hear(&mut self, crowd: &mut Crowd) -> anyhow::Result<()> {
        crowd.turn(Duration::from_millis(1), &mut |client, heard, now| match heard {
            Heard::Answered => match self.asked[client].take() {
                Some((left, since)) => {
                    let took = now.saturating_duration_since(since).as_nanos();
                    self.latency.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
                    self.done += 1;
                    self.ready.push_back((client, !left));
                }
                None => self.fault = Some("an answer to no command".to_owned()),
            },
            Heard::Ended(reason) => self.fault = Some(reason.to_owned()),
            Heard::Live { .. }
            | Heard::Publication(_)
            | Heard::Compressed(_)
            | Heard::Gap { .. }
            | Heard::Refused => {}
        })?;
        match self.fault.take() {
            Some(fault) => bail!("a client: {fault}"),
            None => Ok(()),
        }
    }

    /// Waits for the answers, and leaves what is still subscribed.
    fn leave_all(&mut self, crowd: &mut Crowd) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.ready.retain(|(_, leaves)| *leaves);
            self.give(crowd, u64::MAX)?;
            if self.asked.iter().all(Option::is_none) {
                return Ok(());
            }
            self.hear(crowd)?;
            if Instant::now() > until {
                bail!("not all commands are answered after {PATIENCE:?}");
            }
        }
    }
}

/// How many subscriptions are left over, when that has stopped to change or time is up.
fn settled(servers: &Servers, baseline: u64, crowd: &mut Crowd) -> anyhow::Result<f64> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let left = servers.nats_subscriptions()? as f64 - baseline as f64;
        if left == 0.0 || Instant::now() > until {
            return Ok(left);
        }
        crowd.turn(Duration::from_millis(20), &mut |_, _, _| {})?;
    }
}
