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
    Request { subject: Subject, data: Bytes, headers: Vec<(String, String)>, timeout: Duration },
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
            RequestKind::Publish { subject, data, headers }
            | RequestKind::Request { subject, data, headers, .. } => {
                let headers = headers.iter().map(|(name, value)| name.len() + value.len());
                sized(subject, data) + headers.sum::<usize>()
            }
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
    /// `None` if there are none, which saves memory: most sessions only receive.
    pending: Option<Box<PendingRequests>>,
    next_number: u32,
}

/// Requests that are not completed. At least one is in flight or waits.
#[derive(Debug, Default)]
struct PendingRequests {
    in_flight: Vec<InFlight>,
    waiting: VecDeque<QueuedRequest>,
    waiting_bytes: usize,
}

impl PendingRequests {
    fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.is_empty()
    }
}

impl RequestQueue {
    /// Estimated memory of the waiting requests, in bytes.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.waiting_bytes)
    }

    /// Whether a publish waits or is in flight.
    pub(super) fn has_publishes(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| {
            pending.in_flight.iter().any(|request| request.is_publish)
                || pending.waiting.iter().any(QueuedRequest::is_publish)
        })
    }

    /// Drops all requests except publishes.
    pub(super) fn keep_publishes(&mut self) {
        self.change(|pending| {
            pending.in_flight.retain(|request| request.is_publish);
            pending.waiting.retain(QueuedRequest::is_publish);
        });
    }

    pub(super) fn push(&mut self, request: QueuedRequest) {
        let pending = self.pending.get_or_insert_default();
        pending.waiting_bytes += request.bytes();
        pending.waiting.push_back(request);
    }

    /// Sends the next waiting request if fewer than `max` of its kind are in flight. Returns its number and what it asks
    /// for. Publishes have separate places, so they do not wait for slow requests and queries, nor these for publishes.
    pub(super) fn send_next(&mut self, max: usize) -> Option<(u32, RequestKind)> {
        let pending = self.pending.as_deref_mut()?;
        let publishes = pending.in_flight.iter().filter(|request| request.is_publish).count();
        let requests = pending.in_flight.len() - publishes;
        let has_room =
            |next: &QueuedRequest| if next.is_publish() { publishes < max } else { requests < max };
        let next = pending.waiting.remove(pending.waiting.iter().position(has_room)?)?;
        pending.waiting_bytes -= next.bytes();
        if pending.waiting.is_empty() {
            pending.waiting = VecDeque::new();
        }
        let (number, is_publish) = (self.next_number, next.is_publish());
        self.next_number = number.wrapping_add(1);
        pending.in_flight.push(InFlight { number, request_context: next.request_context, is_publish });
        Some((number, next.kind))
    }

    /// Ends a request that was sent. Returns the context for its reply, or `None` if the number is unknown.
    pub(super) fn end(&mut self, number: u32) -> Option<Option<RequestContext>> {
        self.change(|pending| {
            let at = pending.in_flight.iter().position(|request| request.number == number)?;
            Some(pending.in_flight.swap_remove(at).request_context)
        })?
    }

    /// Changes the requests, and frees their memory if none are left. `None` if there were none.
    fn change<T>(&mut self, change: impl FnOnce(&mut PendingRequests) -> T) -> Option<T> {
        let pending = self.pending.as_deref_mut()?;
        let result = change(pending);
        if pending.is_empty() {
            self.pending = None;
        }
        Some(result)
    }
}
