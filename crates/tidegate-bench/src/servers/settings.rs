//! The configurations of the servers under load.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// What differs between workloads.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Threads of Tidegate and of the floor; 0 for one per core.
    pub shards: usize,
    /// TOML that follows the configuration which all workloads share.
    pub more: String,
    /// `--set` of `tidegate serve`.
    pub set: Vec<String>,
    /// What the class of `bench.user.*.notifications` says of its feed; nothing if empty.
    pub feed: String,
    /// The class of `bench.latest.>`: at most one publication per subject in so many milliseconds; 0 for no limit.
    pub max_rate_ms: u64,
    /// Whether clients offer permessage-deflate, and nats-server takes it.
    pub compress: bool,
    /// A pattern that clients may see too, besides `bench.>`; nothing if empty.
    pub also: String,
    /// Files that Tidegate may open; 0 for as many as this program.
    pub files: u64,
}

/// nats-server's.
pub fn nats(nats: SocketAddr, monitor: SocketAddr, websocket: SocketAddr, settings: &Settings) -> String {
    format!(
        "listen: \"{nats}\"\nhttp: \"{monitor}\"\n\
         websocket {{ listen: \"{websocket}\", no_tls: true, compression: {} }}\n",
        settings.compress
    )
}

/// Tidegate's. A feed that no one wants any more goes at once, so that what is measured is over when it is over.
pub fn tidegate(listen: SocketAddr, nats: SocketAddr, key: &str, settings: &Settings) -> String {
    let also = match settings.also.as_str() {
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
subscribe = {{ allow = ["bench.>"{also}] }}
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
        let _ = write!(
            text,
            "[[class]]\npattern = \"bench.user.*.notifications\"\nkind = \"buffer\"\nfeed = \"{}\"\n",
            settings.feed
        );
    }
    if !settings.also.is_empty() {
        let _ = write!(text, "[[class]]\npattern = \"{}\"\nkind = \"buffer\"\n", settings.also);
    }
    text + &settings.more
}

/// The vocabulary of Stock Agent on the subjects of `market`. Its clients are told when they have what they asked for.
pub fn stock_agent() -> String {
    let shipped = include_str!("../../../../vocabularies/stock-agent.toml");
    shipped
        .replace(
            "channel = \"prices.{item}\"",
            "channel = \"bench.market.{item}\"\nconfirm = { type = \"subscribed\" }",
        )
        .replace("channel = \"prices.*\"", "channel = \"bench.market.*\"")
        .replace("pattern = \"prices.*\"", "pattern = \"bench.market.*\"")
        .replace("symbol = \"{subject.1}\"", "symbol = \"{subject.2}\"")
}
