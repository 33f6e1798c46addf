//! Orders: publishes, requests and queries of one session: those that are under way, and those that wait for these.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::message::Query;
use crate::message::RequestContext;
use crate::subject::Subject;

/// What a command costs next to its data.
const OVERHEAD: usize = 256;

/// What takes time.
#[derive(Debug)]
pub(super) enum Order {
    Publish { subject: Subject, data: Bytes, headers: Vec<(String, String)> },
    Request { subject: Subject, data: Bytes, timeout: Duration },
    Query(Query),
}

/// An order that waits for others to be answered.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) asked: Option<RequestContext>,
    pub(super) order: Order,
}

impl Waiting {
    pub(super) fn is_publish(&self) -> bool {
        matches!(self.order, Order::Publish { .. })
    }

    pub(super) fn bytes(&self) -> usize {
        let sized = |subject: &Subject, data: &Bytes| subject.as_str().len() + data.len();
        let bytes = match &self.order {
            Order::Publish { subject, data, headers } => {
                let headers = headers.iter().map(|(name, value)| name.len() + value.len());
                sized(subject, data) + headers.sum::<usize>()
            }
            Order::Request { subject, data, .. } => sized(subject, data),
            Order::Query(Query::LastValues { channels }) => {
                channels.iter().map(|channel| OVERHEAD + channel.as_str().len()).sum()
            }
            Order::Query(Query::Statistics { .. }) => 0,
        };
        OVERHEAD + bytes
    }
}

/// One that is not answered.
#[derive(Debug)]
pub(super) struct InFlight {
    number: u32,
    pub(super) asked: Option<RequestContext>,
    is_publish: bool,
}

/// The orders of a session.
#[derive(Debug, Default)]
pub(super) struct Requests {
    in_flight: Vec<InFlight>,
    made: u32,
    /// Without room when it is empty.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
}

impl Requests {
    /// Bytes of those that wait for others.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether a publish is not answered.
    pub(super) fn has_publishes(&self) -> bool {
        self.in_flight.iter().any(|one| one.is_publish) || self.waiting.iter().any(Waiting::is_publish)
    }

    /// Only publishes are still to be answered.
    pub(super) fn keep_publishes(&mut self) {
        self.in_flight.retain(|one| one.is_publish);
        self.waiting.retain(Waiting::is_publish);
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.bytes();
        self.waiting.push_back(waiting);
    }

    /// The next one that may go. Publishes do not wait for requests and queries, which may take long, nor these for
    /// publishes.
    pub(super) fn pop(&mut self, max: usize) -> Option<Waiting> {
        let publishes = self.in_flight.iter().filter(|one| one.is_publish).count();
        let requests = self.in_flight.len() - publishes;
        let has_room = |next: &Waiting| if next.is_publish() { publishes < max } else { requests < max };
        let next = self.waiting.remove(self.waiting.iter().position(has_room)?)?;
        self.waiting_bytes -= next.bytes();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(next)
    }

    pub(super) fn begin(&mut self, asked: Option<RequestContext>, is_publish: bool) -> u32 {
        let number = self.made;
        self.made = self.made.wrapping_add(1);
        self.in_flight.push(InFlight { number, asked, is_publish });
        number
    }

    pub(super) fn end(&mut self, number: u32) -> Option<Option<RequestContext>> {
        let at = self.in_flight.iter().position(|one| one.number == number)?;
        Some(self.in_flight.swap_remove(at).asked)
    }
}
