//! Something to look at: prices that walk at random, and now and then a notification.

use std::time::Duration;

use serde_json::json;
use tracing::debug;

use crate::nats::Nats;
use crate::protocol::subject::Subject;

const PRICE_EVERY: Duration = Duration::from_millis(200);
/// So many prices, then a notification.
const PRICES_PER_NOTIFICATION: u64 = 40;
const SYMBOLS: [(&str, f64); 6] =
    [("AAPL", 190.0), ("MSFT", 420.0), ("NVDA", 130.0), ("TSLA", 250.0), ("BTC", 68_000.0), ("EURUSD", 1.08)];

/// Publishes for ever, over a connection of its own.
pub async fn run(nats: Nats) {
    tokio::join!(nats.clone().run(), tick(&nats));
}

async fn tick(nats: &Nats) {
    let mut prices = SYMBOLS;
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    let mut clock = tokio::time::interval(PRICE_EVERY);
    for number in 1_u64.. {
        clock.tick().await;
        let at = usize::try_from(chance.next() % SYMBOLS.len() as u64).unwrap_or_default();
        let (symbol, price) = &mut prices[at];
        let step = f64::from(u32::try_from(chance.next() % 2001).unwrap_or_default()) / 1000.0 - 1.0;
        *price *= 1.0 + step * 0.002;
        let rounded = (*price * 10_000.0).round() / 10_000.0;
        publish(nats, &format!("prices.{symbol}"), &json!({ "price": rounded }));
        if number % PRICES_PER_NOTIFICATION == 0 {
            let text = format!("{symbol} is at {rounded}");
            publish(nats, "user.demo.notifications", &json!({ "title": "Price alert", "text": text }));
        }
    }
}

fn publish(nats: &Nats, subject: &str, data: &serde_json::Value) {
    let Ok(subject) = Subject::parse(subject) else {
        return;
    };
    if let Err(error) = nats.post(&subject, data.to_string().as_bytes()) {
        debug!(%error, "the demo cannot publish");
    }
}

/// Numbers that look random (xorshift); nothing depends on them.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
