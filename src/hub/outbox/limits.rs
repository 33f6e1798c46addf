//! `OutboxLimits`: how much an outbox may hold.

#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// Bytes of all frames. A single frame is accepted even if it is larger. Up to half of the bytes may be
    /// publications that `max_rate_ms` delays, and their keys.
    pub bytes: usize,
    /// Frames; also the limit for keys that `max_rate_ms` holds back.
    pub frames: usize,
}
