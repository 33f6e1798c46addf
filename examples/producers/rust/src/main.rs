//! Publishes Stock Agent's prices on NATS at a given rate.
//!
//! ```text
//! cargo run --release -- --rate 5000            5000 prices a second, until Ctrl-C
//! cargo run --release -- --every 100            one of each symbol every 100 ms
//! cargo run --release -- --once                 one of each symbol, and out
//! ```

use std::env;
use std::error::Error;
use std::time::Duration;

use serde_json::json;
use tokio::time::MissedTickBehavior;

const SYMBOLS: [(&str, f64); 5] =
    [("AAPL", 185.5), ("MSFT", 401.0), ("GOOGL", 140.0), ("AMZN", 180.0), ("TSLA", 250.0)];
const USAGE: &str = "usage: stock-agent-prices [--nats URL] [--once | --every MS | --rate PER_SECOND]";

struct Options {
    nats: String,
    once: bool,
    /// From one round of all symbols to the next.
    every: Duration,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options =
            Self { nats: "nats://127.0.0.1:4222".into(), once: false, every: Duration::from_secs(1) };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(USAGE);
            match flag.as_str() {
                "--nats" => options.nats = value()?,
                "--once" => options.once = true,
                "--every" => options.every = Duration::from_millis(value()?.parse()?),
                "--rate" => {
                    let per_second: f64 = value()?.parse()?;
                    options.every = Duration::try_from_secs_f64(SYMBOLS.len() as f64 / per_second)?;
                }
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(env::args().skip(1))?;
    let nats = async_nats::ConnectOptions::new().name("stock-agent prices").connect(&options.nats).await?;
    let mut rounds = tokio::time::interval(options.every.max(Duration::from_micros(1)));
    // A round that was late is made up for: the rate is kept.
    rounds.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut round = 0_u32;
    loop {
        tokio::select! {
            _ = rounds.tick() => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        round += 1;
        for (symbol, start) in SYMBOLS {
            nats.publish(format!("prices.{symbol}"), price(start, round).to_string().into()).await?;
        }
        if options.once {
            break;
        }
    }
    // What was published is sent in the background; this waits for it.
    nats.flush().await?;
    Ok(())
}

/// A price that swings around where it started by one per cent.
fn price(start: f64, round: u32) -> serde_json::Value {
    let cents = |value: f64| (value * 100.0).round() / 100.0;
    let change = cents(start * 0.01 * (f64::from(round) / 10.0).sin());
    let price = cents(start + change);
    json!({
        "price": price,
        "change": change,
        "change_pct": cents(change / start * 100.0),
        "volume": 45_000_000 + round,
        "bid": cents(price - 0.05),
        "ask": cents(price + 0.05),
    })
}
