//! The limits on time and memory of one request and of one connection.

use std::time::Duration;

use tidegate_protocol::session::limits::Rate;
use tidegate_protocol::websocket::AssemblerLimits;

use crate::hub::outbox::limits::OutboxLimits;
use crate::node::address_limiter::AddressLimits;
use crate::node::admission::AdmissionLimits;
use crate::node::call_limiter::CallLimits;

/// The limits of the node that can change while it runs.
#[derive(Clone, Copy, Debug)]
pub struct AdjustableLimits {
    pub admission: AdmissionLimits,
    pub address: AddressLimits,
    /// The most connections of the pages of one origin; 0 for no limit.
    pub origin_connections: u32,
    pub calls: CallLimits,
    /// The most connections of a user.
    pub user_connections: usize,
}

/// The limits of an HTTP request, and of writing the response.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// The time from the accept to the end of the first request's headers.
    pub handshake_timeout: Duration,
    /// The time from each response to the end of the next request's headers. At least `handshake_timeout`.
    pub keep_alive: Duration,
    /// The most headers of a request.
    pub max_headers: usize,
    /// The most bytes of a request's head.
    pub max_header_bytes: usize,
    /// The largest body, in bytes.
    pub max_body: usize,
    /// How long the client may take to receive a short response; a longer one adds time for its length.
    pub write_timeout: Duration,
}

/// The limits of a connection after its handshake.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// The largest message, and the most fragments of one.
    pub assembler: AssemblerLimits,
    /// The time from the first byte of a message to its last.
    pub fragment_timeout: Duration,
    /// The rate of bytes from the client.
    pub inbound: Rate,
    /// The rate of control frames from the client.
    pub control: Rate,
    /// The largest outbox of the client.
    pub outbox: OutboxLimits,
    /// How long the client may receive nothing while frames wait for it.
    pub write_timeout: Duration,
    /// The largest reply to a request on NATS, in bytes.
    pub reply_max: usize,
}
