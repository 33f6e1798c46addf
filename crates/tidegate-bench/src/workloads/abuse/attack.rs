//! The attacks. Each attacker stays within the limits of one client.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::payload::Template;
use crate::producer::Destination;
use crate::producer::Producer;
use crate::producer::SteadyProducer;
use crate::servers::settings;
use crate::workloads::abuse::attackers::AttackScript;
use crate::workloads::abuse::attackers::AttackerThread;

/// Bytes per second, just below the limit for one client.
const BYTES_PER_S: usize = 29 * 1024;
/// File descriptors of the node that [`Attack::Sockets`] attacks, besides those of the well-behaved clients.
const SPARE_FILES: u64 = 400;

/// What attackers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Subscribe to 1,000 symbols and unsubscribe from all of them, 18 times in one write.
    Groups,
    /// Unsubscribe with lists of 65 KB that repeat one symbol, while 1,000 subscriptions exist.
    Lists,
    /// One socket with 1,000 patterns that match the same subject, and a hundred sockets with eight of them each.
    Patterns,
    /// The longest `max_rate_ms` that a client may request, on many subjects.
    Rates,
    /// More sockets than the node has file descriptors.
    Sockets,
    /// HTTP calls for last values, as long as the node permits.
    Last,
    /// At once: clients that send a request byte by byte, clients that send nothing, clients that never read what they
    /// have subscribed to, and clients that flood the node with pings. The well-behaved clients are on the same node.
    Mix,
}

/// Running attackers. They stop when this is dropped.
pub struct RunningAttack {
    attackers: AttackerThread,
    _producer: Option<SteadyProducer>,
}

impl RunningAttack {
    /// Stops the attackers. Returns how many bytes they sent.
    pub fn stop(self) -> u64 {
        self.attackers.stop()
    }
}

impl Attack {
    /// All attacks with the names that `--attack` accepts.
    pub const ALL: [(&'static str, Self); 7] = [
        ("groups", Self::Groups),
        ("lists", Self::Lists),
        ("patterns", Self::Patterns),
        ("rates", Self::Rates),
        ("sockets", Self::Sockets),
        ("last", Self::Last),
        ("mix", Self::Mix),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, attack)| *attack == self).map_or("", |(name, _)| name)
    }

    /// One line for tables: the number of attackers and what they do.
    pub fn title(self, attackers: usize) -> String {
        match self {
            Self::Groups => {
                format!(
                    "attackers ({attackers}) that subscribe to 1,000 symbols and unsubscribe, 18 times per write"
                )
            }
            Self::Lists => format!("attackers ({attackers}) that send lists of 65 KB with one symbol"),
            Self::Patterns => "attackers (101) with patterns that all match one subject".to_owned(),
            Self::Rates => "attackers (20) with 2,000 subjects and the longest max_rate_ms".to_owned(),
            Self::Sockets => "more silent sockets than file descriptors".to_owned(),
            Self::Last => format!("attackers ({attackers}) that request last values, 16 KiB/s each"),
            Self::Mix => {
                let Mix { slow, silent, unread, pings } = Mix::of(attackers);
                format!(
                    "at once {slow} slow requests, {silent} silent sockets, {unread} sockets that never read and \
                     {pings} floods of pings"
                )
            }
        }
    }

    /// The node's limit on open files; 0 means the limit of this program. `clients` is the number of well-behaved ones.
    pub fn max_open_files(self, clients: usize) -> u64 {
        match self {
            Self::Sockets => clients as u64 + SPARE_FILES,
            Self::Groups | Self::Lists | Self::Patterns | Self::Rates | Self::Last | Self::Mix => 0,
        }
    }

    /// Starts the attackers, and a producer if the attack needs publications.
    pub fn start(
        self,
        attackers: usize,
        node: SocketAddr,
        nats: &Destination,
    ) -> anyhow::Result<RunningAttack> {
        let producer = match self {
            Self::Patterns => Some(publish(nats, &["bench.overlap.a.a.a.a.a.a.a.a.a.a".to_owned()], 20.0)?),
            Self::Rates => {
                let subjects: Vec<_> = (0..2000).map(|number| format!("bench.latest.S{number:05}")).collect();
                Some(publish(nats, &subjects, 1000.0)?)
            }
            Self::Mix => Some(publish(nats, &["bench.flood".to_owned()], 1000.0)?),
            Self::Groups | Self::Lists | Self::Sockets | Self::Last => None,
        };
        Ok(RunningAttack {
            attackers: AttackerThread::start(node, &self.scripts(attackers))?,
            _producer: producer,
        })
    }

    /// The number of attackers, if `attackers` are asked for.
    pub fn sockets(self, attackers: usize) -> usize {
        self.scripts(attackers).len()
    }

    /// One script per attacker.
    fn scripts(self, attackers: usize) -> Vec<AttackScript> {
        let stock_agent = || AttackScript::socket("/ws/attacker");
        match self {
            Self::Groups => {
                let once = prices("subscribe", 0..1000)
                    + "\n"
                    + r#"{"type":"unsubscribe","channel":"prices"}"#
                    + "\n";
                // 110 KB per connection, and as many connections as the byte rate of one client permits.
                vec![
                    stock_agent().at_once(&once.repeat(18)).reconnect_after(Duration::from_millis(3500));
                    attackers
                ]
            }
            Self::Lists => {
                let list = format!(
                    r#"{{"type":"unsubscribe","channel":"prices","symbols":[7{}]}}"#,
                    ",7".repeat(32_000)
                );
                vec![
                    stock_agent().at_once(&prices("subscribe", 0..1000)).repeated(&list, BYTES_PER_S);
                    attackers
                ]
            }
            Self::Patterns => {
                let all = AttackScript::socket("/ws").at_once(&overlapping(0..1000));
                let few = (0..100).map(|socket| {
                    AttackScript::socket("/ws").at_once(&overlapping(socket * 8..socket * 8 + 8))
                });
                few.chain([all]).collect()
            }
            Self::Rates => {
                // The node rejects the first request, and accepts the second, which has the longest permitted rate.
                let ask = |ms: u64| {
                    format!(r#"{{"type":"subscribe","channel":"bench.latest.*","max_rate_ms":{ms}}}"#)
                };
                let requests = ask(4_233_600_000) + "\n" + &ask(60_000);
                vec![AttackScript::socket("/ws").at_once(&requests); 20]
            }
            Self::Sockets => vec![AttackScript::silent(); SPARE_FILES as usize + 200],
            Self::Last => {
                let symbols: Vec<_> = (0..1100).map(|number| format!("S{number:05}")).collect();
                let symbols = symbols.join(",");
                let call = format!("GET /last?symbols={symbols} HTTP/1.1\r\nHost: abuse\r\n\r\n");
                vec![AttackScript::calls(&call, 16 * 1024); attackers]
            }
            Self::Mix => Mix::of(attackers).scripts(),
        }
    }
}

/// The numbers of the attackers of [`Attack::Mix`].
struct Mix {
    slow: usize,
    silent: usize,
    unread: usize,
    pings: usize,
}

impl Mix {
    fn of(pings: usize) -> Self {
        Self { slow: 25 * pings, silent: 25 * pings, unread: (5 * pings).div_ceil(2), pings }
    }

    fn scripts(&self) -> Vec<AttackScript> {
        let subscribe = r#"{"type":"subscribe","channel":"bench.flood"}"#;
        let unread = AttackScript::socket("/ws").at_once(subscribe).unread();
        let pings = AttackScript::socket("/ws").pings(BYTES_PER_S).unread();
        let of = |script: AttackScript, count| std::iter::repeat_n(script, count);
        of(AttackScript::slow_request(), self.slow)
            .chain(of(AttackScript::silent(), self.silent))
            .chain(of(unread, self.unread))
            .chain(of(pings, self.pings))
            .collect()
    }
}

fn prices(word: &str, symbols: std::ops::Range<usize>) -> String {
    let list: Vec<_> = symbols.map(|number| format!("\"S{number}\"")).collect();
    format!(r#"{{"type":"{word}","channel":"prices","symbols":[{}]}}"#, list.join(","))
}

/// A subscribe message with patterns that all match one subject of ten tokens after `bench.overlap`. The tokens are the
/// binary digits of a number: `*` for 1, and `a` for 0.
fn overlapping(numbers: std::ops::Range<usize>) -> String {
    let pattern = |number: usize| {
        let tokens: String = (0..10).map(|bit| if number >> bit & 1 == 1 { ".*" } else { ".a" }).collect();
        format!("\"bench.overlap{tokens}\"")
    };
    let list: Vec<_> = numbers.map(pattern).collect();
    format!(r#"{{"type":"subscribe","channels":[{}]}}"#, list.join(","))
}

fn publish(nats: &Destination, subjects: &[String], per_s: f64) -> anyhow::Result<SteadyProducer> {
    Producer::connect(nats, Arc::new(Template::for_nats(subjects, 1024)))?.start_at_rate(per_s, 0)
}

/// Stock Agent's vocabulary with an HTTP route for last values.
pub fn vocabulary() -> String {
    settings::stock_agent()
        + r#"
[[http]]
method = "GET"
path = "/last"
do = "last"
each = "{query.symbols|split}"
channel = "bench.last.{item}"
send = { list = "{list}", count = "{count}" }
"#
}

/// TOML for the nodes: anonymous clients may connect, and subscribe to everything in `bench.>`.
pub fn configuration(vocabulary: &Path) -> String {
    format!(
        r#"
[[role]]
name = "guest"
subscribe = {{ allow = ["bench.>"] }}
[[class]]
pattern = "bench.last.*"
kind = "latest"
snapshot = true
[[endpoint]]
path = "/ws"
anonymous_role = "guest"
[[endpoint]]
vocabulary = "{}"
anonymous_role = "guest"
anonymous_http_role = "guest"
"#,
        vocabulary.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_patterns_are_distinct_and_fit_into_a_message() {
        let message = overlapping(0..1000);
        assert!(message.len() < 65_536, "{}", message.len());
        let json: serde_json::Value = serde_json::from_str(&message).unwrap();
        let channels: std::collections::BTreeSet<_> =
            json["channels"].as_array().unwrap().iter().map(serde_json::Value::to_string).collect();
        assert_eq!(channels.len(), 1000);
    }

    #[test]
    fn every_attack_has_scripts_and_a_name() {
        for (name, attack) in Attack::ALL {
            assert!(!attack.scripts(1).is_empty());
            assert_eq!(attack.name(), name);
        }
    }
}
