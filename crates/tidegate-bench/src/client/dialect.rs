//! Dialect: what a client of the bench speaks.

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Tidegate's native protocol.
    Tidegate,
    /// The messages of the Stock Agent frontend, plus a confirmation when its subscription is live.
    Described,
    /// A message that the bench adds to a vocabulary from a file.
    Added,
    /// The NATS protocol, in binary frames.
    Nats,
    /// Frames come unasked.
    Floor,
}
