//! `RefusedRequests`: passes handshakes and calls that were refused to the shard that keeps them for operators.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::auth::policy::Policy;
use crate::node::shared_counter::SharedCounter;

/// The most requests that wait for the shard. It takes them at once.
const QUEUE: usize = 1024;

/// A request that was refused.
#[derive(Debug)]
pub struct RefusedRequest {
    pub at: Instant,
    /// The kind of request, as in the log.
    pub operation: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The error code, and the more exact reason.
    pub code: &'static str,
    pub reason: &'static str,
    /// The configuration key of the limit that was exceeded.
    pub limit: Option<&'static str>,
    /// The user that the credential names, whether it is valid or not.
    pub claimed_user: Option<String>,
    /// The policy of the endpoint.
    pub policy: Arc<Policy>,
    /// The client's address.
    pub address: Option<IpAddr>,
}

/// Takes refused requests. If too many wait, further ones are lost, and counted.
#[derive(Debug)]
pub struct RefusedRequests {
    sender: mpsc::Sender<RefusedRequest>,
    pub lost: SharedCounter,
}

/// The other end.
#[derive(Debug)]
pub struct RefusedRequestReceiver(mpsc::Receiver<RefusedRequest>);

impl RefusedRequests {
    pub fn new() -> (Self, RefusedRequestReceiver) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { sender, lost: SharedCounter::default() }, RefusedRequestReceiver(receiver))
    }

    /// Passes on a refused request. Never waits.
    pub fn note(&self, request: RefusedRequest) {
        if self.sender.try_send(request).is_err() {
            self.lost.count();
        }
    }
}

impl RefusedRequestReceiver {
    /// The next one. `None` once the node has ended.
    pub async fn next(&mut self) -> Option<RefusedRequest> {
        self.0.recv().await
    }
}
