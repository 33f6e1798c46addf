//! `restart`: nats-server is killed and started again while publications flow to many sockets.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use crate::client::Target;
use crate::crowd::Crowd;
use crate::producer::Producer;
use crate::producer::Template;
use crate::report::Report;
use crate::servers::Common;
use crate::servers::Servers;

const CHANNEL: &str = "load.restart";
/// How long anything here may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(30);
/// From a closed link to 503, and from a new one to 200.
const GOAL: Duration = Duration::from_secs(3);

/// How much of what.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Sockets that subscribe to the subject.
    #[arg(long, default_value_t = 1000)]
    sockets: usize,
    /// Publications a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// Seconds before the kill, and after the return.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Seconds that nats-server is away.
    #[arg(long, default_value_t = 2)]
    away: u64,
}

/// When what was seen, from the kill or from the return.
struct Seen {
    unready: Duration,
    ready: Duration,
    gap: Option<Duration>,
    live: Option<Duration>,
}

/// Kills and starts it again.
pub(crate) async fn run(common: &Common, args: &Args) -> anyhow::Result<Report> {
    let mut servers = Servers::start(common, "").await?;
    let crowd = Crowd::connect(args.sockets, 1, |number| {
        let token = servers.token(&format!("user-{number}"))?;
        Ok((Target::Tidegate(servers.tidegate_address, token), CHANNEL.to_owned()))
    })
    .await?;
    let (template, next) = (Template::new(CHANNEL, args.payload), Cell::new(0));
    let address = servers.nats_address;
    let seen = tokio::select! {
        () = publish_whatever_happens(address, &template, args.rate, &next) => anyhow::bail!("publishing has ended"),
        seen = kill_and_start(&mut servers, &crowd, args, &next) => seen?,
    };
    let last = next.get();
    let ledger = &crowd.ledger;
    ledger.all("received the last publication", PATIENCE, |account| account.next == last).await;

    let mut report = Report::default();
    let told = |cause: &str| ledger.count(|account| account.gaps.iter().any(|gap| gap == cause));
    let gaps: Vec<_> = ledger.accounts.borrow().iter().map(|account| account.gaps.len()).collect();
    let (fewest, most) = (gaps.iter().min().unwrap_or(&0), gaps.iter().max().unwrap_or(&0));
    let stayed = ledger.count(|account| account.ended.is_none());
    let silent = ledger.count(|account| account.unannounced > 0);
    let current = ledger.count(|account| account.next == last);
    let show = |seen: Option<Duration>| seen.map_or_else(|| "never".to_owned(), |seen| format!("{seen:.1?}"));
    report.figure("from the kill to 503 on /readyz", format!("{:.1?}", seen.unready));
    report.figure("from listening again to 200 on /readyz", format!("{:.1?}", seen.ready));
    report.figure("from the kill until all had heard a gap", show(seen.gap));
    report.figure("from listening again until all had a new publication", show(seen.live));
    report.figure("heard a gap with cause nats", format!("{} of {}", told("nats"), args.sockets));
    report.figure("gaps a client heard", format!("{fewest} to {most}"));
    report.figure("stayed connected", format!("{stayed} of {}", args.sockets));
    report.figure("publications", format!("{last}, the last of them at {current} of {}", args.sockets));
    report.expect("every client hears the gap", told("nats") == args.sockets);
    report.expect("nobody misses a publication without a gap", silent == 0);
    report.expect("nobody has to reconnect", stayed == args.sockets);
    report.expect("deliveries go on: everybody has the last publication", current == args.sockets);
    report.expect("/readyz follows within 3 s, both ways", seen.unready <= GOAL && seen.ready <= GOAL);
    Ok(report)
}

async fn kill_and_start(
    servers: &mut Servers,
    crowd: &Crowd,
    args: &Args,
    next: &Cell<u64>,
) -> anyhow::Result<Seen> {
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    crowd.check()?;
    let killed = Instant::now();
    servers.kill_nats().await?;
    readyz(servers, 503).await?;
    let unready = killed.elapsed();
    println!("killed; /readyz says 503 after {unready:.1?}");
    tokio::time::sleep_until((killed + Duration::from_secs(args.away)).into()).await;
    let resumed = next.get();
    servers.start_nats_again().await?;
    let back = Instant::now();
    readyz(servers, 200).await?;
    let ready = back.elapsed();
    println!("listens again; /readyz says 200 after {ready:.1?}");
    let heard = crowd.ledger.all("heard a gap", PATIENCE, |account| !account.gaps.is_empty()).await;
    let gap = heard.then(|| killed.elapsed());
    let live = crowd.ledger.all("heard something new", PATIENCE, |account| account.next > resumed).await;
    let live = live.then(|| back.elapsed());
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    Ok(Seen { unready, ready, gap, live })
}

async fn readyz(servers: &Servers, expected: u16) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while servers.readyz().await? != expected {
        anyhow::ensure!(Instant::now() < until, "/readyz does not say {expected} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// A producer that connects again whenever it has to.
async fn publish_whatever_happens(address: SocketAddr, template: &Template, rate: f64, next: &Cell<u64>) {
    loop {
        if let Ok(mut producer) = Producer::connect(address).await {
            // It ends with its connection; what it could not send any more is announced as a gap.
            let _ = producer.steadily(template, rate, next).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
