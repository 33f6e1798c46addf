//! The configuration files of the servers under load.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::json;

/// The settings that differ between workloads.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Threads of Tidegate and of the baseline; 0 means one per core.
    pub shards: usize,
    /// Number of Tidegate processes; 0 means one. The clients are distributed over them.
    pub nodes: usize,
    /// TOML to append to the configuration that all workloads share.
    pub extra_toml: String,
    /// `KEY=VALUE` arguments for `tidegate serve --set`.
    pub set: Vec<String>,
    /// The `feed` key of the class `bench.user.*.notifications`, or `own` for its `lane` key; left out if empty.
    pub feed: String,
    /// The `max_rate_ms` key of the class `bench.latest.>`; 0 means no limit.
    pub max_rate_ms: u64,
    /// Whether clients offer permessage-deflate, and nats-server accepts it.
    pub compress: bool,
    /// A pattern that clients may subscribe to, besides `bench.>`; empty for none.
    pub extra_pattern: String,
    /// Tidegate's limit on open files; 0 means the limit of this program.
    pub max_open_files: u64,
}

pub fn nats(nats: SocketAddr, monitor: SocketAddr, websocket: SocketAddr, settings: &Settings) -> String {
    format!(
        "listen: \"{nats}\"\nhttp: \"{monitor}\"\n\
         websocket {{ listen: \"{websocket}\", no_tls: true, compression: {} }}\n",
        settings.compress
    )
}

/// Tidegate's configuration. `feed_linger_ms = 0` ends unused feeds at once, so that their cost is part of the
/// measurement.
pub fn tidegate(listen: SocketAddr, nats: SocketAddr, key: &str, settings: &Settings) -> String {
    let extra = match settings.extra_pattern.as_str() {
        "" => String::new(),
        pattern => format!(", \"{pattern}\""),
    };
    let mut text = format!(
        r#"
[http]
listen = "{listen}"
[nats]
url = "nats://{nats}"
[auth]
hmac_secret = "{key}"
[server]
shards = {}
feed_linger_ms = 0
[[role]]
name = "user"
subscribe = {{ allow = ["bench.>"{extra}] }}
[[class]]
pattern = "bench.latest.>"
kind = "latest"
max_rate_ms = {}
[[class]]
pattern = "bench.>"
kind = "buffer"
"#,
        settings.shards, settings.max_rate_ms
    );
    if !settings.feed.is_empty() {
        let key = if settings.feed == "own" { "lane" } else { "feed" };
        let _ = write!(
            text,
            "[[class]]\npattern = \"bench.user.*.notifications\"\nkind = \"buffer\"\n{key} = \"{}\"\n",
            settings.feed
        );
    }
    if !settings.extra_pattern.is_empty() {
        let _ = write!(text, "[[class]]\npattern = \"{}\"\nkind = \"buffer\"\n", settings.extra_pattern);
    }
    text + &settings.extra_toml
}

/// Centrifugo's configuration: its NATS broker in raw mode, where a channel is a subject and a publication is the payload
/// alone. Everything else has Centrifugo's defaults.
pub fn centrifugo(listen: SocketAddr, nats: SocketAddr, key: &str) -> String {
    let raw_mode = json!({ "enabled": true });
    let broker = json!({ "url": format!("nats://{nats}"), "raw_mode": raw_mode });
    json!({
        "http_server": { "address": listen.ip().to_string(), "port": listen.port() },
        "client": { "token": { "hmac_secret_key": key } },
        "channel": { "without_namespace": { "allow_subscribe_for_client": true } },
        "broker": { "enabled": true, "type": "nats", "nats": broker },
        "usage_stats": { "disabled": true },
    })
    .to_string()
}

/// The vocabulary of Stock Agent on the subjects of `market`.
pub fn stock_agent() -> String {
    let shipped = include_str!("../../../../vocabularies/stock-agent.toml");
    shipped
        .replace("channel = \"prices.{item|dotted}\"", "channel = \"bench.market.{item|dotted}\"")
        .replace("channels = [\"prices.*\", \"prices.*.*\"]", "channel = \"bench.market.*\"")
        .replace("pattern = \"prices.>\"", "pattern = \"bench.market.>\"")
        .replace("symbol = \"{subject.1..}\"", "symbol = \"{subject.2..}\"")
}
