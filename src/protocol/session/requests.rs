//! What a session has on its way to NATS: publishes and requests, a few at a time and the others in order.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::protocol::class::Priority;
use crate::protocol::error::Refusal;
use crate::protocol::message::Asked;
use crate::protocol::message::Reply;
use crate::protocol::permissions::Operation;
use crate::protocol::session::Output;
use crate::protocol::session::Session;
use crate::protocol::session::checks;
use crate::protocol::subject::Subject;

/// What a command costs beside its data.
const OVERHEAD: usize = 256;

/// What is to be put on a subject.
#[derive(Debug)]
enum Order {
    Publish { headers: Vec<(String, String)> },
    Request { timeout: Duration },
}

/// A publish or request that waits for others to be answered.
#[derive(Debug)]
struct Waiting {
    asked: Option<Asked>,
    subject: Subject,
    data: Bytes,
    order: Order,
}

impl Waiting {
    fn is_publish(&self) -> bool {
        matches!(self.order, Order::Publish { .. })
    }

    fn bytes(&self) -> usize {
        let headers = match &self.order {
            Order::Publish { headers } => headers.iter().map(|(name, value)| name.len() + value.len()).sum(),
            Order::Request { .. } => 0,
        };
        OVERHEAD + self.subject.as_str().len() + self.data.len() + headers
    }
}

/// One that NATS has not answered.
#[derive(Debug)]
struct InFlight {
    number: u32,
    asked: Option<Asked>,
    is_publish: bool,
}

/// The publishes and requests of a session.
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

    fn push(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.bytes();
        self.waiting.push_back(waiting);
    }

    /// The next one that may go. Publishes do not wait for requests, which may take long, nor requests for publishes.
    fn pop(&mut self, max: usize) -> Option<Waiting> {
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

    fn begin(&mut self, asked: Option<Asked>, is_publish: bool) -> u32 {
        let number = self.made;
        self.made = self.made.wrapping_add(1);
        self.in_flight.push(InFlight { number, asked, is_publish });
        number
    }

    fn end(&mut self, number: u32) -> Option<Option<Asked>> {
        let at = self.in_flight.iter().position(|one| one.number == number)?;
        Some(self.in_flight.swap_remove(at).asked)
    }
}

impl Session {
    pub(super) fn publish(
        &mut self,
        asked: Option<Asked>,
        channel: String,
        data: Bytes,
        headers: Vec<(String, String)>,
    ) {
        let headers = match self.identity() {
            Some(identity) => checks::headers(identity, headers),
            // It is refused for that.
            None => Ok(Vec::new()),
        };
        let checked =
            headers.and_then(|headers| Ok((self.writable(Operation::Publish, &channel, &data)?, headers)));
        match checked {
            Ok((subject, headers)) => {
                self.order(Waiting { asked, subject, data, order: Order::Publish { headers } });
            }
            Err(refusal) => self.refuse(asked, Some(channel), refusal),
        }
    }

    pub(super) fn ask(
        &mut self,
        asked: Option<Asked>,
        channel: String,
        data: Bytes,
        timeout: Option<Duration>,
    ) {
        match self.writable(Operation::Request, &channel, &data) {
            Ok(subject) => {
                let timeout = timeout.unwrap_or(self.settings.request_timeout);
                let timeout = timeout.min(self.settings.request_timeout_max);
                self.order(Waiting { asked, subject, data, order: Order::Request { timeout } });
            }
            Err(refusal) => self.refuse(asked, Some(channel), refusal),
        }
    }

    /// What both need: a literal subject that is allowed, and data that fits.
    fn writable(&self, operation: Operation, channel: &str, data: &Bytes) -> Result<Subject, Refusal> {
        checks::writable(&self.settings, self.permissions()?, operation, channel, data)
    }

    fn order(&mut self, waiting: Waiting) {
        self.remember(waiting.asked.as_ref());
        self.requests.push(waiting);
        self.send_orders();
    }

    /// Hands over what waits, as far as there is room.
    fn send_orders(&mut self) {
        while let Some(next) = self.requests.pop(self.settings.requests_in_flight) {
            let is_publish = next.is_publish();
            let Waiting { asked, subject, data, order } = next;
            let request = self.requests.begin(asked, is_publish);
            self.outputs.push_back(match order {
                Order::Publish { headers } => Output::Publish { request, subject, data, headers },
                Order::Request { timeout } => Output::Request { request, subject, data, timeout },
            });
        }
    }

    pub(super) fn answer<T>(
        &mut self,
        request: u32,
        result: Result<T, Refusal>,
        reply: impl FnOnce(Option<Asked>, T) -> Reply,
    ) {
        let Some(asked) = self.requests.end(request) else {
            return;
        };
        match result {
            Ok(value) => self.reply(&reply(asked, value), Priority::High),
            Err(refusal) => self.fail(asked, None, refusal),
        }
        self.send_orders();
        self.end_when_published();
    }
}
