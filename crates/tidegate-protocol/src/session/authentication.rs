//! Authentication: how a session gets its identity, and how a newer credential replaces it.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::class::Priority;
use crate::disconnect::Disconnect;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::identity::Identity;
use crate::message::Command;
use crate::message::Connected;
use crate::message::JoinMode;
use crate::message::JoinOutcome;
use crate::message::Push;
use crate::message::Reply;
use crate::message::SubscribeRequest;
use crate::permissions::Operation;
use crate::permissions::Permissions;
use crate::session::PendingAuth;
use crate::session::Session;
use crate::session::phase::Phase;
use crate::session::phase::Verified;
use crate::session::subscription::State;
use crate::subject::Pattern;

/// Tolerance for two readings of the same token's expiry, as the system clock may be adjusted between them.
const CLOCK_STEP: Duration = Duration::from_millis(500);

impl Session {
    /// Sends [`Reply::Connected`]; the first time, also runs the commands that the vocabulary has for new sessions.
    pub(super) fn send_connected(&mut self) {
        let Phase::Open(Verified { identity, expires }) = &self.phase else {
            return;
        };
        if self.connected_sent && !self.dialect.traits().confirms_new_credential {
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
        if !std::mem::replace(&mut self.connected_sent, true) {
            for command in self.dialect.on_connect(self.scope()) {
                self.handle_decoded(command);
            }
        }
    }

    /// Joins the channels of new sessions that only the newer credential allows.
    fn join_more(&mut self, before: &Identity) {
        for command in self.dialect.on_connect(self.scope()) {
            let Ok(Command::Subscribe { request_context, wanted }) = command else { continue };
            let missing = |channel: &Result<String, ClientError>| {
                channel.as_ref().is_ok_and(|channel| self.may_join_now(channel, &wanted.group, before))
            };
            let channels: Vec<_> =
                wanted.channels.iter().filter(|channel| missing(channel)).cloned().collect();
            if !channels.is_empty() {
                let (joining, elements) = (JoinMode::Add, Vec::new());
                let wanted = SubscribeRequest { channels, elements, joining, ..wanted };
                self.handle_decoded(Ok(Command::Subscribe { request_context, wanted }));
            }
        }
    }

    /// Whether a channel is permitted now and was not before, and is not among those of a group.
    fn may_join_now(&self, channel: &str, group: &str, before: &Identity) -> bool {
        let Ok(pattern) = Pattern::parse(channel) else { return false };
        let allows =
            |permissions: &Permissions| permissions.decide(Operation::Subscribe, &pattern).is_allowed();
        !allows(&before.permissions)
            && self.permissions().is_ok_and(allows)
            && !self.subscriptions.in_group(group).any(|there| there.pattern.covers(&pattern))
    }

    /// The first identity opens the session. A later one replaces it if it belongs to the same user.
    pub(super) fn authenticated(&mut self, result: Result<Verified, ClientError>) {
        let pending_auth = self.pending_auth.take();
        let (request_context, message) = match pending_auth.map(|pending_auth| *pending_auth) {
            Some(PendingAuth::Command(request_context)) => (request_context, None),
            Some(PendingAuth::Message(event)) => (None, Some(event)),
            None => (None, None),
        };
        let is_refused = result.is_err();
        let verified = match self.check_identity(result) {
            Ok(verified) => verified,
            Err((error, goes_on)) => {
                if goes_on && is_refused {
                    return self.refuse_credential(request_context, error);
                }
                if goes_on {
                    return self.refuse(request_context, None, error);
                }
                let refusal_code = error.code;
                // A rejected client learns it once: from the close code, or from an error before the close.
                if self.dialect.error_close_code(error.code).is_none() {
                    self.reply(&Reply::Error { request_context, channel: None, error }, Priority::High);
                }
                let end = if refusal_code == ErrorCode::TokenExpired {
                    Disconnect::TokenExpired
                } else if refusal_code == ErrorCode::Unavailable {
                    Disconnect::Unavailable
                } else {
                    Disconnect::Unauthorized
                };
                return self.close(end, end.retry_after());
            }
        };
        let identity = Arc::clone(&verified.identity);
        let before = self.identity().filter(|_| self.connected_sent).map(Arc::clone);
        self.phase = Phase::Open(verified);
        self.expiring_sent = false;
        if !self.dialect.permits(self.scope()) {
            let message = "the credential belongs to another user than the one that this connection names";
            let error = ClientError::new(ErrorCode::Forbidden, message);
            self.reply(&Reply::Error { request_context, channel: None, error }, Priority::High);
            return self.close(Disconnect::Unauthorized, None);
        }
        self.send_connected();
        self.set_variables(request_context.as_ref());
        if request_context.is_some() {
            self.reply(&Reply::Acknowledged { request_context }, Priority::High);
        }
        self.leave_forbidden(&identity, "the new token does not allow this channel");
        if let Some(before) = before {
            self.join_more(&before);
        }
        if let Some(event) = message {
            let decoded = self.dialect.decode(self.scope(), &event);
            self.handle_decoded(decoded);
        }
    }

    /// A permission was withdrawn from the session's user: leaves the channels that it covers. The others go on without
    /// a hole or a repeat.
    pub(super) fn narrowed(&mut self, identity: Arc<Identity>) {
        let Phase::Open(verified) = &mut self.phase else { return };
        verified.identity = Arc::clone(&identity);
        self.leave_forbidden(&identity, "the permission for this channel was withdrawn");
    }

    /// Recomputes when the credential expires, because the time of day has jumped.
    pub(super) fn clock_set(&mut self) {
        let Phase::Open(verified) = &mut self.phase else { return };
        *verified = Verified::at(Arc::clone(&verified.identity), self.now);
        if verified.expires.is_some_and(|end| end > self.now.instant + self.settings.expiring) {
            self.expiring_sent = false;
        }
    }

    /// Returns the new identity if it may replace the current one. Otherwise returns the error, and whether the
    /// session continues with its current identity.
    fn check_identity(&self, result: Result<Verified, ClientError>) -> Result<Verified, (ClientError, bool)> {
        let verified = result.map_err(|error| (error, matches!(self.phase, Phase::Open(_))))?;
        let Phase::Open(Verified { identity, expires }) = &self.phase else { return Ok(verified) };
        let (old, new) = (identity.as_ref(), verified.identity.as_ref());
        if !old.may_become(new) {
            let message = "the new token belongs to another user: open a new connection for it";
            return Err((ClientError::new(ErrorCode::Unauthorized, message), false));
        }
        let earlier = |end: Instant| verified.expires.is_some_and(|new| new + CLOCK_STEP < end);
        if !old.anonymous && expires.is_some_and(earlier) {
            let message =
                "the token expires before the current one, which stays in use: send one that expires later";
            return Err((ClientError::new(ErrorCode::Unauthorized, message), true));
        }
        Ok(verified)
    }

    /// Leaves the channels that the new identity may not subscribe to.
    fn leave_forbidden(&mut self, identity: &Identity, message: &str) {
        let allowed =
            |pattern: &Pattern| identity.permissions.decide(Operation::Subscribe, pattern).is_allowed();
        self.end_subscriptions(|pattern| !allowed(pattern), message);
    }

    /// Ends the subscriptions that these patterns cover.
    pub(super) fn end_covered(&mut self, patterns: &[Pattern]) {
        let is_covered = |channel: &Pattern| patterns.iter().any(|pattern| pattern.covers(channel));
        self.end_subscriptions(is_covered, "a backend has ended this subscription");
    }

    /// Ends the subscriptions to some channels, and tells the client why.
    fn end_subscriptions(&mut self, ends: impl Fn(&Pattern) -> bool, message: &str) {
        let lost = self.subscriptions.extract_if(|subscription| ends(&subscription.pattern));
        self.emit_leaves(&lost);
        for lost in lost {
            self.fail_change_of(&lost);
            let error = ClientError::new(ErrorCode::Forbidden, message);
            let channel = lost.pattern.as_str();
            match lost.state {
                State::Joining(join) => {
                    let (request_context, named) = (join.request_context.clone(), Some(channel.to_owned()));
                    self.reply(&Reply::Error { request_context, channel: named, error }, Priority::High);
                    self.end_joins_as(JoinOutcome::Refused, join.request_context, join.also_waiting);
                }
                State::Held | State::Live => {
                    let push = Push::Unsubscribed { channel: channel.into(), error };
                    self.push_to_channel(&push, lost.subscription_context.as_deref(), lost.class.priority);
                }
            }
        }
    }
}
