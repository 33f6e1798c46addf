//! `[server]`: the node as a whole.

use std::time::Duration;

use tidegate_document::diagnostic::ValueError;

use crate::config::table::ConfigTable;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// 0: one per core.
    pub shards: usize,
    /// Empty: a name is generated at start.
    pub node: String,
    /// How long a feed is kept after its last session has unsubscribed.
    pub feed_linger: Duration,
    /// How long a node that shuts down still serves clients while `/readyz` answers 503.
    pub lame_duck: Duration,
    /// The time over which a draining node closes its sessions.
    pub drain: Duration,
    /// Whether clients may negotiate permessage-deflate.
    pub compression: bool,
    /// Shorter messages are sent uncompressed.
    pub compression_min_bytes: usize,
    /// From 1, the fastest, to 9.
    pub compression_level: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            shards: 0,
            node: String::new(),
            feed_linger: Duration::from_secs(5),
            lame_duck: Duration::from_secs(5),
            drain: Duration::from_secs(10),
            compression: true,
            compression_min_bytes: 256,
            compression_level: 1,
        }
    }
}

impl ServerConfig {
    pub(super) fn read(table: &ConfigTable<'_>) -> Self {
        let default = Self::default();
        Self {
            shards: table.count("shards", default.shards, 0..=1024),
            node: table.parsed("node", default.node, node),
            feed_linger: table.duration("feed_linger_ms", default.feed_linger, 0..=600_000),
            lame_duck: table.duration("lame_duck_s", default.lame_duck, 0..=600),
            drain: table.duration("drain_s", default.drain, 0..=600),
            compression: table.boolean("compression", default.compression),
            compression_min_bytes: table.count(
                "compression_min_bytes",
                default.compression_min_bytes,
                0..=1_073_741_824,
            ),
            compression_level: table.count("compression_level", default.compression_level, 1..=9),
        }
    }
}

/// The name is part of the names of NATS connections and of the node's own subjects, so it must be one token.
fn node(text: &str) -> Result<String, ValueError> {
    let fine = text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let help = "use at most 64 letters, digits, `-` and `_`; leave it empty for a generated name";
    if fine { Ok(text.to_owned()) } else { Err(ValueError::new("is not a valid name for a node", help)) }
}
