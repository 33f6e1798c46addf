//! How much one request and one connection may take, of time and of memory.

use std::time::Duration;

use tidegate_protocol::session::limits::Rate;
use tidegate_protocol::websocket::AssemblerLimits;

use crate::hub::outbox::limits::OutboxLimits;

/// The limits of a node's requests and connections.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    /// For a request, until its head is complete.
    pub request: RequestLimits,
    /// For the body of an HTTP call, in bytes.
    pub max_body: usize,
    /// For a connection after its handshake.
    pub connection: ConnectionLimits,
}

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

/// How much one connection may do and hold.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Sizes of messages and how many fragments they may have.
    pub assembler: AssemblerLimits,
    /// How long a message may take from its first byte to its last.
    pub fragment_timeout: Duration,
    /// Bytes from the client.
    pub inbound: Rate,
    /// Pings, pongs and the like from the client.
    pub control: Rate,
    /// What waits for the client.
    pub outbox: OutboxLimits,
    /// How long a client may take nothing of what waits for it.
    pub write_timeout: Duration,
    /// The largest reply to a request.
    pub reply_max: usize,
}
