//! `idle`: many sockets, each with a session and a token of its own, on one channel that hardly ever says something.

use std::time::Duration;
use std::time::Instant;

use crate::client::Target;
use crate::crowd::Crowd;
use crate::producer::Producer;
use crate::producer::Template;
use crate::report::Report;
use crate::report::mib;
use crate::servers::Common;
use crate::servers::Servers;
use crate::usage;

const CHANNEL: &str = "prices.AAPL";
/// What an idle socket may take of the process's memory.
const GOAL_BYTES: f64 = 3.0 * 1024.0;
/// What pings and nothing else may take of one core.
const GOAL_CPU: f64 = 0.05;
/// Until freed memory is freed and late answers have come.
const SETTLE: Duration = Duration::from_secs(3);
/// How long a publication may take before it counts as not received by all.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of what.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Sockets.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) sockets: usize,
    /// Seconds that all of them have to stay.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Of these, seconds in which nothing is published: the cost of heartbeats alone.
    #[arg(long, default_value_t = 60)]
    quiet: u64,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 100)]
    payload: usize,
}

/// Connects them and holds them.
pub(crate) async fn run(common: &Common, args: &Args) -> anyhow::Result<Report> {
    let servers = Servers::start(common, "").await?;
    let pid = servers.tidegate_pid()?;
    tokio::time::sleep(SETTLE).await;
    let empty = usage::resident(pid)?;
    let (start, cpu) = (Instant::now(), usage::cpu(pid)?);
    let crowd = Crowd::connect(args.sockets, 1, |number| {
        let token = servers.token(&format!("user-{number}"))?;
        Ok((Target::Tidegate(servers.tidegate_address, token), CHANNEL.to_owned()))
    })
    .await?;
    let connect = start.elapsed();
    let connect_cpu = usage::cpu(pid)? - cpu;
    println!("{} sockets subscribed after {connect:.1?}", args.sockets);
    tokio::time::sleep(SETTLE).await;
    let connected = usage::resident(pid)?;
    let per_socket = |resident: u64| (resident as f64 - empty as f64) / args.sockets as f64;
    println!("{:.0} bytes a socket", per_socket(connected));

    let quiet = Share::begin(pid)?;
    tokio::time::sleep(Duration::from_secs(args.quiet)).await;
    let quiet = quiet.end()?;
    println!("{:.2} % of a core without publications", quiet * 100.0);
    let mut producer = Producer::connect(servers.nats_address).await?;
    let mut told = Told::default();
    let rest = Duration::from_secs(args.seconds.saturating_sub(args.quiet));
    let busy = Share::begin(pid)?;
    publish(&mut producer, &crowd, args.payload, rest, &mut told).await?;
    let busy = busy.end()?;
    tokio::time::sleep(SETTLE).await;
    let held = usage::resident(pid)?;

    let stayed = crowd.ledger.count(|account| account.ended.is_none());
    let complete =
        crowd.ledger.count(|account| account.received == told.publications && account.unannounced == 0);
    if let Some(end) = crowd.ledger.first_end() {
        println!("the first that did not stay: {end}");
    }
    let mut report = Report::default();
    let rate = args.sockets as f64 / connect.as_secs_f64();
    report.figure("connected and subscribed", format!("{connect:.1?} ({rate:.0}/s, with a token each)"));
    let connect_cost = connect_cpu.as_secs_f64() * 1e6 / args.sockets as f64;
    report.figure("CPU of connecting", format!("{connect_cost:.0} µs a socket"));
    report.figure("memory before", mib(empty));
    report.figure("memory with all connected", mib(connected));
    report.figure("memory a socket", format!("{:.0} bytes", per_socket(connected)));
    report.figure("memory a socket, at the end", format!("{:.0} bytes", per_socket(held)));
    report.figure("CPU without publications", format!("{:.2} % of a core", quiet * 100.0));
    report.figure("CPU with one publication a second", format!("{:.2} % of a core", busy * 100.0));
    let (middle, most) = (told.spread(0.5), told.spread(1.0));
    report.figure("from publishing until all have it", format!("median {middle:.1?}, at most {most:.1?}"));
    report.figure("stayed connected", format!("{stayed} of {} for {} s", args.sockets, args.seconds));
    report.figure("received all publications", format!("{complete} of {}", args.sockets));
    report.expect("all stay connected", stayed == args.sockets);
    report.expect(format!("all receive all {} publications", told.publications), complete == args.sockets);
    report.expect("an idle socket takes at most 3 KiB", per_socket(connected) <= GOAL_BYTES);
    report.expect("heartbeats take less than 5 % of a core", quiet < GOAL_CPU);
    Ok(report)
}

#[derive(Debug, Default)]
struct Told {
    publications: u64,
    /// From publishing until all had it, one by one.
    spreads: Vec<Duration>,
}

impl Told {
    /// So long it took for this part of the publications.
    fn spread(&self, part: f64) -> Duration {
        let mut spreads = self.spreads.clone();
        spreads.sort_unstable();
        let last = spreads.len().saturating_sub(1);
        spreads.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
    }
}

/// Publishes once a second for a time.
async fn publish(
    producer: &mut Producer,
    crowd: &Crowd,
    payload: usize,
    time: Duration,
    told: &mut Told,
) -> anyhow::Result<()> {
    let template = Template::new(CHANNEL, payload);
    let end = Instant::now() + time;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while Instant::now() < end {
        tick.tick().await;
        let ledger = &crowd.ledger;
        let before = ledger.complete.get();
        ledger.published(told.publications);
        producer.add(&template, told.publications);
        producer.flush().await?;
        told.publications += 1;
        let published = Instant::now();
        while ledger.complete.get() == before && published.elapsed() < PATIENCE {
            let _ = tokio::time::timeout(Duration::from_millis(10), ledger.changed.notified()).await;
        }
        told.spreads.push(published.elapsed());
    }
    Ok(())
}

/// What a process takes of one core.
struct Share {
    pid: u32,
    start: Instant,
    before: Duration,
}

impl Share {
    fn begin(pid: u32) -> anyhow::Result<Self> {
        Ok(Self { pid, start: Instant::now(), before: usage::cpu(pid)? })
    }

    fn end(self) -> anyhow::Result<f64> {
        let used = usage::cpu(self.pid)? - self.before;
        Ok(used.as_secs_f64() / self.start.elapsed().as_secs_f64())
    }
}
