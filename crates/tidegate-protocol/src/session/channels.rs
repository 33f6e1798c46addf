//! Subscribing. All checks of a `subscribe` are here, and every dialect passes through them.

use std::collections::HashMap;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::class::Class;
use crate::class::Kind;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::list_element::ListElement;
use crate::message::JoinMode;
use crate::message::JoinOutcome;
use crate::message::RequestContext;
use crate::message::SubscribeRequest;
use crate::permissions::Operation;
use crate::session::Session;
use crate::session::change::ChangeId;
use crate::session::change::ChangeKind;
use crate::session::checks;
use crate::session::joins::MAX_JOINS_IN_FLIGHT;
use crate::session::joins::error_of;
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
    /// The change of a message that is all or nothing.
    change: Option<ChangeId>,
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
            if !self.may_join_all(request_context.as_ref(), &channels, &wanted) {
                return;
            }
        }
        let accepted = channels.is_empty();
        let mut lookup = self.look_up_group(&channels, &wanted);
        if wanted.joining == JoinMode::Replace {
            let unnamed = self.unnamed(&channels, &wanted);
            match self.begin_change(ChangeKind::Replace, &unnamed) {
                Ok(change) => {
                    request_context.iter().for_each(RequestContext::join_all_or_nothing);
                    lookup.change = Some(change);
                }
                Err(error) => return self.refuse(request_context, None, error),
            }
        }
        let joined = self.join_each(request_context.as_ref(), channels, &wanted, &mut lookup, &mut surplus);
        let Some((is_any_accepted, joins)) = joined else { return };
        self.end_join_of(lookup.change, JoinOutcome::Joined);
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
    /// `None` if the session has ended, or if the message is all or nothing and a channel was refused.
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
                        && lookup.change.is_none()
                        && self.subscriptions.channels() >= self.settings.max_subscriptions =>
                {
                    channel.has_no_room(surplus);
                }
                Err(error) => {
                    self.refuse_channel(request_context, channel, error);
                    if let Some(change) = lookup.change {
                        request_context.into_iter().for_each(RequestContext::refuse_join);
                        self.undo_change(change, None);
                        return None;
                    }
                }
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
        GroupLookup {
            existing: there,
            is_batch: channels.len() > 1,
            wildcards,
            steps: MAX_STEPS,
            change: None,
        }
    }

    /// Whether the message may subscribe to all channels that it names. Otherwise sends the error of the first that it may
    /// not.
    fn may_join_all(
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
        matches!(self.phase, Phase::Open(_))
    }

    /// The subscriptions of the group that the message does not name.
    fn unnamed(&self, channels: &[NamedChannel], wanted: &SubscribeRequest) -> Vec<SubscriptionId> {
        let named = Names::all(channels.iter().filter_map(|channel| channel.name.as_deref().ok()));
        let in_group = self.subscriptions.in_group(&wanted.group);
        in_group
            .filter(|subscription| !named.contains(subscription.pattern.as_str()))
            .map(|subscription| subscription.id)
            .collect()
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
        let recovers = class.recovers_by_values() || class.kind == Kind::Buffer && pattern.is_literal();
        if wanted.since.is_some() && class.stream.is_some() && !recovers {
            let message = "`since` needs a channel of class buffer without wildcards, or of class latest with a snapshot and without keys: subscribe without it";
            return Err(ClientError::new(ErrorCode::Unsupported, message));
        }
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
            (there, HashSet::new())
        } else {
            // A group gets each publication once. A repeated subscribe is confirmed when the channel is live.
            let stays = |there: &SubscriptionId| {
                self.subscriptions.get(*there).is_some_and(|there| there.left_by().is_none())
            };
            let covering = || lookup.wildcards.covering(&self.subscriptions, &wanted.group, &pattern);
            if let Some(there) = there.filter(stays).or_else(covering).or(there) {
                self.subscriptions.take_back(there, lookup.change);
                return Ok(self.wait_for_existing(there, request_context));
            }
            let covered = if pattern.is_literal() {
                HashSet::new()
            } else {
                lookup.existing.iter().filter(|(other, _)| pattern.covers(other)).map(|(_, id)| *id).collect()
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
        let change = self.leave_covered(covered, lookup)?;
        let format = self.dialect.format(&pattern);
        let subscription_context =
            self.dialect.subscription_context(self.scope(), &pattern, format.route, wanted).map(Rc::new);
        self.count_join(request_context);
        let (request_context, also_waiting) = (request_context.cloned(), Vec::new());
        let (since, element) = (self.now.instant, element.cloned());
        let recover_after = wanted.since.clone();
        let join =
            Join { request_context, also_waiting, since, format, max_rate, replaces, element, recover_after };
        let subscription = self.subscriptions.add(pattern.clone(), class, subscription_context, join);
        match (change, lookup.change) {
            // Its join counts already.
            (Some(change), _) => self.subscriptions.make_part_of(subscription, change),
            (None, Some(change)) => self.subscriptions.add_to_change(subscription, change),
            (None, None) => {}
        }
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

    /// Leaves the channels that a new wildcard covers once it is joined. Returns the change that does so, unless that of the
    /// message does.
    fn leave_covered(
        &mut self,
        covered: HashSet<SubscriptionId>,
        lookup: &mut GroupLookup,
    ) -> Result<Option<ChangeId>, ClientError> {
        if covered.is_empty() {
            return Ok(None);
        }
        // Those that the same message joins, all or nothing, and those that are about to replace another one, go at once.
        let goes_now = |id: &SubscriptionId| {
            self.subscriptions.get(*id).is_some_and(|covered| {
                covered.replaces().is_some()
                    || covered.join().is_some()
                        && lookup.change.is_some()
                        && covered.part_of() == lookup.change
            })
        };
        let (now, later): (Vec<_>, Vec<_>) = covered.iter().partition(|id| goes_now(id));
        let change = match lookup.change {
            Some(change) => {
                self.check_leaving(&later)?;
                self.leave_by(change, &later);
                None
            }
            None if later.is_empty() => None,
            None => Some(self.begin_change(ChangeKind::Widen, &later)?),
        };
        if !now.is_empty() {
            let now: HashSet<_> = now.into_iter().collect();
            self.leave_where(|subscription| now.contains(&subscription.id));
        }
        lookup.existing.retain(|_, id| !covered.contains(id));
        Ok(change)
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
}
