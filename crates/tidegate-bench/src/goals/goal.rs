//! `Goal`, and the list of all goals.

/// The limit that a metric is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    /// A fixed value.
    Value(f64),
    /// A factor, and the target whose median in the same workload it multiplies.
    TimesTarget(f64, &'static str),
    /// A factor, and the workload where Tidegate's median is multiplied.
    TimesWorkload(f64, &'static str),
}

/// Whether the bound is an upper or a lower limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    AtMost,
    AtLeast,
}

/// A limit for one metric of one target in one workload.
#[derive(Debug)]
pub(super) struct Goal {
    /// The name of a workload of the suite, which has all parameters.
    pub workload: &'static str,
    pub target: &'static str,
    pub metric: &'static str,
    pub direction: Direction,
    pub bound: Bound,
}

const fn at_most(workload: &'static str, metric: &'static str, bound: Bound) -> Goal {
    Goal { workload, target: TIDEGATE, metric, direction: Direction::AtMost, bound }
}

const fn at_least(workload: &'static str, metric: &'static str, bound: Bound) -> Goal {
    Goal { workload, target: TIDEGATE, metric, direction: Direction::AtLeast, bound }
}

/// The same goal for another target.
const fn of(target: &'static str, goal: Goal) -> Goal {
    Goal { target, ..goal }
}

pub(super) const TIDEGATE: &str = "tidegate";
/// `lane = "own"` in the class of the subjects.
const OWN_LANE: &str = "tidegate-own";
/// The clients use a vocabulary.
const STOCK_AGENT: &str = "stock-agent";
const CENTRIFUGO: &str = "centrifugo";
const NATS_SERVER: &str = "nats-server";
const BASELINE: &str = "baseline";

pub(super) const GOALS: [Goal; 47] = [
    at_most("fanout-64", "cpu_us", Bound::TimesTarget(0.11, NATS_SERVER)),
    at_most("fanout-64", "cpu_us", Bound::TimesTarget(1.2, BASELINE)),
    at_most("fanout-64-tls", "cpu_us", Bound::TimesTarget(0.5, NATS_SERVER)),
    at_least("fanout-64", "deliveries_per_s", Bound::TimesTarget(4.0, NATS_SERVER)),
    at_most("fanout-1", "cpu_us", Bound::TimesTarget(0.36, NATS_SERVER)),
    at_most("fanout-1", "cpu_us", Bound::TimesTarget(1.15, BASELINE)),
    at_most("fanout-1", "p99_ms", Bound::TimesTarget(0.6, NATS_SERVER)),
    at_most("fanout-rate", "p50_ms", Bound::TimesTarget(0.5, NATS_SERVER)),
    at_most("fanout-rate", "p99_ms", Bound::TimesTarget(0.5, NATS_SERVER)),
    at_most("fanout-rate", "p99_ms", Bound::TimesTarget(1.0, BASELINE)),
    at_most("market", "cpu_us", Bound::TimesTarget(0.73, NATS_SERVER)),
    at_most("market", "cpu_us", Bound::TimesTarget(0.6, NATS_SERVER)),
    at_most("market", "front_us", Bound::Value(0.7)),
    of(STOCK_AGENT, at_most("market", "cpu_us", Bound::TimesTarget(1.1, TIDEGATE))),
    at_most("private", "cpu_us", Bound::TimesTarget(0.6, NATS_SERVER)),
    at_most("private", "cpu_us", Bound::TimesTarget(0.45, CENTRIFUGO)),
    at_most("private-pattern", "cpu_us", Bound::TimesWorkload(1.0, "private")),
    of(OWN_LANE, at_most("lone", "front_instructions", Bound::Value(11_500.0))),
    of(OWN_LANE, at_most("lone", "front_switches", Bound::Value(1.6))),
    of(OWN_LANE, at_most("lone", "front_syscalls", Bound::Value(3.1))),
    at_most("idle-shared", "front_socket_bytes", Bound::Value(2400.0)),
    at_most("idle-shared-tls", "front_socket_bytes", Bound::Value(12_288.0)),
    at_most("idle-compressed", "front_socket_bytes", Bound::Value(5120.0)),
    at_most("idle-private-pattern", "front_socket_bytes", Bound::Value(4096.0)),
    at_most("heartbeats", "front_socket_bytes", Bound::Value(3072.0)),
    at_most("heartbeats", "idle_cpu_percent", Bound::Value(0.85)),
    at_most("heartbeats", "ping_us", Bound::Value(25.0)),
    at_most("heartbeats-private", "idle_cpu_percent", Bound::Value(1.1)),
    at_most("connect", "cpu_us", Bound::Value(50.0)),
    at_most("connect", "cpu_us", Bound::TimesTarget(0.3, NATS_SERVER)),
    at_least("connect", "connections_per_s", Bound::Value(2000.0)),
    at_least("connect-same-token", "connections_per_s", Bound::Value(5000.0)),
    // With more sockets or subjects, Tidegate's own part may grow less than the whole, of which nats-server has a share.
    at_most("sockets-10000", "cpu_us", Bound::TimesWorkload(1.3, "sockets-100")),
    at_most("sockets-10000", "front_us", Bound::TimesWorkload(1.2, "sockets-100")),
    at_most("subjects-10000", "cpu_us", Bound::TimesWorkload(1.3, "subjects-100")),
    at_most("subjects-10000", "front_us", Bound::TimesWorkload(1.2, "subjects-100")),
    at_most("private-10000", "front_us", Bound::TimesWorkload(1.15, "private-100")),
    at_most("compressed-200", "memory_mib", Bound::TimesWorkload(1.5, "fanout-64")),
    at_most("compressed-200", "wire_bytes", Bound::TimesWorkload(1.0, "fanout-64")),
    at_most("compressed-1024", "memory_mib", Bound::TimesWorkload(1.5, "plain-1024")),
    at_most("compressed-1024", "wire_bytes", Bound::TimesWorkload(0.7, "plain-1024")),
    // 500,000 deliveries per second.
    at_least("load-L3", "deliveries_per_s", Bound::Value(495_000.0)),
    at_most("load-L3", "p99_ms", Bound::Value(50.0)),
    at_most("load-L3", "p99_ms", Bound::TimesTarget(1.0, BASELINE)),
    at_least("churn", "commands_per_s", Bound::Value(9900.0)),
    at_most("churn", "memory_growth_percent", Bound::Value(5.0)),
    at_most("churn", "subscriptions_left", Bound::Value(0.0)),
];
