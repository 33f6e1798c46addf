//! Subscribing. All checks of a `subscribe` are here, and every dialect passes through them.

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
use crate::list_element::ListElement;
use crate::message::JoinMode;
use crate::message::JoinOutcome;
use crate::message::JoinReply;
use crate::message::Push;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::message::SubscribeRequest;
use crate::permissions::Operation;
use crate::publication::Delivery;
use crate::session::Output;
use crate::session::Session;
use crate::session::checks;
use crate::session::denied::Denied;
use crate::session::limits::VALUES_PER_COMMAND;
use crate::session::names::Names;
use crate::session::phase::Phase;
use crate::session::subscription::Join;
use crate::session::subscription::State;
use crate::session::subscription::Subscription;
use crate::session::subscription::SubscriptionId;
use crate::session::surplus::Surplus;
use crate::session::wildcards::MAX_STEPS;
use crate::session::wildcards::Wildcards;
use crate::subject::Pattern;

/// Joins that one session may have in flight to the lanes. Further joins wait in the session, in order, so that a
/// client with many channels does not delay clients with few.
const MAX_JOINS_IN_FLIGHT: u32 = 256;

/// A message with several channels counts as one more command per this many of them.
const CHANNELS_PER_COMMAND: usize = 16;

/// The name of a channel, or an error if it could not be determined.
type ChannelName = Result<String, ClientError>;

/// A channel that a message names.
#[derive(Clone)]
struct NamedChannel {
    /// Its name, or why it has none.
    name: ChannelName,
    /// The element of a list for which it is named.
    element: Option<Rc<ListElement>>,
}

impl NamedChannel {
    /// Counts it as one for which the session has no room.
    fn has_no_room(&self, surplus: &mut Surplus) {
        surplus.add(self.element.as_ref());
    }
}

/// The channels that a message names, each once, and the names of those that it names repeatedly.
fn named_channels(wanted: &mut SubscribeRequest) -> (Vec<NamedChannel>, HashSet<ChannelName>) {
    let (channels, elements) = (std::mem::take(&mut wanted.channels), std::mem::take(&mut wanted.elements));
    let (mut seen, mut repeated) = (HashSet::new(), HashSet::new());
    let is_one = channels.len() == 1;
    let elements = elements.into_iter().chain(std::iter::repeat(None));
    let named = channels.into_iter().zip(elements).map(|(name, element)| NamedChannel { name, element });
    let mut is_new = |channel: &NamedChannel| {
        let is_new = is_one || seen.insert(channel.name.clone());
        if !is_new && !repeated.contains(&channel.name) {
            repeated.insert(channel.name.clone());
        }
        is_new
    };
    let named = named.filter(|channel| is_new(channel)).collect();
    (named, repeated)
}

/// The error for one channel of an element, which it names. `None` if the client was told about the element already.
fn error_of(element: Option<&ListElement>, error: ClientError) -> Option<ClientError> {
    match element {
        Some(element) => element.refuse().then(|| element.error(&error)),
        None => Some(error),
    }
}

/// A channel that the client may subscribe to.
struct CheckedChannel {
    pattern: Pattern,
    class: Arc<Class>,
    max_rate: Option<Duration>,
}

/// What one message needs to know of the session's subscriptions; looked up once per message.
struct GroupLookup {
    /// The subscriptions of the message's group, by channel.
    existing: HashMap<Pattern, SubscriptionId>,
    /// Whether the message has several channels.
    is_batch: bool,
    /// The session's wildcard subscriptions.
    wildcards: Wildcards,
    /// Steps that remain for comparing wildcards.
    steps: usize,
}

impl Session {
    /// Subscribes to the permitted channels. With [`JoinMode::Replace`], it does nothing unless all channels are
    /// permitted.
    pub(super) fn subscribe_all(
        &mut self,
        request_context: Option<RequestContext>,
        mut wanted: SubscribeRequest,
    ) {
        if self.waiting_message_bytes + request_context.as_ref().map_or(0, RequestContext::bytes)
            > 2 * self.settings.max_message
        {
            let message = "too many subscriptions wait for NATS: try again when some are confirmed";
            return self.refuse(request_context, None, ClientError::new(ErrorCode::TryAgain, message));
        }
        let (mut channels, repeated) = named_channels(&mut wanted);
        if wanted.joining == JoinMode::Unique && self.subscriptions.in_group(&wanted.group).next().is_some() {
            let error = ClientError::new(
                ErrorCode::AlreadySubscribed,
                "the group has channels already: unsubscribe from them, or use another group",
            );
            return self.refuse(request_context, None, error);
        }
        let max = self.settings.max_subscriptions;
        let mut surplus = Surplus::default();
        for channel in channels.drain(channels.len().min(max)..) {
            channel.has_no_room(&mut surplus);
        }
        self.charge_channels(channels.len());
        self.order_joins(&mut channels, &repeated);
        if wanted.joining == JoinMode::Replace {
            // All or nothing: too many channels are rejected like a forbidden one.
            if let Some(error) = surplus.error(max, wanted.joining) {
                return self.refuse(request_context, None, error);
            }
            if !self.leave_unnamed(request_context.as_ref(), &channels, &wanted) {
                return;
            }
        }
        let accepted = channels.is_empty();
        let mut lookup = self.look_up_group(&channels, &wanted);
        let joined = self.join_each(request_context.as_ref(), channels, &wanted, &mut lookup, &mut surplus);
        let Some((is_any_accepted, joins)) = joined else { return };
        if let Some(error) = surplus.error(max, wanted.joining) {
            self.refuse(request_context.clone(), None, error);
        }
        let accepted = accepted || is_any_accepted;
        if accepted && !joins {
            self.acknowledge(request_context);
        } else if accepted {
            self.set_variables(request_context.as_ref());
        }
    }

    /// Subscribes to the permitted channels. Returns whether there are some, and whether the client waits for some;
    /// `None` if the session has ended.
    fn join_each(
        &mut self,
        request_context: Option<&RequestContext>,
        channels: Vec<NamedChannel>,
        wanted: &SubscribeRequest,
        lookup: &mut GroupLookup,
        surplus: &mut Surplus,
    ) -> Option<(bool, bool)> {
        let (mut accepted, mut joins) = (false, false);
        for channel in channels {
            let subscribed = match &channel.name {
                Ok(name) => self.subscribe(request_context, name, channel.element.as_ref(), wanted, lookup),
                Err(error) => Err(error.clone()),
            };
            match subscribed {
                Ok(is_new) => (accepted, joins) = (true, joins || is_new),
                // The native protocol answers each channel.
                Err(error)
                    if matches!(request_context, Some(RequestContext::Message(_)))
                        && error.code == ErrorCode::LimitExceeded
                        && self.subscriptions.channels() >= self.settings.max_subscriptions =>
                {
                    channel.has_no_room(surplus);
                }
                Err(error) => self.refuse_channel(request_context, channel, error),
            }
            if !matches!(self.phase, Phase::Open(_)) {
                return None;
            }
        }
        Some((accepted, joins))
    }

    /// Refuses one channel of a message that may join others. An element of a list gets one error for all its channels.
    fn refuse_channel(
        &mut self,
        request_context: Option<&RequestContext>,
        channel: NamedChannel,
        error: ClientError,
    ) {
        let NamedChannel { name, element } = channel;
        if let Some(error) = error_of(element.as_deref(), error) {
            self.refuse(request_context.cloned(), name.ok(), error);
        }
    }

    /// Orders the channels of a message so that the lanes are asked last for those that it names repeatedly: with each
    /// element of a list. Their publications may have elements for the others. If all joins are not in flight at once,
    /// the hub would not know the others yet, and not keep these elements. If there is no room for all channels, the
    /// last ones of the message are refused, so the order stays.
    fn order_joins(&self, channels: &mut [NamedChannel], repeated: &HashSet<ChannelName>) {
        let room = self.settings.max_subscriptions.saturating_sub(self.subscriptions.channels());
        let in_flight = usize::try_from(MAX_JOINS_IN_FLIGHT).unwrap_or(usize::MAX);
        if channels.len() > in_flight && channels.len() <= room {
            channels.sort_by_key(|channel| repeated.contains(&channel.name));
        }
    }

    pub(super) fn charge_channels(&mut self, channels: usize) {
        self.charge(u32::try_from(channels / CHANNELS_PER_COMMAND).unwrap_or(u32::MAX));
    }

    /// Charges for last values that were read for the client, whether it still wants them or not.
    pub(super) fn charge_values(&mut self, values: usize) {
        self.charge(u32::try_from(values / VALUES_PER_COMMAND).unwrap_or(u32::MAX));
    }

    fn look_up_group(&self, channels: &[NamedChannel], wanted: &SubscribeRequest) -> GroupLookup {
        let there = match channels {
            // A single channel needs no hash map.
            [NamedChannel { name: Ok(name), .. }]
                if wanted.joining == JoinMode::Again || !name.contains(['*', '>']) =>
            {
                let named = |subscription: &&Subscription| subscription.pattern.as_str() == name;
                let there = self.subscriptions.in_group(&wanted.group).filter(named);
                there.map(|subscription| (subscription.pattern.clone(), subscription.id)).collect()
            }
            _ => self.subscriptions.by_channel(&wanted.group),
        };
        let wildcards = Wildcards::of(&self.subscriptions, channels.len());
        GroupLookup { existing: there, is_batch: channels.len() > 1, wildcards, steps: MAX_STEPS }
    }

    /// Leaves the channels of a group that the message does not name, if it may subscribe to all those that it names.
    /// Otherwise sends the error of the first that it may not, and returns false.
    fn leave_unnamed(
        &mut self,
        request_context: Option<&RequestContext>,
        channels: &[NamedChannel],
        wanted: &SubscribeRequest,
    ) -> bool {
        for channel in channels {
            let checked = channel.name.clone().and_then(|name| self.check_channel(&name, wanted));
            if let Err(error) = checked {
                self.refuse_channel(request_context, channel.clone(), error);
                return false;
            }
        }
        if !matches!(self.phase, Phase::Open(_)) {
            return false;
        }
        let named = Names::all(channels.iter().filter_map(|channel| channel.name.as_deref().ok()));
        self.leave_where(|subscription| {
            subscription.group() == &*wanted.group && !named.contains(subscription.pattern.as_str())
        });
        true
    }

    /// Checks permissions and options of one channel.
    fn check_channel(
        &mut self,
        channel: &str,
        wanted: &SubscribeRequest,
    ) -> Result<CheckedChannel, ClientError> {
        let pattern = checks::pattern(&self.settings, channel)?;
        let allowed = checks::check_permission(self.permissions()?, Operation::Subscribe, &pattern);
        allowed.map_err(|error| self.note_denied(error))?;
        let class = self.settings.classes.of(&pattern);
        let max_rate = match (class.kind, wanted.max_rate.filter(|rate| !rate.is_zero())) {
            (Kind::Latest, wanted_rate) => wanted_rate.max(class.max_rate),
            (Kind::Buffer, None) => None,
            (Kind::Buffer, Some(_)) => {
                let message =
                    "`max_rate_ms` needs a channel of class `latest`: it would drop messages of this one";
                return Err(ClientError::new(ErrorCode::Unsupported, message));
            }
        };
        Ok(CheckedChannel { pattern, class, max_rate })
    }

    /// Subscribes to one channel. Returns false if its group has it already.
    fn subscribe(
        &mut self,
        request_context: Option<&RequestContext>,
        channel: &str,
        element: Option<&Rc<ListElement>>,
        wanted: &SubscribeRequest,
        lookup: &mut GroupLookup,
    ) -> Result<bool, ClientError> {
        let CheckedChannel { pattern, class, max_rate } = self.check_channel(channel, wanted)?;
        let there = lookup.existing.get(&pattern).copied();
        let (replaces, covered) = if wanted.joining == JoinMode::Again {
            (there, Vec::new())
        } else {
            // A group gets each publication once. A repeated subscribe is confirmed when the channel is live.
            if let Some(there) =
                there.or_else(|| lookup.wildcards.covering(&self.subscriptions, &wanted.group, &pattern))
            {
                return Ok(self.wait_for_existing(there, request_context));
            }
            let covered = if pattern.is_literal() {
                Vec::new()
            } else {
                lookup.existing.keys().filter(|other| pattern.covers(other)).cloned().collect()
            };
            (None, covered)
        };
        self.check_room(replaces.is_some(), covered.len())?;
        if replaces.is_none() && !pattern.is_literal() {
            let leaves = |other: &Subscription| {
                !covered.is_empty() && other.group() == &*wanted.group && pattern.covers(&other.pattern)
            };
            let GroupLookup { wildcards, steps, .. } = lookup;
            wildcards.check(&self.subscriptions, &pattern, leaves, &self.settings, steps)?;
        }
        if !covered.is_empty() {
            let ids: HashSet<_> = covered.iter().filter_map(|other| lookup.existing.remove(other)).collect();
            self.leave_where(|subscription| ids.contains(&subscription.id));
        }
        let format = self.dialect.format(&pattern);
        let subscription_context =
            self.dialect.subscription_context(self.scope(), &pattern, format.route, wanted).map(Rc::new);
        self.count_join(request_context);
        let (request_context, also_waiting) = (request_context.cloned(), Vec::new());
        let (since, element) = (self.now.instant, element.cloned());
        let join = Join { request_context, also_waiting, since, format, max_rate, replaces, element };
        let subscription = self.subscriptions.add(pattern.clone(), class, subscription_context, join);
        if replaces.is_none()
            && let Some(subscription) = self.subscriptions.find(subscription)
        {
            lookup.wildcards.add(subscription);
        }
        if lookup.is_batch {
            lookup.existing.insert(pattern, subscription);
        }
        Ok(true)
    }

    /// Makes a message wait for an existing subscription. Returns false if it need not wait: the subscription is live,
    /// or too many messages wait for it already.
    fn wait_for_existing(&mut self, there: SubscriptionId, request_context: Option<&RequestContext>) -> bool {
        let state = self.subscriptions.find(there).map(|there| &mut there.state);
        let waits = match (state, request_context) {
            (Some(State::Joining(join)), Some(request_context)) => join.add(request_context),
            (Some(State::Joining(_) | State::Held | State::Live) | None, _) => false,
        };
        if waits {
            self.count_join(request_context);
        }
        waits
    }

    /// Counts one more join that a message waits for.
    fn count_join(&mut self, request_context: Option<&RequestContext>) {
        if let Some(request_context) =
            request_context.filter(|request_context| request_context.join_started())
        {
            self.waiting_message_bytes += request_context.bytes();
        }
    }

    /// Counts one join of a message as done. Returns true if the message is to be confirmed now.
    fn end_join(&mut self, request_context: &RequestContext, end: JoinOutcome) -> bool {
        let reply = request_context.join_ended(end);
        if matches!(request_context, RequestContext::Message(_)) && reply != JoinReply::NotYet {
            self.waiting_message_bytes -= request_context.bytes();
        }
        reply == JoinReply::Confirm
    }

    /// Checks the limits for one more subscription, if `leaving` others are removed first.
    fn check_room(&self, is_again: bool, leaving: usize) -> Result<(), ClientError> {
        let max = self.settings.max_subscriptions;
        if is_again && self.subscriptions.replacing() >= max {
            let message = "too many channels are being subscribed to again: wait for their confirmations";
            return Err(ClientError::new(ErrorCode::TryAgain, message));
        }
        if !is_again && self.subscriptions.channels().saturating_sub(leaving) >= max {
            let message =
                format!("a session may have {max} channels: unsubscribe from one, or use a wildcard");
            return Err(ClientError::new(ErrorCode::LimitExceeded, message));
        }
        Ok(())
    }

    /// Requests waiting joins from the lanes, up to the limit.
    pub(super) fn request_joins(&mut self) {
        while let Some(next) = self.subscriptions.next_to_request(MAX_JOINS_IN_FLIGHT) {
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

    /// Replaces the pattern of a subscription by an equal one that others use too, to save memory.
    pub fn share_pattern(&mut self, id: SubscriptionId, shared: Pattern) {
        if let Some(subscription) = self.subscriptions.find(id)
            && subscription.pattern == shared
        {
            subscription.pattern = shared;
        }
    }

    /// Tells the client about joins that take long; their confirmations follow later.
    pub(super) fn report_overdue_joins(&mut self) {
        while self
            .subscriptions
            .oldest_wait()
            .is_some_and(|since| since + self.settings.join_notice_after <= self.now.instant)
            && let Some(Subscription { pattern, state: State::Joining(join), .. }) =
                self.subscriptions.take_overdue()
        {
            let (request_context, channel) = (join.request_context.clone(), Arc::clone(pattern.text()));
            if request_context.as_ref().is_none_or(RequestContext::mark_overdue) {
                let message = "this node cannot read the channel from NATS yet: the subscription waits, and is confirmed when it is live";
                let error = ClientError::new(ErrorCode::Unavailable, message);
                match self.dialect.error_close_code(error.code) {
                    Some(code) => self.end(code, error.code.name()),
                    None => self.reply(&Reply::Delayed { request_context, channel, error }, Priority::High),
                }
            }
        }
    }

    pub(super) fn joined(&mut self, id: SubscriptionId, snapshot: Vec<Delivery>, stale: Option<SystemTime>) {
        let Some(Join { request_context, also_waiting, replaces, .. }) = self.subscriptions.complete_join(id)
        else {
            return;
        };
        // The last values are in the reply, or come after it.
        let (shown, separate) = if self.dialect.traits().answers_with_snapshot {
            (snapshot.into_iter().map(|value| value.frame).collect(), Vec::new())
        } else {
            (Vec::new(), snapshot)
        };
        let mut older = replaces;
        self.outputs.extend(older.map(|subscription| Output::Release { subscription }));
        while let Some(gone) = older.and_then(|older| self.leave(older)) {
            older = gone.replaces();
            if let State::Joining(join) = gone.state {
                let (request_context, channel) = (join.request_context, Arc::clone(gone.pattern.text()));
                self.reply(
                    &Reply::Subscribed { request_context, channel, snapshot: shown.clone() },
                    Priority::High,
                );
            }
        }
        let Some(subscription) = self.subscriptions.find(id) else {
            return;
        };
        let channel = Arc::clone(subscription.pattern.text());
        let priority = subscription.class.priority;
        let subscription_context = subscription.subscription_context.clone();
        if request_context
            .as_ref()
            .is_none_or(|request_context| self.end_join(request_context, JoinOutcome::Joined))
        {
            self.reply(
                &Reply::Subscribed { request_context, channel: Arc::clone(&channel), snapshot: shown },
                priority,
            );
        }
        for request_context in also_waiting {
            if self.end_join(&request_context, JoinOutcome::Joined) {
                self.reply(&Reply::Acknowledged { request_context: Some(request_context) }, Priority::High);
            }
        }
        if !separate.is_empty() {
            self.outputs.push_back(Output::DeliverSnapshot { subscription: id, snapshot: separate });
        }
        if let Some(since) = stale {
            self.push_to_channel(&Push::Stale { channel, since }, subscription_context.as_deref(), priority);
        }
        if self.settings.hold {
            return;
        }
        if let Some(subscription) = self.subscriptions.find(id) {
            subscription.state = State::Live;
            self.outputs.push_back(Output::GoLive { subscription: id });
        }
    }

    pub(super) fn join_failed(
        &mut self,
        id: SubscriptionId,
        error: ClientError,
        denied: Option<Box<Denied>>,
    ) {
        let Some(subscription) = self.subscriptions.remove(id) else {
            return;
        };
        self.outputs.push_back(Output::Leave { subscription: id });
        self.outputs.extend(denied.map(Output::Denied));
        let channel = subscription.pattern.as_str().to_owned();
        let (request_context, also_waiting, element) = match subscription.state {
            State::Joining(join) => (join.request_context, join.also_waiting, join.element),
            State::Held | State::Live => (None, Vec::new(), None),
        };
        if let Some(error) = error_of(element.as_deref(), error.clone()) {
            self.send_error(request_context.clone(), Some(channel.clone()), error);
        }
        for request_context in &also_waiting {
            self.send_error(Some(request_context.clone()), Some(channel.clone()), error.clone());
        }
        self.end_failed_joins(request_context, also_waiting);
    }

    /// Joins of a channel failed: confirms each message that waits for no other join, if at least one of its joins
    /// succeeded.
    pub(super) fn end_failed_joins(
        &mut self,
        request_context: Option<RequestContext>,
        also_waiting: Vec<RequestContext>,
    ) {
        for request_context in request_context.into_iter().chain(also_waiting) {
            if self.end_join(&request_context, JoinOutcome::Failed) {
                self.reply(&Reply::Acknowledged { request_context: Some(request_context) }, Priority::High);
            }
        }
    }
}
