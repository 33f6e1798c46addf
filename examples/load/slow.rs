//! `slow`: one of many readers stops reading a flood, first for a while, then for good; once for each class.

use std::cell::Cell;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use clap::ValueEnum;

use crate::client::Client;
use crate::client::Heard;
use crate::client::Target;
use crate::crowd::Account;
use crate::crowd::Crowd;
use crate::producer::Producer;
use crate::producer::Template;
use crate::report::Report;
use crate::report::mib;
use crate::servers::Common;
use crate::servers::Servers;
use crate::usage;

/// How long readers may take to catch up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Publications a second on the channel beside the flood, and their size.
const CALM: (f64, usize) = (100.0, 200);

/// How much of what.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Sockets, the one that stops among them.
    #[arg(long, default_value_t = 100)]
    sockets: usize,
    /// Sockets that subscribe to the flood like the one that stops, and read it. All others hear a calm channel.
    #[arg(long, default_value_t = 3)]
    flooded: usize,
    /// MB a second of the flood, for each of its sockets.
    #[arg(long, default_value_t = 50.0)]
    megabytes: f64,
    /// Bytes of a payload of the flood.
    #[arg(long, default_value_t = 8192)]
    payload: usize,
    /// Seconds of each of the two floods.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Seconds that a socket may take nothing before it is cut; more than those of a flood.
    #[arg(long, default_value_t = 8)]
    write_timeout: u64,
    /// MiB that may wait for one socket. At 50 MB/s, 1 MiB is 20 ms: readers on a busy machine need more.
    #[arg(long, default_value_t = 8)]
    outbox: u64,
    /// MiB by which Tidegate's memory may grow.
    #[arg(long, default_value_t = 32)]
    growth: u64,
    /// One class alone.
    #[arg(long)]
    only: Option<Class>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Class {
    Latest,
    Buffer,
}

/// One flood and those who hear it.
struct Flood<'a> {
    servers: &'a Servers,
    crowd: &'a Crowd,
    args: &'a Args,
    template: Template,
    producer: Producer,
    next: Cell<u64>,
    /// The most memory that was seen.
    peak: Cell<u64>,
}

/// What became of the reader that stopped.
struct Fate {
    paused: Account,
    published: u64,
    /// Published until the end.
    all: u64,
    cut_after: Option<Duration>,
    read_after_cut: u64,
    end: String,
}

/// One class after the other, each with servers of its own.
pub(crate) async fn run(common: &Common, args: &Args) -> anyhow::Result<Report> {
    anyhow::ensure!(args.write_timeout > args.seconds, "the write timeout must be longer than a flood");
    let mut report = Report::default();
    for class in [Class::Latest, Class::Buffer] {
        if args.only.is_some_and(|only| only != class) {
            continue;
        }
        println!("class {}:", name(class));
        measure(common, args, class, &mut report).await?;
    }
    Ok(report)
}

async fn measure(common: &Common, args: &Args, class: Class, report: &mut Report) -> anyhow::Result<()> {
    let settings = format!(
        "[limits]\nwrite_timeout_s = {}\noutbox_bytes = {}\n\
         [log]\nfilter = \"warn,tidegate::connection=debug\"\nformat = \"json\"\n",
        args.write_timeout,
        args.outbox * 1024 * 1024
    );
    let servers = Servers::start(common, &settings).await?;
    let (flooded, calm) = channels(class);
    let target = |number: usize| {
        let token = servers.token(&format!("user-{number}"))?;
        anyhow::Ok(Target::Tidegate(servers.tidegate_address, token))
    };
    let crowd = Crowd::connect(args.sockets.saturating_sub(1), 1, |number| {
        Ok((target(number)?, if number < args.flooded { flooded.clone() } else { calm.clone() }))
    })
    .await?;
    let stopping = Client::subscribe(&target(args.sockets)?, args.sockets, &flooded).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = usage::resident(servers.tidegate_pid()?)?;
    let flood = Flood {
        servers: &servers,
        crowd: &crowd,
        args,
        template: Template::new(&flooded, args.payload),
        producer: Producer::connect(servers.nats_address).await?,
        next: Cell::new(0),
        peak: Cell::new(before),
    };
    let (mut calm_producer, calm_next) = (Producer::connect(servers.nats_address).await?, Cell::new(0));
    let calm_template = Template::new(&calm, CALM.1);
    let (fate, peak) = tokio::select! {
        ended = calm_producer.steadily(&calm_template, CALM.0, &calm_next) => match ended? {},
        fate = flood.run(stopping) => fate?,
    };
    calm_producer.flush().await?;
    let of_the_calm = |number: usize| number >= args.flooded;
    crowd
        .ledger
        .some("received all of the calm channel", PATIENCE, of_the_calm, |account| {
            account.next == calm_next.get()
        })
        .await;
    let after = usage::resident(servers.tidegate_pid()?)?;
    figures(report, args, class, &crowd, &fate, calm_next.get());
    report.figure(
        format!("{}: memory before, peak, after", name(class)),
        format!("{}, {}, {}", mib(before), mib(peak), mib(after)),
    );
    report.expect(
        format!("{}: memory grows by at most {} MiB", name(class), args.growth),
        peak.saturating_sub(before) <= args.growth * 1024 * 1024,
    );
    Ok(())
}

impl Flood<'_> {
    /// A flood during which the reader pauses, and one during which it stops.
    async fn run(mut self, mut stopping: Client) -> anyhow::Result<(Fate, u64)> {
        self.flood().await?;
        let published = self.next.get();
        self.catch_up().await;
        let mut paused = Account::default();
        let read_on = async {
            while paused.next < published {
                let open = stopping.read(&mut |heard| note(&mut paused, heard)).await?;
                anyhow::ensure!(open, "the server has closed");
            }
            anyhow::Ok(())
        };
        let read_on = tokio::time::timeout(PATIENCE, read_on).await;
        read_on.context("the reader that paused never got the newest publication")??;
        println!("  paused, and read on: {} of {published}, gaps: {}", paused.received, paused.gaps.len());
        let start = Instant::now();
        self.flood().await?;
        let cut_after = self.wait_for_cut(start).await?;
        self.catch_up().await;
        let (end, read_after_cut) = read_to_the_end(&mut stopping).await;
        println!("  stopped, and was cut: {end}");
        let all = self.next.get();
        Ok((Fate { paused, published, all, cut_after, read_after_cut, end }, self.peak.get()))
    }

    async fn flood(&mut self) -> anyhow::Result<()> {
        let rate = self.args.megabytes * 1e6 / self.args.payload as f64;
        let (pid, first) = (self.servers.tidegate_pid()?, self.next.get());
        let peak = &self.peak;
        let watch = async {
            let until = Instant::now() + Duration::from_secs(self.args.seconds);
            while Instant::now() < until {
                peak.set(peak.get().max(usage::resident_now(pid)?));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            ended = self.producer.steadily(&self.template, rate, &self.next) => match ended? {},
            watched = watch => watched?,
        }
        self.producer.flush().await?;
        let published = (self.next.get() - first) as f64;
        let rate = published * self.args.payload as f64 / 1e6 / self.args.seconds as f64;
        println!("  flooded with {rate:.1} MB/s for {} s", self.args.seconds);
        Ok(())
    }

    async fn catch_up(&self) {
        let (flooded, last) = (|number: usize| number < self.args.flooded, self.next.get());
        self.crowd
            .ledger
            .some("received the newest of the flood", PATIENCE, flooded, |account| account.next == last)
            .await;
    }

    async fn wait_for_cut(&self, start: Instant) -> anyhow::Result<Option<Duration>> {
        let patience = Duration::from_secs(self.args.seconds + self.args.write_timeout + 5);
        let pid = self.servers.tidegate_pid()?;
        while start.elapsed() < patience {
            if self.servers.logged(&["client takes nothing", "\"code\":4002"])? > 0 {
                return Ok(Some(start.elapsed()));
            }
            self.peak.set(self.peak.get().max(usage::resident_now(pid)?));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(None)
    }
}

fn note(account: &mut Account, heard: Heard) {
    account.hear(heard);
}

/// How a client that was cut finds out, and what it can still read.
async fn read_to_the_end(client: &mut Client) -> (String, u64) {
    let (mut account, before) = (Account::default(), client.bytes);
    let end = loop {
        match tokio::time::timeout(PATIENCE, client.read(&mut |heard| note(&mut account, heard))).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => break account.ended.unwrap_or_else(|| "end of stream".to_owned()),
            Ok(Err(error)) => break error.to_string(),
            Err(_) => break "still open".to_owned(),
        }
    };
    (end, client.bytes - before)
}

fn figures(report: &mut Report, args: &Args, class: Class, crowd: &Crowd, fate: &Fate, calm: u64) {
    let title = name(class);
    let accounts = crowd.ledger.accounts.borrow();
    let (flooded, others) = accounts.split_at(args.flooded.min(accounts.len()));
    let whole = |account: &&Account| account.gaps.is_empty() && account.unannounced == 0;
    let calm_whole = others.iter().filter(whole).filter(|account| account.received >= calm).count();
    let flood_whole = flooded.iter().filter(whole).count();
    let newest = flooded.iter().map(|account| account.next).min().unwrap_or_default();
    let Fate { paused, published, cut_after, read_after_cut, end, all } = fate;
    let received = |account: &Account| format!("{} of {all}", account.received);
    report.figure(
        format!("{title}: heard all of the calm channel"),
        format!("{calm_whole} of {} sockets", others.len()),
    );
    report.figure(
        format!("{title}: heard of the flood, by those who read"),
        flooded.iter().map(received).collect::<Vec<_>>().join(", "),
    );
    report.figure(
        format!("{title}: the reader that paused"),
        format!(
            "{} of {published} received, {} announced as missing in {} gaps",
            paused.received,
            paused.dropped,
            paused.gaps.len()
        ),
    );
    let cut = cut_after.map_or_else(|| "never".to_owned(), |after| format!("after {after:.1?}"));
    report.figure(
        format!("{title}: the reader that stopped"),
        format!("cut {cut} (4002 in the log); it reads {} and then: {end}", mib(*read_after_cut)),
    );
    report.expect(format!("{title}: the calm channel is complete for all"), calm_whole == others.len());
    match class {
        Class::Latest => {
            report.expect(
                format!("{title}: whoever reads has the newest of the flood at once"),
                newest == *all && flooded.iter().all(|account| account.gaps.is_empty()),
            );
            report.expect(
                format!("{title}: the reader that paused got the newest, in order, and no gap"),
                paused.next == *published && paused.gaps.is_empty() && paused.received < *published,
            );
        }
        Class::Buffer => {
            report
                .expect(format!("{title}: whoever reads has all of the flood"), flood_whole == flooded.len());
            report.expect(
                format!("{title}: the reader that paused was told exactly what it has not got"),
                paused.received + paused.dropped == *published
                    && paused.unannounced == 0
                    && !paused.gaps.is_empty(),
            );
        }
    }
    report.expect(
        format!("{title}: the reader that stopped was cut"),
        cut_after.is_some() && end != "still open",
    );
}

fn channels(class: Class) -> (String, String) {
    (format!("load.{}.flood", name(class)), format!("load.{}.calm", name(class)))
}

fn name(class: Class) -> &'static str {
    match class {
        Class::Latest => "latest",
        Class::Buffer => "buffer",
    }
}
