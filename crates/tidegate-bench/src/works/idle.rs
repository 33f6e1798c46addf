//! `idle`: sockets that hear nothing for a while: memory of a socket, CPU of connecting it and of keeping it. In the
//! end each gets one publication, so that all are known to have been there.

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
use crate::payload::Template;
use crate::producer::Producer;
use crate::servers::Servers;
use crate::servers::Target;
use crate::servers::settings::Settings;

/// How long the last publication may take to all of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// Before memory is looked at: what was freed takes a while to be.
const SETTLE: Duration = Duration::from_secs(1);

const MEMORY: Figure = Figure::compared("socket_bytes", "memory a socket, bytes", 0);
const NATS: Figure = Figure::shown("nats_socket_bytes", "- of it nats-server", 0);
const FRONT: Figure = Figure::shown("front_socket_bytes", "- of it Tidegate or floor", 0);
const CONNECT: Figure = Figure::compared("connect_us", "CPU of connecting, µs a socket", 1);
const QUIET: Figure = Figure::compared("quiet_percent", "CPU while idle, % of a core", 2);
const RECEIVED: Figure = Figure::shown("received", "received, none missing", 0);

/// How many of what.
#[derive(Clone, Debug, PartialEq)]
pub struct Idle {
    pub sockets: usize,
    /// A subject for each, in place of one for all.
    pub private: bool,
    /// What the class of private subjects says of its feed; nothing if empty.
    pub feed: String,
    /// Whether clients offer permessage-deflate.
    pub compress: bool,
}

impl Idle {
    /// Measures a target once.
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
        let wish = |client| servers.wish(client, &subjects, &shape.wanted(client), &settings);
        let wishes: anyhow::Result<Vec<_>> = (0..self.sockets).map(wish).collect();
        let mut crowd = Crowd::new(wishes?)?;
        let mut flow = Flow::new(shape, Promise::All)?;
        wait(&mut crowd, &mut flow, SETTLE)?;
        let (empty, cpu) = (servers.memory()?, servers.cpu()?);
        crowd.connect_all(|_, _| {})?;
        wait(&mut crowd, &mut flow, SETTLE)?;
        let (full, connected) = (servers.memory()?, servers.cpu()?);
        let quiet = Instant::now();
        wait(&mut crowd, &mut flow, bench.seconds)?;
        let (quiet, rested) = (quiet.elapsed(), servers.cpu()?);
        self.tell_all(&servers, &mut crowd, &mut flow, &subjects, target)?;

        let all = self.sockets as f64;
        let mut round = Round::default();
        let grown = |after: u64, before: u64| (after as f64 - before as f64) / all;
        let (nats, front) = (grown(full.0, empty.0), grown(full.1, empty.1));
        round.add(&MEMORY, nats + front);
        round.add(&NATS, nats);
        round.add(&FRONT, front);
        let spent = |after: (Duration, Duration), before: (Duration, Duration)| {
            (after.0 + after.1).saturating_sub(before.0 + before.1).as_secs_f64()
        };
        round.add(&CONNECT, spent(connected, cpu) * 1e6 / all);
        round.add(&QUIET, spent(rested, connected) * 100.0 / quiet.as_secs_f64());
        round.add(&RECEIVED, flow.deliveries as f64);
        Ok(round)
    }

    fn tell_all(
        &self,
        servers: &Servers,
        crowd: &mut Crowd,
        flow: &mut Flow,
        subjects: &[String],
        target: &Target,
    ) -> anyhow::Result<()> {
        let template = match target {
            Target::Floor => Template::for_floor(subjects, 100),
            Target::Peer | Target::Tidegate { .. } | Target::Described { .. } | Target::File { .. } => {
                Template::for_nats(subjects, 100)
            }
        };
        let mut producer = Producer::connect(&servers.outlet(), Arc::new(template))?;
        let until = Instant::now() + PATIENCE;
        let mut left = subjects.len();
        while left > 0 || flow.in_flight() > 0 {
            let now = Instant::now();
            while left > 0 && flow.in_flight() < 1000 {
                producer.add(flow.depart(now));
                left -= 1;
            }
            producer.flush_all()?;
            wait(crowd, flow, Duration::from_millis(1))?;
            if now > until {
                bail!("{} publications have not reached all within {PATIENCE:?}", flow.in_flight());
            }
        }
        flow.check_faults()
    }

    /// What it is, in a line.
    pub fn title(&self) -> String {
        let subjects = if self.private { "with a subject each" } else { "with one subject" };
        let feed = if self.feed.is_empty() { String::new() } else { format!(", feed by {}", self.feed) };
        let compress = if self.compress { ", compression negotiated" } else { "" };
        format!("{} idle sockets {subjects}{feed}{compress}", number(self.sockets as f64, 0))
    }
}

/// Answers pings for a while.
fn wait(crowd: &mut Crowd, flow: &mut Flow, time: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        crowd.turn(left.min(Duration::from_millis(100)), &mut |client, heard, now| {
            flow.hear(client, heard, now, None);
        })?;
        flow.check_faults()?;
        if left.is_zero() {
            return Ok(());
        }
    }
}
