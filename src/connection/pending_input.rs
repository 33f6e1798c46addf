//! `PendingInput`: bytes that a connection has read and its session cannot process yet. A client that sends faster than
//! its limits allow is slowed down: its bytes wait here, and none of its messages is rejected for that.

use tidegate_protocol::session::InputReadiness;

/// Bytes that wait for the session, at most as many as one read returns.
#[derive(Debug)]
pub(super) struct PendingInput {
    pub(super) bytes: Box<[u8]>,
    /// How many of the bytes are processed. They stay in place, so that many small messages cost no copies.
    pub(super) taken: usize,
    pub(super) readiness: InputReadiness,
}

/// Where processing paused, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    /// How many bytes were processed.
    pub(super) taken: usize,
    /// When the session takes more.
    pub(super) readiness: InputReadiness,
}
