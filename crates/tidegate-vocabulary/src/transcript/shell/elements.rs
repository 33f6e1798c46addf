//! The part of a shell that shows last values and elements as a node does. It has no limit for elements that wait for
//! their channels.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::elements::Element;
use tidegate_protocol::elements::Elements;
use tidegate_protocol::publication::Delivery;
use tidegate_protocol::session::subscription::SubscriptionId;

use crate::transcript::shell::Fault;
use crate::transcript::shell::KeptElement;
use crate::transcript::shell::Shell;
use crate::transcript::shell::StoredPublication;
use crate::transcript::shell::SubscriptionPlace;
use crate::transcript::shell_elements::ElementMember;

impl Shell {
    /// Delivers the elements of the publication with this number.
    pub(super) fn deliver_elements(
        &mut self,
        id: SubscriptionId,
        number: u64,
        elements: &Elements,
    ) -> Result<(), Fault> {
        let members = self.element_members();
        if let Some(member) = members.get(&id) {
            for collection in elements.collections() {
                self.elements.change(collection, member, false);
            }
        }
        for element in self.shown_now(id, number, elements) {
            if let Some(frame) = element.frame() {
                self.deliver(id, frame.clone(), &element.key, elements.priority)?;
            }
        }
        Ok(())
    }

    /// The elements of a publication that the client gets now, because it has joined their channels in the group of
    /// this subscription. Elements of channels that still wait for their lanes are kept until those join.
    fn shown_now<'e>(
        &mut self,
        id: SubscriptionId,
        number: u64,
        elements: &'e Elements,
    ) -> Vec<&'e Arc<Element>> {
        let members = self.element_members();
        let Some(of) = members.get(&id) else { return Vec::new() };
        let mut shown = Vec::new();
        for element in &elements.list {
            let Some(frame) = element.frame() else { continue };
            let takes = |(_, member): &(&SubscriptionId, &ElementMember)| {
                member.context.group == of.context.group
                    && member.pattern.matches(&element.channel)
                    && member.context.passes(element.note())
            };
            let (joining, joined): (Vec<_>, Vec<_>) =
                members.iter().filter(takes).partition(|(_, member)| member.is_joining);
            if !joined.is_empty() {
                shown.push(element);
            } else if of.context.passes(element.note()) {
                self.kept.extend(joining.iter().map(|(waiting, _)| {
                    let (frame, key) = (frame.clone(), Arc::clone(&element.key));
                    let delivery = Delivery { frame, key, priority: elements.priority, expires: None };
                    KeptElement { subscription: **waiting, number, delivery }
                }));
            }
        }
        shown
    }

    pub(super) fn element_members(&self) -> BTreeMap<SubscriptionId, ElementMember> {
        let members = self.subscriptions.iter().filter_map(|(id, subscription)| {
            let context =
                subscription.subscription_context.as_ref().filter(|context| context.takes_elements)?;
            let member = ElementMember {
                pattern: subscription.pattern.clone(),
                format: subscription.format,
                context: Rc::clone(context),
                priority: subscription.class.priority,
                is_joining: subscription.place == SubscriptionPlace::Joining,
                since: subscription.since,
            };
            Some((*id, member))
        });
        members.collect()
    }

    /// What a subscription that has joined is sent after its confirmation: the last values, if its class has snapshots,
    /// and the elements that were kept for it. Elements are in the order in which they were published, and those of
    /// last values are stored.
    pub(super) fn snapshot(&mut self, subscription: SubscriptionId) -> Vec<Delivery> {
        self.elements.note_joined(subscription);
        let kept = self.kept.extract_if(.., |kept| kept.subscription == subscription);
        let mut separate: Vec<_> = kept.map(|kept| (kept.number, kept.delivery)).collect();
        let last = self.elements.last;
        let Some(joined) = self.subscriptions.get_mut(&subscription) else { return Vec::new() };
        let has_snapshot = joined.class.snapshot;
        joined.since = if has_snapshot { 0 } else { last };
        let (pattern, format, priority) = (joined.pattern.clone(), joined.format, joined.class.priority);
        let is_last_value =
            |stored: &&StoredPublication| has_snapshot && pattern.matches(&stored.publication.subject);
        let last_values: Vec<_> = self.last_values.iter().filter(is_last_value).cloned().collect();
        let (mut snapshot, mut numbers, mut stored) = (Vec::new(), Vec::new(), Vec::new());
        let delivery = |frame, key| Delivery { frame, key, priority, expires: None };
        for StoredPublication { number, arrived, publication } in last_values {
            match self.renderers.publication(format, pattern.as_str(), &publication, &mut self.scratch) {
                Rendered::Frame(frame) => snapshot.push(delivery(frame, publication.key)),
                Rendered::Elements { list, .. } => {
                    numbers.push(number);
                    stored.push(Elements { list, priority, arrived, time: publication.time });
                }
                Rendered::Nothing | Rendered::Unrenderable | Rendered::TooManyElements => {}
            }
        }
        if !stored.is_empty() {
            let outdated = self.elements.seed(&pattern, format, &stored);
            if let Some(joined) = self.subscriptions.get_mut(&subscription) {
                joined.since = outdated;
            }
        }
        for (number, elements) in numbers.into_iter().zip(&stored) {
            let shown = self.shown_now(subscription, number, elements).into_iter();
            let own = |it: &Arc<Element>| Some(delivery(it.frame()?.clone(), Arc::clone(&it.key)));
            separate.extend(shown.filter_map(own).map(|own| (number, own)));
        }
        separate.sort_by_key(|(number, _)| *number);
        snapshot.extend(separate.into_iter().map(|(_, delivery)| delivery));
        snapshot
    }
}
