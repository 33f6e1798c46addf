//! Signals: what the process is told by whoever runs it. None of them kills it half way through something.

use anyhow::Context as _;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tracing::info;
use tracing::warn;

/// Those that are listened to, from the moment that this exists.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens.
    pub fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits until the process is asked to end: SIGTERM or SIGINT.
    pub async fn end(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    warn!("SIGHUP: nothing is read again in this version; restart the node to change its configuration");
                }
            }
        }
    }

    /// What begins, unless the process is asked to end before it has begun.
    pub async fn unless_ended<T>(
        &mut self,
        begin: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<Option<T>> {
        tokio::select! {
            begun = begin => begun.map(Some),
            () = self.end() => {
                info!("asked to end before it had begun");
                Ok(None)
            }
        }
    }
}
