//! What a session does with each command of its client: every check stands here, and nothing passes without it.

use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;

use crate::protocol::class::Kind;
use crate::protocol::class::Priority;
use crate::protocol::error::ErrorCode;
use crate::protocol::error::Refusal;
use crate::protocol::identity::Identity;
use crate::protocol::message::Command;
use crate::protocol::message::Reply;
use crate::protocol::message::RequestId;
use crate::protocol::permissions::Decision;
use crate::protocol::permissions::Denial;
use crate::protocol::permissions::Operation;
use crate::protocol::session::Output;
use crate::protocol::session::Phase;
use crate::protocol::session::Session;
use crate::protocol::session::subscription::State;
use crate::protocol::subject::Pattern;
use crate::protocol::subject::Subject;
use crate::protocol::websocket::Event;

/// The headers that a client may put on what it publishes. Others steer NATS or belong to Tidegate.
pub const CLIENT_HEADERS: [&str; 5] =
    ["Nats-Msg-Id", "Tidegate-Key", "traceparent", "tracestate", "Content-Type"];

impl Session {
    pub(super) fn received(&mut self, event: &Event, now: Instant) {
        let in_time = self.commands.take(self.settings.commands, 1, now);
        let command = match self.vocabulary.decode(event) {
            Ok(command) => command,
            Err(undecodable) => return self.refuse(undecodable.id, None, undecodable.refusal),
        };
        if !in_time {
            let rate = self.settings.commands;
            let words = format!("more than {} commands a second: slow down", rate.per_second);
            return self.refuse(id_of(command), None, Refusal::new(ErrorCode::RateLimited, words));
        }
        self.obey(command);
    }

    fn obey(&mut self, command: Command) {
        let open = matches!(self.phase, Phase::Open(_));
        match command {
            Command::Auth { token } => self.outputs.push_back(Output::Authenticate { token }),
            Command::Ping { id } => self.reply(&Reply::Pong { id }, Priority::High),
            Command::Pong => {}
            #[cfg(feature = "test-hooks")]
            Command::Echo(frame) => {
                self.outputs.push_back(Output::Send { frame, priority: Priority::Normal })
            }
            command @ (Command::Subscribe { .. }
            | Command::Unsubscribe { .. }
            | Command::Publish { .. }
            | Command::Request { .. })
                if !open =>
            {
                let words = "the session has no identity yet: send {\"type\":\"auth\",\"token\":…} first";
                self.refuse(id_of(command), None, Refusal::new(ErrorCode::Unauthorized, words));
            }
            Command::Subscribe { id, channels, max_rate } => {
                for channel in channels {
                    if let Err(refusal) = self.subscribe(id.clone(), &channel, max_rate) {
                        self.refuse(id.clone(), Some(channel), refusal);
                    }
                    if matches!(self.phase, Phase::Closed) {
                        return;
                    }
                }
            }
            Command::Unsubscribe { id, channels } => {
                for channel in channels {
                    self.unsubscribe(id.clone(), channel);
                    if matches!(self.phase, Phase::Closed) {
                        return;
                    }
                }
            }
            Command::Publish { id, channel, data, headers } => self.publish(id, channel, data, headers),
            Command::Request { id, channel, data, timeout } => self.ask(id, channel, data, timeout),
        }
    }

    fn publish(
        &mut self,
        id: Option<RequestId>,
        channel: String,
        data: Bytes,
        headers: Vec<(String, String)>,
    ) {
        let checked =
            check_headers(&headers).and_then(|()| self.writable(Operation::Publish, &channel, &data));
        match checked {
            Ok(subject) => {
                let request = self.request(id);
                self.outputs.push_back(Output::Publish { request, subject, data, headers });
            }
            Err(refusal) => self.refuse(id, Some(channel), refusal),
        }
    }

    fn ask(&mut self, id: Option<RequestId>, channel: String, data: Bytes, timeout: Option<Duration>) {
        match self.writable(Operation::Request, &channel, &data) {
            Ok(subject) => {
                let timeout = timeout.unwrap_or(self.settings.request_timeout);
                let timeout = timeout.min(self.settings.request_timeout_max);
                let request = self.request(id);
                self.outputs.push_back(Output::Request { request, subject, data, timeout });
            }
            Err(refusal) => self.refuse(id, Some(channel), refusal),
        }
    }

    fn subscribe(
        &mut self,
        id: Option<RequestId>,
        channel: &str,
        max_rate: Option<Duration>,
    ) -> Result<(), Refusal> {
        let pattern = self.pattern(channel)?;
        if self.subscriptions.on(channel).is_some() {
            return Err(Refusal::new(ErrorCode::AlreadySubscribed, "this session has the channel already"));
        }
        permit(self.identity()?, Operation::Subscribe, &pattern)?;
        let max = self.settings.max_subscriptions;
        if self.subscriptions.len() >= max {
            let words = format!("a session may have {max} channels: unsubscribe from one, or use a wildcard");
            return Err(Refusal::new(ErrorCode::LimitExceeded, words));
        }
        let class = self.settings.classes.of(&pattern);
        let max_rate = match (class.kind, max_rate.filter(|rate| !rate.is_zero())) {
            (Kind::Latest, asked) => asked.max(class.max_rate),
            (Kind::Buffer, None) => None,
            (Kind::Buffer, Some(_)) => {
                let words = "`max_rate_ms` would lose messages of this channel, whose class is not `latest`";
                return Err(Refusal::new(ErrorCode::Unsupported, words));
            }
        };
        let subscription = self.subscriptions.add(pattern.clone(), class.clone(), id);
        let format = self.vocabulary.format(0);
        self.outputs.push_back(Output::Join { subscription, pattern, format, class, max_rate });
        Ok(())
    }

    fn unsubscribe(&mut self, id: Option<RequestId>, channel: String) {
        let Some(found) = self.subscriptions.on(&channel).map(|subscription| subscription.id) else {
            let refusal = Refusal::new(ErrorCode::NotSubscribed, "this session does not have the channel");
            return self.refuse(id, Some(channel), refusal);
        };
        let Some(subscription) = self.subscriptions.remove(found) else {
            return;
        };
        self.outputs.push_back(Output::Leave { subscription: found });
        if let State::Joining(request) = subscription.state {
            let refusal = Refusal::new(ErrorCode::NotSubscribed, "unsubscribed before the channel was live");
            self.reply(
                &Reply::Error { id: request, channel: Some(channel.clone()), refusal },
                Priority::High,
            );
        }
        let reply = Reply::Unsubscribed { id, channel: channel.as_str().into() };
        self.reply(&reply, subscription.class.priority);
    }

    /// What both `publish` and `request` need: a literal subject that is allowed, and data that fits.
    fn writable(&self, operation: Operation, channel: &str, data: &Bytes) -> Result<Subject, Refusal> {
        let pattern = self.pattern(channel)?;
        let Some(subject) = pattern.as_subject() else {
            let words = "a message goes to one subject: wildcards are for subscribing";
            return Err(Refusal::new(ErrorCode::BadChannel, words));
        };
        permit(self.identity()?, operation, &pattern)?;
        if data.len() > self.settings.publish_max {
            let words =
                format!("`data` has {} bytes: at most {} are taken", data.len(), self.settings.publish_max);
            return Err(Refusal::new(ErrorCode::BadData, words));
        }
        let max = self.settings.requests_in_flight;
        if self.requests.len() >= max {
            let words = format!("{max} publishes and requests wait for their answer: wait for one of them");
            return Err(Refusal::new(ErrorCode::LimitExceeded, words));
        }
        Ok(subject)
    }

    fn pattern(&self, channel: &str) -> Result<Pattern, Refusal> {
        let pattern = Pattern::parse(channel).map_err(|error| bad_channel(&error))?;
        self.settings.subjects.check(&pattern).map_err(|error| bad_channel(&error))?;
        Ok(pattern)
    }

    fn identity(&self) -> Result<&Identity, Refusal> {
        match &self.phase {
            Phase::Open(verified) => Ok(&verified.identity),
            Phase::Waiting { .. } | Phase::Closed => {
                Err(Refusal::new(ErrorCode::Unauthorized, "the session has no identity"))
            }
        }
    }

    fn request(&mut self, id: Option<RequestId>) -> u32 {
        let request = self.requests_made;
        self.requests_made = self.requests_made.wrapping_add(1);
        self.requests.push((request, id));
        request
    }
}

fn bad_channel(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(ErrorCode::BadChannel, error.to_string())
}

fn permit(identity: &Identity, operation: Operation, pattern: &Pattern) -> Result<(), Refusal> {
    match identity.permissions.decide(operation, pattern) {
        Decision::Allowed { .. } => Ok(()),
        // Which rule forbids it is for `explain`, not for whoever is refused.
        Decision::Denied(Denial::Denied { .. } | Denial::NotAllowed) => {
            Err(Refusal::new(ErrorCode::Forbidden, "this identity may not do this on this channel"))
        }
        Decision::Denied(denial @ (Denial::System { .. } | Denial::SystemWildcard | Denial::NotLiteral)) => {
            Err(Refusal::new(ErrorCode::Forbidden, denial.to_string()))
        }
    }
}

fn check_headers(headers: &[(String, String)]) -> Result<(), Refusal> {
    for (name, value) in headers {
        if !CLIENT_HEADERS.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)) {
            let words = format!("this header is not for clients: allowed are {}", CLIENT_HEADERS.join(", "));
            return Err(Refusal::new(ErrorCode::BadData, words));
        }
        if value.len() > 1024 || value.chars().any(char::is_control) {
            let words = format!("the value of `{name}` has control characters or more than 1024 bytes");
            return Err(Refusal::new(ErrorCode::BadData, words));
        }
    }
    Ok(())
}

fn id_of(command: Command) -> Option<RequestId> {
    match command {
        Command::Subscribe { id, .. }
        | Command::Unsubscribe { id, .. }
        | Command::Publish { id, .. }
        | Command::Request { id, .. }
        | Command::Ping { id } => id,
        Command::Auth { .. } | Command::Pong => None,
        #[cfg(feature = "test-hooks")]
        Command::Echo(_) => None,
    }
}
