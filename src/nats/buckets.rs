//! The JetStream buckets (KV) that Tidegate uses: their names, their subjects and how they must be configured. Pure.

pub mod comparison;

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::config::auth::MAX_TICKET_S;

/// Where the server republishes stored messages, so that nodes see them with their sequence numbers.
const LIVE: &str = "_live";

/// Revocations: `user.<user>`, `token.<jti>` and so on. An entry lives as long as its `Nats-TTL`, or without one forever.
pub const REVOKED: KvBucket = KvBucket {
    name: "tidegate_revoked",
    description: "Credentials that Tidegate refuses although they have not expired, and withdrawn permissions",
    storage: BucketStorage::File,
    max_age: Duration::ZERO,
    max_bytes: -1,
    max_value_bytes: -1,
    marker_ttl: Duration::from_hours(1),
    is_republished: true,
    read_by: &["DIRECT.GET"],
};

/// Tickets, each for one connection. The key of an entry is the hash of a ticket; its value can be read only with the
/// ticket.
pub const TICKETS: KvBucket = KvBucket {
    name: "tidegate_tickets",
    description: "One-time tickets of Tidegate, sealed; each is removed when it is used",
    storage: BucketStorage::Memory,
    max_age: Duration::from_secs(MAX_TICKET_S),
    // Some ten thousand tickets with a token of a usual size.
    max_bytes: 32 * 1024 * 1024,
    // A credential of the greatest auth.max_token_bytes, in JSON, and the seal.
    max_value_bytes: 256 * 1024,
    marker_ttl: Duration::ZERO,
    is_republished: false,
    read_by: &["STREAM.INFO", "STREAM.MSG.GET"],
};

/// All buckets that `tidegate streams apply` creates.
pub const BUCKETS: [KvBucket; 2] = [REVOKED, TICKETS];

/// A KV bucket, and what Tidegate needs of it. It keeps one value of each key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KvBucket {
    pub name: &'static str,
    pub description: &'static str,
    storage: BucketStorage,
    /// The age at which the server removes an entry. Zero: never.
    pub max_age: Duration,
    /// The most bytes of all entries together, after which NATS refuses further ones. -1: no limit.
    pub max_bytes: i64,
    /// The most bytes of one entry. -1: no limit.
    pub max_value_bytes: i32,
    /// Entries may have their own `Nats-TTL`; when one runs out, the server stores a marker for this long, so that nodes
    /// learn of it. Zero: entries have no TTL.
    marker_ttl: Duration,
    /// Whether the server sends each stored message to [`KvBucket::live_subjects`] too.
    is_republished: bool,
    /// The requests of the JetStream API with which nodes find and read it.
    read_by: &'static [&'static str],
}

/// Where the server keeps a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum BucketStorage {
    File,
    Memory,
}

impl KvBucket {
    /// The stream that holds the bucket, in the subjects of the JetStream API: `KV_tidegate_revoked`.
    pub fn stream(&self) -> String {
        format!("KV_{}", self.name)
    }

    /// The subject of an entry: `$KV.tidegate_revoked.<key>`. The key must be a valid key: tokens of letters, digits and
    /// `-/_=`, separated by dots.
    pub fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    /// The subjects of all entries: `$KV.tidegate_revoked.>`.
    pub fn subjects(&self) -> String {
        self.subject(">")
    }

    /// What a node publishes on to use the bucket: its entries, and requests of the JetStream API.
    pub fn needed_of_nodes(&self) -> Vec<String> {
        let requests = self.read_by.iter().map(|request| format!("$JS.API.{request}.{}", self.stream()));
        std::iter::once(self.subjects()).chain(requests).collect()
    }

    /// Where the server republishes the entries, if it does: `_live.$KV.tidegate_revoked.>`. Subscribe to this and not to
    /// [`KvBucket::subjects`], which also shows writes that the server has rejected.
    pub fn live_subjects(&self) -> Option<String> {
        self.is_republished.then(|| format!("{LIVE}.{}", self.subjects()))
    }

    /// The configuration of the stream, for the request `$JS.API.STREAM.CREATE.<stream>`.
    pub fn stream_config(&self, replicas: u64) -> Value {
        let mut config = json!({
            "name": self.stream(),
            "description": self.description,
            "subjects": [self.subjects()],
            "retention": "limits",
            "storage": self.storage.name(),
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": self.max_bytes,
            "max_msg_size": self.max_value_bytes,
            "max_msgs_per_subject": 1,
            "max_age": nanoseconds(self.max_age),
            "duplicate_window": nanoseconds(self.duplicate_window()),
            "discard": "new",
            "num_replicas": replicas,
            "allow_rollup_hdrs": true,
            "allow_direct": true,
            "deny_delete": true,
        });
        if !self.marker_ttl.is_zero() {
            config["allow_msg_ttl"] = true.into();
            config["subject_delete_marker_ttl"] = nanoseconds(self.marker_ttl).into();
        }
        if let Some(dest) = self.live_subjects() {
            config["republish"] = json!({ "src": self.subjects(), "dest": dest });
        }
        config
    }

    /// The window cannot be longer than the age of messages.
    fn duplicate_window(&self) -> Duration {
        const DEFAULT: Duration = Duration::from_mins(2);
        if self.max_age.is_zero() { DEFAULT } else { DEFAULT.min(self.max_age) }
    }
}

impl BucketStorage {
    /// Its name in the JetStream API.
    fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Memory => "memory",
        }
    }
}

/// A duration as the JetStream API has it.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_subjects_of_buckets() {
        assert_eq!(BUCKETS.map(|bucket| bucket.name), ["tidegate_revoked", "tidegate_tickets"]);
        assert_eq!(REVOKED.stream(), "KV_tidegate_revoked");
        assert_eq!(REVOKED.subject("token.a1"), "$KV.tidegate_revoked.token.a1");
        assert_eq!(REVOKED.live_subjects().as_deref(), Some("_live.$KV.tidegate_revoked.>"));
        assert_eq!(TICKETS.live_subjects(), None);
    }

    #[test]
    fn revocations_are_on_disk_republished_and_may_expire_one_by_one() {
        let config = REVOKED.stream_config(3);
        let hour = 3_600_000_000_000_u64;
        assert_eq!((&config["storage"], &config["num_replicas"]), (&json!("file"), &json!(3)));
        assert_eq!((&config["max_age"], &config["max_msgs_per_subject"]), (&json!(0), &json!(1)));
        assert_eq!(
            (&config["allow_msg_ttl"], &config["subject_delete_marker_ttl"]),
            (&json!(true), &json!(hour))
        );
        let republish = json!({ "src": "$KV.tidegate_revoked.>", "dest": "_live.$KV.tidegate_revoked.>" });
        assert_eq!(config["republish"], republish);
    }

    #[test]
    fn tickets_are_in_memory_and_short_lived() {
        let config = TICKETS.stream_config(1);
        let age = json!(MAX_TICKET_S * 1_000_000_000);
        let window = json!(MAX_TICKET_S.min(120) * 1_000_000_000);
        assert_eq!(
            (&config["storage"], &config["max_age"], &config["duplicate_window"]),
            (&json!("memory"), &age, &window)
        );
        assert_eq!((config.get("republish"), config.get("allow_msg_ttl")), (None, None));
    }
}
