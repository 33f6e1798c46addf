//! What a connection has read and its session cannot take yet: a client that is faster than it may be is read later, and
//! nothing that it has sent is refused for that.

use tidegate_protocol::session::Readiness;

/// Bytes that wait for the session: at most what one read takes.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) bytes: Box<[u8]>,
    /// How many of them are taken. They are not moved, however few messages are taken at a time.
    pub(super) taken: usize,
    pub(super) readiness: Readiness,
}

/// Why not all bytes were taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    /// How many were.
    pub(super) taken: usize,
    /// When the session takes more.
    pub(super) readiness: Readiness,
}
