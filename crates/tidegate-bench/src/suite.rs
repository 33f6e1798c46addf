//! What `tidegate bench all` measures: the workloads of `docs/BENCHMARKS.md`, with sizes for two cores and ten minutes.

use std::time::Duration;

use crate::flow::Shape;
use crate::works::Work;
use crate::works::abuse::Abuse;
use crate::works::churn::Churn;
use crate::works::connect::Connect;
use crate::works::connect::Storm;
use crate::works::idle::Idle;
use crate::works::messages::Drive;
use crate::works::messages::Kind;
use crate::works::messages::Messages;
use crate::works::restart::Restart;
use crate::works::slow::Class;
use crate::works::slow::Slow;

/// Sockets of the growth in sockets, from few to many.
pub const GROWTH: [usize; 5] = [100, 300, 1000, 3000, 10_000];

/// One of them, and how it is measured where that differs.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub work: Work,
    pub rounds: Option<usize>,
    pub seconds: Option<Duration>,
    /// Whether others than Tidegate are measured too.
    pub compared: bool,
}

impl Entry {
    /// With no differences.
    pub fn new(name: impl Into<String>, work: Work) -> Self {
        Self { name: name.into(), work, rounds: None, seconds: None, compared: true }
    }

    fn rounds(self, rounds: usize) -> Self {
        Self { rounds: Some(rounds), ..self }
    }

    /// Measured for so long, unless something else is asked for.
    pub fn seconds(self, seconds: f64) -> Self {
        Self { seconds: Some(Duration::from_secs_f64(seconds)), ..self }
    }

    fn alone(self) -> Self {
        Self { compared: false, ..self }
    }
}

/// Publications to everybody.
pub fn fanout(sockets: usize, drive: Drive) -> Messages {
    messages(Kind::Fanout, Shape { sockets, subjects: 1, per_socket: 1 }, drive)
}

/// Publications of many subjects.
pub fn market(sockets: usize, subjects: usize, per_socket: usize, drive: Drive) -> Messages {
    messages(Kind::Market, Shape { sockets, subjects, per_socket }, drive)
}

/// Publications to one each.
pub fn private(sockets: usize, drive: Drive) -> Messages {
    messages(Kind::Private, Shape { sockets, subjects: sockets, per_socket: 1 }, drive)
}

fn messages(kind: Kind, shape: Shape, drive: Drive) -> Messages {
    Messages { kind, shape, drive, size: 200, max_rate_ms: 0, feed: String::new(), compress: false }
}

/// All of them, in the order of the document.
pub fn all() -> Vec<Entry> {
    let window = Drive::Window(64);
    let idle = Idle { sockets: 10_000, private: false, feed: String::new(), compress: false };
    let mut all = vec![
        Entry::new("fanout-64", Work::Messages(fanout(1000, window))),
        Entry::new("fanout-1", Work::Messages(fanout(1000, Drive::Window(1)))),
        Entry::new("fanout-rate", Work::Messages(fanout(1000, Drive::Rate(200.0)))),
        // A goal here is a tenth, which is less than what one round differs from another.
        Entry::new("market", Work::Messages(market(500, 1000, 10, Drive::Window(1000)))).rounds(9),
        Entry::new("private", Work::Messages(private(5000, window))),
        Entry::new("idle-shared", Work::Idle(idle.clone())).rounds(2),
        Entry::new("idle-private", Work::Idle(Idle { private: true, ..idle.clone() })).rounds(2),
        Entry::new("heartbeats", Work::Idle(idle.clone())).rounds(1).seconds(26.0).alone(),
        Entry::new("connect", Work::Connect(Connect { at_once: 64, same_token: false })),
        Entry::new("connect-same-token", Work::Connect(Connect { at_once: 64, same_token: true })).alone(),
        Entry::new("storm", Work::Storm(Storm { sockets: 5000, channels: 1 })),
        Entry::new("storm-channels", Work::Storm(Storm { sockets: 500, channels: 200 })).rounds(1).alone(),
    ];
    let feed = || "pattern".to_owned();
    let work = Messages { feed: feed(), ..private(5000, window) };
    all.push(Entry::new("private-pattern", Work::Messages(work)).alone());
    let work = Idle { private: true, feed: feed(), ..idle.clone() };
    all.push(Entry::new("idle-private-pattern", Work::Idle(work)).rounds(2).alone());
    for size in [200, 1024] {
        let plain = Messages { size, ..fanout(1000, window) };
        if size != 200 {
            all.push(Entry::new(format!("plain-{size}"), Work::Messages(plain.clone())).alone());
        }
        let work = Messages { compress: true, ..plain };
        all.push(Entry::new(format!("compressed-{size}"), Work::Messages(work)).alone());
    }
    let work = Idle { compress: true, ..idle };
    all.push(Entry::new("idle-compressed", Work::Idle(work)).rounds(2).alone());
    for sockets in GROWTH {
        let work = Work::Messages(fanout(sockets, Drive::Window(16)));
        all.push(Entry::new(format!("sockets-{sockets}"), work).rounds(2));
    }
    // As many deliveries of each publication, and as many sockets, with few subjects and with many.
    for (subjects, per_socket) in [(100, 1), (10_000, 100)] {
        let work = Work::Messages(market(1000, subjects, per_socket, Drive::Window(1000)));
        all.push(Entry::new(format!("subjects-{subjects}"), work).alone());
    }
    all.push(Entry::new("load-L3", Work::Messages(fanout(5000, Drive::Rate(100.0)))).rounds(1).alone());
    let ticks = Messages { max_rate_ms: 100, ..market(5000, 2000, 20, Drive::Rate(20_000.0)) };
    all.push(Entry::new("load-L4", Work::Messages(ticks)).rounds(1).alone());
    all.push(Entry::new("churn", Work::Churn(Churn { sockets: 500, rate: 10_000.0 })).rounds(1));
    all.extend(slow().map(|slow| slow_entry(slow).rounds(1)));
    all.push(restart_entry(restart()).rounds(1));
    all
}

/// A reader that stops, once for each class.
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

/// How that is measured.
pub fn slow_entry(slow: Slow) -> Entry {
    let name = match slow.class {
        Class::Latest => "slow-latest",
        Class::Buffer => "slow-buffer",
    };
    Entry::new(name, Work::Slow(slow)).seconds(4.0)
}

/// nats-server goes and comes back.
pub fn restart() -> Restart {
    Restart { sockets: 1000, rate: 100.0, size: 200, away: Duration::from_secs(2) }
}

/// How that is measured.
pub fn restart_entry(restart: Restart) -> Entry {
    Entry::new("restart", Work::Restart(restart)).seconds(3.0)
}

/// How an attack is measured.
pub fn abuse_entry(abuse: Abuse) -> Entry {
    Entry::new(format!("abuse-{}", abuse.attack.name()), Work::Abuse(abuse))
}

/// What a workload is called in the suite, if it is one of it.
pub fn name_of(work: &Work) -> Option<String> {
    all().into_iter().find(|entry| entry.work == *work).map(|entry| entry.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_names() {
        let all = all();
        let names: BTreeSet<_> = all.iter().map(|entry| entry.name.clone()).collect();
        assert_eq!(names.len(), all.len());
        for entry in &all {
            assert!(entry.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{}", entry.name);
        }
    }

    #[test]
    fn a_workload_is_known_by_its_sizes() {
        let fanout_64 = Work::Messages(fanout(1000, Drive::Window(64)));
        assert_eq!(name_of(&fanout_64).as_deref(), Some("fanout-64"));
        assert_eq!(name_of(&Work::Messages(fanout(20, Drive::Window(64)))), None);
    }
}
