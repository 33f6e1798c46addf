//! The order of the end: not ready, but serving → accept no one → sessions end one by one → lanes leave NATS → threads end.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep;
use tracing::info;
use tracing::warn;

use crate::app::App;
use crate::shard::handle::Call;
use crate::shard::handle::Shards;

/// How long clients have to answer the last close frame, and threads to end.
const GRACE: Duration = Duration::from_secs(3);

/// The same when it is to go quickly.
const HURRY: Duration = Duration::from_secs(1);

impl App {
    /// Ends the node within its lame-duck time, its drain window and a grace; what has not ended by then is cut off.
    pub async fn drain(self) {
        self.drain_unless_hurried(std::future::pending()).await;
    }

    /// The same, but at once from when `hurry` has come.
    pub async fn drain_unless_hurried(self, hurry: impl Future<Output = ()>) {
        let mut hurry = pin!(hurry);
        let mut is_hurried = false;
        self.node.readiness.end();
        // A node that cannot go on does no one a service any more.
        if !self.lame_duck.is_zero() && !self.failed.is_cancelled() {
            info!(window_s = self.lame_duck.as_secs(), "about to end: not ready, and serving until then");
            tokio::select! {
                () = sleep(self.lame_duck) => {}
                () = hurry.as_mut() => is_hurried = true,
            }
        }
        self.node.readiness.drain();
        drop(self.stop_accepting);
        let window = if is_hurried { Duration::ZERO } else { self.drain };
        let sockets = self.shards.sockets();
        info!(sockets, window_s = window.as_secs(), "draining");
        drain_all(&self.shards, window).await;
        let mut until = Instant::now() + window + GRACE;
        while self.shards.sockets() > 0 && Instant::now() < until {
            tokio::select! {
                () = sleep(Duration::from_millis(20)) => {}
                () = hurry.as_mut(), if !is_hurried => {
                    is_hurried = true;
                    info!("told again to end: in a hurry");
                    until = until.min(Instant::now() + HURRY);
                    drain_all(&self.shards, Duration::ZERO).await;
                }
            }
        }
        let left = self.shards.sockets();
        if left > 0 {
            warn!(sockets = left, "cut off: they did not close in time");
        }
        drop(self.stop_shards);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().all(|thread| thread.join().is_ok()));
        match tokio::time::timeout(GRACE, joined).await {
            Ok(Ok(true)) => info!("ended"),
            Ok(_) => warn!("a shard ended with a fault"),
            Err(_) => warn!("a shard does not end"),
        }
    }
}

/// Lets all shards end their sessions within this time; those that are ending already have no longer.
async fn drain_all(shards: &Shards, window: Duration) {
    for shard in shards.iter() {
        shard.call_when_free(Call::Drain { window }).await;
    }
}
