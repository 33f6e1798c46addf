//! The demo data of `tidegate dev`: random prices, and now and then a notification and figures for administrators.

use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use serde_json::json;
use tidegate_protocol::subject::Subject;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use crate::nats::client::Client;
use crate::nats::error::NatsError;

const PRICE_EVERY: Duration = Duration::from_millis(200);
const PRICES_PER_NOTIFICATION: u64 = 40;
const SYMBOLS: [(&str, f64); 6] =
    [("AAPL", 190.0), ("MSFT", 420.0), ("NVDA", 130.0), ("TSLA", 250.0), ("BTC", 68_000.0), ("EURUSD", 1.08)];

/// Publishes forever, over its own NATS connection, as any producer does.
pub async fn run(client: Client) {
    let mut market = Market::default();
    let mut clock = tokio::time::interval(PRICE_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if let Err(error) = market.tick(&client).await {
            debug!(%error, "cannot publish demo data");
        }
    }
}

struct Market {
    prices: [(&'static str, f64); SYMBOLS.len()],
    rng: Rng,
    number: u64,
}

impl Default for Market {
    fn default() -> Self {
        Self { prices: SYMBOLS, rng: Rng::with_seed(1), number: 0 }
    }
}

impl Market {
    /// Changes a price and publishes it. While NATS is unreachable, this waits: old prices are of no use.
    async fn tick(&mut self, client: &Client) -> Result<(), NatsError> {
        let (symbol, quote) = self.step();
        publish(client, &format!("prices.{symbol}"), &quote).await?;
        if self.number.is_multiple_of(PRICES_PER_NOTIFICATION) {
            let message = format!("{symbol} is at {}", quote["price"]);
            let id = format!("n{}", self.number);
            let data = json!({ "id": id, "title": "Price alert", "message": message, "type": "info", "priority": "low" });
            publish(client, "user.demo.notifications", &data).await?;
            let online = 40 + self.rng.u64(..9);
            publish(client, "admin.users", &json!({ "online": online })).await?;
        }
        Ok(())
    }

    /// Changes one price at random. The quote has what pages read: also the change since the start.
    fn step(&mut self) -> (&'static str, Value) {
        self.number += 1;
        let at = self.rng.usize(..SYMBOLS.len());
        let (symbol, price) = &mut self.prices[at];
        let step = 2.0 * self.rng.f64() - 1.0;
        *price *= 1.0 + step * 0.002;
        let (price, (_, opening)) = (*price, SYMBOLS[at]);
        let quote = json!({
            "symbol": *symbol,
            "price": rounded(price),
            "change": rounded(price - opening),
            "change_pct": rounded(100.0 * (price - opening) / opening),
            "volume": 1000 * self.number,
            "bid": rounded(price * 0.9999),
            "ask": rounded(price * 1.0001),
        });
        (*symbol, quote)
    }
}

/// A number with four digits after the point.
fn rounded(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}

async fn publish(client: &Client, subject: &str, data: &Value) -> Result<(), NatsError> {
    let subject = Subject::parse(subject).map_err(|error| NatsError::Refused(error.to_string()))?;
    client.publish(&subject, data.to_string().into()).await
}
