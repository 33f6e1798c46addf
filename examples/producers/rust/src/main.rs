//! Publishes on NATS what the backend of one of the five systems in vocabularies/ would publish.
//!
//! ```text
//! cargo run -- stock-agent                        publish one of each event every second, until Ctrl-C
//! cargo run -- stock-agent --every 100            ten times as often
//! cargo run -- stock-agent --once                 publish one of each event, and exit
//! cargo run -- financegpt --serve                 also answer the requests of its pages and tools
//! cargo run --release -- stock-agent --rate 5000  5000 events per second
//! ```

use std::env;
use std::error::Error;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::process;
use std::time::Duration;
use std::time::SystemTime;

use async_nats::Client;
use async_nats::HeaderMap;
use async_nats::Message;
use async_nats::Subscriber;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

struct System {
    name: &'static str,
    /// The user of the events, without `--user`.
    user: &'static str,
    events: fn(user: &str, n: u32) -> Vec<Event>,
    services: &'static [Service],
}

/// One publication. The subject has the recipient or the topic; the payload is what the page shows.
struct Event(String, Value);

/// Answers requests on a subject. The function gets the tokens of the subject, and the client's message.
struct Service(&'static str, fn(&[&str], &Value) -> Result<Value, String>);

const SYSTEMS: [System; 5] = [
    System {
        name: "financegpt",
        user: "USR001",
        events: financegpt,
        services: &[
            Service("finance.*.balance", balance),
            Service("finance.*.transactions", transactions),
            Service("finance.*.acknowledge", acknowledge),
            Service("mcp.tools", tools),
            Service("tools.loan_calculator.*", loan_calculator),
        ],
    },
    System { name: "hoardrun", user: "u1", events: hoardrun, services: &[] },
    // Pages of Stock Agent without a token are the user "anonymous".
    System { name: "stock-agent", user: "anonymous", events: stock_agent, services: &[] },
    System { name: "sentio", user: "user_001", events: sentio, services: &[] },
    System { name: "ara", user: "anonymous", events: ara, services: &[Service("predict.>", predict)] },
];

fn event(subject: impl Into<String>, payload: Value) -> Event {
    Event(subject.into(), payload)
}

fn financegpt(user: &str, n: u32) -> Vec<Event> {
    // The last token of the subject is the type of the event; the payload has the other members.
    let mine = |what: &str, payload| event(format!("user.{user}.{what}"), payload);
    let balance = about(45000.0);
    let transaction = json!({"id": format!("TXN{n}"), "amount": -5000});
    let urgent = "Suspicious ₹35,000 transaction detected!";
    vec![
        mine("balance_update", json!({"new_balance": balance, "transaction": transaction})),
        mine("transaction_alert", json!({"amount": about(1200.0), "merchant": "Cafe"})),
        mine("fraud_alert", json!({"alert_id": format!("alert-{n}"), "message": "FRAUD ALERT! Block card?"})),
        mine("goal_progress", json!({"goal": "car", "percent": n % 101})),
        mine("market_update", json!({"holding": "INFY", "value": about(15000.0)})),
        mine("bill_reminder", json!({"bill": "rent", "due": "2026-12-01"})),
        mine("insight_ready", json!({"insight": "You spend less on Mondays"})),
        mine("system_notification", json!({"message": "maintenance at night"})),
        mine("URGENT_FRAUD_ALERT", json!({"message": urgent, "action_required": true})),
        // One publication for all users of the account.
        event("account.ACC1.updates", json!({"by": user, "withdrawn": 5000, "new_balance": balance})),
        event("market.INFY", json!({"symbol": "INFY", "price": about(1500.0), "change": about(1.0)})),
        event(
            "market.RELIANCE",
            json!({"symbol": "RELIANCE", "price": about(2891.4), "change": about(-12.1)}),
        ),
        // MCP clients receive it as the notification notifications/tools/list_changed.
        event("mcp.notify.tools.list_changed", json!({})),
    ]
}

fn hoardrun(user: &str, n: u32) -> Vec<Event> {
    let mine = |what: &str, payload| event(format!("user.{user}.{what}"), payload);
    let kinds = ["transaction", "security", "savings"];
    let notification = json!({
        "id": format!("n{n}"),
        "title": "Login",
        "message": "New device",
        "type": kinds[(random() * 3.0) as usize],
        "priority": "high",
        "metadata": {},
        "created_at": now(),
    });
    let transaction = json!({
        "transaction_id": format!("t{n}"),
        "status": "completed",
        "amount": about(120.0),
        "timestamp": now(),
    });
    vec![
        mine("notifications", notification),
        mine("transactions", transaction),
        mine("balance", json!({"balance": about(880.0), "currency": "USD"})),
        event("room.market_data", json!({"symbol": "AAPL", "price": about(190.0)})),
        event("room.crypto", json!({"symbol": "BTC", "price": about(90000.0)})),
        event("system.announcements", json!({"title": "Maintenance", "message": "tonight"})),
    ]
}

fn stock_agent(user: &str, n: u32) -> Vec<Event> {
    let mine = |what: &str, payload| event(format!("user.{user}.{what}"), payload);
    let quote = |symbol: &str, start: f64| {
        let price = about(start);
        let change = cents(price - start);
        let payload = json!({
            "price": price,
            "change": change,
            "change_pct": cents(change / start * 100.0),
            "volume": 45_000_000 + n,
            "bid": cents(price - 0.05),
            "ask": cents(price + 0.05),
        });
        event(format!("prices.{symbol}"), payload)
    };
    let alert = json!({
        "id": format!("alert-{n}"),
        "symbol": "AAPL",
        "type": "price_threshold",
        "message": "AAPL crossed $185",
        "severity": "info",
    });
    let signal = json!({
        "symbol": "AAPL",
        "action": "buy",
        "confidence": 0.85,
        "reasoning": "Strong bullish momentum...",
    });
    let trained =
        json!({"id": format!("notif-{n}"), "message": "Model training completed", "type": "success"});
    vec![
        quote("AAPL", 185.5),
        quote("MSFT", 401.0),
        quote("GOOGL", 140.0),
        event("alerts", alert),
        event("signals", signal),
        event("system.notifications", trained),
        mine("notifications", json!({"id": format!("mine-{n}"), "message": "Order filled", "type": "info"})),
        mine("portfolio", json!({"value": about(100_000.0), "positions": {"AAPL": 10}})),
    ]
}

fn sentio(user: &str, n: u32) -> Vec<Event> {
    let mine = |what: &str, payload| event(format!("user.{user}.{what}"), payload);
    let signal = |symbol: &str, signal: &str| {
        let payload = json!({"symbol": symbol, "signal": signal, "confidence": 0.85, "timestamp": now()});
        event(format!("signals.{symbol}"), payload)
    };
    let earnings = json!({
        "portfolio_value": about(100_000.0),
        "total_return": 5000.0,
        "daily_pnl": 250.0,
        "win_rate": 0.65,
    });
    let notification = json!({
        "id": n,
        "type": "success",
        "title": "Trade Executed",
        "message": "Your AAPL buy order has been executed",
        "timestamp": now(),
    });
    let users = json!({"total_users": 150, "active_subscriptions": 120, "monthly_revenue": 15000.0});
    vec![
        signal("AAPL", "buy"),
        signal("GOOGL", "hold"),
        signal("MSFT", "sell"),
        event("prices.AAPL", json!({"symbol": "AAPL", "price": about(190.0)})),
        mine("earnings", earnings),
        mine("notifications", notification),
        event("admin.users", users),
        event("admin.revenue", json!({"monthly_revenue": 15000.0})),
    ]
}

fn ara(_user: &str, _n: u32) -> Vec<Event> {
    let prediction = |symbol: &str, price: f64, confidence: f64| {
        let payload = json!({"predicted_price": about(price), "confidence": confidence, "timestamp": now()});
        event(format!("predictions.{symbol}"), payload)
    };
    let alert = json!({
        "type": "price_alert",
        "symbol": "AAPL",
        "message": "Price exceeded $150",
        "severity": "high",
    });
    vec![
        prediction("AAPL", 150.25, 0.85),
        prediction("TSLA", 200.0, 0.7),
        event("prices.AAPL", json!({"price": about(149.5), "volume": 1_000_000, "timestamp": now()})),
        event("alerts", alert),
    ]
}

fn balance(_subject: &[&str], request: &Value) -> Result<Value, String> {
    Ok(match request["account"].as_str() {
        None | Some("savings") => json!(45000.5),
        Some("current") => json!(1200.0),
        Some(_) => json!(0),
    })
}

fn transactions(_subject: &[&str], request: &Value) -> Result<Value, String> {
    let limit = request["limit"].as_i64().unwrap_or(10);
    Ok((1..=limit.min(20)).map(|n| json!({"id": format!("TXN{n}"), "amount": -100 * n})).collect())
}

fn acknowledge(_subject: &[&str], _request: &Value) -> Result<Value, String> {
    Ok(json!({"ok": true}))
}

fn tools(_subject: &[&str], _request: &Value) -> Result<Value, String> {
    let properties =
        json!({"amount": {"type": "number"}, "months": {"type": "integer"}, "rate": {"type": "number"}});
    Ok(json!({"tools": [{
        "name": "loan_calculator",
        "description": "The monthly payment of a loan",
        "inputSchema": {"type": "object", "properties": properties, "required": ["amount"]},
    }]}))
}

fn loan_calculator(subject: &[&str], arguments: &Value) -> Result<Value, String> {
    // The user is in the subject, which only Tidegate writes. Ignore what a client claims in its message.
    let user = subject[2];
    let number = |name: &str, otherwise| arguments[name].as_f64().unwrap_or(otherwise);
    let (months, monthly) = (number("months", 12.0), number("rate", 10.0) / 1200.0);
    let payment = number("amount", f64::NAN) * monthly / (1.0 - (1.0 + monthly).powf(-months));
    if !payment.is_finite() {
        return Err("this amount, months and rate give no payment".into());
    }
    let text = format!("{user} pays {payment:.2} a month for {months} months");
    Ok(json!({"content": [{"type": "text", "text": text}], "isError": false}))
}

fn predict(subject: &[&str], _request: &Value) -> Result<Value, String> {
    // A symbol may have dots, as BRK.B.
    Ok(json!({
        "symbol": subject[1..].join("."),
        "predicted_price": about(150.0),
        "confidence": 0.85,
        "timestamp": now(),
    }))
}

/// A random number from 0 to below 1. The only random numbers in the standard library are the seeds of its maps.
fn random() -> f64 {
    (RandomState::new().hash_one(()) >> 11) as f64 / (1_u64 << 53) as f64
}

fn about(price: f64) -> f64 {
    cents(price * (0.99 + random() / 50.0))
}

fn cents(price: f64) -> f64 {
    (price * 100.0).round() / 100.0
}

/// The time as `2026-01-06T12:00:00.000Z`, in UTC. The standard library has no calendar.
fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (second, millis) = (since.as_secs(), since.subsec_millis());
    // Years begin in March here, so that the leap day is the last day of a year.
    let days = second / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + month / 10, (month + 2) % 12 + 1);
    let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

struct Options {
    nats: String,
    user: String,
    once: bool,
    /// Time between two rounds of events.
    every: Duration,
    /// Events per second, instead of `every`.
    rate: Option<f64>,
    serve: bool,
}

impl Options {
    fn parse(system: &System, mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            nats: "nats://127.0.0.1:4222".into(),
            user: system.user.into(),
            once: false,
            every: Duration::from_secs(1),
            rate: None,
            serve: false,
        };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(usage);
            match flag.as_str() {
                "--nats" => options.nats = value()?,
                "--user" => options.user = value()?,
                "--once" => options.once = true,
                "--every" => options.every = Duration::from_millis(value()?.parse()?),
                "--rate" => options.rate = Some(value()?.parse()?),
                "--serve" => options.serve = true,
                _ => return Err(usage().into()),
            }
        }
        Ok(options)
    }

    fn pause(&self, events: usize) -> Result<Duration, Box<dyn Error>> {
        let pause = match self.rate {
            Some(per_second) => Duration::try_from_secs_f64(events as f64 / per_second)?,
            None => self.every,
        };
        Ok(pause.max(Duration::from_micros(1)))
    }
}

fn usage() -> String {
    let names = SYSTEMS.map(|system| system.name).join("|");
    format!(
        "usage: feed {names} [--nats URL] [--user ID] [--once | --every MS | --rate PER_SECOND] [--serve]"
    )
}

/// Answers until the connection ends.
async fn serve(nats: Client, mut requests: Subscriber, service: &Service) {
    while let Some(request) = requests.next().await {
        let Some(to) = request.reply.clone() else { continue };
        let sent = match answer(&request, service) {
            Ok(reply) => nats.publish(to, reply.to_string().into()).await,
            Err(message) => {
                // Tells Tidegate that this is an error; NATS' own service libraries do the same.
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Service-Error", message);
                headers.insert("Nats-Service-Error-Code", "500");
                nats.publish_with_headers(to, headers, Vec::new().into()).await
            }
        };
        if let Err(error) = sent {
            eprintln!("{error}");
        }
    }
}

fn answer(message: &Message, Service(_, answer): &Service) -> Result<Value, String> {
    let request = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
    answer(&message.subject.split('.').collect::<Vec<_>>(), &request)
}

async fn publish(nats: &Client, system: &System, options: &Options) -> Result<(), Box<dyn Error>> {
    let pause = options.pause((system.events)(&options.user, 0).len())?;
    let mut rounds = tokio::time::interval(pause);
    // Catches up after a delay, so that the average rate is exact.
    rounds.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for n in 1.. {
        rounds.tick().await;
        for Event(subject, payload) in (system.events)(&options.user, n) {
            nats.publish(subject, payload.to_string().into()).await?;
        }
        if options.once {
            break;
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let seed = arguments.next().unwrap_or_default();
    let Some(system) = SYSTEMS.iter().find(|system| system.name == seed) else {
        eprintln!("{}", usage());
        process::exit(64);
    };
    let options = Options::parse(system, arguments)?;
    let name = format!("{seed} feed");
    let nats = async_nats::ConnectOptions::new().name(name).connect(&options.nats).await?;

    let mut services = JoinSet::new();
    if options.serve {
        for service in system.services {
            let Service(subject, _) = service;
            // With a queue group, several instances of this program share the requests.
            let requests = nats.queue_subscribe(*subject, "feed".into()).await?;
            services.spawn(serve(nats.clone(), requests, service));
            println!("answering {subject}");
        }
    }
    tokio::select! {
        published = publish(&nats, system, &options) => {
            published?;
            if options.serve {
                tokio::signal::ctrl_c().await?;
            }
        }
        _ = tokio::signal::ctrl_c() => {}
    }
    // The library sends publications in the background; this waits for them.
    nats.flush().await?;
    Ok(())
}
