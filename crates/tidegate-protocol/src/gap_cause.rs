//! `GapCause`: why messages are missing.

/// Why publications are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapCause {
    /// The client was too slow, and its outbox was full.
    Slow,
    /// The publication waited longer than `max_age_ms`.
    Expired,
    /// The connection to NATS was lost for some time.
    Nats,
    /// The subject or a visible header of a NATS message cannot be read.
    Malformed,
    /// A NATS message is larger than this node delivers.
    TooLarge,
    /// The shard of the session fell behind.
    Overflow,
    /// A fault of the server while it encoded a publication.
    Internal,
    /// The stream does not have the messages any more.
    Discarded,
    /// The stream cannot be read.
    StreamUnavailable,
    /// The stream was replaced.
    Epoch,
    /// The client has missed more than a subscription sends it at once.
    TooMany,
}

impl GapCause {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 11] = [
        Self::Slow,
        Self::Expired,
        Self::Nats,
        Self::Malformed,
        Self::TooLarge,
        Self::Overflow,
        Self::Internal,
        Self::Discarded,
        Self::StreamUnavailable,
        Self::Epoch,
        Self::TooMany,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Expired => "expired",
            Self::Nats => "nats",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Overflow => "overflow",
            Self::Internal => "internal",
            Self::Discarded => "discarded",
            Self::StreamUnavailable => "stream_unavailable",
            Self::Epoch => "epoch",
            Self::TooMany => "too_many",
        }
    }
}
