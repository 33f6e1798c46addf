//! The exporter: sends the spans of a node in batches, on the main thread. A collector that is away costs an attempt in up
//! to 30 seconds, and a log line in a minute.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tracing::warn;

use crate::config::traces::TracesConfig;
use crate::net::otlp::Collector;
use crate::net::otlp::is_retryable;
use crate::telemetry::limit::LogLimit;
use crate::telemetry::spans::Span;
use crate::telemetry::spans::Spans;

/// The most spans in one request.
const BATCH: usize = 512;
/// How long one request may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// How long a node that shuts down waits for its last request.
const LAST_TIME_LIMIT: Duration = Duration::from_secs(2);
/// The longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(30);

static FAILED: LogLimit = LogLimit::every(60, 1);

/// An exporter that runs.
#[derive(Debug)]
pub(super) struct RunningExporter {
    task: JoinHandle<()>,
    stop: DropGuard,
}

impl RunningExporter {
    /// Starts it, if the configuration names a collector. `node` is the name of the node.
    pub(super) fn start(
        config: &TracesConfig,
        node: &str,
        (spans, ended): (Arc<Spans>, Receiver<Span>),
    ) -> Option<Self> {
        let collector = Collector::new(config, node)?;
        let stop = CancellationToken::new();
        let (interval, failures, batch) = (config.export_interval, 0, Vec::new());
        let exporter = Exporter { collector, spans, ended, batch, interval, failures };
        let task = tokio::spawn(exporter.run(stop.clone()));
        Some(Self { task, stop: stop.drop_guard() })
    }

    /// Exports what is left, for a short time.
    pub(super) async fn finish(self) {
        drop(self.stop);
        // An error is a panic of the task, which has been logged.
        let _ = self.task.await;
    }
}

struct Exporter {
    collector: Collector,
    spans: Arc<Spans>,
    /// The spans that wait for their export.
    ended: Receiver<Span>,
    /// Those that are sent, or sent again.
    batch: Vec<Span>,
    interval: Duration,
    /// The attempts that have failed since the last success.
    failures: u32,
}

impl Exporter {
    async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(self.pause())).await.is_some() {
            let mut export = Box::pin(self.export_all());
            if stop.run_until_cancelled(export.as_mut()).await.is_none() {
                // The collector may have the spans of this request already, so it is not sent again.
                if timeout(LAST_TIME_LIMIT, export).await.is_err() {
                    return self.drop_batch();
                }
                break;
            }
        }
        if timeout(LAST_TIME_LIMIT, Box::pin(self.export_all())).await.is_err() || !self.batch.is_empty() {
            self.drop_batch();
        }
    }

    /// The time until the next attempt: the interval, and longer and longer after failures.
    fn pause(&self) -> Duration {
        let longer = self.interval.saturating_mul(1 << self.failures.min(10));
        longer.min(MAX_PAUSE.max(self.interval))
    }

    /// Exports all spans that have ended, until an attempt fails.
    async fn export_all(&mut self) {
        loop {
            if self.batch.is_empty() {
                self.batch.extend(self.ended.try_iter().take(BATCH));
            }
            if self.batch.is_empty() || !self.export_batch().await {
                return;
            }
        }
    }

    /// Returns whether to go on. A batch that may be accepted later stays.
    async fn export_batch(&mut self) -> bool {
        let error = match timeout(TIME_LIMIT, self.collector.export(&self.batch)).await {
            Ok(Ok(refused)) => {
                let accepted = (self.batch.len() as u64).saturating_sub(refused);
                self.spans.exported.fetch_add(accepted, Ordering::Relaxed);
                self.spans.dropped.fetch_add(refused, Ordering::Relaxed);
                self.batch.clear();
                self.failures = 0;
                return true;
            }
            Ok(Err(error)) => {
                if !is_retryable(&error) {
                    self.drop_batch();
                }
                error.to_string()
            }
            Err(_) => "it does not answer".to_owned(),
        };
        self.failures = self.failures.saturating_add(1);
        if let Some(suppressed) = FAILED.pass() {
            warn!(
                error,
                failures = self.failures,
                suppressed,
                "cannot export spans: see `error`, and check traces.endpoint and the collector"
            );
        }
        false
    }

    fn drop_batch(&mut self) {
        self.spans.dropped.fetch_add(self.batch.len() as u64, Ordering::Relaxed);
        self.batch.clear();
    }
}
