//! What a session does with each command of its client: every check stands here, and nothing passes without it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::protocol::class::Class;
use crate::protocol::class::Kind;
use crate::protocol::class::Priority;
use crate::protocol::error::ErrorCode;
use crate::protocol::error::Refusal;
use crate::protocol::message::Asked;
use crate::protocol::message::Command;
use crate::protocol::message::Joining;
use crate::protocol::message::Reply;
use crate::protocol::message::Wanted;
use crate::protocol::permissions::Operation;
use crate::protocol::permissions::Permissions;
use crate::protocol::session::Output;
use crate::protocol::session::Pending;
use crate::protocol::session::Phase;
use crate::protocol::session::Session;
use crate::protocol::session::checks;
use crate::protocol::session::subscription::State;
use crate::protocol::session::subscription::SubscriptionId;
use crate::protocol::session::terms::Filter;
use crate::protocol::subject::Pattern;
use crate::protocol::subject::Subject;
use crate::protocol::vocabulary::Undecodable;
use crate::protocol::websocket::Event;

/// A channel that a client may have.
struct Admitted {
    pattern: Pattern,
    class: Arc<Class>,
    max_rate: Option<Duration>,
}

impl Session {
    pub(super) fn received(&mut self, event: Event) {
        let in_time = self.commands.take(self.settings.commands, 1, self.now);
        if in_time && self.wait_for_identity(&event) {
            return;
        }
        let decoded = self.vocabulary.decode(self.scene(), &event);
        if in_time {
            return self.decoded(decoded);
        }
        let asked = match decoded {
            Ok(command) => command.asked().cloned(),
            Err(undecodable) => undecodable.asked,
        };
        let rate = self.settings.commands;
        let words = format!("more than {} commands a second: slow down", rate.per_second);
        self.refuse(asked, None, Refusal::new(ErrorCode::RateLimited, words));
    }

    /// Whether a message has to wait until it is known whose it is: it brings a credential, or a name to be believed.
    fn wait_for_identity(&mut self, event: &Event) -> bool {
        let output = if let Some(token) = self.vocabulary.credential(event) {
            Output::Authenticate { token }
        } else if matches!(self.phase, Phase::Waiting { .. })
            && let Some(user) = self.vocabulary.believed(self.scene(), Some(event))
        {
            Output::Believe { user }
        } else {
            return false;
        };
        self.authenticate(Pending::Message(event.clone()), output);
        true
    }

    fn authenticate(&mut self, pending: Pending, output: Output) {
        if self.pending.is_some() {
            let refusal = Refusal::new(ErrorCode::TryAgain, "a credential is being verified: send it again");
            return self.refuse(None, None, refusal);
        }
        self.pending = Some(Box::new(pending));
        self.outputs.push_back(output);
    }

    pub(super) fn decoded(&mut self, decoded: Result<Command, Undecodable>) {
        match decoded {
            Ok(command) => self.obey(command),
            Err(undecodable) => self.refuse(undecodable.asked, None, undecodable.refusal),
        }
    }

    fn obey(&mut self, command: Command) {
        let is_open = matches!(self.phase, Phase::Open(_));
        match command {
            Command::Auth { asked, token } => {
                self.authenticate(Pending::Command(asked), Output::Authenticate { token });
            }
            Command::Ping { asked } => {
                self.remember(asked.as_ref());
                self.reply(&Reply::Pong { asked }, Priority::High);
            }
            Command::Pong => {}
            Command::Close { code, reason } => self.end(code, &reason),
            #[cfg(feature = "test-hooks")]
            Command::Echo(frame) => {
                self.outputs.push_back(Output::Send { frame, priority: Priority::Normal })
            }
            command @ (Command::Subscribe { .. }
            | Command::Unsubscribe { .. }
            | Command::Filter { .. }
            | Command::Say { .. }
            | Command::Publish { .. }
            | Command::Request { .. })
                if !is_open =>
            {
                let words = "the session has no identity yet: send {\"type\":\"auth\",\"token\":…} first";
                self.refuse(command.asked().cloned(), None, Refusal::new(ErrorCode::Unauthorized, words));
            }
            Command::Subscribe { asked, wanted } => self.subscribe_all(asked, wanted),
            Command::Unsubscribe { asked, channels: Some(channels), group } => {
                self.unsubscribe_all(asked, channels, &group);
            }
            Command::Unsubscribe { asked, channels: None, group } => {
                let all: Vec<_> = self.subscriptions.of(&group).map(|subscription| subscription.id).collect();
                all.into_iter().for_each(|subscription| self.leave(subscription));
                self.accept(asked);
            }
            Command::Filter { asked, channel, filter } => self.filter(asked, channel, &filter),
            Command::Say { asked } => self.accept(asked),
            Command::Publish { asked, channel, data, headers } => self.publish(asked, channel, data, headers),
            Command::Request { asked, channel, data, timeout } => self.ask(asked, channel, data, timeout),
        }
    }

    /// Remembers what an accepted message sets.
    pub(super) fn remember(&mut self, asked: Option<&Asked>) {
        if let Some(Asked::Message(question)) = asked {
            self.variables.set(&question.set);
        }
    }

    /// Does what is left to do for a message that is done at once, and says so.
    fn accept(&mut self, asked: Option<Asked>) {
        self.remember(asked.as_ref());
        self.reply(&Reply::Said { asked }, Priority::High);
    }

    fn leave(&mut self, subscription: SubscriptionId) {
        if self.subscriptions.remove(subscription).is_some() {
            self.outputs.push_back(Output::Leave { subscription });
        }
    }

    fn filter(&mut self, asked: Option<Asked>, channel: String, filter: &Filter) {
        let there = self.subscriptions.iter().filter(|subscription| subscription.pattern.as_str() == channel);
        let there: Vec<_> = there.map(|subscription| subscription.id).collect();
        if there.is_empty() {
            let refusal = Refusal::new(ErrorCode::NotSubscribed, "this session does not have the channel");
            return self.refuse(asked, Some(channel), refusal);
        }
        for subscription in there {
            self.outputs.push_back(Output::Filter { subscription, filter: filter.clone() });
        }
        self.accept(asked);
    }

    fn publish(
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
                let request = self.request(asked);
                self.outputs.push_back(Output::Publish { request, subject, data, headers });
            }
            Err(refusal) => self.refuse(asked, Some(channel), refusal),
        }
    }

    fn ask(&mut self, asked: Option<Asked>, channel: String, data: Bytes, timeout: Option<Duration>) {
        match self.writable(Operation::Request, &channel, &data) {
            Ok(subject) => {
                let timeout = timeout.unwrap_or(self.settings.request_timeout);
                let timeout = timeout.min(self.settings.request_timeout_max);
                let request = self.request(asked);
                self.outputs.push_back(Output::Request { request, subject, data, timeout });
            }
            Err(refusal) => self.refuse(asked, Some(channel), refusal),
        }
    }

    /// Joins channels, as far as they are permitted. Where they take the place of others, all have to be.
    fn subscribe_all(&mut self, asked: Option<Asked>, mut wanted: Wanted) {
        let channels = std::mem::take(&mut wanted.channels);
        let group = wanted.group.clone();
        if wanted.joining == Joining::Unique && self.subscriptions.of(&group).next().is_some() {
            let refusal = Refusal::new(ErrorCode::AlreadySubscribed, "this name is in use");
            return self.refuse(asked, None, refusal);
        }
        if wanted.joining == Joining::Replace && !self.make_room(asked.as_ref(), &channels, &wanted) {
            return;
        }
        let (mut accepted, mut joined) = (channels.is_empty(), false);
        for channel in channels {
            let subscribed = match &channel {
                Ok(name) => self.subscribe(asked.clone(), name, &wanted),
                Err(refusal) => Err(refusal.clone()),
            };
            match subscribed {
                Ok(is_new) => (accepted, joined) = (true, joined || is_new),
                Err(refusal) => self.refuse(asked.clone(), channel.ok(), refusal),
            }
            if matches!(self.phase, Phase::Closed) {
                return;
            }
        }
        match (accepted, joined) {
            (true, true) => self.remember(asked.as_ref()),
            (true, false) => self.accept(asked),
            (false, _) => {}
        }
    }

    /// Leaves what is in a group and is not named, if all that is named is permitted. Else that is said, and false.
    fn make_room(
        &mut self,
        asked: Option<&Asked>,
        channels: &[Result<String, Refusal>],
        wanted: &Wanted,
    ) -> bool {
        let mut is_permitted = true;
        for channel in channels {
            let checked = channel.clone().and_then(|name| self.admissible(&name, wanted));
            if let Err(refusal) = checked {
                is_permitted = false;
                self.refuse(asked.cloned(), channel.clone().ok(), refusal);
            }
        }
        if !is_permitted || matches!(self.phase, Phase::Closed) {
            return false;
        }
        let named = |pattern: &Pattern| channels.iter().flatten().any(|name| name == pattern.as_str());
        let others =
            self.subscriptions.of(&wanted.group).filter(|subscription| !named(&subscription.pattern));
        let others: Vec<_> = others.map(|subscription| subscription.id).collect();
        others.into_iter().for_each(|subscription| self.leave(subscription));
        true
    }

    /// A channel as it would be joined, if the client may have it so.
    fn admissible(&self, channel: &str, wanted: &Wanted) -> Result<Admitted, Refusal> {
        let pattern = self.pattern(channel)?;
        if wanted.joining == Joining::Strict && self.subscriptions.on(&wanted.group, channel).is_some() {
            return Err(Refusal::new(ErrorCode::AlreadySubscribed, "this session has the channel already"));
        }
        checks::permit(self.permissions()?, Operation::Subscribe, &pattern)?;
        let class = self.settings.classes.of(&pattern);
        let max_rate = match (class.kind, wanted.max_rate.filter(|rate| !rate.is_zero())) {
            (Kind::Latest, asked) => asked.max(class.max_rate),
            (Kind::Buffer, None) => None,
            (Kind::Buffer, Some(_)) => {
                let words = "`max_rate_ms` would lose messages of this channel, whose class is not `latest`";
                return Err(Refusal::new(ErrorCode::Unsupported, words));
            }
        };
        Ok(Admitted { pattern, class, max_rate })
    }

    /// Joins one channel. False if its group has it already.
    fn subscribe(&mut self, asked: Option<Asked>, channel: &str, wanted: &Wanted) -> Result<bool, Refusal> {
        let Admitted { pattern, class, max_rate } = self.admissible(channel, wanted)?;
        let mut covered = Vec::new();
        if wanted.joining != Joining::Strict {
            // In one group a publication comes once.
            if self.subscriptions.of(&wanted.group).any(|other| other.pattern.covers(&pattern)) {
                return Ok(false);
            }
            let others = self.subscriptions.of(&wanted.group).filter(|other| pattern.covers(&other.pattern));
            covered.extend(others.map(|other| other.id));
        }
        let max = self.settings.max_subscriptions;
        if self.subscriptions.len() - covered.len() >= max {
            let words = format!("a session may have {max} channels: unsubscribe from one, or use a wildcard");
            return Err(Refusal::new(ErrorCode::LimitExceeded, words));
        }
        covered.into_iter().for_each(|subscription| self.leave(subscription));
        let format = self.vocabulary.format(&pattern);
        let terms = self.vocabulary.terms(self.scene(), &pattern, format.route, wanted).map(Rc::new);
        let subscription = self.subscriptions.add(pattern.clone(), class.clone(), terms.clone(), asked);
        self.outputs.push_back(Output::Join { subscription, pattern, format, class, max_rate, terms });
        Ok(true)
    }

    fn unsubscribe_all(&mut self, asked: Option<Asked>, channels: Vec<Result<String, Refusal>>, group: &str) {
        let mut accepted = channels.is_empty();
        for channel in channels {
            match (channel, &asked) {
                // Where a vocabulary is described, to leave what one does not have is no mistake.
                (Ok(channel), Some(Asked::Message(_))) => {
                    accepted = true;
                    let found = self.subscriptions.on(group, &channel).map(|subscription| subscription.id);
                    found.into_iter().for_each(|subscription| self.leave(subscription));
                }
                (Ok(channel), _) => self.unsubscribe(asked.clone(), channel),
                (Err(refusal), _) => self.refuse(asked.clone(), None, refusal),
            }
            if matches!(self.phase, Phase::Closed) {
                return;
            }
        }
        if accepted {
            self.accept(asked);
        }
    }

    fn unsubscribe(&mut self, asked: Option<Asked>, channel: String) {
        let Some(found) = self.subscriptions.on("", &channel).map(|subscription| subscription.id) else {
            let refusal = Refusal::new(ErrorCode::NotSubscribed, "this session does not have the channel");
            return self.refuse(asked, Some(channel), refusal);
        };
        let Some(subscription) = self.subscriptions.remove(found) else {
            return;
        };
        self.outputs.push_back(Output::Leave { subscription: found });
        if let State::Joining(request) = subscription.state {
            let refusal = Refusal::new(ErrorCode::NotSubscribed, "unsubscribed before the channel was live");
            let channel = Some(channel.clone());
            let asked = request.map(|asked| *asked);
            self.reply(&Reply::Error { asked, channel, refusal }, Priority::High);
        }
        let reply = Reply::Unsubscribed { asked, channel: channel.as_str().into() };
        self.reply(&reply, subscription.class.priority);
    }

    /// What both `publish` and `request` need: a literal subject that is allowed, and data that fits.
    fn writable(&self, operation: Operation, channel: &str, data: &Bytes) -> Result<Subject, Refusal> {
        let subject = checks::writable(&self.settings, self.permissions()?, operation, channel, data)?;
        let max = self.settings.requests_in_flight;
        if self.requests.len() >= max {
            let words = format!("{max} publishes and requests wait for their answer: wait for one of them");
            return Err(Refusal::new(ErrorCode::LimitExceeded, words));
        }
        Ok(subject)
    }

    fn pattern(&self, channel: &str) -> Result<Pattern, Refusal> {
        checks::pattern(&self.settings, channel)
    }

    fn permissions(&self) -> Result<&Permissions, Refusal> {
        let identity = self.identity().map(|identity| identity.permissions.as_ref());
        identity.ok_or_else(|| Refusal::new(ErrorCode::Unauthorized, "the session has no identity"))
    }

    fn request(&mut self, asked: Option<Asked>) -> u32 {
        let request = self.requests_made;
        self.requests_made = self.requests_made.wrapping_add(1);
        self.remember(asked.as_ref());
        self.requests.push((request, asked));
        request
    }
}
