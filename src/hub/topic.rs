//! Topic: the live and the held subscriptions of one subject or pattern on this shard.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::class::Class;
use tidegate_protocol::frame::Format;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::hub::delivery_batch::DeliveryBatch;
use crate::hub::effects::Effects;
use crate::hub::subscriber::MemberState;
use crate::hub::subscriber::Subscriber;

/// One subscription's place in a topic.
#[derive(Clone, Debug)]
pub struct TopicMember {
    /// Whose it is, and where its publications go.
    pub subscriber: Rc<Subscriber>,
    /// Its name within its session.
    pub subscription: SubscriptionId,
    /// What its publications are encoded for.
    pub format: Format,
    /// Whether it takes publications one by one: it has a `max_rate_ms`, or terms that make them its own.
    pub apart: bool,
}

/// Who on this shard listens to one subject or pattern. There may be one for each user, who listens alone.
#[derive(Debug)]
pub struct Topic {
    class: Arc<Class>,
    live: Vec<TopicMember>,
    held: Vec<TopicMember>,
    joining: Option<Box<Joining>>,
}

/// Who waits for the lane's answer, and which formats it was asked for.
#[derive(Debug, Default)]
struct Joining {
    listeners: Vec<TopicMember>,
    asked: Vec<Format>,
}

impl Topic {
    /// A topic without listeners.
    pub fn new(class: Arc<Class>) -> Self {
        Self { class, live: Vec::new(), held: Vec::new(), joining: None }
    }

    /// Whether no one listens or waits, and no answer is on its way: one that came for listeners who have left must
    /// not be taken for the answer to others who ask later.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.held.is_empty() && self.joining.is_none()
    }

    /// Lets a subscription wait for the lane. True if the lane has to be asked: no question for this format is
    /// on its way.
    pub fn join(&mut self, listener: TopicMember) -> bool {
        let format = listener.format;
        let joining = self.joining.get_or_insert_default();
        joining.listeners.push(listener);
        let ask = !joining.asked.contains(&format);
        if ask {
            joining.asked.push(format);
        }
        ask
    }

    /// Whether anybody waits for this format's answer.
    pub fn waits(&self, format: Format) -> bool {
        let joining = self.joining.as_ref();
        joining.is_some_and(|joining| joining.listeners.iter().any(|listener| listener.format == format))
    }

    /// Takes out those who waited for this format's answer.
    pub fn answered(&mut self, format: Format) -> Vec<TopicMember> {
        let Some(joining) = &mut self.joining else {
            return Vec::new();
        };
        joining.asked.retain(|asked| *asked != format);
        let answered = joining.listeners.extract_if(.., |listener| listener.format == format).collect();
        self.end_joining();
        answered
    }

    fn end_joining(&mut self) {
        self.joining.take_if(|joining| joining.listeners.is_empty() && joining.asked.is_empty());
    }

    /// Puts a listener on the held list.
    pub fn hold(&mut self, listener: TopicMember) {
        listener
            .subscriber
            .with_member(listener.subscription, |member| member.place = MemberState::Held(self.held.len()));
        add(&mut self.held, listener);
    }

    /// Moves a listener from the held to the live list.
    pub fn go_live(&mut self, at: usize) {
        let listener = take_out(&mut self.held, at, MemberState::Held);
        listener
            .subscriber
            .with_member(listener.subscription, |member| member.place = MemberState::Live(self.live.len()));
        add(&mut self.live, listener);
    }

    /// Takes a subscription out, wherever it is.
    pub fn leave(&mut self, subscriber: &Rc<Subscriber>, subscription: SubscriptionId, place: MemberState) {
        match place {
            MemberState::Live(at) => drop(take_out(&mut self.live, at, MemberState::Live)),
            MemberState::Held(at) => drop(take_out(&mut self.held, at, MemberState::Held)),
            MemberState::Joining => {
                let same =
                    |l: &TopicMember| Rc::ptr_eq(&l.subscriber, subscriber) && l.subscription == subscription;
                if let Some(joining) = &mut self.joining {
                    joining.listeners.retain(|listener| !same(listener));
                }
                self.end_joining();
            }
        }
    }

    /// Everyone who has joined.
    pub fn listeners(&self) -> impl Iterator<Item = &TopicMember> {
        self.live.iter().chain(&self.held)
    }

    /// Appends publications to the live outboxes, and notes who is held.
    pub fn publish(&self, parcels: &[(Format, DeliveryBatch)], now: Instant, effects: &mut Effects) {
        for listener in &self.live {
            let Some(parcel) = parcel_for(parcels, listener.format) else {
                continue;
            };
            if listener.apart {
                let offered = parcel.deliveries().iter();
                let offer = |appended, delivery| {
                    listener.subscriber.offer(delivery, listener.subscription, &self.class, now) || appended
                };
                // What waits for its turn is not flushed, and the clock knows that turn already.
                if !offered.fold(false, offer) {
                    continue;
                }
            } else {
                listener.subscriber.push(parcel, listener.subscription, &self.class);
            }
            effects.note_changed(&listener.subscriber, self.class.batch);
        }
        for listener in &self.held {
            let Some(parcel) = parcel_for(parcels, listener.format) else {
                continue;
            };
            for delivery in parcel.deliveries() {
                let delivery = Rc::clone(delivery);
                effects.held.push((Rc::clone(&listener.subscriber), listener.subscription, delivery));
            }
        }
    }

    /// When a publication that comes now will be too old.
    pub fn expiry(&self, now: Instant) -> Option<Instant> {
        self.class.max_age.and_then(|max_age| now.checked_add(max_age))
    }
}

fn parcel_for(parcels: &[(Format, DeliveryBatch)], format: Format) -> Option<&DeliveryBatch> {
    parcels.iter().find(|(encoded, _)| *encoded == format).map(|(_, parcel)| parcel)
}

/// Adds one to a list. Left to itself, a list would begin with room for four.
fn add(list: &mut Vec<TopicMember>, listener: TopicMember) {
    if list.capacity() == 0 {
        list.reserve_exact(1);
    }
    list.push(listener);
}

/// Takes one out of a list; the last one takes its place and is told so.
fn take_out(list: &mut Vec<TopicMember>, at: usize, place: fn(usize) -> MemberState) -> TopicMember {
    let taken = list.swap_remove(at);
    if let Some(moved) = list.get(at) {
        moved.subscriber.with_member(moved.subscription, |member| member.place = place(at));
    }
    if list.is_empty() {
        *list = Vec::new();
    }
    taken
}
