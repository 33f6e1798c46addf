//! Statistics: counts and lists of the sessions of one vocabulary, merged from shards and nodes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tidegate_protocol::delivery_counts::DeliveryCounts;
use tidegate_protocol::session::stats::SessionStats;

/// The values of `{stats.x}`. Nodes send them to each other as JSON, in pieces. Fields that an older node does not send
/// have their default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Statistics {
    connections: u64,
    users: BTreeSet<Box<str>>,
    paths: BTreeMap<Box<str>, u64>,
    labels: Vec<Box<str>>,
    groups: BTreeMap<Box<str>, u64>,
    groups_by_label: Lists,
    items_by_label: BTreeMap<Box<str>, Lists>,
    delivery_counts: DeliveryCounts,
    errors: u64,
    refused: u64,
    /// A histogram of delivery times: the upper bound of each bucket in microseconds, and how many deliveries it has.
    latencies_us: BTreeMap<u64, u64>,
}

/// Lists by name. Each value has its position in the list, so that adding one of many values needs no search: clients
/// choose how many there are.
type Lists = BTreeMap<Box<str>, BTreeMap<Box<str>, u64>>;

/// The largest piece of statistics, in bytes of text. As JSON it stays below the limit of a NATS message, also if one
/// session has as much as it may.
const MAX_PIECE_BYTES: usize = 128 * 1024;

/// What latencies beyond the last step count as.
const LONGEST_US: u64 = 10_000_000;

/// The names after `stats.`. Each needs a row in `docs/VOCABULARIES.md`.
pub const NAMES: [&str; 12] = [
    "connections",
    "users",
    "paths",
    "labels",
    "groups",
    "groups_by_label",
    "items_by_label",
    "delivered",
    "dropped",
    "errors",
    "refused",
    "latency_p99_ms",
];

impl Statistics {
    /// Statistics of these sessions, in pieces that are small enough to send. Items are listed for the `counted`
    /// groups.
    pub fn pieces(sessions: &[SessionStats], counted: &[Box<str>]) -> Vec<Self> {
        let (mut pieces, mut room) = (Vec::new(), 0);
        for session in sessions {
            let weight = weight(session);
            if weight > room || pieces.is_empty() {
                pieces.push(Self::default());
                room = MAX_PIECE_BYTES;
            }
            room = room.saturating_sub(weight);
            if let Some(piece) = pieces.last_mut() {
                piece.session(session, counted);
            }
        }
        pieces
    }

    /// Adds the counts of publications.
    pub fn with(self, delivery_counts: DeliveryCounts) -> Self {
        Self { delivery_counts, ..self }
    }

    /// Adds messages of clients that were answered with an error.
    pub fn with_errors(self, errors: u64) -> Self {
        Self { errors, ..self }
    }

    /// Adds handshakes and calls that were refused.
    pub fn with_refused(self, refused: u64) -> Self {
        Self { refused, ..self }
    }

    /// Adds a histogram of delivery times: the upper bound of each bucket in microseconds, and how many deliveries it has.
    pub fn with_latencies(self, latencies_us: impl IntoIterator<Item = (u64, u64)>) -> Self {
        Self { latencies_us: latencies_us.into_iter().filter(|(_, count)| *count > 0).collect(), ..self }
    }

    fn session(&mut self, session: &SessionStats, counted: &[Box<str>]) {
        self.connections += 1;
        self.users.extend(session.user.as_deref().map(Box::from));
        *self.paths.entry(session.path.clone()).or_default() += 1;
        self.labels.extend(session.label.as_deref().map(Box::from));
        for (group, tokens) in &session.groups {
            *self.groups.entry(group.clone()).or_default() += 1;
            let Some(label) = session.label.as_deref() else { continue };
            add_values(&mut self.groups_by_label, label, [group.clone()]);
            if counted.contains(group) {
                let items = tokens.iter().map(|token| token.as_str().into());
                add_values(self.items_by_label.entry(group.clone()).or_default(), label, items);
            }
        }
    }

    /// Merges other statistics into these.
    pub fn add(&mut self, others: Self) {
        let sum = |ours: &mut BTreeMap<Box<str>, u64>, theirs: BTreeMap<Box<str>, u64>| {
            for (name, count) in theirs {
                *ours.entry(name).or_default() += count;
            }
        };
        self.connections += others.connections;
        self.users.extend(others.users);
        sum(&mut self.paths, others.paths);
        self.labels.extend(others.labels);
        sum(&mut self.groups, others.groups);
        for (label, groups) in others.groups_by_label {
            add_values(&mut self.groups_by_label, &label, in_order(groups));
        }
        for (group, labels) in others.items_by_label {
            let ours = self.items_by_label.entry(group).or_default();
            for (label, items) in labels {
                add_values(ours, &label, in_order(items));
            }
        }
        self.delivery_counts += others.delivery_counts;
        self.errors += others.errors;
        self.refused += others.refused;
        for (at_most, count) in others.latencies_us {
            *self.latencies_us.entry(at_most).or_default() += count;
        }
    }

    /// The time that 99 of 100 deliveries do not exceed, in milliseconds; `None` if none was measured.
    fn latency_p99_ms(&self) -> Option<f64> {
        let all: u64 = self.latencies_us.values().sum();
        let mut more = all / 100;
        for (at_most, count) in self.latencies_us.iter().rev() {
            if *count > more {
                return Some(Duration::from_micros(LONGEST_US.min(*at_most)).as_secs_f64() * 1000.0);
            }
            more -= count;
        }
        None
    }

    /// The statistics as JSON, for another node.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Parses statistics from another node. `None` if they are invalid.
    pub fn decode(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The values for placeholders: users as a count, and one object for each `counted` group.
    pub fn to_json(&self, counted: &[Box<str>]) -> Value {
        let listed = |lists: &Lists| -> Map<String, Value> {
            let lists = lists.iter();
            lists
                .map(|(name, list)| (name.to_string(), in_order(list).map(|value| &**value).collect()))
                .collect()
        };
        let items = |group: &str| {
            let lists = self.items_by_label.get(group).map(listed).unwrap_or_default();
            (group.to_owned(), Value::Object(lists))
        };
        json!({
            "connections": self.connections,
            "users": self.users.len(),
            "paths": self.paths,
            "labels": self.labels,
            "groups": self.groups,
            "groups_by_label": listed(&self.groups_by_label),
            "items_by_label": counted.iter().map(|group| items(group)).collect::<Map<_, _>>(),
            "delivered": self.delivery_counts.delivered,
            "dropped": self.delivery_counts.dropped,
            "errors": self.errors,
            "refused": self.refused,
            "latency_p99_ms": self.latency_p99_ms(),
        })
    }
}

/// Adds the missing values to the list with this name: two sessions with one label share a list.
fn add_values(lists: &mut Lists, name: &str, values: impl IntoIterator<Item = Box<str>>) {
    let list = lists.entry(name.into()).or_default();
    for value in values {
        let place = list.len() as u64;
        list.entry(value).or_insert(place);
    }
}

fn in_order<V, P: Ord + Copy>(list: impl IntoIterator<Item = (V, P)>) -> impl Iterator<Item = V> {
    let mut values: Vec<_> = list.into_iter().collect();
    values.sort_by_key(|(_, place)| *place);
    values.into_iter().map(|(value, _)| value)
}

/// The size of a session in bytes of text, with some room for punctuation.
fn weight(session: &SessionStats) -> usize {
    let SessionStats { path, user, label, groups } = session;
    let groups = groups.iter().map(|(group, tokens)| {
        // Each token has a position.
        2 * group.len() + tokens.iter().map(|token| token.len() + 8).sum::<usize>()
    });
    let label = label.as_deref().map_or(0, str::len);
    path.len() + user.as_deref().map_or(0, str::len) + 3 * label + groups.sum::<usize>() + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(user: &str, label: &str, groups: &[(&str, &[&str])]) -> SessionStats {
        let owned = |tokens: &[&str]| tokens.iter().map(|token| (*token).to_owned()).collect();
        SessionStats {
            path: "main".into(),
            user: Some(user.into()),
            label: Some(label.to_owned()),
            groups: groups.iter().map(|(group, tokens)| ((*group).into(), owned(tokens))).collect(),
        }
    }

    fn of(sessions: &[SessionStats], counted: &[Box<str>]) -> Statistics {
        let mut all = Statistics::default();
        Statistics::pieces(sessions, counted).into_iter().for_each(|piece| all.add(piece));
        all
    }

    fn sessions() -> Vec<SessionStats> {
        vec![
            session("u1", "a", &[("prices", &["AAPL", "MSFT"]), ("alerts", &[])]),
            session("u1", "a", &[("prices", &["MSFT", "TSLA"])]),
            session("u2", "b", &[("alerts", &[])]),
            SessionStats { user: None, label: None, ..session("", "", &[("alerts", &[])]) },
        ]
    }

    #[test]
    fn sessions_are_counted_and_listed_by_label() {
        let counted = ["prices".into(), "signals".into()];
        let latencies = [(1000, 99), (2500, 1), (u64::MAX, 0)];
        let statistics = of(&sessions(), &counted).with(DeliveryCounts { delivered: 7, dropped: 2 });
        let statistics = statistics.with_errors(3).with_refused(1).with_latencies(latencies);
        let shown = statistics.to_json(&counted);
        assert_eq!(
            shown,
            json!({
                "connections": 4,
                "users": 2,
                "paths": { "main": 4 },
                "labels": ["a", "a", "b"],
                "groups": { "alerts": 3, "prices": 2 },
                "groups_by_label": { "a": ["prices", "alerts"], "b": ["alerts"] },
                "items_by_label": { "prices": { "a": ["AAPL", "MSFT", "TSLA"] }, "signals": {} },
                "delivered": 7,
                "dropped": 2,
                "errors": 3,
                "refused": 1,
                "latency_p99_ms": 1.0,
            })
        );
        let mut names: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        let mut known = NAMES.to_vec();
        known.sort_unstable();
        assert_eq!(names, known);
    }

    #[test]
    fn however_sessions_are_spread_and_sent_the_sum_is_the_same() {
        let (sessions, counted) = (sessions(), ["prices".into()]);
        let whole = of(&sessions, &counted).with(DeliveryCounts { delivered: 3, dropped: 3 });
        for cut in 0..=sessions.len() {
            let (here, there) = sessions.split_at(cut);
            let mut sum = of(here, &counted).with(DeliveryCounts { delivered: 1, dropped: 3 });
            let sent = of(there, &counted).with(DeliveryCounts { delivered: 2, dropped: 0 });
            sum.add(Statistics::decode(&sent.encode()).unwrap());
            assert_eq!(sum, whole, "{cut}");
        }
        assert_eq!(Statistics::decode(b"{}"), Some(Statistics::default()), "an older node's");
        assert_eq!(Statistics::decode(b"true"), None);
    }

    #[test]
    fn the_latency_is_that_of_ninety_nine_in_a_hundred() {
        let p99 = |steps: &[(u64, u64)]| {
            let (all, mut sum) =
                (Statistics::default().with_latencies(steps.to_vec()), Statistics::default());
            // In two halves.
            sum.add(Statistics::decode(&all.encode()).unwrap());
            sum.add(all);
            sum.to_json(&[])["latency_p99_ms"].clone()
        };
        assert_eq!(p99(&[]), Value::Null);
        assert_eq!(p99(&[(100, 1)]), json!(0.1));
        assert_eq!(p99(&[(100, 99), (1000, 1)]), json!(0.1));
        assert_eq!(p99(&[(100, 98), (1000, 2)]), json!(1.0));
        assert_eq!(p99(&[(100, 1), (u64::MAX, 1)]), json!(10_000.0));
    }

    #[test]
    fn a_piece_can_be_sent_whatever_clients_call_themselves_and_watch() {
        let tokens: Vec<String> = (0..1000).map(|token| format!("a-token-of-some-length-{token}")).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let greedy: Vec<_> = (0..200)
            .map(|user| session(&format!("user-{user}"), &format!("page-{user}"), &[("prices", &tokens)]))
            .collect();
        let counted = ["prices".into()];
        let pieces = Statistics::pieces(&greedy, &counted);
        assert!(pieces.len() > 10, "{}", pieces.len());
        for piece in &pieces {
            assert!(piece.encode().len() < 1_000_000, "{}", piece.encode().len());
        }
        let modest: Vec<_> = (0..1000).map(|user| session(&user.to_string(), "page", &[])).collect();
        assert_eq!(Statistics::pieces(&modest, &counted).len(), 1);
        let all = of(&greedy, &counted).to_json(&counted);
        assert_eq!(all["items_by_label"]["prices"]["page-199"], json!(tokens));
        // Many sessions share a label, and each has other tokens: the longest list that is possible.
        let shared: Vec<_> = (0..100).map(|page| format!("{page}-")).collect();
        let shared: Vec<_> = shared
            .iter()
            .map(|page| {
                let tokens: Vec<String> = (0..1000).map(|token| format!("{page}{token}")).collect();
                let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
                session("u", "the-page", &[("prices", &tokens)])
            })
            .collect();
        let all = of(&shared, &counted).to_json(&counted);
        assert_eq!(all["items_by_label"]["prices"]["the-page"].as_array().unwrap().len(), 100_000);
    }
}
