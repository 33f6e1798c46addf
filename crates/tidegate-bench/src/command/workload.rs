//! The workloads as arguments, and what they become.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;

use crate::suite;
use crate::suite::Entry;
use crate::works::Work;
use crate::works::abuse::Abuse;
use crate::works::abuse::attack::Attack;
use crate::works::churn::Churn;
use crate::works::connect::Connect;
use crate::works::connect::Storm;
use crate::works::idle::Idle;
use crate::works::messages::Drive;
use crate::works::messages::Messages;
use crate::works::restart::Restart;
use crate::works::slow::Slow;

/// What is done.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Workload {
    /// Everything in docs/BENCHMARKS.md, in about ten minutes; with nats-server's own listener and the floor.
    All(All),
    /// One subject, many sockets.
    Fanout(Fanout),
    /// Many subjects, several a socket.
    Market(Market),
    /// A subject for each socket.
    Private(Private),
    /// Sockets that hear nothing: memory of each, CPU of keeping them.
    Idle(IdleArgs),
    /// Handshake, token, one subscription, over and over.
    Connect(ConnectArgs),
    /// All sockets come back at once.
    Storm(StormArgs),
    /// Sockets that subscribe and leave, over and over.
    Churn(ChurnArgs),
    /// One reader stops reading a flood: the others get all, memory stays bounded, the reader is told or cut.
    Slow(SlowArgs),
    /// nats-server is killed and comes back: everybody hears of it, and no one has to reconnect.
    Restart(RestartArgs),
    /// Others do their worst, to this node and, as a control, to another one: good clients should not notice.
    Abuse(AbuseArgs),
    #[command(external_subcommand)]
    Unknown(Vec<String>),
}

#[derive(Clone, Debug, Args)]
pub(super) struct All {
    /// The folder with BENCHMARKS.md: its results are replaced, and the pictures drawn in the folder benchmarks in it.
    #[arg(long, value_name = "FOLDER")]
    docs: Option<PathBuf>,
    /// Only the workloads whose names begin so. May be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// What all publications have in common.
#[derive(Clone, Debug, Args)]
struct Publications {
    /// Publications in flight: one is done when every socket has received it. Default: 64, in `market` 1000.
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    window: Option<u64>,
    /// Publications a second in place of a window. Latency then counts from when one was meant to go.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Bytes of a payload.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    size: usize,
    /// Clients offer permessage-deflate.
    #[arg(long)]
    compress: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct Fanout {
    /// Sockets.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    sockets: usize,
    #[command(flatten)]
    publications: Publications,
}

#[derive(Clone, Debug, Args)]
pub(super) struct Market {
    /// Sockets.
    #[arg(long, value_name = "N", default_value_t = 500)]
    sockets: usize,
    /// Subjects.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    subjects: usize,
    /// Subjects of each socket.
    #[arg(long, value_name = "N", default_value_t = 10)]
    per_socket: usize,
    /// Tidegate sends the newest of a subject at most once in so many milliseconds (class `latest`). Needs --rate.
    #[arg(long, value_name = "MS", default_value_t = 0, requires = "rate")]
    max_rate_ms: u64,
    #[command(flatten)]
    publications: Publications,
}

#[derive(Clone, Debug, Args)]
pub(super) struct Private {
    /// Sockets, and subjects.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    sockets: usize,
    /// How Tidegate subscribes for its clients: to each subject, or to one pattern for all.
    #[arg(long, value_enum, default_value_t = Feed::Subject)]
    feed: Feed,
    #[command(flatten)]
    publications: Publications,
}

#[derive(Clone, Debug, Args)]
pub(super) struct IdleArgs {
    /// Sockets.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sockets: usize,
    /// A subject for each socket, in place of one for all.
    #[arg(long)]
    private: bool,
    /// How Tidegate subscribes for its clients: to each subject, or to one pattern for all.
    #[arg(long, value_enum, default_value_t = Feed::Subject)]
    feed: Feed,
    /// Clients offer permessage-deflate.
    #[arg(long)]
    compress: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ConnectArgs {
    /// Handshakes under way at any time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    at_once: usize,
    /// One token for all, in place of a new one for each.
    #[arg(long)]
    same_token: bool,
    /// How tokens are signed.
    #[arg(long, value_enum, ignore_case = true, default_value_t = Algorithm::Hs256)]
    algorithm: Algorithm,
}

#[derive(Clone, Debug, Args)]
pub(super) struct StormArgs {
    /// Sockets.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    sockets: usize,
    /// Channels of each socket. One is the same for all; of several, each has its own.
    #[arg(long, value_name = "N", default_value_t = 1)]
    channels: usize,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ChurnArgs {
    /// Sockets.
    #[arg(long, value_name = "N", default_value_t = 500)]
    sockets: usize,
    /// Commands a second of all sockets together; 0 for as many as are answered.
    #[arg(long, value_name = "N", default_value_t = 10_000.0)]
    rate: f64,
}

#[derive(Clone, Debug, Args)]
pub(super) struct SlowArgs {
    /// Sockets, the one that stops among them.
    #[arg(long, value_name = "N", default_value_t = 100)]
    sockets: usize,
    /// Sockets that subscribe to the flood like the one that stops, and read it. All others hear a calm channel.
    #[arg(long, value_name = "N", default_value_t = 3)]
    flooded: usize,
    /// MB a second of the flood, for each of its sockets.
    #[arg(long, value_name = "MB", default_value_t = 50.0)]
    megabytes: f64,
    /// Bytes of a payload of the flood.
    #[arg(long, value_name = "BYTES", default_value_t = 8192)]
    size: usize,
    /// Seconds that a socket may take nothing before it is cut; more than those of a flood.
    #[arg(long, value_name = "S", default_value_t = 8)]
    write_timeout: u64,
    /// MiB that may wait for one socket. At 50 MB/s, 1 MiB is 20 ms: readers on a busy machine need more.
    #[arg(long, value_name = "MIB", default_value_t = 8)]
    outbox: u64,
    /// MiB by which Tidegate's memory may grow.
    #[arg(long, value_name = "MIB", default_value_t = 32)]
    growth: u64,
}

#[derive(Clone, Debug, Args)]
pub(super) struct RestartArgs {
    /// Sockets.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    sockets: usize,
    /// Publications a second.
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    rate: f64,
    /// Seconds that nats-server is away.
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    away: f64,
}

#[derive(Clone, Debug, Args)]
pub(super) struct AbuseArgs {
    /// Good clients.
    #[arg(long, value_name = "N", default_value_t = 200)]
    sockets: usize,
    /// Publications a second that concern them.
    #[arg(long, value_name = "N", default_value_t = 500.0)]
    rate: f64,
    /// Attackers of `groups`, `lists` and `last`; the other attacks have a number of their own.
    #[arg(long, value_name = "N", default_value_t = 1)]
    attackers: usize,
    /// Only this attack: groups, lists, patterns, rates, sockets or last. May be repeated.
    #[arg(long, value_name = "ATTACK")]
    attack: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Algorithm {
    #[value(name = "HS256")]
    Hs256,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Feed {
    Subject,
    Pattern,
}

impl Feed {
    /// What is in the configuration; nothing for the default.
    fn key(self) -> String {
        match self {
            Self::Subject => String::new(),
            Self::Pattern => "pattern".to_owned(),
        }
    }
}

impl Publications {
    fn drive(&self, window: u64) -> Drive {
        self.rate.map_or_else(|| Drive::Window(self.window.unwrap_or(window)), Drive::Rate)
    }

    fn entry(&self, name: &str, work: Messages) -> anyhow::Result<Entry> {
        let shape = work.shape;
        if shape.sockets == 0 || !(1..=shape.subjects).contains(&shape.per_socket) || self.window == Some(0) {
            bail!("there must be a socket, a subject for each that a socket wants, and something in flight");
        }
        positive("--rate", self.rate.unwrap_or(1.0))?;
        let work = Work::Messages(Messages { size: self.size, compress: self.compress, ..work });
        Ok(Entry::new(suite::name_of(&work).unwrap_or_else(|| name.to_owned()), work))
    }
}

fn positive(what: &str, value: f64) -> anyhow::Result<()> {
    if !(value > 0.0 && value.is_finite()) {
        bail!("{what} must be more than nothing");
    }
    Ok(())
}

fn some(sockets: usize, least: usize) -> anyhow::Result<()> {
    if sockets < least {
        bail!("--sockets must be at least {least}");
    }
    Ok(())
}

impl Workload {
    /// The folder with the document that is to have the results.
    pub(super) fn docs(&self) -> Option<PathBuf> {
        match self {
            Self::All(All { docs, .. }) => docs.clone(),
            Self::Fanout(_)
            | Self::Market(_)
            | Self::Private(_)
            | Self::Idle(_)
            | Self::Connect(_)
            | Self::Storm(_)
            | Self::Churn(_)
            | Self::Slow(_)
            | Self::Restart(_)
            | Self::Abuse(_)
            | Self::Unknown(_) => None,
        }
    }

    /// What is to be measured.
    pub(super) fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        Ok(match self {
            Self::All(All { only, .. }) => {
                let mut all = suite::all();
                all.retain(|entry| only.is_empty() || only.iter().any(|name| entry.name.starts_with(name)));
                if all.is_empty() {
                    let names: Vec<_> = suite::all().into_iter().map(|entry| entry.name).collect();
                    bail!("no workload of `all` is called so; there are {}", names.join(", "));
                }
                all
            }
            Self::Fanout(Fanout { sockets, publications }) => {
                vec![publications.entry("fanout", suite::fanout(*sockets, publications.drive(64)))?]
            }
            Self::Market(Market { sockets, subjects, per_socket, max_rate_ms, publications }) => {
                let work = suite::market(*sockets, *subjects, *per_socket, publications.drive(1000));
                vec![publications.entry("market", Messages { max_rate_ms: *max_rate_ms, ..work })?]
            }
            Self::Private(Private { sockets, feed, publications }) => {
                let work = suite::private(*sockets, publications.drive(64));
                vec![publications.entry("private", Messages { feed: feed.key(), ..work })?]
            }
            Self::Idle(IdleArgs { sockets, private, feed, compress }) => {
                some(*sockets, 1)?;
                let (feed, private, compress) = (feed.key(), *private || *feed == Feed::Pattern, *compress);
                vec![named("idle", Work::Idle(Idle { sockets: *sockets, private, feed, compress }))]
            }
            Self::Connect(ConnectArgs { at_once, same_token, algorithm: Algorithm::Hs256 }) => {
                if *at_once == 0 {
                    bail!("--at-once must be at least 1");
                }
                let work = Work::Connect(Connect { at_once: *at_once, same_token: *same_token });
                vec![named("connect", work)]
            }
            Self::Storm(StormArgs { sockets, channels }) => {
                some(*sockets, 1)?;
                if *channels == 0 {
                    bail!("--channels must be at least 1");
                }
                vec![named("storm", Work::Storm(Storm { sockets: *sockets, channels: *channels }))]
            }
            Self::Churn(ChurnArgs { sockets, rate }) => {
                some(*sockets, 1)?;
                vec![named("churn", Work::Churn(Churn { sockets: *sockets, rate: *rate }))]
            }
            Self::Slow(args) => args.entries()?,
            Self::Restart(args) => vec![args.entry()?],
            Self::Abuse(args) => args.entries()?,
            Self::Unknown(words) => bail!(
                "there is no workload `{}`; there are all, fanout, market, private, idle, connect, storm, churn, slow, \
                 restart and abuse (tidegate bench --help)",
                words.first().map(String::as_str).unwrap_or_default()
            ),
        })
    }
}

fn named(name: &str, work: Work) -> Entry {
    Entry::new(suite::name_of(&work).unwrap_or_else(|| name.to_owned()), work)
}

impl SlowArgs {
    fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        some(self.sockets, self.flooded + 2)?;
        positive("--megabytes", self.megabytes)?;
        let (write_timeout_s, outbox_mib, growth_mib) = (self.write_timeout, self.outbox, self.growth);
        let Self { sockets, flooded, megabytes, size, .. } = *self;
        let with = |Slow { class, .. }| Slow {
            class,
            sockets,
            flooded,
            megabytes,
            size,
            write_timeout_s,
            outbox_mib,
            growth_mib,
        };
        Ok(suite::slow().map(with).map(suite::slow_entry).into())
    }
}

impl RestartArgs {
    fn entry(&self) -> anyhow::Result<Entry> {
        some(self.sockets, 1)?;
        positive("--rate", self.rate)?;
        positive("--away", self.away)?;
        let away = Duration::from_secs_f64(self.away);
        let Self { sockets, rate, .. } = *self;
        Ok(suite::restart_entry(Restart { sockets, rate, away, ..suite::restart() }))
    }
}

impl AbuseArgs {
    fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        some(self.sockets, 1)?;
        positive("--rate", self.rate)?;
        let known = |name: &String| Attack::ALL.iter().any(|(known, _)| known == name);
        if let Some(unknown) = self.attack.iter().find(|name| !known(name)) {
            let names: Vec<_> = Attack::ALL.iter().map(|(name, _)| *name).collect();
            bail!("there is no attack `{unknown}`; there are {}", names.join(", "));
        }
        let is_wanted =
            |name: &str| self.attack.is_empty() || self.attack.iter().any(|wanted| wanted == name);
        let wanted = Attack::ALL.iter().filter(|(name, _)| is_wanted(name));
        let Self { sockets, rate, attackers, .. } = *self;
        Ok(wanted
            .map(|(_, attack)| suite::abuse_entry(Abuse { attack: *attack, attackers, sockets, rate }))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        workload: Workload,
    }

    fn entries(line: &str) -> anyhow::Result<Vec<Entry>> {
        let words = ["bench"].into_iter().chain(line.split(' '));
        Line::try_parse_from(words)?.workload.entries()
    }

    #[test]
    fn arguments_become_workloads() {
        for (line, expected) in [
            ("fanout", Work::Messages(suite::fanout(1000, Drive::Window(64)))),
            ("fanout --sockets 20 --window 1", Work::Messages(suite::fanout(20, Drive::Window(1)))),
            ("market --rate 200", Work::Messages(suite::market(500, 1000, 10, Drive::Rate(200.0)))),
            ("private --sockets 7", Work::Messages(suite::private(7, Drive::Window(64)))),
            ("storm --sockets 3", Work::Storm(Storm { sockets: 3, channels: 1 })),
            ("connect --same-token", Work::Connect(Connect { at_once: 64, same_token: true })),
            ("restart", Work::Restart(suite::restart())),
        ] {
            let entries = entries(line).unwrap();
            assert_eq!(entries.len(), 1);
            assert_eq!(entries[0].work, expected, "{line}");
        }
        assert_eq!(entries("slow").unwrap().len(), 2);
        assert_eq!(entries("abuse").unwrap().len(), Attack::ALL.len());
        assert_eq!(entries("abuse --attack last").unwrap()[0].name, "abuse-last");
        let pattern = entries("private --feed pattern").unwrap();
        assert!(matches!(&pattern[0].work, Work::Messages(work) if work.feed == "pattern"));
    }

    #[test]
    fn a_workload_of_the_suite_has_its_name() {
        assert_eq!(entries("fanout --window 1").unwrap()[0].name, "fanout-1");
        assert_eq!(entries("fanout --window 2").unwrap()[0].name, "fanout");
        assert_eq!(entries("idle --private").unwrap()[0].name, "idle-private");
        let growth = entries("all --only sockets --only market").unwrap();
        assert_eq!(growth.len(), suite::GROWTH.len() + 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        for (line, words) in [
            ("nothing", "there is no workload `nothing`; there are all, fanout"),
            ("fanout --sockets 0", "there must be a socket"),
            ("market --subjects 5", "a subject for each that a socket wants"),
            ("fanout --rate 0", "--rate must be more than nothing"),
            ("fanout --window 0", "something in flight"),
            ("slow --sockets 4", "--sockets must be at least 5"),
            ("storm --channels 0", "--channels must be at least 1"),
            ("abuse --attack nix", "there is no attack `nix`; there are groups, lists"),
            ("connect --at-once 0", "--at-once must be at least 1"),
            ("all --only nix", "no workload of `all` is called so; there are fanout-64"),
            ("market --max-rate-ms 100", "--rate"),
            ("fanout --rate 5 --window 5", "cannot be used with"),
        ] {
            let error = entries(line).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
