//! `SpanExport`: the export of a node's spans. A build without the feature `otlp` has none.

#[cfg(feature = "otlp")]
mod exporter;

use std::sync::Arc;

#[cfg(feature = "otlp")]
use crate::app::span_export::exporter::RunningExporter;
use crate::config::traces::TracesConfig;
use crate::telemetry::spans::Spans;

/// The export of a node's spans, if the configuration names a collector.
#[derive(Debug, Default)]
pub struct SpanExport {
    #[cfg(feature = "otlp")]
    exporter: Option<RunningExporter>,
}

#[cfg(feature = "otlp")]
impl SpanExport {
    /// Starts it. `node` is the name of the node. Without a collector, the node has no spans.
    pub(super) fn start(config: &TracesConfig, node: &str) -> (Option<Arc<Spans>>, Self) {
        let Some((spans, ended)) = Spans::new(config) else { return (None, Self::default()) };
        let exporter = RunningExporter::start(config, node, (Arc::clone(&spans), ended));
        (Some(spans), Self { exporter })
    }

    /// Exports what is left, for a short time.
    pub(super) async fn finish(self) {
        if let Some(exporter) = self.exporter {
            exporter.finish().await;
        }
    }
}

#[cfg(not(feature = "otlp"))]
impl SpanExport {
    /// Starts nothing.
    pub(super) fn start(_: &TracesConfig, _: &str) -> (Option<Arc<Spans>>, Self) {
        (None, Self::default())
    }

    /// Ends at once.
    pub(super) fn finish(self) -> std::future::Ready<()> {
        std::future::ready(())
    }
}
