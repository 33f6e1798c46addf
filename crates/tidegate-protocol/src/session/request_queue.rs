//! The queue of publishes, requests and queries of one session: those in flight, and those that wait for a free place.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::message::Query;
use crate::message::RequestContext;
use crate::subject::Subject;

/// Estimated memory of a queued request without its data, in bytes.
const OVERHEAD: usize = 256;

/// What a request asks for.
#[derive(Debug)]
pub(super) enum RequestKind {
    Publish { subject: Subject, data: Bytes, headers: Vec<(String, String)> },
    Request { subject: Subject, data: Bytes, timeout: Duration },
    Query(Query),
}

/// A request that waits for a free place.
#[derive(Debug)]
pub(super) struct QueuedRequest {
    pub(super) request_context: Option<RequestContext>,
    pub(super) kind: RequestKind,
}

impl QueuedRequest {
    pub(super) fn is_publish(&self) -> bool {
        matches!(self.kind, RequestKind::Publish { .. })
    }

    pub(super) fn bytes(&self) -> usize {
        let sized = |subject: &Subject, data: &Bytes| subject.as_str().len() + data.len();
        let bytes = match &self.kind {
            RequestKind::Publish { subject, data, headers } => {
                let headers = headers.iter().map(|(name, value)| name.len() + value.len());
                sized(subject, data) + headers.sum::<usize>()
            }
            RequestKind::Request { subject, data, .. } => sized(subject, data),
            RequestKind::Query(Query::LastValues { channels }) => {
                channels.iter().map(|channel| OVERHEAD + channel.as_str().len()).sum()
            }
            RequestKind::Query(Query::Statistics { .. }) => 0,
        };
        OVERHEAD + bytes
    }
}

/// A request that was sent and has no result yet.
#[derive(Debug)]
pub(super) struct InFlight {
    number: u32,
    pub(super) request_context: Option<RequestContext>,
    is_publish: bool,
}

/// The requests of one session.
#[derive(Debug, Default)]
pub(super) struct RequestQueue {
    in_flight: Vec<InFlight>,
    next_number: u32,
    /// Without capacity when it is empty.
    waiting: VecDeque<QueuedRequest>,
    waiting_bytes: usize,
}

impl RequestQueue {
    /// Estimated memory of the waiting requests, in bytes.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether a publish waits or is in flight.
    pub(super) fn has_publishes(&self) -> bool {
        self.in_flight.iter().any(|request| request.is_publish)
            || self.waiting.iter().any(QueuedRequest::is_publish)
    }

    /// Drops all requests except publishes.
    pub(super) fn keep_publishes(&mut self) {
        self.in_flight.retain(|request| request.is_publish);
        self.waiting.retain(QueuedRequest::is_publish);
    }

    pub(super) fn push(&mut self, request: QueuedRequest) {
        self.waiting_bytes += request.bytes();
        self.waiting.push_back(request);
    }

    /// The next request that may be sent. Publishes have separate places, so they do not wait for slow requests
    /// and queries, nor these for publishes.
    pub(super) fn pop(&mut self, max: usize) -> Option<QueuedRequest> {
        let publishes = self.in_flight.iter().filter(|request| request.is_publish).count();
        let requests = self.in_flight.len() - publishes;
        let has_room =
            |next: &QueuedRequest| if next.is_publish() { publishes < max } else { requests < max };
        let next = self.waiting.remove(self.waiting.iter().position(has_room)?)?;
        self.waiting_bytes -= next.bytes();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(next)
    }

    pub(super) fn begin(&mut self, request_context: Option<RequestContext>, is_publish: bool) -> u32 {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        self.in_flight.push(InFlight { number, request_context, is_publish });
        number
    }

    pub(super) fn end(&mut self, number: u32) -> Option<Option<RequestContext>> {
        let at = self.in_flight.iter().position(|request| request.number == number)?;
        Some(self.in_flight.swap_remove(at).request_context)
    }
}
