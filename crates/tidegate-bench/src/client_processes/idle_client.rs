//! A client of a client process.

use crate::client::ClientConfig;

/// A client, and the number of the only publication that it receives.
#[derive(Clone, Debug)]
pub struct IdleClient {
    pub config: ClientConfig,
    pub expects: u64,
}
