//! Unsubscribing: leaves channels, and tells the client.

use std::sync::Arc;

use crate::class::Priority;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::message::JoinOutcome;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::session::Output;
use crate::session::Session;
use crate::session::checks;
use crate::session::names::Names;
use crate::session::names::deduplicate;
use crate::session::phase::Phase;
use crate::session::subscription::State;
use crate::session::subscription::Subscription;
use crate::session::subscription::SubscriptionId;
use crate::session::surplus::split_surplus;

impl Session {
    /// Unsubscribes from channels of a group, or from all of them.
    pub(super) fn unsubscribe(
        &mut self,
        request_context: Option<RequestContext>,
        channels: Option<Vec<Result<String, ClientError>>>,
        group: &str,
    ) {
        let Some(channels) = channels else {
            self.leave_where(|subscription| subscription.group() == group);
            return self.acknowledge(request_context);
        };
        let channels = deduplicate(channels);
        let named = Names::of(&channels);
        let gone = self.leave_where(|subscription| {
            subscription.group() == group && named.contains(subscription.pattern.as_str())
        });
        if matches!(request_context, Some(RequestContext::Message(_))) {
            // Vocabularies confirm all channels with one reply.
            let (wrong, accepted): (Vec<_>, Vec<_>) = channels.into_iter().partition(Result::is_err);
            let is_any_right = !accepted.is_empty() || wrong.is_empty();
            wrong
                .into_iter()
                .filter_map(Result::err)
                .for_each(|wrong| self.refuse(request_context.clone(), None, wrong));
            if is_any_right && matches!(self.phase, Phase::Open(_)) {
                self.acknowledge(request_context);
            }
            return;
        }
        // If two subscriptions share a channel, the newer one was about to replace the other: confirm once.
        for Subscription { pattern, class, .. } in gone.iter().filter(|gone| gone.replaces().is_none()) {
            let channel = Arc::clone(pattern.text());
            self.reply(
                &Reply::Unsubscribed { request_context: request_context.clone(), channel },
                class.priority,
            );
        }
        // Unsubscribing from a channel that the session does not have succeeds: the client gets what it wants.
        let left = Names::all(gone.iter().map(|gone| gone.pattern.as_str()));
        let others = channels.into_iter().flatten().filter(|channel| !left.contains(channel));
        let (others, surplus) = split_surplus(others.collect(), self.settings.max_subscriptions);
        for channel in others {
            match checks::pattern(&self.settings, &channel) {
                Ok(pattern) => {
                    // It comes after what waits of the channel, from before an earlier `unsubscribe`.
                    let priority = self.settings.classes.of(&pattern).priority;
                    let reply = Reply::Unsubscribed {
                        request_context: request_context.clone(),
                        channel: channel.into(),
                    };
                    self.reply(&reply, priority);
                }
                Err(error) => self.refuse(request_context.clone(), Some(channel), error),
            }
        }
        if let Some(error) = surplus {
            self.refuse(request_context, None, error);
        }
    }

    pub(super) fn leave(&mut self, subscription: SubscriptionId) -> Option<Subscription> {
        let gone = self.subscriptions.remove(subscription)?;
        self.emit_leaves(std::slice::from_ref(&gone));
        Some(gone)
    }

    /// Leaves all channels of a session that ends, without telling the client.
    pub(super) fn drop_subscriptions(&mut self) {
        let gone = self.subscriptions.extract_if(|_| true);
        self.emit_leaves(&gone);
    }

    pub(super) fn emit_leaves(&mut self, gone: &[Subscription]) {
        let request_context = gone.iter().filter(|gone| self.subscriptions.was_requested(gone.id));
        self.outputs.extend(request_context.map(|gone| Output::Leave { subscription: gone.id }));
    }

    /// Removes the subscriptions for which `gone` is true.
    pub(super) fn leave_where(&mut self, gone: impl Fn(&Subscription) -> bool) -> Vec<Subscription> {
        let gone = self.subscriptions.extract_if(gone);
        self.charge_channels(gone.len());
        self.emit_leaves(&gone);
        for gone in &gone {
            let State::Joining(join) = &gone.state else { continue };
            self.tell_left(gone);
            let (request_context, also_waiting) = (join.request_context.clone(), join.also_waiting.clone());
            self.end_joins_as(JoinOutcome::Left, request_context, also_waiting);
            self.end_join_of(gone.part_of(), JoinOutcome::Left);
        }
        gone
    }

    /// The error for the client whose subscription ends before it was live, unless its dialect answers whole messages.
    pub(super) fn tell_left(&mut self, gone: &Subscription) {
        let State::Joining(join) = &gone.state else { return };
        if !matches!(join.request_context, Some(RequestContext::Message(_))) {
            let error =
                ClientError::new(ErrorCode::NotSubscribed, "unsubscribed before the channel was live");
            let (request_context, channel) =
                (join.request_context.clone(), Some(gone.pattern.as_str().to_owned()));
            self.reply(&Reply::Error { request_context, channel, error }, Priority::High);
        }
    }
}
