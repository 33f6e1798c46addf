//! `Readiness`: whether the node is ready, and how far its shutdown is.

use std::sync::Arc;

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::lane::LaneStatus;

/// The state of the lanes and of the shutdown. Clones share it.
#[derive(Clone, Debug)]
pub struct Readiness {
    lanes: Arc<[watch::Receiver<LaneStatus>]>,
    ending: CancellationToken,
    draining: CancellationToken,
}

impl Readiness {
    /// The node is ready while all these lanes are connected and it does not shut down.
    pub fn new(lanes: Vec<watch::Receiver<LaneStatus>>) -> Self {
        Self { lanes: lanes.into(), ending: CancellationToken::new(), draining: CancellationToken::new() }
    }

    /// Announces the shutdown: the node is not ready from now on, but still accepts clients.
    pub fn end(&self) {
        self.ending.cancel();
    }

    /// Starts to drain: the node accepts no new clients from now on.
    pub fn drain(&self) {
        self.ending.cancel();
        self.draining.cancel();
    }

    /// Whether the shutdown is announced.
    pub fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Whether the node drains, and accepts no new clients.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Waits until the node drains.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Calls `on_change` whenever the node becomes ready or not ready, until the shutdown is announced.
    pub async fn watch(self, on_change: impl Fn(bool)) {
        let mut lanes = self.lanes.to_vec();
        let mut was_ready = self.is_ready();
        loop {
            let changed = select_all(lanes.iter_mut().map(|lane| Box::pin(lane.changed())));
            tokio::select! {
                (Ok(()), ..) = changed => {}
                () = self.ending.cancelled() => return,
                else => return,
            }
            let is_ready = self.is_ready();
            if is_ready != std::mem::replace(&mut was_ready, is_ready) {
                on_change(is_ready);
            }
        }
    }

    /// The state of each lane.
    pub fn lanes(&self) -> Vec<LaneStatus> {
        self.lanes.iter().map(|lane| lane.borrow().clone()).collect()
    }

    /// Whether all lanes are connected and no shutdown is announced.
    pub fn is_ready(&self) -> bool {
        !self.ending.is_cancelled() && self.lanes().iter().all(|lane| lane.connected)
    }
}
