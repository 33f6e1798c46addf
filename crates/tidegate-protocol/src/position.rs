//! Positions in the messages that JetStream stores: what a client has seen, as it can say later.

use std::sync::Arc;

/// Which messages the sequences of a stream mean: another text once the stream was replaced. Clients compare it, and
/// nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub Arc<str>);

/// Everything on a channel up to this sequence has been sent, or reported missing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub epoch: Epoch,
    /// The sequence in the stream; 0 before its first message.
    pub seq: u64,
}

/// Sequences of a stream, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceRange {
    pub from: u64,
    pub to: u64,
}
