//! How much a request may take, of time and of room.

use std::time::Duration;

/// How much a request may take before it is one.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// From the accept to the end of the first request's headers.
    pub handshake_timeout: Duration,
    /// From each answer to the end of the next request's headers; no less than for the first one.
    pub keep_alive: Duration,
    /// Headers of a request.
    pub max_headers: usize,
    /// Bytes of all headers of a request.
    pub max_header_bytes: usize,
    /// For taking an answer, a short one.
    pub write_timeout: Duration,
}
