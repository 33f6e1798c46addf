//! Errors, and the end of a session. Before a session closes, it waits until NATS has confirmed its publishes.

use std::time::Duration;

use crate::class::Priority;
use crate::disconnect::Disconnect;
use crate::error::ClientError;
use crate::message::Push;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::session::Output;
use crate::session::Session;
use crate::session::phase::Close;
use crate::session::phase::Ending;
use crate::session::phase::Phase;
use crate::session::refused::RefusedMessage;

/// How long a closing session waits for NATS to confirm its publishes.
const CONFIRM_WAIT: Duration = Duration::from_secs(5);
/// Each error is forgotten after this time.
const ERROR_DECAY: Duration = Duration::from_secs(10);

impl Session {
    /// Sends an error and counts it; too many errors close the session. A message counts once, even with several
    /// errors.
    pub(super) fn refuse(
        &mut self,
        request_context: Option<RequestContext>,
        channel: Option<String>,
        error: ClientError,
    ) {
        self.send_error(request_context, channel, error);
        if std::mem::replace(&mut self.has_rejected, true) {
            return;
        }
        if !self.errors.take_with_interval(ERROR_DECAY, self.settings.max_errors, self.now.instant) {
            self.close(Disconnect::TooManyErrors, None);
        }
    }

    /// Sends an error, or closes the session if the vocabulary maps this error to a close code.
    pub(super) fn send_error(
        &mut self,
        request_context: Option<RequestContext>,
        channel: Option<String>,
        error: ClientError,
    ) {
        let is_recorded = matches!(self.outputs.back(), Some(Output::Denied(_)));
        let refused = RefusedMessage { error: error.clone(), channel: channel.clone(), is_recorded };
        self.outputs.push_back(Output::Refused(Box::new(refused)));
        match self.dialect.error_close_code(error.code) {
            Some(code) => self.end(code, error.code.name()),
            None if request_context.as_ref().is_none_or(RequestContext::count_error) => {
                self.reply(&Reply::Error { request_context, channel, error }, Priority::High);
            }
            None => {}
        }
    }

    /// Sends the error of a credential, which the caller has verified and recorded.
    pub(super) fn refuse_credential(&mut self, request_context: Option<RequestContext>, error: ClientError) {
        let before = self.outputs.len();
        self.refuse(request_context, None, error);
        for output in self.outputs.iter_mut().skip(before) {
            if let Output::Refused(refused) = output {
                refused.is_recorded = true;
            }
        }
    }

    pub(super) fn close(&mut self, disconnect: Disconnect, retry_after: Option<Duration>) {
        let push = self.dialect.traits().has_sessions.then_some(Push::Close { disconnect, retry_after });
        let (code, reason) = (self.dialect.close_code(disconnect), disconnect.name().into());
        self.finish(Close { code, reason, push });
    }

    pub(super) fn end(&mut self, code: u16, reason: &str) {
        self.finish(Close { code, reason: reason.into(), push: None });
    }

    /// Closes the session: at once, or when NATS has confirmed its publishes. Until then it ignores all other input
    /// and receives no publications.
    fn finish(&mut self, close: Close) {
        match self.phase {
            Phase::Closed | Phase::Ending(_) => return,
            Phase::Waiting { .. } | Phase::Open(_) => {}
        }
        if !self.requests.has_publishes() {
            return self.send_close(close);
        }
        self.requests.keep_publishes();
        self.phase = Phase::Ending(Box::new(Ending { until: self.now.instant + CONFIRM_WAIT, close }));
        self.drop_subscriptions();
    }

    /// Closes a session that waits for confirmations, if there are none left.
    pub(super) fn end_when_published(&mut self) {
        if matches!(self.phase, Phase::Ending(_)) && !self.requests.has_publishes() {
            self.end_now();
        }
    }

    /// Closes a session that waits for confirmations.
    pub(super) fn end_now(&mut self) {
        if let Phase::Ending(ending) = std::mem::replace(&mut self.phase, Phase::Closed) {
            self.send_close(ending.close);
        }
    }

    fn send_close(&mut self, Close { code, reason, push }: Close) {
        if let Some(push) = push {
            self.push(&push, Priority::Low);
        }
        self.phase = Phase::Closed;
        self.outputs.push_back(Output::Close { code, reason });
    }
}
