//! `churn`: each client subscribes to its own subject and unsubscribes, repeatedly. In the end nats-server must
//! have exactly the subscriptions that it had before.

use std::collections::VecDeque;
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
use crate::process_usage;
use crate::servers::Servers;
use crate::servers::Target;
use crate::servers::settings::Settings;
use crate::workloads::connect::CpuTimes;

/// The measurement fails if no command is answered for this long.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Rate limits far above the defaults, which are made for browsers.
const LIMITS: &str = "[limits]\ncommands_per_s = 100000\ncommands_burst = 1000000\n\
                      inbound_bytes_per_s = 1073741824\ninbound_burst_bytes = 1073741824\n";

const RATE: Metric = Metric::compared("commands_per_s", "commands/s", 0);
const CPU: Metric = Metric::compared("cpu_us", "CPU µs per command", 1);
const P50: Metric = Metric::compared("p50_ms", "reply p50, ms", 2);
const P99: Metric = Metric::compared("p99_ms", "reply p99, ms", 2);
const MEMORY_GROWTH: Metric =
    Metric::plain("memory_growth_percent", "memory growth during the measurement, %", 1);
const LEFT: Metric = Metric::plain("subscriptions_left", "subscriptions left over on nats-server", 0);
const DONE: Metric = Metric::plain("commands", "commands answered", 0);

#[derive(Clone, Debug, PartialEq)]
pub struct Churn {
    pub sockets: usize,
    /// Commands per second of all clients together; 0 means as many as the server answers.
    pub rate: f64,
}

/// The clients' commands and their replies. Each client has at most one command without a reply.
struct CommandLoop {
    /// Clients that can send a command, and whether that is an unsubscribe.
    ready: VecDeque<(usize, bool)>,
    /// By client: whether it waits for the reply to an unsubscribe, and since when.
    waiting: Vec<Option<(bool, Instant)>>,
    latency: Histogram<u64>,
    sent: u64,
    done: u64,
    fault: Option<String>,
}

impl Churn {
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        let settings = Settings { extra_toml: LIMITS.to_owned(), ..bench.settings() };
        let servers = Servers::start(&bench.programs, target, &settings)?;
        let config = |client| servers.client_config(client, &["bench.fanout".to_owned()], &[0], &settings);
        let mut pool = ClientPool::connected((0..self.sockets).map(config))?;
        let initial = servers.nats_subscriptions()?;
        let mut commands = CommandLoop {
            ready: (0..self.sockets).map(|client| (client, false)).collect(),
            waiting: vec![None; self.sockets],
            latency: Histogram::new_with_max(600_000_000_000, 3)?,
            sent: 0,
            done: 0,
            fault: None,
        };
        let start = Instant::now();
        let (mut before, mut last) = (None, (0, start));
        let after = loop {
            let elapsed = start.elapsed();
            let due = if self.rate > 0.0 { (elapsed.as_secs_f64() * self.rate) as u64 } else { u64::MAX };
            commands.send_until(&mut pool, due)?;
            commands.collect_replies(&mut pool)?;
            if commands.done != last.0 {
                last = (commands.done, Instant::now());
            } else if last.1.elapsed() > TIMEOUT {
                bail!("no reply for {TIMEOUT:?} after {} commands", commands.done);
            }
            if before.is_none() && elapsed >= bench.warm_up {
                before = Some(Checkpoint::now(&servers, commands.done)?);
                commands.latency.reset();
            } else if elapsed >= bench.warm_up + bench.seconds {
                break Checkpoint::now(&servers, commands.done)?;
            }
        };
        let Some(before) = before else { bail!("nothing was measured") };
        let latency = commands.latency.clone();
        commands.unsubscribe_all(&mut pool)?;
        let left = left_over(&servers, initial, &mut pool)?;

        let count = (after.done - before.done) as f64;
        let mut round = Round::default();
        round.add(&RATE, count / (after.at - before.at).as_secs_f64());
        after.spent.add_as(&CPU, &mut round, &before.spent, count);
        round.add(&P50, quantile_ms(&latency, 0.5));
        round.add(&P99, quantile_ms(&latency, 0.99));
        round.add(&MEMORY_GROWTH, (after.memory as f64 / before.memory as f64 - 1.0) * 100.0);
        round.add(&LEFT, left);
        round.add(&DONE, count);
        round.expect("nats-server has exactly the subscriptions that it had before", left == 0.0);
        Ok(round)
    }

    pub fn title(&self) -> String {
        let rate = if self.rate > 0.0 {
            format!("{} commands/s", number(self.rate, 0))
        } else {
            "as fast as possible".to_owned()
        };
        format!("{} sockets subscribe and unsubscribe, {rate}", number(self.sockets as f64, 0))
    }
}

struct Checkpoint {
    at: Instant,
    done: u64,
    spent: CpuTimes,
    memory: u64,
}

impl Checkpoint {
    fn now(servers: &Servers, done: u64) -> anyhow::Result<Self> {
        let memory = process_usage::resident(servers.client_facing_pid()?)?;
        Ok(Self { at: Instant::now(), done, spent: CpuTimes::now(servers)?, memory })
    }
}

impl CommandLoop {
    /// Sends commands until `due` have been sent, or all clients wait for a reply.
    fn send_until(&mut self, pool: &mut ClientPool, due: u64) -> anyhow::Result<()> {
        while self.sent < due
            && let Some((client, is_unsubscribe)) = self.ready.pop_front()
        {
            let channel = format!("bench.churn.U{client:06}");
            self.waiting[client] = Some((is_unsubscribe, Instant::now()));
            self.sent += 1;
            let client = pool.client(client);
            if is_unsubscribe { client.remove_channel(&channel)? } else { client.add_channel(&channel)? }
        }
        Ok(())
    }

    fn collect_replies(&mut self, pool: &mut ClientPool) -> anyhow::Result<()> {
        pool.poll(Duration::from_millis(1), &mut |client, event, now| match event {
            ClientEvent::Reply => match self.waiting[client].take() {
                Some((was_unsubscribe, since)) => {
                    let took = now.saturating_duration_since(since).as_nanos();
                    self.latency.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
                    self.done += 1;
                    self.ready.push_back((client, !was_unsubscribe));
                }
                None => self.fault = Some("received a reply without a command".to_owned()),
            },
            ClientEvent::Ended(reason) => self.fault = Some(reason.to_owned()),
            ClientEvent::Live { .. }
            | ClientEvent::Publication(_)
            | ClientEvent::Compressed(_)
            | ClientEvent::Gap { .. }
            | ClientEvent::Rejected => {}
        })?;
        match self.fault.take() {
            Some(fault) => bail!("a client: {fault}"),
            None => Ok(()),
        }
    }

    /// Unsubscribes all clients, and waits for all replies.
    fn unsubscribe_all(&mut self, pool: &mut ClientPool) -> anyhow::Result<()> {
        let until = Instant::now() + TIMEOUT;
        loop {
            self.ready.retain(|(_, is_unsubscribe)| *is_unsubscribe);
            self.send_until(pool, u64::MAX)?;
            if self.waiting.iter().all(Option::is_none) {
                return Ok(());
            }
            self.collect_replies(pool)?;
            if Instant::now() > until {
                bail!("some commands have no reply after {TIMEOUT:?}");
            }
        }
    }
}

/// The number of subscriptions on nats-server above `initial`: 0 as soon as it is, otherwise its value after 10 s.
fn left_over(servers: &Servers, initial: u64, pool: &mut ClientPool) -> anyhow::Result<f64> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let left = servers.nats_subscriptions()? as f64 - initial as f64;
        if left == 0.0 || Instant::now() > until {
            return Ok(left);
        }
        pool.poll(Duration::from_millis(20), &mut |_, _, _| {})?;
    }
}
