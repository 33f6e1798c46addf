//! How a session comes to an identity, and what changes with a newer one.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::class::Priority;
use crate::disconnect::Disconnect;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::identity::Identity;
use crate::message::Connected;
use crate::message::Push;
use crate::message::Reply;
use crate::permissions::Operation;
use crate::session::Pending;
use crate::session::Session;
use crate::session::phase::Phase;
use crate::session::phase::Verified;
use crate::session::subscription::State;
use crate::subject::Pattern;

/// The same end of a token, read at two times from a clock that is set by others, differs by less than this.
const CLOCK_STEP: Duration = Duration::from_millis(500);

impl Session {
    /// Says that the session has an identity, and begins what is to begin then.
    pub(super) fn greet(&mut self) {
        let Phase::Open(Verified { identity, expires }) = &self.phase else {
            return;
        };
        if self.greeted && !self.dialect.traits().greets_again {
            return;
        }
        let connected = Connected {
            session: Arc::clone(&self.id),
            user: Arc::clone(&identity.user),
            node: Arc::clone(&self.settings.node),
            ping_interval: self.settings.ping_interval,
            expires_in: expires.map(|expires| expires.saturating_duration_since(self.now.instant)),
            max_message: self.settings.max_message,
            max_subscriptions: self.settings.max_subscriptions,
        };
        self.reply(&Reply::Connected(connected), Priority::High);
        if !std::mem::replace(&mut self.greeted, true) {
            for command in self.dialect.on_connect(self.scope()) {
                self.decoded(command);
            }
        }
    }

    /// A first identity opens the session; a later one takes its place if it is the same user's.
    pub(super) fn authenticated(&mut self, result: Result<Verified, ClientError>) {
        let pending = self.pending.take();
        let (asked, message) = match pending.map(|pending| *pending) {
            Some(Pending::Command(asked)) => (asked, None),
            Some(Pending::Message(event)) => (None, Some(event)),
            None => (None, None),
        };
        let verified = match self.acceptable(result) {
            Ok(verified) => verified,
            Err((refusal, goes_on)) => {
                if goes_on {
                    return self.refuse(asked, None, refusal);
                }
                let refusal_code = refusal.code;
                // Who is not let in is told so once: by the close code, or by an error before it.
                if self.dialect.closing(refusal.code).is_none() {
                    self.reply(&Reply::Error { asked, channel: None, refusal }, Priority::High);
                }
                let expired = refusal_code == ErrorCode::TokenExpired;
                let end = if expired { Disconnect::TokenExpired } else { Disconnect::Unauthorized };
                return self.close(end, None);
            }
        };
        let identity = Arc::clone(&verified.identity);
        self.phase = Phase::Open(verified);
        self.expiring_said = false;
        if !self.dialect.permits(self.scope()) {
            let words = "the credential is another user's than the one that this connection names";
            let refusal = ClientError::new(ErrorCode::Forbidden, words);
            self.reply(&Reply::Error { asked, channel: None, refusal }, Priority::High);
            return self.close(Disconnect::Unauthorized, None);
        }
        self.greet();
        self.remember(asked.as_ref());
        if asked.is_some() {
            self.reply(&Reply::Said { asked }, Priority::High);
        }
        self.leave_forbidden(&identity);
        if let Some(event) = message {
            let decoded = self.dialect.decode(self.scope(), &event);
            self.decoded(decoded);
        }
    }

    /// The time of day is another one than was thought: when the credential ends is seen anew.
    pub(super) fn clock_set(&mut self) {
        let Phase::Open(verified) = &mut self.phase else { return };
        *verified = Verified::at(Arc::clone(&verified.identity), self.now);
        if verified.expires.is_some_and(|end| end > self.now.instant + self.settings.expiring) {
            self.expiring_said = false;
        }
    }

    /// The identity, if it may take the place of the one that the session has; else why not, and whether the session
    /// goes on with the one that it has.
    fn acceptable(&self, result: Result<Verified, ClientError>) -> Result<Verified, (ClientError, bool)> {
        let verified = result.map_err(|refusal| (refusal, matches!(self.phase, Phase::Open(_))))?;
        let Phase::Open(Verified { identity, expires }) = &self.phase else { return Ok(verified) };
        let (old, new) = (identity.as_ref(), verified.identity.as_ref());
        if !old.anonymous && (old.user != new.user || old.issuer != new.issuer) {
            let words = "the new token is another user's: open a new connection for it";
            return Err((ClientError::new(ErrorCode::Unauthorized, words), false));
        }
        let earlier = |end: Instant| verified.expires.is_some_and(|new| new + CLOCK_STEP < end);
        if !old.anonymous && expires.is_some_and(earlier) {
            let words = "the token ends before the one in use, which goes on: send a newer one";
            return Err((ClientError::new(ErrorCode::Unauthorized, words), true));
        }
        Ok(verified)
    }

    /// Leaves what a new identity does not allow.
    fn leave_forbidden(&mut self, identity: &Identity) {
        let allowed =
            |pattern: &Pattern| identity.permissions.decide(Operation::Subscribe, pattern).is_allowed();
        let lost = self.subscriptions.extract(|subscription| !allowed(&subscription.pattern));
        self.say_left(&lost);
        for lost in lost {
            let refusal = ClientError::new(ErrorCode::Forbidden, "the new token does not allow this channel");
            let channel = lost.pattern.as_str();
            match lost.state {
                State::Joining(join) => {
                    let (asked, channel) = (join.asked.clone(), Some(channel.to_owned()));
                    self.reply(&Reply::Error { asked, channel, refusal }, Priority::High);
                    self.not_joined(join.asked, join.also);
                }
                State::Held | State::Live => {
                    let push = Push::Unsubscribed { channel: channel.into(), refusal };
                    self.say_of(&push, lost.subscription_context.as_deref(), lost.class.priority);
                }
            }
        }
    }
}
