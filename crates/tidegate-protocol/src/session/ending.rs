//! How a session refuses, and how it ends: what was published is confirmed first.

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

/// How long a session that ends waits for NATS to confirm what it has published.
const CONFIRM_WAIT: Duration = Duration::from_secs(5);
/// After so long a refused command is forgiven.
const ERROR_DECAY: Duration = Duration::from_secs(10);

impl Session {
    /// Refuses a command; too many refusals in a time end the session. One message counts once, whatever it names.
    pub(super) fn refuse(
        &mut self,
        asked: Option<RequestContext>,
        channel: Option<String>,
        refusal: ClientError,
    ) {
        self.fail(asked, channel, refusal);
        if std::mem::replace(&mut self.is_refused, true) {
            return;
        }
        if !self.errors.take_slowly(ERROR_DECAY, self.settings.max_errors, self.now.instant) {
            self.close(Disconnect::TooManyErrors, None);
        }
    }

    /// Says that something was not done, or ends the session where the vocabulary knows no other way to say so.
    pub(super) fn fail(
        &mut self,
        asked: Option<RequestContext>,
        channel: Option<String>,
        refusal: ClientError,
    ) {
        match self.dialect.closing(refusal.code) {
            Some(code) => self.end(code, refusal.code.name()),
            None if asked.as_ref().is_none_or(RequestContext::takes_error) => {
                self.reply(&Reply::Error { asked, channel, refusal }, Priority::High);
            }
            None => {}
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

    /// Ends the session, at once unless something that it has published is not confirmed. Until then it hears nothing,
    /// and is sent no more publications.
    fn finish(&mut self, close: Close) {
        match self.phase {
            Phase::Closed | Phase::Ending(_) => return,
            Phase::Waiting { .. } | Phase::Open(_) => {}
        }
        if !self.requests.has_publishes() {
            return self.say_end(close);
        }
        self.requests.keep_publishes();
        self.phase = Phase::Ending(Box::new(Ending { until: self.now.instant + CONFIRM_WAIT, close }));
        self.drop_subscriptions();
    }

    /// Ends a session that has only waited for what it has published.
    pub(super) fn end_when_published(&mut self) {
        if matches!(self.phase, Phase::Ending(_)) && !self.requests.has_publishes() {
            self.end_now();
        }
    }

    /// Ends a session that waits for what it has published.
    pub(super) fn end_now(&mut self) {
        if let Phase::Ending(ending) = std::mem::replace(&mut self.phase, Phase::Closed) {
            self.say_end(ending.close);
        }
    }

    fn say_end(&mut self, Close { code, reason, push }: Close) {
        if let Some(push) = push {
            self.push(&push, Priority::Low);
        }
        self.phase = Phase::Closed;
        self.outputs.push_back(Output::Close { code, reason });
    }
}
