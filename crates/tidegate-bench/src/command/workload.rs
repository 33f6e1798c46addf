//! The workloads as subcommands of `tidegate bench`, and the conversion of their arguments into suite entries.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;

use crate::suite;
use crate::suite::Entry;
use crate::workloads::Workload;
use crate::workloads::abuse::Abuse;
use crate::workloads::abuse::attack::Attack;
use crate::workloads::churn::Churn;
use crate::workloads::connect::Connect;
use crate::workloads::connect::Storm;
use crate::workloads::heartbeats::Heartbeats;
use crate::workloads::idle::Idle;
use crate::workloads::messages::Messages;
use crate::workloads::messages::Pacing;
use crate::workloads::restart::Restart;
use crate::workloads::slow::Slow;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum WorkloadArgs {
    /// All workloads of docs/BENCHMARKS.md, with nats-server's own listener and the baseline. Takes about ten minutes.
    All(AllArgs),
    /// One subject, which many sockets subscribe to.
    Fanout(FanoutArgs),
    /// Many subjects; each socket subscribes to several.
    Market(MarketArgs),
    /// One subject per socket.
    Private(PrivateArgs),
    /// One subject per socket, and one publication at a time: what a wake-up costs, with each `lane` of Tidegate.
    Lone(LoneArgs),
    /// Sockets that receive nothing: memory per socket, and CPU while idle.
    Idle(IdleArgs),
    /// Idle sockets that answer pings: the cost of a ping, and how often it wakes a thread.
    Heartbeats(HeartbeatsArgs),
    /// Handshake, token verification and one subscription, repeated.
    Connect(ConnectArgs),
    /// All sockets reconnect at once.
    Storm(StormArgs),
    /// Sockets that subscribe and unsubscribe, repeated.
    Churn(ChurnArgs),
    /// One of many readers stops reading a flood: it gets gaps or is disconnected, and no other client notices.
    Slow(SlowArgs),
    /// nats-server is killed and restarted: every client receives a gap, and none has to reconnect.
    Restart(RestartArgs),
    /// Attackers load this node, and another node as a control: well-behaved clients should not notice.
    Abuse(AbuseArgs),
    #[command(external_subcommand)]
    Unknown(Vec<String>),
}

#[derive(Clone, Debug, Args)]
pub(super) struct AllArgs {
    /// The folder with BENCHMARKS.md: replaces the results in that page, and writes the charts to `benchmarks/`.
    #[arg(long, value_name = "FOLDER")]
    docs: Option<PathBuf>,
    /// Run only workloads whose name starts with NAME. May be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// The arguments that the workloads with publications share.
#[derive(Clone, Debug, Args)]
struct Publications {
    /// Publications in flight; the next is sent when all sockets have received one. Default: 64; in `market` 1000.
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    window: Option<u64>,
    /// Publications per second, instead of a window. Latency then counts from the time when each was due.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Payload size in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    size: usize,
    /// Offer permessage-deflate in the handshake.
    #[arg(long)]
    compress: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct FanoutArgs {
    /// Number of sockets.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    sockets: usize,
    #[command(flatten)]
    publications: Publications,
}

#[derive(Clone, Debug, Args)]
pub(super) struct MarketArgs {
    /// Number of sockets.
    #[arg(long, value_name = "N", default_value_t = 500)]
    sockets: usize,
    /// Number of subjects.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    subjects: usize,
    /// Subjects per socket.
    #[arg(long, value_name = "N", default_value_t = 10)]
    per_socket: usize,
    /// Class `latest`: Tidegate sends a subject's newest publication at most once per this interval. Needs --rate.
    #[arg(long, value_name = "MS", default_value_t = 0, requires = "rate")]
    max_rate_ms: u64,
    #[command(flatten)]
    publications: Publications,
}

#[derive(Clone, Debug, Args)]
pub(super) struct PrivateArgs {
    /// Number of sockets, and of subjects.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    sockets: usize,
    /// How Tidegate subscribes on NATS: to each subject, to one pattern for all, or to each subject on the thread of its
    /// client.
    #[arg(long, value_enum, default_value_t = Feed::Subject)]
    feed: Feed,
    #[command(flatten)]
    publications: Publications,
}

#[derive(Clone, Debug, Args)]
pub(super) struct LoneArgs {
    /// Number of sockets, and of subjects.
    #[arg(long, value_name = "N", default_value_t = 200)]
    sockets: usize,
    /// Publications per second. Few enough that each arrives before the next is sent.
    #[arg(long, value_name = "N", default_value_t = 400.0)]
    rate: f64,
    /// Payload size in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    size: usize,
    /// The `lane` key of the class: measure only this value. Default: both, in two columns.
    #[arg(long, value_enum)]
    lane: Option<Lane>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct IdleArgs {
    /// Number of sockets.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sockets: usize,
    /// Number of Tidegate nodes, and of client processes: a process has a limit on open files. Only Tidegate is measured
    /// with more than one.
    #[arg(long, value_name = "N", default_value_t = 1)]
    processes: usize,
    /// One subject per socket, instead of one for all.
    #[arg(long)]
    private: bool,
    /// How Tidegate subscribes on NATS: to each subject, to one pattern for all, or to each subject on the thread of its
    /// client.
    #[arg(long, value_enum, default_value_t = Feed::Subject)]
    feed: Feed,
    /// Offer permessage-deflate in the handshake.
    #[arg(long)]
    compress: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct HeartbeatsArgs {
    /// Number of sockets.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sockets: usize,
    /// Number of Tidegate nodes, and of client processes: a process has a limit on open files. Only Tidegate is measured
    /// with more than one.
    #[arg(long, value_name = "N", default_value_t = 1)]
    processes: usize,
    /// One subject per socket, instead of one for all.
    #[arg(long)]
    private: bool,
    /// Seconds from one ping to the next (`limits.ping_interval_s`). The measurement takes a second more, unless
    /// --seconds is set.
    #[arg(long, value_name = "S", default_value_t = 25)]
    interval: u64,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ConnectArgs {
    /// Handshakes in progress at any time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    at_once: usize,
    /// The same token for all connections, instead of a new one for each.
    #[arg(long)]
    same_token: bool,
    /// The signature algorithm of the tokens.
    #[arg(long, value_enum, ignore_case = true, default_value_t = Algorithm::Hs256)]
    algorithm: Algorithm,
}

#[derive(Clone, Debug, Args)]
pub(super) struct StormArgs {
    /// Number of sockets.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    sockets: usize,
    /// Channels per socket. With 1, all sockets share one channel; with more, each socket has its own channels.
    #[arg(long, value_name = "N", default_value_t = 1)]
    channels: usize,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ChurnArgs {
    /// Number of sockets.
    #[arg(long, value_name = "N", default_value_t = 500)]
    sockets: usize,
    /// Commands per second of all sockets together; 0 means as many as the server answers.
    #[arg(long, value_name = "N", default_value_t = 10_000.0)]
    rate: f64,
}

#[derive(Clone, Debug, Args)]
pub(super) struct SlowArgs {
    /// Number of sockets, including the one that stops reading.
    #[arg(long, value_name = "N", default_value_t = 100)]
    sockets: usize,
    /// Sockets that read the flood. The remaining sockets, except the one that stops, subscribe to a calm channel.
    #[arg(long, value_name = "N", default_value_t = 3)]
    flooded: usize,
    /// Rate of the flood in MB per second and socket.
    #[arg(long, value_name = "MB", default_value_t = 50.0)]
    megabytes: f64,
    /// Payload size of the flood in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 8192)]
    size: usize,
    /// `limits.write_timeout_s`: a socket that accepts no data for this long is closed. Must be longer than --seconds.
    #[arg(long, value_name = "S", default_value_t = 8)]
    write_timeout: u64,
    /// Outbox limit per socket in MiB. At 50 MB/s, 1 MiB is only 20 ms: readers on a busy machine need more.
    #[arg(long, value_name = "MIB", default_value_t = 8)]
    outbox: u64,
    /// How much Tidegate's memory may grow, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 32)]
    growth: u64,
}

#[derive(Clone, Debug, Args)]
pub(super) struct RestartArgs {
    /// Number of sockets.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    sockets: usize,
    /// Publications per second.
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    rate: f64,
    /// Seconds for which nats-server is down.
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    away: f64,
}

#[derive(Clone, Debug, Args)]
pub(super) struct AbuseArgs {
    /// Number of well-behaved clients.
    #[arg(long, value_name = "N", default_value_t = 200)]
    sockets: usize,
    /// Publications per second to the well-behaved clients.
    #[arg(long, value_name = "N", default_value_t = 500.0)]
    rate: f64,
    /// Attackers in `groups`, `lists` and `last`, and floods of pings in `mix`, with 52 times as many other attackers. The
    /// other attacks use a fixed number.
    #[arg(long, value_name = "N", default_value_t = 1)]
    attackers: usize,
    /// Run only this attack: groups, lists, patterns, rates, sockets, last or mix. May be repeated.
    #[arg(long, value_name = "ATTACK")]
    attack: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Algorithm {
    #[value(name = "HS256")]
    Hs256,
}

/// The `lane` key of the class of private subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Lane {
    Hash,
    Own,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Feed {
    Subject,
    Pattern,
    Own,
}

impl Feed {
    /// The value of the class's `feed` key, or of its `lane` key; empty for the default.
    fn config_value(self) -> String {
        match self {
            Self::Subject => String::new(),
            Self::Pattern => "pattern".to_owned(),
            Self::Own => "own".to_owned(),
        }
    }
}

impl Publications {
    fn pacing(&self, window: u64) -> Pacing {
        self.rate.map_or_else(|| Pacing::Window(self.window.unwrap_or(window)), Pacing::Rate)
    }

    fn entry(&self, name: &str, workload: Messages) -> anyhow::Result<Entry> {
        let shape = workload.shape;
        if shape.sockets == 0 || !(1..=shape.subjects).contains(&shape.per_socket) || self.window == Some(0) {
            bail!(
                "--sockets, --subjects, --per-socket and --window must be at least 1, and --per-socket at most \
                 --subjects"
            );
        }
        positive("--rate", self.rate.unwrap_or(1.0))?;
        let workload = Workload::Messages(Messages { size: self.size, compress: self.compress, ..workload });
        Ok(Entry::new(suite::name_of(&workload).unwrap_or_else(|| name.to_owned()), workload))
    }
}

fn positive(name: &str, value: f64) -> anyhow::Result<()> {
    if !(value > 0.0 && value.is_finite()) {
        bail!("{name} must be greater than 0");
    }
    Ok(())
}

fn at_least(sockets: usize, least: usize) -> anyhow::Result<()> {
    if sockets < least {
        bail!("--sockets must be at least {least}");
    }
    Ok(())
}

fn at_least_one_each(sockets: usize, processes: usize) -> anyhow::Result<()> {
    if processes == 0 {
        bail!("--processes must be at least 1");
    }
    at_least(sockets, processes)
}

impl WorkloadArgs {
    /// The folder with BENCHMARKS.md, if the results go there.
    pub(super) fn docs(&self) -> Option<PathBuf> {
        match self {
            Self::All(AllArgs { docs, .. }) => docs.clone(),
            Self::Fanout(_)
            | Self::Market(_)
            | Self::Private(_)
            | Self::Lone(_)
            | Self::Idle(_)
            | Self::Heartbeats(_)
            | Self::Connect(_)
            | Self::Storm(_)
            | Self::Churn(_)
            | Self::Slow(_)
            | Self::Restart(_)
            | Self::Abuse(_)
            | Self::Unknown(_) => None,
        }
    }

    /// The lanes to measure Tidegate with.
    pub(super) fn lanes(&self) -> &'static [Lane] {
        match self {
            Self::All(_) | Self::Lone(LoneArgs { lane: None, .. }) => &[Lane::Hash, Lane::Own],
            Self::Lone(LoneArgs { lane: Some(Lane::Own), .. }) => &[Lane::Own],
            Self::Lone(LoneArgs { lane: Some(Lane::Hash), .. })
            | Self::Fanout(_)
            | Self::Market(_)
            | Self::Private(_)
            | Self::Idle(_)
            | Self::Heartbeats(_)
            | Self::Connect(_)
            | Self::Storm(_)
            | Self::Churn(_)
            | Self::Slow(_)
            | Self::Restart(_)
            | Self::Abuse(_)
            | Self::Unknown(_) => &[Lane::Hash],
        }
    }

    /// The workloads to measure over TLS. Fails if they have no TLS.
    pub(super) fn entries_over_tls(&self) -> anyhow::Result<Vec<Entry>> {
        match self {
            Self::All(_) => bail!("`all` always measures two workloads over TLS: leave out --tls"),
            Self::Abuse(_) => bail!("the attackers of `abuse` do not use TLS: leave out --tls"),
            Self::Fanout(_)
            | Self::Market(_)
            | Self::Private(_)
            | Self::Lone(_)
            | Self::Idle(_)
            | Self::Heartbeats(_)
            | Self::Connect(_)
            | Self::Storm(_)
            | Self::Churn(_)
            | Self::Slow(_)
            | Self::Restart(_)
            | Self::Unknown(_) => Ok(self.entries()?.into_iter().map(Entry::over_tls).collect()),
        }
    }

    /// The workloads to measure. Fails if an argument is out of range.
    pub(super) fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        Ok(match self {
            Self::All(AllArgs { only, .. }) => {
                let mut all = suite::all();
                all.retain(|entry| only.is_empty() || only.iter().any(|name| entry.name.starts_with(name)));
                if all.is_empty() {
                    let names: Vec<_> = suite::all().into_iter().map(|entry| entry.name).collect();
                    bail!("--only matches no workload of `all`: choose from {}", names.join(", "));
                }
                all
            }
            Self::Fanout(FanoutArgs { sockets, publications }) => {
                vec![publications.entry("fanout", suite::fanout(*sockets, publications.pacing(64)))?]
            }
            Self::Market(MarketArgs { sockets, subjects, per_socket, max_rate_ms, publications }) => {
                let workload = suite::market(*sockets, *subjects, *per_socket, publications.pacing(1000));
                vec![publications.entry("market", Messages { max_rate_ms: *max_rate_ms, ..workload })?]
            }
            Self::Private(PrivateArgs { sockets, feed, publications }) => {
                let workload = suite::private(*sockets, publications.pacing(64));
                vec![publications.entry("private", Messages { feed: feed.config_value(), ..workload })?]
            }
            Self::Lone(LoneArgs { sockets, rate, size, lane: _ }) => {
                at_least(*sockets, 1)?;
                positive("--rate", *rate)?;
                let workload = Messages { size: *size, ..suite::lone(*sockets, *rate) };
                vec![named("lone", Workload::Messages(workload))]
            }
            Self::Idle(args) => vec![args.entry()?],
            Self::Heartbeats(args) => vec![args.entry()?],
            Self::Connect(ConnectArgs { at_once, same_token, algorithm: Algorithm::Hs256 }) => {
                if *at_once == 0 {
                    bail!("--at-once must be at least 1");
                }
                let workload = Workload::Connect(Connect { at_once: *at_once, same_token: *same_token });
                vec![named("connect", workload)]
            }
            Self::Storm(StormArgs { sockets, channels }) => {
                at_least(*sockets, 1)?;
                if *channels == 0 {
                    bail!("--channels must be at least 1");
                }
                vec![named("storm", Workload::Storm(Storm { sockets: *sockets, channels: *channels }))]
            }
            Self::Churn(ChurnArgs { sockets, rate }) => {
                at_least(*sockets, 1)?;
                vec![named("churn", Workload::Churn(Churn { sockets: *sockets, rate: *rate }))]
            }
            Self::Slow(args) => args.entries()?,
            Self::Restart(args) => vec![args.entry()?],
            Self::Abuse(args) => args.entries()?,
            Self::Unknown(words) => bail!(
                "there is no workload `{}`: choose from all, fanout, market, private, lone, idle, heartbeats, connect, \
                 storm, churn, slow, restart and abuse (see tidegate bench --help)",
                words.first().map(String::as_str).unwrap_or_default()
            ),
        })
    }
}

fn named(name: &str, workload: Workload) -> Entry {
    Entry::new(suite::name_of(&workload).unwrap_or_else(|| name.to_owned()), workload)
}

impl IdleArgs {
    fn entry(&self) -> anyhow::Result<Entry> {
        at_least_one_each(self.sockets, self.processes)?;
        let private = self.private || self.feed == Feed::Pattern;
        let Self { sockets, processes, compress, .. } = *self;
        let workload = Idle { sockets, processes, private, feed: self.feed.config_value(), compress };
        Ok(named("idle", Workload::Idle(workload)))
    }
}

impl HeartbeatsArgs {
    fn entry(&self) -> anyhow::Result<Entry> {
        at_least_one_each(self.sockets, self.processes)?;
        if !(1..=300).contains(&self.interval) {
            bail!("--interval must be from 1 to 300");
        }
        Ok(suite::heartbeats_entry(Heartbeats {
            sockets: self.sockets,
            processes: self.processes,
            private: self.private,
            interval_s: self.interval,
        }))
    }
}

impl SlowArgs {
    fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        at_least(self.sockets, self.flooded + 2)?;
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
        at_least(self.sockets, 1)?;
        positive("--rate", self.rate)?;
        positive("--away", self.away)?;
        let downtime = Duration::from_secs_f64(self.away);
        let Self { sockets, rate, .. } = *self;
        Ok(suite::restart_entry(Restart { sockets, rate, downtime, ..suite::restart() }))
    }
}

impl AbuseArgs {
    fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        at_least(self.sockets, 1)?;
        positive("--rate", self.rate)?;
        let known = |name: &String| Attack::ALL.iter().any(|(known, _)| known == name);
        if let Some(unknown) = self.attack.iter().find(|name| !known(name)) {
            let names: Vec<_> = Attack::ALL.iter().map(|(name, _)| *name).collect();
            bail!("there is no attack `{unknown}`: choose from {}", names.join(", "));
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
