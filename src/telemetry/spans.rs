//! `Spans`: the spans of this node, from their beginning until they are exported. Recording one never waits: a span that
//! does not fit into the queue is dropped, and counted.

use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::trace_context::TraceContext;
use tidegate_protocol::trace_context::TraceParent;

use crate::config::traces::TracesConfig;

/// The most spans that wait for their export. Further ones are dropped.
const QUEUE: usize = 2048;

/// What a span is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpanKind {
    /// A message of a client, until NATS or its stream has confirmed it.
    Publish,
    /// A request of a client, until its reply.
    Request,
    /// A publication, from reading it from NATS until all shards have it.
    Deliver,
}

impl SpanKind {
    /// What a client asks for, for logs.
    pub fn operation(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Request => "request",
            Self::Deliver => "deliver",
        }
    }
}

/// A span that has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    /// Its own id and trace.
    pub context: TraceContext,
    /// The span that caused it, of the same trace.
    pub parent: Option<u64>,
    /// The span of the producer, which may have many such spans: one for each node.
    pub link: Option<TraceParent>,
    pub kind: SpanKind,
    /// The subject.
    pub destination: Box<str>,
    /// The pattern of the subject's class, if it has one.
    pub template: Option<Box<str>>,
    pub began: SystemTime,
    pub took: Duration,
    /// The error code, if it has failed.
    pub error: Option<&'static str>,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'d> {
    pub subject: &'d str,
    /// The pattern of the subject's class. `>` covers everything, and so says nothing.
    pub class: &'d str,
}

/// A span that will be recorded, and has not begun.
#[derive(Debug)]
pub struct NextSpan {
    context: TraceContext,
    parent: Option<u64>,
}

/// Begins spans, and passes them to the exporter when they end.
#[derive(Debug)]
pub struct Spans {
    queue: SyncSender<Span>,
    /// Makes ids: its keys are random.
    hasher: RandomState,
    drawn: AtomicU64,
    /// Of the messages without a trace, one in this many begins one; 0: none.
    sample_one_in: u64,
    /// Whether publications to clients have spans.
    pub records_deliveries: bool,
    /// Spans that were accepted by the collector.
    pub exported: AtomicU64,
    /// Spans that were lost.
    pub dropped: AtomicU64,
}

impl Spans {
    /// The spans of a node, and those that have ended. `None` if no span is exported.
    pub fn new(config: &TracesConfig) -> Option<(Arc<Self>, Receiver<Span>)> {
        config.endpoint.as_ref()?;
        let (queue, receiver) = sync_channel(QUEUE);
        let spans = Self {
            queue,
            hasher: RandomState::new(),
            drawn: AtomicU64::new(0),
            sample_one_in: config.sample_one_in as u64,
            records_deliveries: config.deliveries,
            exported: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        };
        Some((Arc::new(spans), receiver))
    }

    /// The span of a message to NATS, if its sender records the trace. Some messages without one begin a trace.
    pub fn next(&self, sender: Option<&TraceContext>) -> Option<NextSpan> {
        let parent = sender.map(|sender| sender.parent.span_id);
        let context = match sender {
            Some(sender) if !sender.parent.is_sampled() => return None,
            Some(sender) => TraceContext { parent: sender.parent.with_span(self.id()), ..sender.clone() },
            None => TraceContext { parent: self.root()?, state: None },
        };
        Some(NextSpan { context, parent })
    }

    /// Begins it.
    pub fn begin(self: &Arc<Self>, next: NextSpan, kind: SpanKind, to: Destination<'_>) -> ActiveSpan {
        self.active(kind, (next.context, next.parent, None), to)
    }

    /// Begins the span of a publication whose producer records its trace. It begins a new trace and links to the
    /// producer's span: each node that delivers the publication has such a span.
    pub fn begin_delivery(
        self: &Arc<Self>,
        producer: TraceParent,
        of: Destination<'_>,
    ) -> Option<ActiveSpan> {
        let begin = || {
            let context = TraceContext { parent: self.new_trace(), state: None };
            self.active(SpanKind::Deliver, (context, None, Some(producer)), of)
        };
        producer.is_sampled().then(begin)
    }

    fn active(
        self: &Arc<Self>,
        kind: SpanKind,
        (context, parent, link): (TraceContext, Option<u64>, Option<TraceParent>),
        Destination { subject, class }: Destination<'_>,
    ) -> ActiveSpan {
        let template = Some(class).filter(|class| *class != ">").map(Box::from);
        let (began, took, destination) = (SystemTime::now(), Duration::ZERO, subject.into());
        let span = Span { context, parent, link, kind, destination, template, began, took, error: None };
        ActiveSpan { spans: Arc::clone(self), span: Some(Box::new(span)), began: Instant::now() }
    }

    /// The first span of a trace, for one message in `sample_one_in`.
    fn root(&self) -> Option<TraceParent> {
        let is_sample = self.sample_one_in > 0 && self.id().is_multiple_of(self.sample_one_in);
        is_sample.then(|| self.new_trace())
    }

    fn new_trace(&self) -> TraceParent {
        let trace_id = u128::from(self.id()) << 64 | u128::from(self.id());
        TraceParent::sampled(trace_id, self.id())
    }

    /// A random number that is not 0.
    fn id(&self) -> u64 {
        self.hasher.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed)).max(1)
    }

    fn push(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A span that has begun. It ends when this is dropped.
#[derive(Debug)]
pub struct ActiveSpan {
    spans: Arc<Spans>,
    /// `None` while it is dropped.
    span: Option<Box<Span>>,
    began: Instant,
}

impl ActiveSpan {
    /// What the message to NATS says about the trace: its sender is this span.
    pub fn context(&self) -> Option<&TraceContext> {
        self.span.as_ref().map(|span| &span.context)
    }

    /// Notes an error code.
    pub fn fail(&mut self, error: &'static str) {
        if let Some(span) = &mut self.span {
            span.error = Some(error);
        }
    }
}

impl Drop for ActiveSpan {
    fn drop(&mut self) {
        if let Some(span) = self.span.take() {
            self.spans.push(Span { took: self.began.elapsed(), ..*span });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::http_url::HttpUrl;

    const TO: Destination<'_> = Destination { subject: "prices.AAPL", class: "prices.*" };

    fn spans(sample_one_in: usize) -> (Arc<Spans>, Receiver<Span>) {
        let endpoint = Some(HttpUrl::parse("http://localhost:4318").unwrap());
        Spans::new(&TracesConfig { endpoint, sample_one_in, ..TracesConfig::default() }).unwrap()
    }

    fn sender(flags: &str) -> TraceContext {
        let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        TraceContext::parse(&parent, Some("a=1")).unwrap()
    }

    #[test]
    fn a_span_is_recorded_if_its_sender_records_the_trace() {
        let (spans, ended) = spans(1);
        let sender = sender("01");
        let mut active = spans.begin(spans.next(Some(&sender)).unwrap(), SpanKind::Publish, TO);
        let context = active.context().unwrap().clone();
        assert_eq!((context.parent.trace_id, &context.state), (sender.parent.trace_id, &sender.state));
        assert_ne!(context.parent.span_id, sender.parent.span_id);
        assert!(context.parent.is_sampled() && ended.try_recv().is_err(), "it has not ended");
        active.fail("timeout");
        drop(active);
        let span = ended.try_recv().unwrap();
        assert_eq!((&span.context, span.parent, span.link), (&context, Some(sender.parent.span_id), None));
        assert_eq!((&*span.destination, span.template.as_deref()), ("prices.AAPL", Some("prices.*")));
        assert_eq!((span.kind, span.error), (SpanKind::Publish, Some("timeout")));
        let not_sampled = self::sender("00");
        assert!(spans.next(Some(&not_sampled)).is_none());
        assert!(spans.begin_delivery(not_sampled.parent, TO).is_none());
    }

    #[test]
    fn a_delivery_is_a_trace_of_its_own_with_a_link() {
        let (spans, ended) = spans(0);
        let producer = sender("01").parent;
        drop(spans.begin_delivery(producer, Destination { subject: "a.b", class: ">" }));
        let span = ended.try_recv().unwrap();
        assert_eq!((span.link, span.parent, span.template), (Some(producer), None, None));
        assert_ne!(span.context.parent.trace_id, producer.trace_id);
    }

    #[test]
    fn some_messages_without_a_trace_begin_one() {
        for (one_in, expected) in [(0, 0..=0), (1, 1000..=1000), (10, 20..=400)] {
            let (spans, ended) = spans(one_in);
            let begin = |next| drop(spans.begin(next, SpanKind::Request, TO));
            let begun = (0..1000).filter_map(|_| spans.next(None)).map(begin).count();
            assert!(expected.contains(&begun), "{one_in}: {begun}");
            let traces: std::collections::HashSet<_> =
                ended.try_iter().map(|span| span.context.parent.trace_id).collect();
            assert_eq!(traces.len(), begun, "each has an id of its own");
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (spans, ended) = spans(1);
        for _ in 0..QUEUE + 5 {
            drop(spans.begin(spans.next(None).unwrap(), SpanKind::Publish, TO));
        }
        assert_eq!((spans.dropped.load(Ordering::Relaxed), ended.try_iter().count()), (5, QUEUE));
        drop(ended);
        drop(spans.begin(spans.next(None).unwrap(), SpanKind::Publish, TO));
        assert_eq!(spans.dropped.load(Ordering::Relaxed), 6, "without an exporter too");
    }
}
