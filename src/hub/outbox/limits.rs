//! Limits: how much an outbox may hold.

/// How much an outbox may hold.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// Bytes of all frames in it. One frame is taken even if it is larger. Half of them may be of frames that wait for
    /// their turn, and of the keys that are slowed down.
    pub bytes: usize,
    /// Frames in it; and so many keys may be slowed down.
    pub frames: usize,
}
