//! `Recovery`: what a client that comes back has missed on a channel.

use crate::gap_cause::GapCause;
use crate::position::Position;
use crate::position::SequenceRange;
use crate::publication::Delivery;

/// What a client has missed on a channel since its position.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The last values, if they replace what the client has missed, or if not all of that is there.
    pub snapshot: Vec<Delivery>,
    /// The messages, in order.
    pub messages: Vec<Delivery>,
    /// Why others are missing before these messages, if any are, and which, if that is known.
    pub missing: Option<(GapCause, Option<SequenceRange>)>,
    /// Where the channel is after the messages.
    pub position: Option<Position>,
}
