//! What attackers do, each of them within the limits of one client.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::payload::Template;
use crate::producer::Outlet;
use crate::producer::Producer;
use crate::producer::Steady;
use crate::servers::settings;
use crate::works::abuse::pest::Pests;
use crate::works::abuse::pest::Script;

/// Just below what a client may send in the long run.
const STEADY: usize = 29 * 1024;
/// Files of a node whose descriptors are to run out, beyond the good clients.
const FILES: u64 = 400;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// 18 times a list of 1,000 symbols and the whole group left again, in one write.
    Groups,
    /// Lists of 65 KB of one symbol against 1,000 subscriptions.
    Lists,
    /// 1,000 patterns that match one subject, and a hundred sockets with a few.
    Patterns,
    /// The longest rate that may be asked for, on many subjects.
    Rates,
    /// More sockets than there are descriptors.
    Sockets,
    /// HTTP calls for last values, as long as calls may be.
    Last,
}

/// Attackers at work. They end when this is dropped.
pub struct Attackers {
    pests: Pests,
    _publications: Option<Steady>,
}

impl Attackers {
    /// Ends them; how many bytes they have sent.
    pub fn end(self) -> u64 {
        self.pests.end()
    }
}

impl Attack {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 6] = [
        ("groups", Self::Groups),
        ("lists", Self::Lists),
        ("patterns", Self::Patterns),
        ("rates", Self::Rates),
        ("sockets", Self::Sockets),
        ("last", Self::Last),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, attack)| *attack == self).map_or("", |(name, _)| name)
    }

    /// What it is, in a line.
    pub fn title(self, attackers: usize) -> String {
        match self {
            Self::Groups => {
                format!("{attackers} that subscribe to 1,000 symbols and leave them, 18 times in a write")
            }
            Self::Lists => format!("{attackers} that send lists of 65 KB of one symbol"),
            Self::Patterns => "101 with patterns that all match one subject".to_owned(),
            Self::Rates => "20 with 2,000 subjects and the longest max_rate_ms".to_owned(),
            Self::Sockets => "more silent sockets than descriptors".to_owned(),
            Self::Last => format!("{attackers} that call for last values, 16 KiB/s each"),
        }
    }

    /// How many files a node may open; 0 for as many as this program.
    pub fn files(self, good: usize) -> u64 {
        match self {
            Self::Sockets => good as u64 + FILES,
            Self::Groups | Self::Lists | Self::Patterns | Self::Rates | Self::Last => 0,
        }
    }

    /// Lets them begin.
    pub fn begin(self, attackers: usize, node: SocketAddr, nats: &Outlet) -> anyhow::Result<Attackers> {
        let publications = match self {
            Self::Patterns => {
                Some(publications(nats, &["bench.overlap.a.a.a.a.a.a.a.a.a.a".to_owned()], 20.0)?)
            }
            Self::Rates => {
                let subjects: Vec<_> = (0..2000).map(|number| format!("bench.latest.S{number:05}")).collect();
                Some(publications(nats, &subjects, 1000.0)?)
            }
            Self::Groups | Self::Lists | Self::Sockets | Self::Last => None,
        };
        Ok(Attackers { pests: Pests::begin(node, &self.scripts(attackers))?, _publications: publications })
    }

    /// Who does what.
    fn scripts(self, attackers: usize) -> Vec<Script> {
        let stock_agent = || Script::socket("/ws/pest");
        match self {
            Self::Groups => {
                let once = prices("subscribe", 0..1000)
                    + "\n"
                    + r#"{"type":"unsubscribe","channel":"prices"}"#
                    + "\n";
                // 110 KB, as often as a client may send as much.
                vec![stock_agent().at_once(&once.repeat(18)).anew(Duration::from_millis(3500)); attackers]
            }
            Self::Lists => {
                let list = format!(
                    r#"{{"type":"unsubscribe","channel":"prices","symbols":[7{}]}}"#,
                    ",7".repeat(32_000)
                );
                vec![stock_agent().at_once(&prices("subscribe", 0..1000)).then(&list, STEADY); attackers]
            }
            Self::Patterns => {
                let all = Script::socket("/ws").at_once(&overlapping(0..1000));
                let few = (0..100)
                    .map(|socket| Script::socket("/ws").at_once(&overlapping(socket * 8..socket * 8 + 8)));
                few.chain([all]).collect()
            }
            Self::Rates => {
                // What may not be asked for is refused; then what may be.
                let ask = |ms: u64| {
                    format!(r#"{{"type":"subscribe","channel":"bench.latest.*","max_rate_ms":{ms}}}"#)
                };
                let asked = ask(4_233_600_000) + "\n" + &ask(60_000);
                vec![Script::socket("/ws").at_once(&asked); 20]
            }
            Self::Sockets => vec![Script::silent(); FILES as usize + 200],
            Self::Last => {
                let symbols: Vec<_> = (0..1100).map(|number| format!("S{number:05}")).collect();
                let symbols = symbols.join(",");
                let call = format!("GET /last?symbols={symbols} HTTP/1.1\r\nHost: abuse\r\n\r\n");
                vec![Script::calls(&call, 16 * 1024); attackers]
            }
        }
    }
}

fn prices(word: &str, symbols: std::ops::Range<usize>) -> String {
    let list: Vec<_> = symbols.map(|number| format!("\"S{number}\"")).collect();
    format!(r#"{{"type":"{word}","channel":"prices","symbols":[{}]}}"#, list.join(","))
}

/// Patterns that all match one subject of ten tokens behind `bench.overlap`: each is a number in binary, with a wildcard
/// for each one.
fn overlapping(numbers: std::ops::Range<usize>) -> String {
    let pattern = |number: usize| {
        let tokens: String = (0..10).map(|bit| if number >> bit & 1 == 1 { ".*" } else { ".a" }).collect();
        format!("\"bench.overlap{tokens}\"")
    };
    let list: Vec<_> = numbers.map(pattern).collect();
    format!(r#"{{"type":"subscribe","channels":[{}]}}"#, list.join(","))
}

fn publications(nats: &Outlet, subjects: &[String], per_s: f64) -> anyhow::Result<Steady> {
    Producer::connect(nats, Arc::new(Template::for_nats(subjects, 1024)))?.steadily(per_s, 0)
}

/// Stock Agent's vocabulary with a call for last values.
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

/// What a node under attack says in its configuration: everybody may come, and may see what there is.
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
    fn patterns_differ_and_fit_into_a_message() {
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
