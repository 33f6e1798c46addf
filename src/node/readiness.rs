//! `Readiness`: whether the node can do its work, and how far it is with its end.

use std::sync::Arc;

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::lane::LaneStatus;

/// What decides whether the node is ready.
#[derive(Clone, Debug)]
pub struct Readiness {
    lanes: Arc<[watch::Receiver<LaneStatus>]>,
    ending: CancellationToken,
    draining: CancellationToken,
}

impl Readiness {
    /// Ready while all these lanes are connected and the node does not drain.
    pub fn new(lanes: Vec<watch::Receiver<LaneStatus>>) -> Self {
        Self { lanes: lanes.into(), ending: CancellationToken::new(), draining: CancellationToken::new() }
    }

    /// From now on not ready: the node will end, and does its work until then.
    pub fn end(&self) {
        self.ending.cancel();
    }

    /// From now on no one comes in any more.
    pub fn drain(&self) {
        self.ending.cancel();
        self.draining.cancel();
    }

    /// Whether the node is about to end.
    pub fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Whether the node lets no one in any more.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Waits until the node lets no one in any more.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Calls `say` whenever the node becomes ready or is not ready any more, until it is about to end.
    pub async fn watch(self, say: impl Fn(bool)) {
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
                say(is_ready);
            }
        }
    }

    /// The state of each lane.
    pub fn lanes(&self) -> Vec<LaneStatus> {
        self.lanes.iter().map(|lane| lane.borrow().clone()).collect()
    }

    /// Whether the node can do its work.
    pub fn is_ready(&self) -> bool {
        !self.ending.is_cancelled() && self.lanes().iter().all(|lane| lane.connected)
    }
}
