//! `ElementIndex`: finds the elements of a publication that a subscription gets as separate messages.

use std::collections::HashMap;

use tidegate_protocol::elements::Elements;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;

use crate::hub::subscriber::MemberState;
use crate::hub::subscriber::Subscriber;

/// The elements of one publication that are sent as separate messages, by channel.
#[derive(Debug)]
pub struct ElementIndex<'e> {
    elements: &'e Elements,
    by_channel: HashMap<&'e str, Vec<usize>>,
    /// Whether the pattern of the topic matches all their channels.
    is_covered: bool,
}

/// The positions of elements that a client gets as separate messages, each with the subscription to its channel.
#[derive(Debug, Default)]
pub struct ShownElements {
    /// In order, each once.
    pub now: Vec<(usize, SubscriptionId)>,
    /// Those whose channels still wait for their lanes. They are sent after the confirmations; each once, with the first
    /// of its subscriptions that joins.
    pub when_joined: Vec<(usize, SubscriptionId)>,
}

impl<'e> ElementIndex<'e> {
    /// The index of a publication that came over the topic of this pattern.
    pub fn new(elements: &'e Elements, pattern: &Pattern) -> Self {
        let mut by_channel: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, element) in elements.list.iter().enumerate() {
            if element.frame().is_some() {
                by_channel.entry(&*element.channel).or_default().push(at);
            }
        }
        let is_covered = by_channel.keys().all(|channel| pattern.matches(channel));
        Self { elements, by_channel, is_covered }
    }

    /// Which elements a client gets because of this subscription: those whose channels it has joined in the group of
    /// this subscription, and whose filters let them pass. The filter of this subscription is not applied.
    pub fn shown_to(&self, subscriber: &Subscriber, id: SubscriptionId) -> ShownElements {
        let mut shown = ShownElements::default();
        if self.by_channel.is_empty() {
            return shown;
        }
        if self.is_covered {
            shown.now.extend(self.by_channel.values().flatten().map(|at| (*at, id)));
        } else {
            subscriber.for_each_in_group(id, |member, context| {
                let passes = |at: &usize| {
                    let element = self.elements.list.get(*at);
                    element.is_some_and(|element| context.passes(element.note()))
                };
                let mut found: Vec<usize> = Vec::new();
                if member.pattern.is_literal() {
                    found.extend(self.by_channel.get(member.pattern.as_str()).into_iter().flatten().copied());
                } else {
                    let matching =
                        self.by_channel.iter().filter(|(channel, _)| member.pattern.matches(channel));
                    found.extend(matching.flat_map(|(_, found)| found).copied());
                }
                let found = found.into_iter().filter(passes).map(|at| (at, member.id));
                if member.state == MemberState::Joining {
                    shown.when_joined.extend(found);
                } else {
                    shown.now.extend(found);
                }
            });
        }
        shown.now.sort_unstable();
        shown.now.dedup_by_key(|(at, _)| *at);
        let ShownElements { now, when_joined } = &mut shown;
        when_joined.retain(|(at, _)| now.binary_search_by_key(at, |(at, _)| *at).is_err());
        when_joined.sort_unstable();
        shown
    }
}
