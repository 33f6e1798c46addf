//! The order of the end: not ready → accept nobody → sessions end one by one → lanes leave NATS → threads end.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;
use tracing::warn;

use crate::app::App;
use crate::shard::handle::Call;

/// How long clients have to answer the last close frame, and threads to end.
const GRACE: Duration = Duration::from_secs(3);

impl App {
    /// Ends the node within its drain window and a grace; what has not ended by then is cut off.
    pub async fn drain(self) {
        self.readiness.drain();
        drop(self.stop_accepting);
        let sockets = self.shards.sockets();
        info!(sockets, window_s = self.drain.as_secs(), "draining");
        for shard in self.shards.iter() {
            shard.call_when_free(Call::Drain { window: self.drain }).await;
        }
        let until = Instant::now() + self.drain + GRACE;
        while self.shards.sockets() > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
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
