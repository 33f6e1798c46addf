//! What of a session takes time: publishes, requests and queries, a few at a time and the others in order.

use std::time::Duration;

use bytes::Bytes;

use crate::class::Priority;
use crate::error::ClientError;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::permissions::Operation;
use crate::session::Output;
use crate::session::Session;
use crate::session::checks;
use crate::session::orders::Order;
use crate::session::orders::Waiting;
use crate::subject::Subject;

impl Session {
    pub(super) fn publish(
        &mut self,
        asked: Option<RequestContext>,
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
                self.order(Waiting { asked, order: Order::Publish { subject, data, headers } });
            }
            Err(refusal) => self.refuse(asked, Some(channel), refusal),
        }
    }

    pub(super) fn ask(
        &mut self,
        asked: Option<RequestContext>,
        channel: String,
        data: Bytes,
        timeout: Option<Duration>,
    ) {
        match self.writable(Operation::Request, &channel, &data) {
            Ok(subject) => {
                let timeout = timeout.unwrap_or(self.settings.request_timeout);
                let timeout = timeout.min(self.settings.request_timeout_max);
                self.order(Waiting { asked, order: Order::Request { subject, data, timeout } });
            }
            Err(refusal) => self.refuse(asked, Some(channel), refusal),
        }
    }

    /// What both need: a literal subject that is allowed, and data that fits.
    fn writable(&self, operation: Operation, channel: &str, data: &Bytes) -> Result<Subject, ClientError> {
        checks::writable(&self.settings, self.permissions()?, operation, channel, data)
    }

    pub(super) fn order(&mut self, waiting: Waiting) {
        self.remember(waiting.asked.as_ref());
        self.requests.push(waiting);
        self.send_orders();
    }

    /// Hands over what waits, as far as there is room.
    fn send_orders(&mut self) {
        while let Some(next) = self.requests.pop(self.settings.requests_in_flight) {
            let is_publish = next.is_publish();
            let Waiting { asked, order } = next;
            let request = self.requests.begin(asked, is_publish);
            self.outputs.push_back(match order {
                Order::Publish { subject, data, headers } => {
                    Output::Publish { request, subject, data, headers }
                }
                Order::Request { subject, data, timeout } => {
                    Output::Request { request, subject, data, timeout }
                }
                Order::Query(query) => Output::Query { request, query },
            });
        }
    }

    pub(super) fn answer<T>(
        &mut self,
        request: u32,
        result: Result<T, ClientError>,
        reply: impl FnOnce(Option<RequestContext>, T) -> Reply,
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
