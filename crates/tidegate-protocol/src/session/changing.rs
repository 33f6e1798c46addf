//! Changes of channels: a session leaves channels once others are joined, which take their place, and keeps them if one of
//! these is refused.

use crate::class::Priority;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::message::JoinOutcome;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::session::Session;
use crate::session::change::ChangeId;
use crate::session::change::ChangeKind;
use crate::session::change::ChangeProgress;
use crate::session::subscription::State;
use crate::session::subscription::Subscription;
use crate::session::subscription::SubscriptionId;

impl Session {
    /// Begins a change that ends these subscriptions once its channels are joined. The change waits for one join, which
    /// the caller adds or ends. Returns an error if too many subscriptions wait for their end.
    pub(super) fn begin_change(
        &mut self,
        kind: ChangeKind,
        leaves: &[SubscriptionId],
    ) -> Result<ChangeId, ClientError> {
        self.check_leaving(leaves)?;
        let change = self.subscriptions.begin_change(kind);
        self.leave_by(change, leaves);
        Ok(change)
    }

    /// Makes a change end these subscriptions too.
    pub(super) fn leave_by(&mut self, change: ChangeId, leaves: &[SubscriptionId]) {
        self.charge_channels(leaves.len());
        for id in leaves {
            self.subscriptions.leave_by(*id, change);
        }
    }

    /// Checks the limit on subscriptions that wait for their end, for these.
    pub(super) fn check_leaving(&self, leaves: &[SubscriptionId]) -> Result<(), ClientError> {
        let is_new = |id: &&SubscriptionId| {
            self.subscriptions.get(**id).is_some_and(|subscription| subscription.left_by().is_none())
        };
        let more = leaves.iter().filter(is_new).count();
        if more > 0 && self.subscriptions.surplus() + more > self.settings.max_subscriptions {
            let message = "too many channels wait until others are in their place: wait for the confirmations of earlier messages, or unsubscribe from some";
            return Err(ClientError::new(ErrorCode::TryAgain, message));
        }
        Ok(())
    }

    /// Counts a join of a change as ended, because the channel is joined or the client has left it. Leaves what the change
    /// ends if that was its last join.
    pub(super) fn end_join_of(&mut self, change: Option<ChangeId>, outcome: JoinOutcome) {
        let mut ended: Vec<_> = change.into_iter().map(|change| (change, outcome)).collect();
        while let Some((change, outcome)) = ended.pop() {
            let ChangeProgress::Complete(kind) = self.subscriptions.end_join_of_change(change) else {
                continue;
            };
            let outcome = match kind {
                // The wildcard covers the channels that wait, so their messages are confirmed with it.
                ChangeKind::Widen => outcome,
                ChangeKind::Replace => JoinOutcome::Left,
            };
            let gone = self.subscriptions.complete_change(change);
            self.emit_leaves(&gone);
            for gone in gone {
                let part_of = gone.join().and_then(|_| gone.part_of());
                ended.extend(part_of.map(|change| (change, outcome)));
                self.tell_left(&gone);
                self.end_joins(gone, outcome);
            }
        }
    }

    /// A channel of a change was refused: what the change would have ended stays. If it was all or nothing, its other
    /// channels are left.
    pub(super) fn fail_change_of(&mut self, refused: &Subscription) {
        let Some(change) = refused.join().and_then(|_| refused.part_of()) else { return };
        self.undo_change(change, refused.left_by());
    }

    /// Undoes a change. What it would have ended is ended by `left_by` instead, if by any.
    pub(super) fn undo_change(&mut self, change: ChangeId, left_by: Option<ChangeId>) {
        match self.subscriptions.fail_change(change, left_by) {
            Some(ChangeKind::Replace) => {}
            Some(ChangeKind::Widen) | None => return,
        }
        let gone = self.subscriptions.undo_change(change);
        self.emit_leaves(&gone);
        for gone in gone {
            self.end_joins(gone, JoinOutcome::Refused);
        }
    }

    /// Ends the join of a subscription that was removed: its messages wait for it no longer.
    pub(super) fn end_joins(&mut self, gone: Subscription, outcome: JoinOutcome) {
        if let State::Joining(join) = gone.state {
            self.end_joins_as(outcome, join.request_context, join.also_waiting);
        }
    }

    /// Messages wait for a channel no longer: confirms each that waits for no other, if at least one of its channels is
    /// joined.
    pub(super) fn end_joins_as(
        &mut self,
        outcome: JoinOutcome,
        request_context: Option<RequestContext>,
        also_waiting: Vec<RequestContext>,
    ) {
        for request_context in request_context.into_iter().chain(also_waiting) {
            if self.end_join(&request_context, outcome) {
                self.reply(&Reply::Acknowledged { request_context: Some(request_context) }, Priority::High);
            }
        }
    }
}
