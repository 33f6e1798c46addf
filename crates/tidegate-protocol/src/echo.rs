//! Echo, for conformance tests of the WebSocket: the client gets its own messages back.

mod dialect;

/// The echo dialect. Without the feature `test-hooks` this type has no values, so no session can have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// Sends back each message unchanged.
    #[cfg(feature = "test-hooks")]
    Everything,
}
