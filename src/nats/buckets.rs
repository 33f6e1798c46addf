//! The key-value buckets that nodes share, as definitions. A node creates a bucket at first use if it may.

use std::time::Duration;

use crate::config::auth::MAX_TICKET_S;

/// A bucket in memory, with one value for each key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BucketDefinition {
    pub name: &'static str,
    pub description: &'static str,
    /// How long a value is kept.
    pub max_age: Duration,
    /// The most bytes of all values together. When they are reached, NATS refuses further values.
    pub max_bytes: i64,
    pub max_value_bytes: i32,
}

/// One-time tickets. The key of an entry is the hash of a ticket; its value can be read only with the ticket.
pub const TICKETS: BucketDefinition = BucketDefinition {
    name: "tidegate_tickets",
    description: "one-time tickets of Tidegate, sealed; each is removed when it is used",
    max_age: Duration::from_secs(MAX_TICKET_S),
    // Some ten thousand tickets with a token of a usual size.
    max_bytes: 32 * 1024 * 1024,
    // A credential of the greatest auth.max_token_bytes, in JSON, and the seal.
    max_value_bytes: 256 * 1024,
};
