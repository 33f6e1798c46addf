//! Joins: what follows a `subscribe`. Channels are asked for at their lanes, and are joined, refused or late.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use crate::class::Priority;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::frame::Frame;
use crate::gap_cause::GapCause;
use crate::list_element::ListElement;
use crate::message::JoinOutcome;
use crate::message::JoinReply;
use crate::message::Push;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::position::Position;
use crate::position::SequenceRange;
use crate::publication::Delivery;
use crate::session::Output;
use crate::session::Session;
use crate::session::denied::Denied;
use crate::session::recovery::Recovery;
use crate::session::recovery::SharedDeliveries;
use crate::session::subscription::Join;
use crate::session::subscription::State;
use crate::session::subscription::Subscription;
use crate::session::subscription::SubscriptionId;
use crate::subject::Pattern;

/// Joins that one session may have in flight to the lanes. Further joins wait in the session, in order, so that a
/// client with many channels does not delay clients with few.
pub(super) const MAX_JOINS_IN_FLIGHT: u32 = 256;

/// The part of a confirmation for a client that has sent `since`.
struct Recovered {
    /// Whether it gets all of it.
    all: bool,
    missing: Vec<(GapCause, Option<SequenceRange>)>,
    messages: SharedDeliveries,
}

impl Default for Recovered {
    fn default() -> Self {
        Self { all: true, missing: Vec::new(), messages: SharedDeliveries::default() }
    }
}

/// What `subscribed` says, and what follows it.
struct Confirmation {
    snapshot: Vec<Delivery>,
    stale: Option<SystemTime>,
    position: Option<Position>,
    /// If it has asked for what it has missed.
    recovered: Option<Recovered>,
}

/// The error for one channel of an element, which it names. `None` if the client was told about the element already.
pub(super) fn error_of(element: Option<&ListElement>, error: ClientError) -> Option<ClientError> {
    match element {
        Some(element) => element.refuse().then(|| element.error(&error)),
        None => Some(error),
    }
}

impl Session {
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

    /// The lane has answered. A client that was there before is confirmed when it is known what it has missed.
    pub(super) fn joined(
        &mut self,
        id: SubscriptionId,
        snapshot: Vec<Delivery>,
        stale: Option<SystemTime>,
        position: Option<Position>,
    ) {
        let Some(subscription) = self.subscriptions.get(id) else { return };
        let asked = subscription.join().and_then(|join| Some((join.recover_after.as_ref()?, join.format)));
        let missing = match (asked, &position) {
            (None, _) => None,
            // No stream stores the channel, or it cannot be read.
            (Some(_), None) => Some(subscription.class.stream.as_ref().map(|_| GapCause::StreamUnavailable)),
            (Some((after, _)), Some(now)) if after.epoch != now.epoch => Some(Some(GapCause::Epoch)),
            (Some((after, format)), Some(_)) => {
                let (pattern, after) = (subscription.pattern.clone(), after.clone());
                let recover = Output::Recover { subscription: id, pattern, format, after };
                return self.outputs.push_back(recover);
            }
        };
        let recovered = missing.map(|cause| Recovered {
            all: false,
            missing: cause.map(|cause| (cause, None)).into_iter().collect(),
            messages: SharedDeliveries::default(),
        });
        self.confirm(id, Confirmation { snapshot, stale, position, recovered });
    }

    /// The lane has told what the client has missed.
    pub(super) fn recovered(&mut self, id: SubscriptionId, recovery: Recovery) {
        let Recovery { snapshot, messages, missing, stale, position } = recovery;
        let snapshot = snapshot.iter().cloned().collect();
        let recovered = Some(Recovered { all: missing.is_empty(), missing, messages });
        self.confirm(id, Confirmation { snapshot, stale, position, recovered });
    }

    fn confirm(&mut self, id: SubscriptionId, confirmation: Confirmation) {
        let Confirmation { snapshot, stale, position, recovered } = confirmation;
        let change = self.subscriptions.get(id).and_then(Subscription::part_of);
        let Some(Join { request_context, also_waiting, replaces, .. }) = self.subscriptions.complete_join(id)
        else {
            return;
        };
        self.end_join_of(change, JoinOutcome::Joined);
        // The last values are in the reply, or come after it.
        let (shown, separate) = if self.dialect.traits().answers_with_snapshot {
            (snapshot.into_iter().map(|value| value.frame).collect(), Vec::new())
        } else {
            (Vec::new(), snapshot)
        };
        let is_all = recovered.as_ref().map(|recovered| recovered.all);
        let reply = |request_context, channel, snapshot: Vec<Frame>| Reply::Subscribed {
            request_context,
            channel,
            snapshot,
            position: position.clone(),
            recovered: is_all,
        };
        let mut older = replaces;
        self.outputs.extend(older.map(|subscription| Output::Release { subscription }));
        while let Some(gone) = older.and_then(|older| self.leave(older)) {
            older = gone.replaces();
            if let State::Joining(join) = gone.state {
                let (request_context, channel) = (join.request_context, Arc::clone(gone.pattern.text()));
                self.reply(&reply(request_context, channel, shown.clone()), Priority::High);
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
            self.reply(&reply(request_context, Arc::clone(&channel), shown), priority);
        }
        for request_context in also_waiting {
            if self.end_join(&request_context, JoinOutcome::Joined) {
                self.reply(&Reply::Acknowledged { request_context: Some(request_context) }, Priority::High);
            }
        }
        if !separate.is_empty() {
            self.outputs.push_back(Output::DeliverSnapshot { subscription: id, snapshot: separate });
        }
        let Recovered { missing, messages, .. } = recovered.unwrap_or_default();
        for (cause, range) in missing {
            let gap = Push::Gap { channel: Arc::clone(&channel), cause, dropped: None, range };
            self.push_to_channel(&gap, subscription_context.as_deref(), priority);
        }
        let deliver =
            |message: &Delivery| Output::Deliver { subscription: id, delivery: Rc::new(message.clone()) };
        self.outputs.extend(messages.iter().map(deliver));
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
        self.fail_change_of(&subscription);
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
        self.end_joins_as(JoinOutcome::Refused, request_context, also_waiting);
    }

    /// Counts one join of a message as done. Returns true if the message is to be confirmed now.
    pub(super) fn end_join(&mut self, request_context: &RequestContext, end: JoinOutcome) -> bool {
        let reply = request_context.join_ended(end);
        if matches!(request_context, RequestContext::Message(_)) && reply != JoinReply::NotYet {
            self.waiting_message_bytes -= request_context.bytes();
        }
        reply == JoinReply::Confirm
    }
}
