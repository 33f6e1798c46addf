//! The configurations of the servers under load.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::config::secret::Secret;

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

/// Tidegate's. A feed that nobody wants any more goes at once, so that what is measured is over when it is over.
pub fn tidegate(listen: SocketAddr, nats: SocketAddr, secret: &Secret, settings: &Settings) -> String {
    let mut text = format!(
        r#"
[http]
listen = "{listen}"
[nats]
url = "nats://{nats}"
[auth]
hmac_secret = "{}"
[server]
shards = {}
linger_ms = 0
[[role]]
name = "user"
subscribe = {{ allow = ["bench.>"] }}
[[class]]
pattern = "bench.latest.>"
kind = "latest"
max_rate_ms = {}
[[class]]
pattern = "bench.>"
kind = "buffer"
"#,
        secret.expose(),
        settings.shards,
        settings.max_rate_ms
    );
    if !settings.feed.is_empty() {
        let _ = write!(
            text,
            "[[class]]\npattern = \"bench.user.*.notifications\"\nkind = \"buffer\"\nfeed = \"{}\"\n",
            settings.feed
        );
    }
    text + &settings.more
}

/// The vocabulary of Stock Agent on the subjects of `market`. Its clients are told when they have what they asked for.
pub fn stock_agent() -> String {
    let shipped = include_str!("../../../vocabularies/stock-agent.toml");
    shipped
        .replace(
            "channel = \"prices.{item}\"",
            "channel = \"bench.market.{item}\"\nconfirm = { type = \"subscribed\" }",
        )
        .replace("channel = \"prices.*\"", "channel = \"bench.market.*\"")
        .replace("pattern = \"prices.*\"", "pattern = \"bench.market.*\"")
        .replace("symbol = \"{subject.1}\"", "symbol = \"{subject.2}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::Sources;
    use crate::vocabulary::compile::compile;

    #[test]
    fn the_vocabulary_of_stock_agent_is_the_shipped_one_elsewhere() {
        let described = compile(&stock_agent()).unwrap().described;
        assert_eq!(&*described.name, "stock-agent");
        assert!(stock_agent().contains("bench.market.{item}") && stock_agent().contains("{subject.2}"));
    }

    #[test]
    fn tidegate_takes_its_configuration() {
        let address: SocketAddr = ([127, 0, 0, 1], 1234).into();
        let settings = Settings {
            max_rate_ms: 100,
            more: "[limits]\nwrite_timeout_s = 8\n".to_owned(),
            ..Settings::default()
        };
        let secret = Secret::new("0123456789abcdef0123456789abcdef".to_owned());
        let text = tidegate(address, address, &secret, &settings);
        assert!(!text.contains("feed ="), "only when asked for");
        let file = std::env::temp_dir().join(format!("tidegate-bench-settings-{}.toml", std::process::id()));
        std::fs::write(&file, text).unwrap();
        let loaded = config::load(&Sources { file: Some(file.clone()), ..Sources::default() });
        std::fs::remove_file(file).unwrap();
        let loaded = loaded.unwrap();
        assert_eq!(loaded.config.http.listen, address);
        assert_eq!(loaded.config.classes.len(), 2);
        let feed = Settings { feed: "pattern".to_owned(), ..settings };
        assert!(tidegate(address, address, &secret, &feed).contains("feed = \"pattern\""));
    }
}
