//! Publishes, requests and queries of a session: a few in flight, the others in a queue.

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
use crate::session::checks::CheckError;
use crate::session::request_queue::QueuedRequest;
use crate::session::request_queue::RequestKind;
use crate::subject::Subject;

impl Session {
    pub(super) fn publish(
        &mut self,
        request_context: Option<RequestContext>,
        channel: String,
        data: Bytes,
        headers: Vec<(String, String)>,
    ) {
        match self.checked_message(Operation::Publish, &channel, &data, headers) {
            Ok((subject, headers)) => {
                self.enqueue_request(QueuedRequest {
                    request_context,
                    kind: RequestKind::Publish { subject, data, headers },
                });
            }
            Err(error) => self.refuse(request_context, Some(channel), error),
        }
    }

    pub(super) fn request(
        &mut self,
        request_context: Option<RequestContext>,
        channel: String,
        data: Bytes,
        headers: Vec<(String, String)>,
        timeout: Option<Duration>,
    ) {
        match self.checked_message(Operation::Request, &channel, &data, headers) {
            Ok((subject, headers)) => {
                let timeout = timeout.unwrap_or(self.settings.request_timeout);
                let timeout = timeout.min(self.settings.request_timeout_max);
                self.enqueue_request(QueuedRequest {
                    request_context,
                    kind: RequestKind::Request { subject, data, headers, timeout },
                });
            }
            Err(error) => self.refuse(request_context, Some(channel), error),
        }
    }

    /// Checks a publish or request. Returns its subject, and its headers as NATS gets them.
    fn checked_message(
        &mut self,
        operation: Operation,
        channel: &str,
        data: &Bytes,
        headers: Vec<(String, String)>,
    ) -> Result<(Subject, Vec<(String, String)>), ClientError> {
        let headers = match self.identity() {
            Some(identity) => checks::check_headers(identity, headers)?,
            // `permissions` rejects a message without an identity.
            None => Vec::new(),
        };
        let checked = checks::checked_subject(&self.settings, self.permissions()?, operation, channel, data);
        Ok((checked.map_err(|error| self.note_denied(error))?, headers))
    }

    /// Passes on what the operator should know, and returns the error for the client.
    pub(super) fn note_denied(&mut self, error: CheckError) -> ClientError {
        let CheckError { error, denied } = error;
        self.outputs.extend(denied.map(Output::Denied));
        error
    }

    pub(super) fn enqueue_request(&mut self, request: QueuedRequest) {
        self.set_variables(request.request_context.as_ref());
        self.requests.push(request);
        self.send_requests();
    }

    /// Sends queued requests, up to the limit.
    fn send_requests(&mut self) {
        while let Some((request, kind)) = self.requests.send_next(self.settings.requests_in_flight) {
            self.outputs.push_back(match kind {
                RequestKind::Publish { subject, data, headers } => {
                    Output::Publish { request, subject, data, headers }
                }
                RequestKind::Request { subject, data, headers, timeout } => {
                    Output::Request { request, subject, data, headers, timeout }
                }
                RequestKind::Query(query) => Output::Query { request, query },
            });
        }
    }

    pub(super) fn complete_request<T>(
        &mut self,
        request: u32,
        result: Result<T, ClientError>,
        reply: impl FnOnce(Option<RequestContext>, T) -> Reply,
    ) {
        let Some(request_context) = self.requests.end(request) else {
            return;
        };
        match result {
            Ok(value) => self.reply(&reply(request_context, value), Priority::High),
            Err(error) => self.send_error(request_context, None, error),
        }
        self.send_requests();
        self.end_when_published();
    }
}
