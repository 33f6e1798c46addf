//! `Topic`: the live and held subscriptions of one subject or pattern on a shard.

use std::cell::RefCell;
use std::rc::Rc;
use std::rc::Weak;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::class::Class;
use tidegate_protocol::elements::Elements;
use tidegate_protocol::elements::store::ElementStore;
use tidegate_protocol::frame::Format;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;

use crate::hub::delivery_batch::DeliveryBatch;
use crate::hub::effects::Effects;
use crate::hub::element_index::ElementIndex;
use crate::hub::member_list::MemberList;
use crate::hub::subscriber::MemberState;
use crate::hub::subscriber::Subscriber;
use crate::hub::topic_member::TopicMember;

/// The subscriptions of one subject or pattern on a shard. Kept small: there may be a topic for each user, with one
/// subscription.
#[derive(Debug)]
pub struct Topic {
    class: Arc<Class>,
    live: MemberList,
    held: MemberList,
    joining: Option<Box<Joining>>,
    /// The last elements of publications, for each format whose vocabulary takes them apart.
    stores: Option<Box<Stores>>,
}

type Stores = Vec<(Format, Rc<RefCell<ElementStore>>)>;

/// Subscriptions that wait for the lane, and the formats that were requested from it.
#[derive(Debug, Default)]
struct Joining {
    members: Vec<TopicMember>,
    /// Each with the subscriber that caused the request.
    requested: Vec<(Format, Weak<Subscriber>)>,
}

impl Topic {
    pub fn new(class: Arc<Class>) -> Self {
        Self { class, live: MemberList::default(), held: MemberList::default(), joining: None, stores: None }
    }

    /// Whether the topic has no subscriptions, and no request to the lane is open. While one is, the topic must stay:
    /// the answer must not be taken for the answer to a later request.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.held.is_empty() && self.joining.is_none()
    }

    /// The subscriptions in any state.
    pub fn subscriptions(&self) -> usize {
        let joining = self.joining.as_ref().map_or(0, |joining| joining.members.len());
        self.live.len() + self.held.len() + joining
    }

    /// The subject or pattern. `None` without a subscription: only they have it.
    pub fn channel(&self) -> Option<Pattern> {
        let joining = self.joining.as_ref().and_then(|joining| joining.members.first());
        let TopicMember { subscriber, subscription, .. } =
            self.live.first().or_else(|| self.held.first()).or(joining)?;
        subscriber.with_member(*subscription, |member| member.pattern.clone())
    }

    /// Adds a subscription that waits for the lane. Returns true if the lane has to be asked, because no request for
    /// this format is open.
    pub fn join(&mut self, member: TopicMember) -> bool {
        let format = member.format;
        let joining = self.joining.get_or_insert_default();
        let is_new = joining.requested.iter().all(|(requested, _)| *requested != format);
        if is_new {
            joining.requested.push((format, Rc::downgrade(&member.subscriber)));
        }
        joining.members.push(member);
        is_new
    }

    /// The subscribers that wait for this format, and the one that caused the request, even if it has left.
    pub fn readers(&self, format: Format) -> Vec<Rc<Subscriber>> {
        let Some(joining) = &self.joining else { return Vec::new() };
        let waiting = joining.members.iter().filter(|member| member.format == format);
        let mut readers: Vec<_> = waiting.map(|member| Rc::clone(&member.subscriber)).collect();
        let first = joining.requested.iter().find(|(requested, _)| *requested == format);
        if let Some(first) = first.and_then(|(_, first)| first.upgrade())
            && !readers.iter().any(|reader| Rc::ptr_eq(reader, &first))
        {
            readers.push(first);
        }
        readers
    }

    /// Whether a subscription waits for the lane to join this format.
    pub fn is_joining(&self, format: Format) -> bool {
        let joining = self.joining.as_ref();
        joining.is_some_and(|joining| joining.members.iter().any(|member| member.format == format))
    }

    /// Takes the subscriptions that wait for this format, because the lane has answered.
    pub fn take_joining(&mut self, format: Format) -> Vec<TopicMember> {
        let Some(joining) = &mut self.joining else {
            return Vec::new();
        };
        joining.requested.retain(|(requested, _)| *requested != format);
        let answered = joining.members.extract_if(.., |member| member.format == format).collect();
        self.end_joining();
        answered
    }

    fn end_joining(&mut self) {
        self.joining.take_if(|joining| joining.members.is_empty() && joining.requested.is_empty());
    }

    /// Adds a member to the held list.
    pub fn hold(&mut self, member: TopicMember) {
        self.held.add(member, MemberState::Held);
    }

    /// Moves a member from the held to the live list.
    pub fn go_live(&mut self, at: usize) {
        if let Some(member) = self.held.take_out(at, MemberState::Held) {
            self.live.add(member, MemberState::Live);
        }
    }

    /// Removes a subscription in any state.
    pub fn leave(&mut self, subscriber: &Rc<Subscriber>, subscription: SubscriptionId, state: MemberState) {
        match state {
            MemberState::Live(at) => drop(self.live.take_out(at, MemberState::Live)),
            MemberState::Held(at) => drop(self.held.take_out(at, MemberState::Held)),
            MemberState::Joining => {
                let same =
                    |l: &TopicMember| Rc::ptr_eq(&l.subscriber, subscriber) && l.subscription == subscription;
                if let Some(joining) = &mut self.joining {
                    joining.members.retain(|member| !same(member));
                }
                self.end_joining();
            }
        }
        self.drop_unused_stores();
    }

    /// The elements of a format. The topic keeps them while a subscription uses them.
    pub fn store_for(&mut self, pattern: &Pattern, format: Format) -> Rc<RefCell<ElementStore>> {
        if let Some(store) = self.store(format) {
            return Rc::clone(store);
        }
        let store = Rc::new(RefCell::new(ElementStore::new(pattern.clone())));
        self.stores.get_or_insert_default().push((format, Rc::clone(&store)));
        store
    }

    fn store(&self, format: Format) -> Option<&Rc<RefCell<ElementStore>>> {
        self.stores.as_ref()?.iter().find(|(of, _)| *of == format).map(|(_, store)| store)
    }

    fn drop_unused_stores(&mut self) {
        self.stores.take_if(|stores| {
            stores.retain(|(_, store)| Rc::strong_count(store) > 1);
            stores.is_empty()
        });
    }

    /// Determines which stored elements a subscription is shown that has just joined: those that would be in a snapshot.
    pub fn show_elements(&self, member: &TopicMember, last: u64) {
        let outdated = self.store(member.format).map(|store| store.borrow().outdated());
        let since = if self.class.snapshot { outdated.unwrap_or_default() } else { last };
        member.subscriber.show_elements(member.subscription, since, last);
    }

    /// Stores the elements of last values.
    pub fn seed(&self, format: Format, snapshot: &[Elements], now: Instant, last: &mut u64) {
        let Some(store) = self.store(format) else { return };
        // The last values were not too old when the lane looked.
        let expires = |elements: &Elements| self.expiry(elements.arrived).map(|expires| expires.max(now));
        store.borrow_mut().seed(snapshot, expires, last);
    }

    /// Publications were lost, or could not be rendered in a format.
    pub fn note_loss(&self, format: Option<Format>, last: u64) {
        let stores = self.stores.iter().flat_map(|stores| stores.iter());
        for (_, store) in stores.filter(|(of, _)| format.is_none_or(|format| *of == format)) {
            store.borrow_mut().note_loss(last);
        }
    }

    /// Stores the elements of a publication that are shown together, and delivers the others. For a client that is
    /// shown elements together, this only notes that something has changed.
    pub fn publish_elements(
        &self,
        format: Format,
        elements: &Elements,
        now: Instant,
        last: &mut u64,
        effects: &mut Effects,
    ) {
        let Some(store) = self.store(format) else { return };
        let expires = self.expiry(now);
        store.borrow_mut().put(elements, expires, last);
        let store = store.borrow();
        let collections = elements.collections();
        let deliveries = elements.list.iter().map(|element| {
            let frame = element.frame()?.clone();
            Some(Rc::new(Delivery {
                frame,
                key: Arc::clone(&element.key),
                priority: elements.priority,
                expires,
            }))
        });
        let deliveries: Vec<_> = deliveries.collect();
        let index = ElementIndex::new(elements, store.pattern());
        let lists = [(&self.live, true), (&self.held, false)];
        for (member, is_live) in
            lists.iter().flat_map(|(members, is_live)| members.iter().map(move |member| (member, *is_live)))
        {
            if member.format != format {
                continue;
            }
            let (subscriber, id) = (&member.subscriber, member.subscription);
            let mut has_changed = false;
            let shown = index.shown_to(subscriber, id);
            for (at, waiting) in shown.when_joined {
                if let Some(Some(delivery)) = deliveries.get(at) {
                    subscriber.keep_until_joined(waiting, id, elements.arrived, delivery);
                }
            }
            for (at, of) in shown.now {
                let Some(Some(delivery)) = deliveries.get(at) else { continue };
                has_changed |= subscriber.show_element(delivery, of, id, now, effects);
            }
            for collection in &collections {
                if is_live {
                    has_changed |= subscriber.collect(*collection, id, now);
                } else {
                    effects.held_collections.push((Rc::clone(subscriber), id, *collection));
                }
            }
            if has_changed {
                effects.note_changed(subscriber, self.class.batch);
            }
        }
    }

    /// All live and held members.
    pub fn members(&self) -> impl Iterator<Item = &TopicMember> {
        self.live.iter().chain(self.held.iter())
    }

    /// Appends publications to the outboxes of live members, and notes those for the sessions of held members.
    pub fn publish(&self, batches: &[(Format, DeliveryBatch)], now: Instant, effects: &mut Effects) {
        for member in self.live.iter() {
            let Some(batch) = batch_for(batches, member.format) else {
                continue;
            };
            if member.per_message {
                let offered = batch.deliveries().iter();
                let offer = |appended, delivery| {
                    member.subscriber.offer(delivery, member.subscription, &self.class, now) || appended
                };
                // Nothing to flush: all were filtered out, or wait for their `max_rate_ms`, which has a deadline
                // already.
                if !offered.fold(false, offer) {
                    continue;
                }
            } else {
                member.subscriber.push(batch, member.subscription, &self.class);
            }
            effects.note_changed(&member.subscriber, self.class.batch);
        }
        for member in self.held.iter() {
            let Some(batch) = batch_for(batches, member.format) else {
                continue;
            };
            for delivery in batch.deliveries() {
                let delivery = Rc::clone(delivery);
                effects.held.push((Rc::clone(&member.subscriber), member.subscription, delivery));
            }
        }
    }

    /// When a publication that arrives now expires, if its class has a `max_age`.
    pub fn expiry(&self, now: Instant) -> Option<Instant> {
        self.class.max_age.and_then(|max_age| now.checked_add(max_age))
    }
}

fn batch_for(batches: &[(Format, DeliveryBatch)], format: Format) -> Option<&DeliveryBatch> {
    batches.iter().find(|(encoded, _)| *encoded == format).map(|(_, batch)| batch)
}
