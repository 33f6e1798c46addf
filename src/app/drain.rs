//! Shuts a node down: not ready but still serving → stop accepting → close sessions one by one → lanes leave NATS →
//! threads end.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;
use tokio::time::sleep;
use tracing::info;
use tracing::warn;

use crate::app::App;
use crate::shard::handle::ShardRequest;
use crate::shard::handle::Shards;

/// How long to wait for clients to answer the last close frame, and for threads to end.
const GRACE: Duration = Duration::from_secs(3);

/// How long to wait for clients after a second signal.
const QUICK_GRACE: Duration = Duration::from_secs(1);

impl App {
    /// Shuts the node down: waits for its lame-duck time, drains sessions over the drain window, and cuts off those
    /// that remain.
    pub async fn drain(self) {
        self.drain_with_shortcut(std::future::pending()).await;
    }

    /// Like [`App::drain`], but skips the remaining waits when `shortcut` completes.
    pub async fn drain_with_shortcut(self, shortcut: impl Future<Output = ()>) {
        let mut shortcut = pin!(shortcut);
        let mut is_quick = false;
        self.node.readiness.end();
        // After a failure, the node cannot serve any more.
        if !self.lame_duck.is_zero() && !self.failed.is_cancelled() {
            info!(window_s = self.lame_duck.as_secs(), "shutting down soon: not ready, but still serving");
            tokio::select! {
                () = sleep(self.lame_duck) => {}
                () = shortcut.as_mut() => is_quick = true,
            }
        }
        self.node.readiness.drain();
        drop(self.stop_accepting);
        let window = if is_quick { Duration::ZERO } else { self.drain };
        let sockets = self.shards.sockets();
        info!(sockets, window_s = window.as_secs(), "draining");
        drain_all(&self.shards, window).await;
        let mut deadline = Instant::now() + window + GRACE;
        while self.shards.sockets() > 0 && Instant::now() < deadline {
            tokio::select! {
                () = sleep(Duration::from_millis(20)) => {}
                () = shortcut.as_mut(), if !is_quick => {
                    is_quick = true;
                    info!("second signal: draining at once");
                    deadline = deadline.min(Instant::now() + QUICK_GRACE);
                    drain_all(&self.shards, Duration::ZERO).await;
                }
            }
        }
        let remaining = self.shards.sockets();
        if remaining > 0 {
            warn!(sockets = remaining, "cutting off sockets that did not close in time");
        }
        drop(self.stop_shards);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().all(|thread| thread.join().is_ok()));
        match tokio::time::timeout(GRACE, joined).await {
            Ok(Ok(true)) => info!("stopped"),
            Ok(_) => warn!("a shard has panicked: report this as a bug"),
            Err(_) => warn!("a shard does not stop: the process exits without it; report this as a bug"),
        }
        self.span_export.finish().await;
    }
}

/// Asks all shards to close their sessions within this time. A second call can only shorten it.
async fn drain_all(shards: &Shards, window: Duration) {
    for shard in shards.iter() {
        shard.send(ShardRequest::Drain { window }).await;
    }
}
