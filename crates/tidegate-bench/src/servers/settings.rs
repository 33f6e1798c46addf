//! The configuration files of the servers under load.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::json;

use crate::tls::Tls;

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
    /// Whether Tidegate's metrics are read once a second.
    pub scrape: bool,
    /// The `feed` key of the class `bench.user.*.notifications`, or `own` for its `lane` key; left out if empty.
    pub feed: String,
    /// The `max_rate_ms` key of the class `bench.latest.>`; 0 means no limit.
    pub max_rate_ms: u64,
    /// Whether clients offer permessage-deflate, and nats-server accepts it.
    pub compress: bool,
    /// A pattern that clients may subscribe to, besides `bench.>`; empty for none.
    pub extra_pattern: String,
    /// The certificate of the listeners for clients, and what clients need to connect. Without it, there is no TLS.
    pub tls: Option<Tls>,
    /// Tidegate's limit on open files; 0 means the limit of this program.
    pub max_open_files: u64,
}

pub fn nats(nats: SocketAddr, monitor: SocketAddr, websocket: SocketAddr, settings: &Settings) -> String {
    let tls = settings.tls.as_ref().map_or_else(
        || "no_tls: true".to_owned(),
        |Tls { cert_file, key_file, .. }| {
            format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", cert_file.display(), key_file.display())
        },
    );
    format!(
        "listen: \"{nats}\"\nhttp: \"{monitor}\"\n\
         websocket {{ listen: \"{websocket}\", {tls}, compression: {} }}\n",
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
    if let Some(Tls { cert_file, key_file, .. }) = &settings.tls {
        let (cert_file, key_file) = (cert_file.display(), key_file.display());
        let _ = write!(text, "[tls]\ncert_file = \"{cert_file}\"\nkey_file = \"{key_file}\"\n");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_servers_have_the_certificate_on_the_listeners_for_clients() {
        let address: SocketAddr = ([127, 0, 0, 1], 1234).into();
        let texts = |settings: &Settings| {
            (nats(address, address, address, settings), tidegate(address, address, "key", settings))
        };
        let (nats, tidegate) = texts(&Settings::default());
        assert!(nats.contains("websocket { listen: \"127.0.0.1:1234\", no_tls: true,"), "{nats}");
        assert!(!tidegate.contains("[tls]"), "{tidegate}");
        let folder = std::env::temp_dir().join(format!("tidegate-bench-settings-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let tls = Tls::create(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let (cert_file, key_file) = (tls.cert_file.clone(), tls.key_file.clone());
        let (nats, tidegate) = texts(&Settings { tls: Some(tls), ..Settings::default() });
        let [cert_file, key_file] = [cert_file, key_file].map(|file| file.display().to_string());
        let expected = format!("tls {{ cert_file: \"{cert_file}\", key_file: \"{key_file}\" }}, compression");
        assert!(nats.contains(&expected), "{nats}");
        let expected = format!("[tls]\ncert_file = \"{cert_file}\"\nkey_file = \"{key_file}\"\n");
        assert!(tidegate.contains(&expected), "{tidegate}");
    }
}
