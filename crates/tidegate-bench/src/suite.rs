//! The workloads that `tidegate bench all` measures for `docs/BENCHMARKS.md`, sized for two cores and ten minutes.

use std::time::Duration;

use crate::delivery_tracker::Shape;
use crate::servers::Target;
use crate::tls::Transport;
use crate::workloads::Workload;
use crate::workloads::abuse::Abuse;
use crate::workloads::churn::Churn;
use crate::workloads::connect::Connect;
use crate::workloads::connect::Storm;
use crate::workloads::heartbeats::Heartbeats;
use crate::workloads::idle::Idle;
use crate::workloads::messages::Messages;
use crate::workloads::messages::Pacing;
use crate::workloads::messages::SubjectKind;
use crate::workloads::restart::Restart;
use crate::workloads::slow::Class;
use crate::workloads::slow::Slow;

/// The numbers of sockets that the growth chart compares, in ascending order.
pub const GROWTH: [usize; 5] = [100, 300, 1000, 3000, 10_000];

/// A workload with its name, and the settings of its measurement that differ from the defaults.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub workload: Workload,
    /// How clients connect.
    pub transport: Transport,
    pub rounds: Option<usize>,
    pub seconds: Option<Duration>,
    /// The servers that are measured besides Tidegate.
    pub others: Others,
}

/// Servers to compare Tidegate with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    All,
    /// The others could not serve this load.
    Baseline,
    None,
}

impl Entry {
    /// An entry that is measured with the default settings.
    pub fn new(name: impl Into<String>, workload: Workload) -> Self {
        Self {
            name: name.into(),
            workload,
            transport: Transport::Plain,
            rounds: None,
            seconds: None,
            others: Others::All,
        }
    }

    fn rounds(self, rounds: usize) -> Self {
        Self { rounds: Some(rounds), ..self }
    }

    /// Sets the length of each measurement. `--seconds` overrides it.
    pub fn seconds(self, seconds: f64) -> Self {
        Self { seconds: Some(Duration::from_secs_f64(seconds)), ..self }
    }

    fn tidegate_only(self) -> Self {
        Self { others: Others::None, ..self }
    }

    fn with_baseline(self) -> Self {
        Self { others: Others::Baseline, ..self }
    }

    /// The same workload with clients that connect over TLS.
    pub fn over_tls(self) -> Self {
        Self { name: format!("{}-tls", self.name), transport: Transport::Tls, ..self }
    }

    /// One line for tables: what is measured, with its sizes.
    pub fn title(&self) -> String {
        match self.transport {
            Transport::Plain => self.workload.title(),
            Transport::Tls => format!("{}, TLS", self.workload.title()),
        }
    }

    /// Whether this server is measured, if it can serve the workload at all.
    pub fn includes(&self, target: &Target) -> bool {
        // The bench does not configure their TLS.
        let is_plain_only = matches!(target, Target::Centrifugo { .. } | Target::Baseline);
        if is_plain_only && self.transport == Transport::Tls {
            return false;
        }
        let is_other = !matches!(target, Target::Tidegate { .. });
        match self.others {
            Others::All => true,
            Others::Baseline => !is_other || *target == Target::Baseline,
            Others::None => !is_other,
        }
    }
}

/// One subject, which all sockets subscribe to.
pub fn fanout(sockets: usize, pacing: Pacing) -> Messages {
    messages(SubjectKind::Fanout, Shape { sockets, subjects: 1, per_socket: 1 }, pacing)
}

/// Many subjects; each socket subscribes to several.
pub fn market(sockets: usize, subjects: usize, per_socket: usize, pacing: Pacing) -> Messages {
    messages(SubjectKind::Market, Shape { sockets, subjects, per_socket }, pacing)
}

/// One subject per socket.
pub fn private(sockets: usize, pacing: Pacing) -> Messages {
    messages(SubjectKind::Private, Shape { sockets, subjects: sockets, per_socket: 1 }, pacing)
}

/// One subject per socket, and one publication at a time.
pub fn lone(sockets: usize, per_s: f64) -> Messages {
    Messages { kind: SubjectKind::Lone, ..private(sockets, Pacing::Rate(per_s)) }
}

fn messages(kind: SubjectKind, shape: Shape, pacing: Pacing) -> Messages {
    Messages { kind, shape, pacing, size: 200, max_rate_ms: 0, feed: String::new(), compress: false }
}

/// All entries, in the order of `docs/BENCHMARKS.md`.
pub fn all() -> Vec<Entry> {
    let window = Pacing::Window(64);
    let idle = Idle { sockets: 10_000, processes: 1, private: false, feed: String::new(), compress: false };
    let heartbeats = Heartbeats { sockets: 10_000, processes: 1, private: false, interval_s: 25 };
    let mut all = vec![
        Entry::new("fanout-64", Workload::Messages(fanout(1000, window))),
        Entry::new("fanout-1", Workload::Messages(fanout(1000, Pacing::Window(1)))),
        Entry::new("fanout-rate", Workload::Messages(fanout(1000, Pacing::Rate(200.0)))),
        // A goal here is 10 %, which is less than the difference between two rounds.
        Entry::new("market", Workload::Messages(market(500, 1000, 10, Pacing::Window(1000)))).rounds(9),
        Entry::new("private", Workload::Messages(private(5000, window))),
        Entry::new("lone", Workload::Messages(lone(200, 400.0))),
        Entry::new("idle-shared", Workload::Idle(idle.clone())).rounds(2),
        Entry::new("idle-private", Workload::Idle(Idle { private: true, ..idle.clone() })).rounds(2),
        heartbeats_entry(heartbeats.clone()).rounds(1).tidegate_only(),
        heartbeats_entry(Heartbeats { private: true, ..heartbeats }).rounds(1).tidegate_only(),
        Entry::new("connect", Workload::Connect(Connect { at_once: 64, same_token: false })),
        Entry::new("connect-same-token", Workload::Connect(Connect { at_once: 64, same_token: true }))
            .tidegate_only(),
        Entry::new("storm", Workload::Storm(Storm { sockets: 5000, channels: 1 })),
        Entry::new("storm-channels", Workload::Storm(Storm { sockets: 500, channels: 200 }))
            .rounds(1)
            .tidegate_only(),
    ];
    let feed = || "pattern".to_owned();
    let workload = Messages { feed: feed(), ..private(5000, window) };
    all.push(Entry::new("private-pattern", Workload::Messages(workload)).tidegate_only());
    let workload = Messages { feed: "own".to_owned(), ..private(5000, window) };
    all.push(Entry::new("private-own", Workload::Messages(workload)).tidegate_only());
    let workload = Idle { private: true, feed: feed(), ..idle.clone() };
    all.push(Entry::new("idle-private-pattern", Workload::Idle(workload)).rounds(2).tidegate_only());
    all.push(Entry::new("fanout-64", Workload::Messages(fanout(1000, window))).over_tls());
    all.push(Entry::new("idle-shared", Workload::Idle(idle.clone())).rounds(1).over_tls());
    for size in [200, 1024] {
        let plain = Messages { size, ..fanout(1000, window) };
        if size != 200 {
            all.push(Entry::new(format!("plain-{size}"), Workload::Messages(plain.clone())).tidegate_only());
        }
        let workload = Messages { compress: true, ..plain };
        all.push(Entry::new(format!("compressed-{size}"), Workload::Messages(workload)).tidegate_only());
    }
    let workload = Idle { compress: true, ..idle };
    all.push(Entry::new("idle-compressed", Workload::Idle(workload)).rounds(2).tidegate_only());
    for sockets in GROWTH {
        let workload = Workload::Messages(fanout(sockets, Pacing::Window(16)));
        all.push(Entry::new(format!("sockets-{sockets}"), workload).rounds(2));
    }
    // Few subjects and many, with the same number of sockets and of deliveries per publication.
    for (subjects, per_socket) in [(100, 1), (10_000, 100)] {
        let workload = Workload::Messages(market(1000, subjects, per_socket, Pacing::Window(1000)));
        all.push(Entry::new(format!("subjects-{subjects}"), workload).tidegate_only());
    }
    for sockets in [100, 10_000] {
        let workload = Workload::Messages(private(sockets, window));
        all.push(Entry::new(format!("private-{sockets}"), workload).tidegate_only());
    }
    all.push(
        Entry::new("load-L3", Workload::Messages(fanout(5000, Pacing::Rate(100.0))))
            .rounds(3)
            .with_baseline(),
    );
    let ticks = Messages { max_rate_ms: 100, ..market(5000, 2000, 20, Pacing::Rate(20_000.0)) };
    all.push(Entry::new("load-L4", Workload::Messages(ticks)).rounds(1).tidegate_only());
    all.push(Entry::new("churn", Workload::Churn(Churn { sockets: 500, rate: 10_000.0 })).rounds(1));
    all.extend(slow().map(|slow| slow_entry(slow).rounds(1)));
    all.push(restart_entry(restart()).rounds(1));
    all
}

/// The workload with a reader that stops, once for each class.
pub fn slow() -> [Slow; 2] {
    [Class::Latest, Class::Buffer].map(|class| Slow {
        class,
        sockets: 100,
        flooded: 3,
        megabytes: 50.0,
        size: 8192,
        write_timeout_s: 8,
        outbox_mib: 8,
        growth_mib: 32,
    })
}

/// Each socket receives one ping during the measurement, or two.
pub fn heartbeats_entry(heartbeats: Heartbeats) -> Entry {
    let seconds = heartbeats.interval_s as f64 + 1.0;
    let name = if heartbeats.private { "heartbeats-private" } else { "heartbeats" };
    Entry::new(name, Workload::Heartbeats(heartbeats)).seconds(seconds)
}

pub fn slow_entry(slow: Slow) -> Entry {
    let name = match slow.class {
        Class::Latest => "slow-latest",
        Class::Buffer => "slow-buffer",
    };
    Entry::new(name, Workload::Slow(slow)).seconds(4.0)
}

/// The workload in which nats-server is killed and restarted.
pub fn restart() -> Restart {
    Restart { sockets: 1000, rate: 100.0, size: 200, downtime: Duration::from_secs(2) }
}

pub fn restart_entry(restart: Restart) -> Entry {
    Entry::new("restart", Workload::Restart(restart)).seconds(3.0)
}

pub fn abuse_entry(abuse: Abuse) -> Entry {
    Entry::new(format!("abuse-{}", abuse.attack.name()), Workload::Abuse(abuse))
}

/// The name of a workload without TLS in the suite, if the suite has one of exactly these sizes.
pub fn name_of(workload: &Workload) -> Option<String> {
    let is_same = |entry: &Entry| entry.workload == *workload && entry.transport == Transport::Plain;
    all().into_iter().find(is_same).map(|entry| entry.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_simple() {
        let all = all();
        let names: BTreeSet<_> = all.iter().map(|entry| entry.name.clone()).collect();
        assert_eq!(names.len(), all.len());
        for entry in &all {
            assert!(entry.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{}", entry.name);
        }
    }

    #[test]
    fn a_workload_is_known_by_its_sizes() {
        let fanout_64 = Workload::Messages(fanout(1000, Pacing::Window(64)));
        assert_eq!(name_of(&fanout_64).as_deref(), Some("fanout-64"));
        assert_eq!(name_of(&Workload::Messages(fanout(20, Pacing::Window(64)))), None);
    }
}
