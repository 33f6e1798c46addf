//! `fanout`: one subject, many sockets, a window of publications in flight; Tidegate and nats-server's own WebSocket
//! listener in turn, so that both see the same machine.

use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use clap::ValueEnum;

use crate::client::Target;
use crate::crowd::Crowd;
use crate::producer::Producer;
use crate::producer::Template;
use crate::report::Report;
use crate::report::median;
use crate::servers::Common;
use crate::servers::Servers;
use crate::usage;

const SUBJECT: &str = "load.fanout";
/// Before each measurement.
const WARM_UP: Duration = Duration::from_secs(1);

/// How much of what.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Sockets that subscribe to the subject.
    #[arg(long, default_value_t = 1000)]
    sockets: usize,
    /// Publications in flight: one is done when every socket has received it.
    #[arg(long, default_value_t = 64)]
    window: u64,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Measurements of each of the two.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measure one of the two alone; nothing is compared then.
    #[arg(long)]
    only: Option<Listener>,
    /// What Tidegate and nats-server together may cost of what nats-server's own listener costs. With fewer
    /// publications in flight more of the cost is the kernel's, and that is the same for both.
    #[arg(long, default_value_t = 0.333)]
    goal: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Listener {
    Tidegate,
    Nats,
}

/// One measurement.
struct Round {
    deliveries_per_s: f64,
    /// CPU µs per delivery.
    nats: f64,
    tidegate: f64,
    /// By the one that the sockets belong to.
    per_write: f64,
}

impl Round {
    fn cost(&self) -> f64 {
        self.nats + self.tidegate
    }
}

/// Measures both in turn.
pub(crate) async fn run(common: &Common, args: &Args) -> anyhow::Result<Report> {
    let servers = Servers::start(common, "").await?;
    let template = Template::new(SUBJECT, args.payload);
    let mut report = Report::default();
    report.figure(
        "target, round",
        "deliveries/s | CPU µs/delivery | nats-server | tidegate | deliveries a write",
    );
    let mut rounds = [Vec::new(), Vec::new()];
    for number in 1..=args.rounds {
        for listener in [Listener::Tidegate, Listener::Nats] {
            if args.only.is_some_and(|only| only != listener) {
                continue;
            }
            let round = measure(&servers, args, listener, &template).await?;
            let name = format!("{}, {number}", name(listener));
            println!("{name}: {}", show(&round));
            report.figure(name, show(&round));
            rounds[listener as usize].push(round);
        }
    }
    let [tidegate, nats] = rounds;
    for (listener, rounds) in [(Listener::Tidegate, &tidegate), (Listener::Nats, &nats)] {
        if !rounds.is_empty() {
            report.figure(format!("{}, median", name(listener)), show(&middle(rounds)));
        }
    }
    if args.only.is_none() {
        let ratio = middle(&tidegate).cost() / middle(&nats).cost();
        report.figure("ratio of the medians", format!("{ratio:.3}"));
        let goal = args.goal;
        report.expect(
            format!(
                "through Tidegate a delivery costs at most {goal} of what nats-server's own listener takes"
            ),
            ratio <= goal,
        );
    }
    Ok(report)
}

async fn measure(
    servers: &Servers,
    args: &Args,
    listener: Listener,
    template: &Template,
) -> anyhow::Result<Round> {
    let crowd = Crowd::connect(args.sockets, usize::try_from(args.window)?, |number| {
        let target = match listener {
            Listener::Tidegate => {
                Target::Tidegate(servers.tidegate_address, servers.token(&format!("user-{number}"))?)
            }
            Listener::Nats => Target::Nats(servers.nats_websocket),
        };
        Ok((target, SUBJECT.to_owned()))
    })
    .await?;
    let producer = Producer::connect(servers.nats_address).await?;
    let measured = async {
        tokio::time::sleep(WARM_UP).await;
        let before = reading(servers, &crowd, listener)?;
        tokio::time::sleep(Duration::from_secs(args.seconds)).await;
        let after = reading(servers, &crowd, listener)?;
        anyhow::Ok((before, after))
    };
    let (before, after) = tokio::select! {
        measured = measured => measured?,
        ended = keep_in_flight(producer, &crowd, args.window, template) => {
            ended?;
            anyhow::bail!("the producer has ended");
        }
    };
    let lost = crowd.ledger.count(|account| !account.gaps.is_empty() || account.unannounced > 0);
    anyhow::ensure!(lost == 0, "{lost} sockets have not received everything: the figures would say nothing");
    crowd.check()?;
    drop(crowd);
    // What ended connections leave to do belongs into no measurement.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let deliveries = (after.deliveries - before.deliveries) as f64;
    let per_delivery = |after: Duration, before: Duration| (after - before).as_secs_f64() * 1e6 / deliveries;
    let tidegate = match listener {
        Listener::Tidegate => per_delivery(after.tidegate, before.tidegate),
        Listener::Nats => 0.0,
    };
    Ok(Round {
        deliveries_per_s: deliveries / (after.at - before.at).as_secs_f64(),
        nats: per_delivery(after.nats, before.nats),
        tidegate,
        per_write: deliveries / (after.writes - before.writes) as f64,
    })
}

struct Reading {
    at: Instant,
    deliveries: u64,
    nats: Duration,
    tidegate: Duration,
    writes: u64,
}

fn reading(servers: &Servers, crowd: &Crowd, listener: Listener) -> anyhow::Result<Reading> {
    let writer = match listener {
        Listener::Tidegate => servers.tidegate_pid()?,
        Listener::Nats => servers.nats_pid()?,
    };
    Ok(Reading {
        at: Instant::now(),
        deliveries: crowd.ledger.deliveries.get(),
        nats: usage::cpu(servers.nats_pid()?)?,
        tidegate: usage::cpu(servers.tidegate_pid()?)?,
        writes: usage::writes(writer)?,
    })
}

/// Publishes as soon as everybody has received something.
async fn keep_in_flight(
    mut producer: Producer,
    crowd: &Crowd,
    window: u64,
    template: &Template,
) -> anyhow::Result<()> {
    let ledger = Rc::clone(&crowd.ledger);
    let mut published = 0;
    loop {
        while published < ledger.complete.get() + window {
            ledger.published(published);
            producer.add(template, published);
            published += 1;
        }
        producer.flush().await?;
        ledger.changed.notified().await;
        crowd.check().context("while publishing")?;
    }
}

fn middle(rounds: &[Round]) -> Round {
    let middle = |figure: fn(&Round) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
    let cost = middle(Round::cost);
    let nats = middle(|round| round.nats);
    Round {
        deliveries_per_s: middle(|round| round.deliveries_per_s),
        nats,
        tidegate: cost - nats,
        per_write: middle(|round| round.per_write),
    }
}

fn show(round: &Round) -> String {
    let Round { deliveries_per_s, nats, tidegate, per_write } = round;
    let cost = round.cost();
    format!("{deliveries_per_s:>9.0} | {cost:.3} | {nats:.3} | {tidegate:.3} | {per_write:.1}")
}

fn name(listener: Listener) -> &'static str {
    match listener {
        Listener::Tidegate => "tidegate",
        Listener::Nats => "nats",
    }
}
