//! `ElementIndex`: finds the elements of a publication that a subscription gets as separate messages.

use std::collections::HashMap;

use tidegate_protocol::elements::Elements;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;

use crate::hub::subscriber::Subscriber;

/// The elements of one publication that are sent as separate messages, by channel.
#[derive(Debug)]
pub struct ElementIndex<'e> {
    elements: &'e Elements,
    by_channel: HashMap<&'e str, Vec<usize>>,
    /// Whether the pattern of the topic matches all their channels.
    is_covered: bool,
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

    /// The positions of the elements whose channels the client has joined in the group of this subscription, and whose
    /// filters let them pass. The filter of this subscription is not applied.
    pub fn shown_to(&self, subscriber: &Subscriber, id: SubscriptionId) -> Vec<usize> {
        let mut shown: Vec<usize> = Vec::new();
        if self.by_channel.is_empty() {
            return shown;
        }
        if self.is_covered {
            shown.extend(self.by_channel.values().flatten());
        } else {
            subscriber.for_each_in_group(id, |pattern, context| {
                let passes = |at: &usize| {
                    let element = self.elements.list.get(*at);
                    element.is_some_and(|element| context.passes(element.note()))
                };
                if pattern.is_literal() {
                    let found = self.by_channel.get(pattern.as_str()).into_iter().flatten();
                    shown.extend(found.copied().filter(passes));
                } else {
                    let found = self.by_channel.iter().filter(|(channel, _)| pattern.matches(channel));
                    shown.extend(found.flat_map(|(_, found)| found).copied().filter(passes));
                }
            });
        }
        shown.sort_unstable();
        shown.dedup();
        shown
    }
}
