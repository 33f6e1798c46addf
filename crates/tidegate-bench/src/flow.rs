//! Publications on their way: who has received what, whether all of it came in order, and how long it took.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use hdrhistogram::Histogram;

use crate::client::ear::Heard;
use crate::inflated::Inflated;

/// Latencies up to so many nanoseconds; longer ones count as these.
const LONGEST_NS: u64 = 600_000_000_000;

/// Who hears what: subjects take turns, and so do the clients' choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub sockets: usize,
    pub subjects: usize,
    /// Subjects of one socket.
    pub per_socket: usize,
}

impl Shape {
    /// The subjects of a client, by number, scattered over all of them: subjects take turns in being published, and
    /// those of one client must not come in a row. Each subject has about as many clients as any other.
    pub fn wanted(&self, client: usize) -> Vec<usize> {
        let Self { subjects, per_socket, .. } = *self;
        let step = scatter(subjects);
        let first = client * per_socket;
        // Each time round others come together, where no client's subjects are on both sides of a turn.
        let turn = if subjects.is_multiple_of(per_socket) { first / subjects } else { 0 };
        (first..first + per_socket).map(|place| (place % subjects * step + turn * 37) % subjects).collect()
    }

    /// How many clients hear each subject.
    pub fn listeners(&self) -> Vec<u32> {
        let mut listeners = vec![0; self.subjects];
        for client in 0..self.sockets {
            self.wanted(client).into_iter().for_each(|subject| listeners[subject] += 1);
        }
        listeners
    }
}

/// What is promised of the publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Every one, in the order of its subject.
    All,
    /// The newest of each subject in the end, and none that is older than one before.
    Newest,
}

/// All of it.
#[derive(Debug)]
pub struct Flow {
    shape: Shape,
    promise: Promise,
    listeners: Vec<u32>,
    /// By client: its subjects, and the number that should come next on each.
    expected: Vec<Vec<(usize, u64)>>,
    /// Publications in flight, in order: how many deliveries each lacks, and when it went.
    flights: VecDeque<(u32, Instant)>,
    /// The number of the first in flight.
    first: u64,
    /// The number of the next publication.
    pub next: u64,
    /// Publications that all have received.
    pub complete: u64,
    pub deliveries: u64,
    pub compressed: u64,
    inflated: Inflated,
    pub latency: Histogram<u64>,
    /// What went wrong first, and how often something did.
    faults: (u64, String),
}

impl Flow {
    /// None is on its way yet.
    pub fn new(shape: Shape, promise: Promise) -> anyhow::Result<Self> {
        let subjects = |client| shape.wanted(client).into_iter().map(|subject| (subject, subject as u64));
        Ok(Self {
            shape,
            promise,
            listeners: shape.listeners(),
            expected: (0..shape.sockets).map(|client| subjects(client).collect()).collect(),
            flights: VecDeque::new(),
            first: 0,
            next: 0,
            complete: 0,
            deliveries: 0,
            compressed: 0,
            inflated: Inflated::default(),
            latency: Histogram::new_with_max(LONGEST_NS, 3)?,
            faults: (0, String::new()),
        })
    }

    /// Forgets what was counted, not what is under way.
    pub fn begin(&mut self) {
        self.latency.reset();
    }

    /// How many are on their way.
    pub fn in_flight(&self) -> u64 {
        self.next - self.complete
    }

    /// Notes that the next publication goes now; its number.
    pub fn depart(&mut self, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        let lacks = self.listeners[(number % self.shape.subjects as u64) as usize];
        self.flights.push_back((lacks, now));
        if lacks == 0 {
            self.complete += 1;
        }
        self.land();
        number
    }

    /// Notes what a client has heard. `due` tells when a publication was meant to go, for those that do not depart
    /// here.
    pub fn hear(
        &mut self,
        client: usize,
        heard: Heard<'_>,
        now: Instant,
        due: Option<&dyn Fn(u64) -> Instant>,
    ) {
        let number = match heard {
            Heard::Publication(number) => number,
            Heard::Compressed(message) => {
                self.compressed += 1;
                match self.inflated.number(message) {
                    Some(number) => number,
                    None => return self.fault(|| "it hears what is no compressed publication".to_owned()),
                }
            }
            Heard::Gap { cause, .. } => return self.fault(|| format!("it hears a gap ({cause})")),
            Heard::Ended(reason) => return self.fault(|| format!("it has ended: {reason}")),
            Heard::Live { .. } | Heard::Answered | Heard::Refused => return,
        };
        if !self.check(client, number) {
            return;
        }
        self.deliveries += 1;
        let departed = match due {
            Some(due) => Some(due(number)),
            None => self.arrive(number),
        };
        let Some(departed) = departed else {
            return self.fault(|| format!("it hears {number}, which is not on its way"));
        };
        let took = now.saturating_duration_since(departed);
        self.latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Whether this is what should come next.
    fn check(&mut self, client: usize, number: u64) -> bool {
        let subjects = self.shape.subjects as u64;
        let subject = (number % subjects) as usize;
        let Some((_, next)) = self.expected[client].iter_mut().find(|(wanted, _)| *wanted == subject) else {
            self.fault(|| format!("it hears {number}, whose subject it has not asked for"));
            return false;
        };
        let expected = std::mem::replace(next, number + subjects);
        let fine = match self.promise {
            Promise::All => number == expected,
            Promise::Newest => number >= expected,
        };
        if !fine {
            self.fault(|| format!("it hears {number} in place of {expected}"));
        }
        fine
    }

    /// One delivery of a publication in flight; when it went.
    fn arrive(&mut self, number: u64) -> Option<Instant> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let (lacks, departed) = self.flights.get_mut(place)?;
        *lacks = lacks.checked_sub(1)?;
        let departed = *departed;
        if *lacks == 0 {
            self.complete += 1;
            self.land();
        }
        Some(departed)
    }

    fn land(&mut self) {
        while let Some((0, _)) = self.flights.front() {
            self.flights.pop_front();
            self.first += 1;
        }
    }

    fn fault(&mut self, what: impl FnOnce() -> String) {
        self.faults.0 += 1;
        if self.faults.0 == 1 {
            self.faults.1 = what();
        }
    }

    /// Whether everybody has the last of each of its subjects that was published before `next`.
    pub fn is_settled(&self, next: u64) -> bool {
        let subjects = self.shape.subjects as u64;
        let settled = |&(subject, expected): &(usize, u64)| {
            last(next, subject as u64, subjects).is_none_or(|last| expected > last)
        };
        self.expected.iter().flatten().all(settled)
    }

    /// How many deliveries there are when everybody has all before `next`.
    pub fn owed(&self, next: u64) -> u64 {
        let subjects = self.shape.subjects as u64;
        let (rounds, rest) = (next / subjects, (next % subjects) as usize);
        let sum = |listeners: &[u32]| listeners.iter().map(|&count| u64::from(count)).sum::<u64>();
        rounds * sum(&self.listeners) + sum(&self.listeners[..rest])
    }

    /// How often something has gone wrong, and what was the first.
    pub fn faults(&self) -> (u64, &str) {
        (self.faults.0, &self.faults.1)
    }

    /// Fails if anything has gone wrong: figures would say nothing.
    pub fn check_faults(&self) -> anyhow::Result<()> {
        match &self.faults {
            (0, _) => Ok(()),
            (count, first) => bail!("{count} faults, so there are no figures; the first client: {first}"),
        }
    }
}

/// A step with which so many subjects are all come by, far from their neighbours (by the golden ratio).
fn scatter(subjects: usize) -> usize {
    let near = (subjects as f64 * 0.618) as usize;
    (near.max(1)..).find(|step| gcd(*step, subjects) == 1).unwrap_or(1)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The number of the last publication of a subject before `next`.
fn last(next: u64, subject: u64, subjects: u64) -> Option<u64> {
    let past = next.checked_sub(subject + 1)?;
    Some(past / subjects * subjects + subject)
}

/// A quantile of a histogram of nanoseconds, in milliseconds.
pub fn quantile_ms(latency: &Histogram<u64>, quantile: f64) -> f64 {
    Duration::from_nanos(latency.value_at_quantile(quantile)).as_secs_f64() * 1e3
}
