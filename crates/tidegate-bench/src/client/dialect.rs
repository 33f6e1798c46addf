//! Dialect: what a client of the bench speaks.

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Tidegate's native protocol.
    Tidegate,
    /// What the frontend of Stock Agent speaks, and a word more: it is told when it has its prices.
    Described,
    /// A message that the bench adds to a vocabulary from a file.
    Added,
    /// The NATS protocol, in binary frames.
    Nats,
    /// Frames come unasked.
    Floor,
}
