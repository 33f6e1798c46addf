//! `DeliverySpans`: the spans of the publications that a lane has read and not yet passed to the shards.

use std::sync::Arc;

use tidegate_protocol::subject::Pattern;
use tidegate_protocol::trace_context::TRACEPARENT;
use tidegate_protocol::trace_context::TraceParent;

use crate::nats::message::Message;
use crate::telemetry::spans::ActiveSpan;
use crate::telemetry::spans::Destination;
use crate::telemetry::spans::Spans;

/// The spans of one batch of messages.
#[derive(Debug)]
pub(super) struct DeliverySpans {
    spans: Arc<Spans>,
    active: Vec<ActiveSpan>,
}

impl DeliverySpans {
    /// `None` if publications have no spans.
    pub(super) fn new(spans: Option<&Arc<Spans>>) -> Option<Box<Self>> {
        let spans = spans.filter(|spans| spans.records_deliveries)?;
        Some(Box::new(Self { spans: Arc::clone(spans), active: Vec::new() }))
    }

    /// Begins the span of a message whose class has this pattern, if its producer records the trace.
    pub(super) fn begin(&mut self, message: &Message, class: Option<&Pattern>) {
        let class = class.map_or(">", Pattern::as_str);
        self.active.extend(producer(message).and_then(|producer| {
            self.spans.begin_delivery(producer, Destination { subject: message.subject(), class })
        }));
    }

    /// All messages are with the shards.
    pub(super) fn end(&mut self) {
        self.active.clear();
    }
}

fn producer(message: &Message) -> Option<TraceParent> {
    if !message.has_headers() {
        return None;
    }
    TraceParent::parse(&message.header(TRACEPARENT).ok()??)
}
