//! The part of a subscriber that shows the client its current elements together.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::class::Priority;
use tidegate_protocol::elements::CollectedMessage;
use tidegate_protocol::elements::CollectionId;
use tidegate_protocol::elements::select::CollectingMember;
use tidegate_protocol::elements::select::MAX_SELECTED;
use tidegate_protocol::elements::select::has_news;
use tidegate_protocol::elements::select::newest;
use tidegate_protocol::elements::select::select;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subscription_context::SubscriptionContext;

use crate::hub::collections::CAUSES;
use crate::hub::collections::Change;
use crate::hub::collections::Due;
use crate::hub::conflation::Conflation;
use crate::hub::effects::Effects;
use crate::hub::outbox::Missing;
use crate::hub::subscriber::Collecting;
use crate::hub::subscriber::Member;
use crate::hub::subscriber::MemberState;
use crate::hub::subscriber::Subscriber;
use crate::hub::waiting_elements::WaitingElement;

impl Subscriber {
    /// Publications of a subscription are taken apart. It must have a context.
    pub fn set_collecting(&self, id: SubscriptionId, collecting: Collecting) {
        self.collections.borrow_mut().get_or_insert_default();
        self.with_member(id, |member| {
            if let Some(extras) = &mut member.extras {
                extras.collecting = Some(collecting);
            }
        });
    }

    /// A subscription is shown the stored elements from the number `since` on, which is not included. `joined` is the
    /// number of the last element before it joined.
    pub fn show_elements(&self, id: SubscriptionId, since: u64, joined: u64) {
        self.with_member(id, |member| {
            if let Some(collecting) = member.collecting_mut() {
                (collecting.since, collecting.joined) = (since, joined);
            }
        });
    }

    /// A subscription's topic has stored elements of a collection. Returns true if there is more to flush.
    pub fn collect(&self, collection: CollectionId, id: SubscriptionId, now: Instant) -> bool {
        self.change_collection(collection, id, false, now)
    }

    /// A subscription has joined. If it has elements, the client is shown them when no other subscription of its group
    /// waits for its lane.
    pub fn note_joined(&self, id: SubscriptionId) {
        let context = self.with_member(id, |member| {
            let is_collecting = member.collecting_mut().is_some();
            member.subscription_context().filter(|_| is_collecting)
        });
        if let (Some(Some(context)), Some(collections)) = (context, &mut *self.collections.borrow_mut()) {
            collections.joined.retain(|(joined, _)| joined.group != context.group);
            collections.joined.push((context, id));
        }
    }

    /// The filter of a subscription has changed. If it has elements, the client is shown those that pass now.
    pub fn note_filtered(&self, id: SubscriptionId) {
        self.note_joined(id);
    }

    /// Calls `visit` with the subscriptions in the group of this one whose publications are taken apart.
    pub fn for_each_in_group(
        &self,
        id: SubscriptionId,
        mut visit: impl FnMut(&Member, &SubscriptionContext),
    ) {
        let Some(Some(context)) = self.with_member(id, |member| member.subscription_context()) else {
            return;
        };
        for member in self.members.borrow().iter() {
            if let Some((_, of)) = member.collecting_in(&context.group) {
                visit(member, of);
            }
        }
    }

    /// Sends an element that has come over the subscription `through` to the subscription `id` to its channel, so that it is
    /// in order with everything else of that channel. Returns true if there is more to flush.
    pub fn show_element(
        self: &Rc<Self>,
        delivery: &Rc<Delivery>,
        id: SubscriptionId,
        through: SubscriptionId,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        if id != through && !self.passes(through, delivery) {
            return false;
        }
        match self.with_member(id, |member| (member.state, Arc::clone(&member.class))) {
            Some((MemberState::Live(_), class)) => self.offer(delivery, id, &class, now),
            Some((MemberState::Held(_), _)) => {
                effects.held.push((Rc::clone(self), id, Rc::clone(delivery)));
                false
            }
            Some((MemberState::Joining, _)) | None => false,
        }
    }

    /// An element has come over the subscription `through` for the channel of `waiting`, which has not joined yet: keeps
    /// it until then. Nothing is kept if the filter of `through` does not let it pass.
    pub fn keep_until_joined(
        &self,
        waiting: SubscriptionId,
        through: SubscriptionId,
        arrived: Instant,
        delivery: &Rc<Delivery>,
    ) {
        if !self.passes(through, delivery) {
            return;
        }
        let limits = self.outbox.borrow().limits();
        let element = WaitingElement { subscription: waiting, arrived, delivery: Rc::clone(delivery) };
        self.collections.borrow_mut().get_or_insert_default().waiting.push(element, limits);
    }

    /// Whether the filter of a subscription lets an element pass.
    fn passes(&self, id: SubscriptionId, delivery: &Delivery) -> bool {
        let context = self.with_member(id, |member| member.subscription_context()).flatten();
        context.is_none_or(|context| context.passes(delivery.frame.note()))
    }

    /// A subscription has joined: its elements that were kept until now, the oldest first, and how many were dropped for
    /// lack of room.
    pub fn take_waiting(&self, id: SubscriptionId) -> (Vec<WaitingElement>, u64) {
        let mut collections = self.collections.borrow_mut();
        collections.as_mut().map(|collections| collections.waiting.take(id)).unwrap_or_default()
    }

    fn change_collection(
        &self,
        collection: CollectionId,
        id: SubscriptionId,
        is_forced: bool,
        now: Instant,
    ) -> bool {
        let found = self.with_member(id, |member| {
            let interval = member.conflation().map(Conflation::interval);
            Some((member.subscription_context()?, Arc::clone(&member.class), interval))
        });
        let Some(Some((context, class, interval))) = found else { return false };
        let change = Change {
            id: collection,
            group: &context.group,
            subscription: id,
            class: class.number,
            priority: class.priority,
            interval,
            is_forced,
        };
        let mut collections = self.collections.borrow_mut();
        match collections.get_or_insert_default().change(change, now) {
            Due::Now(number, class, priority) => {
                self.outbox.borrow_mut().push_collected(number, class, priority);
            }
            // The flush schedules it.
            Due::At(due) => self.note_release(Some(due)),
            Due::Already => return false,
        }
        true
    }

    /// Makes the elements of groups due that clients have joined.
    pub(super) fn collect_joined(&self, now: Instant) {
        if self.collections.borrow().is_some() {
            self.collect_complete_groups(now);
        }
    }

    /// Makes the elements of groups due in which no subscription waits for its lane any more.
    #[cold]
    #[inline(never)]
    fn collect_complete_groups(&self, now: Instant) {
        let joined = match &mut *self.collections.borrow_mut() {
            Some(collections) if !collections.joined.is_empty() => {
                let members = self.members.borrow();
                let is_complete = |(context, _): &mut (Rc<SubscriptionContext>, SubscriptionId)| {
                    let mut in_group = members.iter().filter(|member| {
                        member.state == MemberState::Joining && member.collecting_in(&context.group).is_some()
                    });
                    in_group.next().is_none()
                };
                collections.joined.extract_if(.., is_complete).collect::<Vec<_>>()
            }
            Some(_) | None => return,
        };
        for (context, id) in joined {
            let mut found = Vec::new();
            for member in self.members.borrow().iter() {
                if let Some((collecting, _)) = member.collecting_in(&context.group) {
                    found.extend(collecting.store.borrow().collections());
                }
            }
            found.sort_unstable();
            found.dedup();
            for collection in found {
                self.change_collection(collection, id, true, now);
            }
        }
    }

    /// When the first collection that `max_rate_ms` holds back is due.
    pub(super) fn next_collected_release(&self) -> Option<Instant> {
        self.collections.borrow().as_ref()?.next_release()
    }

    /// Appends the entries of collections that are due, or all of a group.
    pub(super) fn release_collections(&self, now: Option<Instant>, group: Option<&str>) {
        if self.collections.borrow().is_none() {
            return;
        }
        if let Some(collections) = &mut *self.collections.borrow_mut() {
            for (number, class, priority) in collections.release(now, group) {
                self.outbox.borrow_mut().push_collected(number, class, priority);
            }
        }
    }

    /// Handles the end of a subscription: the last one of a group ends its collections.
    pub(super) fn forget_collections(&self, gone: &Member, others: &[Member]) {
        let Some(context) = gone.subscription_context() else { return };
        let mut collections = self.collections.borrow_mut();
        let Some(collections) = &mut *collections else { return };
        collections.waiting.forget(gone.id);
        if gone.collecting_in(&context.group).is_none() {
            return;
        }
        if others.iter().all(|member| member.collecting_in(&context.group).is_none()) {
            for (number, priority) in collections.forget(&context.group) {
                self.outbox.borrow_mut().remove_collected(number, priority);
            }
        } else if gone.conflation().is_some() {
            // Without its `max_rate_ms`, nothing may release them.
            for (number, class, priority) in collections.release(None, Some(&context.group)) {
                self.outbox.borrow_mut().push_collected(number, class, priority);
            }
        }
    }

    /// Encodes the current elements of a collection. `None` if there is nothing to show.
    #[cold]
    #[inline(never)]
    pub(super) fn render_collected(
        &self,
        number: u32,
        priority: Priority,
        now: Instant,
        missing: &mut Vec<Missing>,
    ) -> Option<Frame> {
        let mut collections = self.collections.borrow_mut();
        let collections = collections.as_mut()?;
        let due = collections.begin(number, priority, now)?;
        let members = self.members.borrow();
        let shown = members.iter().filter(|member| member.state != MemberState::Joining);
        let shown: Vec<_> = shown
            .filter_map(|member| {
                let (collecting, context) = member.collecting_in(&due.group)?;
                Some((member, collecting.store.borrow(), collecting, context))
            })
            .collect();
        let collecting: Vec<_> = shown
            .iter()
            .map(|(member, store, of, context)| CollectingMember {
                pattern: &member.pattern,
                store,
                since: of.since,
                joined: of.joined,
                context: Some(*context),
            })
            .collect();
        // If there are few elements, selecting them costs no more than looking for new ones.
        let has_few = collecting.iter().map(|member| member.store.len()).sum::<usize>() <= MAX_SELECTED;
        if !(has_few || due.is_forced || due.has_untold || has_news(due.id, &collecting, due.sent.seen)) {
            collections.skip(number, newest(&collecting));
            return None;
        }
        let selection = select(due.id, &collecting, due.sent, now);
        let lost = [selection.expired, selection.removed, selection.left_out];
        let lost = collections.end(number, selection.newest, lost);
        let (subscription, class) = (due.subscription, due.class);
        let gaps = lost.into_iter().zip(CAUSES).filter(|(dropped, _)| *dropped > 0);
        missing.extend(gaps.map(|(dropped, cause)| Missing { subscription, class, dropped, cause }));
        if selection.elements.is_empty() || !(selection.has_new || due.is_forced) {
            return None;
        }
        let elements: Vec<&str> =
            selection.elements.iter().filter_map(|stored| stored.element.json()).collect();
        let time = selection.elements.iter().map(|stored| stored.time).max()?;
        let message = CollectedMessage { collection: due.id, elements: &elements, time };
        self.dialect.collected(&message, shown.first().map(|(.., context)| *context))
    }
}
