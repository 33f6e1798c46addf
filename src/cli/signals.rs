//! `Signals`: handles SIGTERM, SIGINT and SIGHUP, so that none of them kills the process.

use anyhow::Context as _;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tracing::info;
use tracing::warn;

/// Receives signals, from its creation on.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT.
    pub async fn end(&mut self) {
        self.end_or_hangup(async || warn!("SIGHUP ignored: the node starts or ends")).await;
    }

    /// The same, and runs `on_hangup` for each SIGHUP.
    pub async fn end_or_hangup(&mut self, on_hangup: impl AsyncFn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => on_hangup().await,
            }
        }
    }

    /// Starts something. Returns `None` if SIGTERM or SIGINT comes first.
    pub async fn unless_ended<T>(
        &mut self,
        start: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<Option<T>> {
        tokio::select! {
            started = start => started.map(Some),
            () = self.end() => {
                info!("stopped by a signal during the start");
                Ok(None)
            }
        }
    }
}
