//! `Sending`: a message on its way to NATS, with the trace that it belongs to.

use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;
use tidegate_protocol::trace_context::TraceContext;
use tidegate_protocol::trace_context::TraceParent;
use tracing::debug;

use crate::connection::client_error::error_code;
use crate::connection::context::Context;
use crate::nats::error::NatsError;
use crate::telemetry::spans::ActiveSpan;
use crate::telemetry::spans::Destination;
use crate::telemetry::spans::SpanKind;

/// A publish or a request whose outcome is not known yet.
#[derive(Debug)]
pub struct Sending {
    kind: SpanKind,
    subject: Subject,
    trace: Option<TraceParent>,
    /// If the trace is recorded.
    span: Option<ActiveSpan>,
}

impl Sending {
    /// Begins to send a message with these headers. If they have no trace context, the message gets the one of its HTTP
    /// call. If the trace is recorded, the headers then name this span as the sender.
    pub fn begin(
        context: &Context,
        kind: SpanKind,
        subject: &Subject,
        headers: &mut Vec<(String, String)>,
        of_call: Option<&TraceContext>,
    ) -> Self {
        let own = TraceContext::of(headers);
        let sender = own.as_ref().or(of_call);
        let span = begin_span(context, kind, subject, sender);
        let trace = span.as_ref().and_then(ActiveSpan::context).or(sender);
        if own.as_ref() != trace {
            TraceContext::replace(trace, headers);
        }
        Self { kind, subject: subject.clone(), trace: trace.map(|trace| trace.parent), span }
    }

    /// Ends with an outcome.
    pub fn end<T>(mut self, outcome: &Result<T, NatsError>) {
        let Err(error) = outcome else { return };
        if let Some(span) = &mut self.span {
            span.fail(error_code(error).name());
        }
        let (operation, subject) = (self.kind.operation(), self.subject.as_str());
        let trace_id = self.trace.map(TraceParent::trace_id_text);
        debug!(operation, subject, %error, trace_id, "nats did not do what a client asked for");
    }
}

fn begin_span(
    context: &Context,
    kind: SpanKind,
    subject: &Subject,
    sender: Option<&TraceContext>,
) -> Option<ActiveSpan> {
    let spans = context.node.spans.as_ref()?;
    let next = spans.next(sender)?;
    let class = context.class_of(&Pattern::from(subject.clone()));
    let to = Destination { subject: subject.as_str(), class: class.pattern.as_str() };
    Some(spans.begin(next, kind, to))
}
