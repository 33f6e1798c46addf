//! Echo: says that a client gets back what it sends, for conformance tests of the WebSocket itself.

mod dialect;

/// The vocabulary without words. Without the feature `test-hooks` there is no such value, and so nothing that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// Every message goes back as it came.
    #[cfg(feature = "test-hooks")]
    Everything,
}
