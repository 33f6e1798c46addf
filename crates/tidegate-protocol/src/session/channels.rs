//! How a session joins channels and leaves them: every check of a `subscribe` is here, and nothing passes without it.

use std::collections::HashMap;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use crate::class::Class;
use crate::class::Kind;
use crate::class::Priority;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::frame::Frame;
use crate::message::Answered;
use crate::message::JoinEnd;
use crate::message::Joining;
use crate::message::Push;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::message::SubscribeRequest;
use crate::permissions::Operation;
use crate::session::Output;
use crate::session::Session;
use crate::session::checks;
use crate::session::phase::Phase;
use crate::session::subscription::Join;
use crate::session::subscription::State;
use crate::session::subscription::Subscription;
use crate::session::subscription::SubscriptionId;
use crate::session::wildcards::STEPS;
use crate::session::wildcards::Wildcards;
use crate::subject::Pattern;

/// Joins of one session that lanes are asked for at a time. Others wait in the session, in order, so that a client with
/// many channels does not delay clients with few.
const JOINS_IN_FLIGHT: u32 = 256;

/// Channels that count as one command more.
const CHANNELS_PER_COMMAND: usize = 16;

/// A channel that a client may have.
struct Admitted {
    pattern: Pattern,
    class: Arc<Class>,
    max_rate: Option<Duration>,
}

/// The channels that one message names, and how they meet those that the session has. Looked up once for a message.
struct Meeting {
    /// Those of its group, by channel.
    there: HashMap<Pattern, SubscriptionId>,
    /// Whether there are several.
    has_more: bool,
    /// The wildcards of the session.
    wildcards: Wildcards,
    /// What is left to compare them.
    steps: usize,
}

impl Session {
    /// Joins channels, as far as they are permitted. Where they take the place of others, all have to be.
    pub(super) fn subscribe_all(&mut self, asked: Option<RequestContext>, mut wanted: SubscribeRequest) {
        if self.asked_bytes + asked.as_ref().map_or(0, RequestContext::bytes) > 2 * self.settings.max_message
        {
            let words = "too many subscriptions wait for NATS: try again when they are answered";
            return self.refuse(asked, None, ClientError::new(ErrorCode::TryAgain, words));
        }
        let named = distinct(std::mem::take(&mut wanted.channels));
        if wanted.joining == Joining::Unique && self.subscriptions.of(&wanted.group).next().is_some() {
            let refusal = ClientError::new(ErrorCode::AlreadySubscribed, "this name is in use");
            return self.refuse(asked, None, refusal);
        }
        let (channels, surplus) = bounded(named, self.settings.max_subscriptions);
        self.charge_channels(channels.len());
        if wanted.joining == Joining::Replace {
            // All or nothing: too many are as bad as one that is forbidden.
            if let Some(refusal) = surplus {
                return self.refuse(asked, None, refusal);
            }
            if !self.make_room(asked.as_ref(), &channels, &wanted) {
                return;
            }
        }
        let mut meeting = self.meeting(&channels, &wanted);
        let (mut accepted, mut joins) = (channels.is_empty(), false);
        for channel in channels {
            let subscribed = match &channel {
                Ok(name) => self.subscribe(asked.as_ref(), name, &wanted, &mut meeting),
                Err(refusal) => Err(refusal.clone()),
            };
            match subscribed {
                Ok(is_new) => (accepted, joins) = (true, joins || is_new),
                Err(refusal) => self.refuse(asked.clone(), channel.ok(), refusal),
            }
            if !matches!(self.phase, Phase::Open(_)) {
                return;
            }
        }
        if let Some(refusal) = surplus {
            self.refuse(asked.clone(), None, refusal);
        }
        if accepted && !joins {
            self.accept(asked);
        } else if accepted {
            self.remember(asked.as_ref());
        }
    }

    pub(super) fn charge_channels(&mut self, channels: usize) {
        self.charge(u32::try_from(channels / CHANNELS_PER_COMMAND).unwrap_or(u32::MAX));
    }

    fn meeting(&self, channels: &[Result<String, ClientError>], wanted: &SubscribeRequest) -> Meeting {
        let there = match channels {
            // One name is looked for without a table.
            [Ok(name)] if wanted.joining == Joining::Again || !name.contains(['*', '>']) => {
                let named = |subscription: &&Subscription| subscription.pattern.as_str() == name;
                let there = self.subscriptions.of(&wanted.group).filter(named);
                there.map(|subscription| (subscription.pattern.clone(), subscription.id)).collect()
            }
            _ => self.subscriptions.by_channel(&wanted.group),
        };
        let wildcards = Wildcards::of(&self.subscriptions, channels.len());
        Meeting { there, has_more: channels.len() > 1, wildcards, steps: STEPS }
    }

    /// Leaves what is in a group and is not named, if all that is named is permitted. Else that is said, and false.
    fn make_room(
        &mut self,
        asked: Option<&RequestContext>,
        channels: &[Result<String, ClientError>],
        wanted: &SubscribeRequest,
    ) -> bool {
        let mut is_permitted = true;
        for channel in channels {
            let checked = channel.clone().and_then(|name| self.admissible(&name, wanted));
            if let Err(refusal) = checked {
                is_permitted = false;
                self.refuse(asked.cloned(), channel.clone().ok(), refusal);
            }
        }
        if !is_permitted || !matches!(self.phase, Phase::Open(_)) {
            return false;
        }
        let named = Names::of(channels);
        self.leave_where(|subscription| {
            subscription.group() == &*wanted.group && !named.contain(subscription.pattern.as_str())
        });
        true
    }

    /// A channel as it would be joined, if the client may have it so.
    fn admissible(&self, channel: &str, wanted: &SubscribeRequest) -> Result<Admitted, ClientError> {
        let pattern = checks::pattern(&self.settings, channel)?;
        checks::permit(self.permissions()?, Operation::Subscribe, &pattern)?;
        let class = self.settings.classes.of(&pattern);
        let max_rate = match (class.kind, wanted.max_rate.filter(|rate| !rate.is_zero())) {
            (Kind::Latest, asked) => asked.max(class.max_rate),
            (Kind::Buffer, None) => None,
            (Kind::Buffer, Some(_)) => {
                let words = "`max_rate_ms` would lose messages of this channel, whose class is not `latest`";
                return Err(ClientError::new(ErrorCode::Unsupported, words));
            }
        };
        Ok(Admitted { pattern, class, max_rate })
    }

    /// Joins one channel. False if its group has it already.
    fn subscribe(
        &mut self,
        asked: Option<&RequestContext>,
        channel: &str,
        wanted: &SubscribeRequest,
        meeting: &mut Meeting,
    ) -> Result<bool, ClientError> {
        let Admitted { pattern, class, max_rate } = self.admissible(channel, wanted)?;
        let there = meeting.there.get(&pattern).copied();
        let (replaces, covered) = if wanted.joining == Joining::Again {
            (there, Vec::new())
        } else {
            // In one group a publication comes once. Who asks for it again is answered when it is live.
            if let Some(there) =
                there.or_else(|| meeting.wildcards.cover(&self.subscriptions, &wanted.group, &pattern))
            {
                return Ok(self.waits_too(there, asked));
            }
            let covered = if pattern.is_literal() {
                Vec::new()
            } else {
                meeting.there.keys().filter(|other| pattern.covers(other)).cloned().collect()
            };
            (None, covered)
        };
        self.check_room(replaces.is_some(), covered.len())?;
        if replaces.is_none() && !pattern.is_literal() {
            let leaves = |other: &Subscription| {
                !covered.is_empty() && other.group() == &*wanted.group && pattern.covers(&other.pattern)
            };
            let Meeting { wildcards, steps, .. } = meeting;
            wildcards.check(&self.subscriptions, &pattern, leaves, &self.settings, steps)?;
        }
        if !covered.is_empty() {
            let ids: HashSet<_> = covered.iter().filter_map(|other| meeting.there.remove(other)).collect();
            self.leave_where(|subscription| ids.contains(&subscription.id));
        }
        let format = self.dialect.format(&pattern);
        let subscription_context =
            self.dialect.subscription_context(self.scope(), &pattern, format.route, wanted).map(Rc::new);
        self.begin_join(asked);
        let (asked, also) = (asked.cloned(), Vec::new());
        let join = Join { asked, also, since: self.now.instant, format, max_rate, replaces };
        let subscription = self.subscriptions.add(pattern.clone(), class, subscription_context, join);
        if replaces.is_none()
            && let Some(subscription) = self.subscriptions.find(subscription)
        {
            meeting.wildcards.add(subscription);
        }
        if meeting.has_more {
            meeting.there.insert(pattern, subscription);
        }
        Ok(true)
    }

    /// Lets a message wait for a subscription that is there, unless that is live already.
    fn waits_too(&mut self, there: SubscriptionId, asked: Option<&RequestContext>) -> bool {
        let state = self.subscriptions.find(there).map(|there| &mut there.state);
        let waits = match (state, asked) {
            (Some(State::Joining(join)), Some(asked)) => join.add(asked),
            (Some(State::Joining(_) | State::Held | State::Live) | None, _) => false,
        };
        if waits {
            self.begin_join(asked);
        }
        waits
    }

    /// A message waits for one more join.
    fn begin_join(&mut self, asked: Option<&RequestContext>) {
        if let Some(asked) = asked.filter(|asked| asked.begins()) {
            self.asked_bytes += asked.bytes();
        }
    }

    /// One join of a message has ended. True if it is to be confirmed now.
    fn end_join(&mut self, asked: &RequestContext, end: JoinEnd) -> bool {
        let answered = asked.ended(end);
        if matches!(asked, RequestContext::Message(_)) && answered != Answered::NotYet {
            self.asked_bytes -= asked.bytes();
        }
        answered == Answered::Confirm
    }

    /// Whether there is room for one more subscription when `leaving` others have gone.
    fn check_room(&self, is_again: bool, leaving: usize) -> Result<(), ClientError> {
        let max = self.settings.max_subscriptions;
        if is_again && self.subscriptions.replacing() >= max {
            let words = "too many channels are being subscribed to again: wait for their answers";
            return Err(ClientError::new(ErrorCode::TryAgain, words));
        }
        if !is_again && self.subscriptions.channels().saturating_sub(leaving) >= max {
            let words = format!("a session may have {max} channels: unsubscribe from one, or use a wildcard");
            return Err(ClientError::new(ErrorCode::LimitExceeded, words));
        }
        Ok(())
    }

    /// Asks lanes for joins that wait, as far as there is room.
    pub(super) fn ask_lanes(&mut self) {
        while let Some(next) = self.subscriptions.next_to_ask(JOINS_IN_FLIGHT) {
            let State::Joining(join) = &next.state else { continue };
            self.outputs.push_back(Output::Join {
                subscription: next.id,
                pattern: next.pattern.clone(),
                format: join.format,
                class: Arc::clone(&next.class),
                max_rate: join.max_rate,
                subscription_context: next.subscription_context.clone(),
            });
        }
    }

    /// Says of joins that have waited for long that their answer is still to come.
    pub(super) fn tell_overdue(&mut self) {
        while self
            .subscriptions
            .waits_since()
            .is_some_and(|since| since + self.settings.join_patience <= self.now.instant)
            && let Some(Subscription { pattern, state: State::Joining(join), .. }) =
                self.subscriptions.overdue()
        {
            let (asked, channel) = (join.asked.clone(), Arc::clone(pattern.text()));
            if asked.as_ref().is_none_or(RequestContext::becomes_overdue) {
                let words = "this node cannot read the channel from NATS yet: the subscription waits, and is confirmed when it is live";
                let refusal = ClientError::new(ErrorCode::Unavailable, words);
                match self.dialect.closing(refusal.code) {
                    Some(code) => self.end(code, refusal.code.name()),
                    None => self.reply(&Reply::Delayed { asked, channel, refusal }, Priority::High),
                }
            }
        }
    }

    pub(super) fn joined(&mut self, id: SubscriptionId, mut snapshot: Vec<Frame>, stale: Option<SystemTime>) {
        let Some(Join { asked, also, replaces, .. }) = self.subscriptions.joined(id) else {
            return;
        };
        let mut older = replaces;
        self.outputs.extend(older.map(|subscription| Output::Release { subscription }));
        while let Some(gone) = older.and_then(|older| self.leave(older)) {
            older = gone.replaces();
            if let State::Joining(join) = gone.state {
                let (asked, channel) = (join.asked, Arc::clone(gone.pattern.text()));
                self.reply(&Reply::Subscribed { asked, channel, snapshot: snapshot.clone() }, Priority::High);
            }
        }
        let Some(subscription) = self.subscriptions.find(id) else {
            return;
        };
        let channel = Arc::clone(subscription.pattern.text());
        let priority = subscription.class.priority;
        let subscription_context = subscription.subscription_context.clone();
        let alone = if self.dialect.traits().answers_with_snapshot {
            Vec::new()
        } else {
            std::mem::take(&mut snapshot)
        };
        if asked.as_ref().is_none_or(|asked| self.end_join(asked, JoinEnd::Joined)) {
            self.reply(&Reply::Subscribed { asked, channel: Arc::clone(&channel), snapshot }, priority);
        }
        for asked in also {
            if self.end_join(&asked, JoinEnd::Joined) {
                self.reply(&Reply::Said { asked: Some(asked) }, Priority::High);
            }
        }
        for frame in alone {
            let own = subscription_context
                .as_ref()
                .map_or_else(|| Some(frame.clone()), |subscription_context| subscription_context.own(&frame));
            self.outputs.extend(own.map(|frame| Output::Send { frame, priority }));
        }
        if let Some(since) = stale {
            self.say_of(&Push::Stale { channel, since }, subscription_context.as_deref(), priority);
        }
        if self.settings.hold {
            return;
        }
        if let Some(subscription) = self.subscriptions.find(id) {
            subscription.state = State::Live;
            self.outputs.push_back(Output::GoLive { subscription: id });
        }
    }

    pub(super) fn unjoined(&mut self, id: SubscriptionId, refusal: ClientError) {
        let Some(subscription) = self.subscriptions.remove(id) else {
            return;
        };
        self.outputs.push_back(Output::Leave { subscription: id });
        let channel = subscription.pattern.as_str().to_owned();
        let (asked, also) = match subscription.state {
            State::Joining(join) => (join.asked, join.also),
            State::Held | State::Live => (None, Vec::new()),
        };
        self.fail(asked.clone(), Some(channel.clone()), refusal.clone());
        for asked in &also {
            self.fail(Some(asked.clone()), Some(channel.clone()), refusal.clone());
        }
        self.not_joined(asked, also);
    }

    /// A join has ended without success: what else its messages asked for may be complete now.
    pub(super) fn not_joined(&mut self, asked: Option<RequestContext>, also: Vec<RequestContext>) {
        for asked in asked.into_iter().chain(also) {
            if self.end_join(&asked, JoinEnd::Failed) {
                self.reply(&Reply::Said { asked: Some(asked) }, Priority::High);
            }
        }
    }

    /// Leaves channels of a group, or all of them.
    pub(super) fn unsubscribe(
        &mut self,
        asked: Option<RequestContext>,
        channels: Option<Vec<Result<String, ClientError>>>,
        group: &str,
    ) {
        let Some(channels) = channels else {
            self.leave_where(|subscription| subscription.group() == group);
            return self.accept(asked);
        };
        let channels = distinct(channels);
        let named = Names::of(&channels);
        let gone = self.leave_where(|subscription| {
            subscription.group() == group && named.contain(subscription.pattern.as_str())
        });
        if matches!(asked, Some(RequestContext::Message(_))) {
            // Where a vocabulary is described, one answer is given for all.
            let (wrong, accepted): (Vec<_>, Vec<_>) = channels.into_iter().partition(Result::is_err);
            let is_any_right = !accepted.is_empty() || wrong.is_empty();
            wrong
                .into_iter()
                .filter_map(Result::err)
                .for_each(|wrong| self.refuse(asked.clone(), None, wrong));
            if is_any_right && matches!(self.phase, Phase::Open(_)) {
                self.accept(asked);
            }
            return;
        }
        // Of two on one channel, the newer one was to take the place of the other.
        for Subscription { pattern, class, .. } in gone.iter().filter(|gone| gone.replaces().is_none()) {
            let channel = Arc::clone(pattern.text());
            self.reply(&Reply::Unsubscribed { asked: asked.clone(), channel }, class.priority);
        }
        // To leave what one does not have is no mistake: the client has what it wants.
        let left = Names::all(gone.iter().map(|gone| gone.pattern.as_str()));
        let others = channels.into_iter().flatten().filter(|channel| !left.contain(channel));
        let (others, surplus) = bounded(others.collect(), self.settings.max_subscriptions);
        for channel in others {
            match checks::pattern(&self.settings, &channel) {
                Ok(_) => {
                    let reply = Reply::Unsubscribed { asked: asked.clone(), channel: channel.into() };
                    self.reply(&reply, Priority::High);
                }
                Err(refusal) => self.refuse(asked.clone(), Some(channel), refusal),
            }
        }
        if let Some(refusal) = surplus {
            self.refuse(asked, None, refusal);
        }
    }

    fn leave(&mut self, subscription: SubscriptionId) -> Option<Subscription> {
        let gone = self.subscriptions.remove(subscription)?;
        self.say_left(std::slice::from_ref(&gone));
        Some(gone)
    }

    /// Leaves all channels of a session that ends: nothing is said of it.
    pub(super) fn drop_subscriptions(&mut self) {
        let gone = self.subscriptions.extract(|_| true);
        self.say_left(&gone);
    }

    pub(super) fn say_left(&mut self, gone: &[Subscription]) {
        let asked = gone.iter().filter(|gone| self.subscriptions.was_asked(gone.id));
        self.outputs.extend(asked.map(|gone| Output::Leave { subscription: gone.id }));
    }

    /// Leaves all of these.
    fn leave_where(&mut self, gone: impl Fn(&Subscription) -> bool) -> Vec<Subscription> {
        let gone = self.subscriptions.extract(gone);
        self.charge_channels(gone.len());
        self.say_left(&gone);
        for gone in &gone {
            let State::Joining(join) = &gone.state else { continue };
            if !matches!(join.asked, Some(RequestContext::Message(_))) {
                let refusal =
                    ClientError::new(ErrorCode::NotSubscribed, "unsubscribed before the channel was live");
                let (asked, channel) = (join.asked.clone(), Some(gone.pattern.as_str().to_owned()));
                self.reply(&Reply::Error { asked, channel, refusal }, Priority::High);
            }
            self.not_joined(join.asked.clone(), join.also.clone());
        }
        gone
    }
}

/// The names of channels, to look others up in.
enum Names<'n> {
    One(&'n str),
    Many(HashSet<&'n str>),
}

impl<'n> Names<'n> {
    fn of(channels: &'n [Result<String, ClientError>]) -> Self {
        Self::all(channels.iter().flatten().map(String::as_str))
    }

    fn all(mut names: impl Iterator<Item = &'n str>) -> Self {
        match (names.next(), names.next()) {
            (Some(one), None) => Self::One(one),
            (one, two) => Self::Many(one.into_iter().chain(two).chain(names).collect()),
        }
    }

    fn contain(&self, name: &str) -> bool {
        match self {
            Self::One(one) => *one == name,
            Self::Many(names) => names.contains(name),
        }
    }
}

/// Each once, in the order of their first places.
fn distinct(channels: Vec<Result<String, ClientError>>) -> Vec<Result<String, ClientError>> {
    if channels.len() < 2 {
        return channels;
    }
    let mut seen = HashSet::with_capacity(channels.len());
    channels.into_iter().filter(|channel| seen.insert(channel.clone())).collect()
}

/// As many names as a session may have channels, and what is said of the others.
fn bounded<T>(mut names: Vec<T>, max: usize) -> (Vec<T>, Option<ClientError>) {
    let surplus = names.len().saturating_sub(max);
    names.truncate(max);
    let refusal = (surplus > 0).then(|| {
        let words = format!(
            "the message names {surplus} channels more than the {max} that a session may have: they are passed over"
        );
        ClientError::new(ErrorCode::LimitExceeded, words)
    });
    (names, refusal)
}
