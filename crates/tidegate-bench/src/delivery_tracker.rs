//! Tracks publications from the producer to all clients: checks that none is missing, repeated or out of order, and
//! records latencies.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use hdrhistogram::Histogram;

use crate::client::frame_parser::ClientEvent;
use crate::inflate_cache::InflateCache;

/// The longest latency that is recorded, in nanoseconds; longer ones count as this.
const LONGEST_NS: u64 = 600_000_000_000;

/// Which clients subscribe to which subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub sockets: usize,
    pub subjects: usize,
    /// Subjects per socket.
    pub per_socket: usize,
}

impl Shape {
    /// The numbers of a client's subjects. They are scattered over all subjects: publications go through the subjects
    /// in order, and one client must not receive several in a row. All subjects have about the same number of clients.
    pub fn subjects_of(&self, client: usize) -> Vec<usize> {
        let Self { subjects, per_socket, .. } = *self;
        let step = scatter_step(subjects);
        let first = client * per_socket;
        // Each pass over the subjects combines them differently, unless a client's subjects span two passes.
        let turn = if subjects.is_multiple_of(per_socket) { first / subjects } else { 0 };
        (first..first + per_socket).map(|place| (place % subjects * step + turn * 37) % subjects).collect()
    }

    /// The number of clients that subscribe to each subject.
    pub fn subscribers(&self) -> Vec<u32> {
        let mut subscribers = vec![0; self.subjects];
        for client in 0..self.sockets {
            self.subjects_of(client).into_iter().for_each(|subject| subscribers[subject] += 1);
        }
        subscribers
    }
}

/// What the server guarantees for publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Every publication arrives, in order for each subject.
    All,
    /// The newest publication of each subject arrives in the end, and none arrives after a newer one.
    Newest,
}

/// The publications of one measurement, and their deliveries.
#[derive(Debug)]
pub struct DeliveryTracker {
    shape: Shape,
    guarantee: Guarantee,
    subscribers: Vec<u32>,
    /// By client: its subjects, and the next expected number on each.
    expected: Vec<Vec<(usize, u64)>>,
    /// Publications in flight, in order: how many deliveries each still needs, and when it was sent.
    pending: VecDeque<(u32, Instant)>,
    /// The number of the first publication in `pending`.
    first_pending: u64,
    /// The number of the next publication.
    pub next: u64,
    /// Number of publications that all subscribers have received.
    pub complete: u64,
    pub deliveries: u64,
    pub compressed: u64,
    inflate_cache: InflateCache,
    pub latency: Histogram<u64>,
    /// The number of faults, and the first one.
    faults: (u64, String),
}

impl DeliveryTracker {
    pub fn new(shape: Shape, guarantee: Guarantee) -> anyhow::Result<Self> {
        let subjects =
            |client| shape.subjects_of(client).into_iter().map(|subject| (subject, subject as u64));
        Ok(Self {
            shape,
            guarantee,
            subscribers: shape.subscribers(),
            expected: (0..shape.sockets).map(|client| subjects(client).collect()).collect(),
            pending: VecDeque::new(),
            first_pending: 0,
            next: 0,
            complete: 0,
            deliveries: 0,
            compressed: 0,
            inflate_cache: InflateCache::default(),
            latency: Histogram::new_with_max(LONGEST_NS, 3)?,
            faults: (0, String::new()),
        })
    }

    /// Clears the latencies. Publications in flight stay tracked.
    pub fn reset_latency(&mut self) {
        self.latency.reset();
    }

    /// Number of publications that some subscribers have not received.
    pub fn in_flight(&self) -> u64 {
        self.next - self.complete
    }

    /// Records that the next publication is sent now. Returns its number.
    pub fn record_sent(&mut self, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        let missing = self.subscribers[(number % self.shape.subjects as u64) as usize];
        self.pending.push_back((missing, now));
        if missing == 0 {
            self.complete += 1;
        }
        self.drop_complete();
        number
    }

    /// Records an event of a client. `due` gives the time when a publication was due; without it, latency counts from
    /// [`DeliveryTracker::record_sent`].
    pub fn record(
        &mut self,
        client: usize,
        event: ClientEvent<'_>,
        now: Instant,
        due: Option<&dyn Fn(u64) -> Instant>,
    ) {
        let number = match event {
            ClientEvent::Publication(number) => number,
            ClientEvent::Compressed(message) => {
                self.compressed += 1;
                match self.inflate_cache.number(message) {
                    Some(number) => number,
                    None => {
                        return self.fault(|| {
                            "it received a compressed message that is not a publication".to_owned()
                        });
                    }
                }
            }
            ClientEvent::Gap { cause, .. } => return self.fault(|| format!("it received a gap ({cause})")),
            ClientEvent::Ended(reason) => return self.fault(|| format!("its connection ended: {reason}")),
            ClientEvent::Live { .. } | ClientEvent::Reply | ClientEvent::Rejected => return,
        };
        if !self.check(client, number) {
            return;
        }
        self.deliveries += 1;
        let sent = match due {
            Some(due) => Some(due(number)),
            None => self.record_delivery(number),
        };
        let Some(sent) = sent else {
            return self.fault(|| format!("it received {number}, which is not in flight"));
        };
        let took = now.saturating_duration_since(sent);
        self.latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Whether this number is allowed next on its subject.
    fn check(&mut self, client: usize, number: u64) -> bool {
        let subjects = self.shape.subjects as u64;
        let subject = (number % subjects) as usize;
        let Some((_, next)) = self.expected[client].iter_mut().find(|(wanted, _)| *wanted == subject) else {
            self.fault(|| format!("it received {number}, whose subject it does not subscribe to"));
            return false;
        };
        let expected = std::mem::replace(next, number + subjects);
        let fine = match self.guarantee {
            Guarantee::All => number == expected,
            Guarantee::Newest => number >= expected,
        };
        if !fine {
            self.fault(|| format!("it received {number} instead of {expected}"));
        }
        fine
    }

    /// Records one delivery of a publication in flight. Returns when that was sent.
    fn record_delivery(&mut self, number: u64) -> Option<Instant> {
        let place = usize::try_from(number.checked_sub(self.first_pending)?).ok()?;
        let (missing, sent) = self.pending.get_mut(place)?;
        *missing = missing.checked_sub(1)?;
        let sent = *sent;
        if *missing == 0 {
            self.complete += 1;
            self.drop_complete();
        }
        Some(sent)
    }

    fn drop_complete(&mut self) {
        while let Some((0, _)) = self.pending.front() {
            self.pending.pop_front();
            self.first_pending += 1;
        }
    }

    fn fault(&mut self, what: impl FnOnce() -> String) {
        self.faults.0 += 1;
        if self.faults.0 == 1 {
            self.faults.1 = what();
        }
    }

    /// Whether every client has received, on each of its subjects, the last publication before number `next`.
    pub fn is_settled(&self, next: u64) -> bool {
        let subjects = self.shape.subjects as u64;
        let settled = |&(subject, expected): &(usize, u64)| {
            last_number(next, subject as u64, subjects).is_none_or(|last| expected > last)
        };
        self.expected.iter().flatten().all(settled)
    }

    /// Number of deliveries once all clients have received all publications before number `next`.
    pub fn expected_deliveries(&self, next: u64) -> u64 {
        let subjects = self.shape.subjects as u64;
        let (rounds, rest) = (next / subjects, (next % subjects) as usize);
        let sum = |subscribers: &[u32]| subscribers.iter().map(|&count| u64::from(count)).sum::<u64>();
        rounds * sum(&self.subscribers) + sum(&self.subscribers[..rest])
    }

    /// The number of faults, and the first one.
    pub fn faults(&self) -> (u64, &str) {
        (self.faults.0, &self.faults.1)
    }

    /// Fails if there was a fault, because the results would be meaningless.
    pub fn check_faults(&self) -> anyhow::Result<()> {
        match &self.faults {
            (0, _) => Ok(()),
            (count, first) => {
                bail!("{count} faults, so there are no results; the first one of a client: {first}")
            }
        }
    }
}

/// A step that visits all subjects before it repeats one, with neighbours far apart (close to the golden ratio).
fn scatter_step(subjects: usize) -> usize {
    let near = (subjects as f64 * 0.618) as usize;
    (near.max(1)..).find(|step| gcd(*step, subjects) == 1).unwrap_or(1)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The number of a subject's last publication before number `next`.
fn last_number(next: u64, subject: u64, subjects: u64) -> Option<u64> {
    let past = next.checked_sub(subject + 1)?;
    Some(past / subjects * subjects + subject)
}

/// A quantile in milliseconds of a histogram of nanoseconds.
pub fn quantile_ms(latency: &Histogram<u64>, quantile: f64) -> f64 {
    Duration::from_nanos(latency.value_at_quantile(quantile)).as_secs_f64() * 1e3
}
