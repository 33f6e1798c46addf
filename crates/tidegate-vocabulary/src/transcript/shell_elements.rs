//! The elements of a shell's subscriptions: what is stored, and which messages with elements are due.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use tidegate_protocol::class::Priority;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::elements::CollectedMessage;
use tidegate_protocol::elements::CollectionId;
use tidegate_protocol::elements::Elements;
use tidegate_protocol::elements::select::CollectingMember;
use tidegate_protocol::elements::select::Sent;
use tidegate_protocol::elements::select::select;
use tidegate_protocol::elements::store::ElementStore;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::session::subscription::SubscriptionId;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subscription_context::SubscriptionContext;

/// A subscription as far as its elements are concerned.
#[derive(Clone)]
pub(super) struct ElementMember {
    pub(super) pattern: Pattern,
    pub(super) format: Format,
    pub(super) context: Rc<SubscriptionContext>,
    pub(super) priority: Priority,
    /// Whether it waits for its lane.
    pub(super) is_joining: bool,
    /// Elements up to this number are not shown to it.
    pub(super) since: u64,
}

/// A message with elements that is to be sent.
struct Due {
    collection: CollectionId,
    context: Rc<SubscriptionContext>,
    priority: Priority,
    is_forced: bool,
}

/// The elements of all channels.
#[derive(Default)]
pub(super) struct ShellElements {
    /// The number of the last element.
    pub(super) last: u64,
    stores: Vec<(Format, ElementStore)>,
    due: Vec<Due>,
    /// Subscriptions that have joined.
    joined: Vec<SubscriptionId>,
    seen: BTreeMap<(CollectionId, Box<str>), u64>,
}

impl ShellElements {
    fn store(&mut self, pattern: &Pattern, format: Format) -> &mut ElementStore {
        let known = self.stores.iter().position(|(of, store)| *of == format && store.pattern() == pattern);
        let at = known.unwrap_or_else(|| {
            self.stores.push((format, ElementStore::new(pattern.clone())));
            self.stores.len() - 1
        });
        &mut self.stores[at].1
    }

    /// Stores the elements of a publication.
    pub(super) fn put(&mut self, pattern: &Pattern, format: Format, elements: &Elements) {
        let mut last = self.last;
        self.store(pattern, format).put(elements, None, &mut last);
        self.last = last;
    }

    /// Stores the elements of last values. Returns the number up to which elements may be outdated.
    pub(super) fn seed(&mut self, pattern: &Pattern, format: Format, snapshot: &[Elements]) -> u64 {
        let mut last = self.last;
        let store = self.store(pattern, format);
        store.seed(snapshot, |_| None, &mut last);
        let outdated = store.outdated();
        self.last = last;
        outdated
    }

    pub(super) fn note_loss(&mut self, pattern: &Pattern) {
        let last = self.last;
        let stores = self.stores.iter_mut().map(|(_, store)| store);
        stores.filter(|store| store.pattern() == pattern).for_each(|store| store.note_loss(last));
    }

    /// A collection of a subscription has changed.
    pub(super) fn change(&mut self, collection: CollectionId, member: &ElementMember, is_forced: bool) {
        let is_same =
            |due: &&mut Due| due.collection == collection && due.context.group == member.context.group;
        match self.due.iter_mut().find(is_same) {
            Some(due) => due.is_forced |= is_forced,
            None => {
                let (context, priority) = (Rc::clone(&member.context), member.priority);
                self.due.push(Due { collection, context, priority, is_forced });
            }
        }
    }

    pub(super) fn note_joined(&mut self, id: SubscriptionId) {
        self.joined.push(id);
    }

    /// The messages that are due, by priority.
    pub(super) fn take_due(
        &mut self,
        members: &BTreeMap<SubscriptionId, ElementMember>,
        dialect: &dyn Dialect,
        now: Instant,
    ) -> Vec<(Priority, Frame)> {
        self.change_joined(members);
        let due = std::mem::take(&mut self.due);
        due.into_iter()
            .filter_map(|due| Some((due.priority, self.message(&due, members, dialect, now)?)))
            .collect()
    }

    fn change_joined(&mut self, members: &BTreeMap<SubscriptionId, ElementMember>) {
        for id in std::mem::take(&mut self.joined) {
            let Some(member) = members.get(&id) else { continue };
            let in_group = || members.values().filter(|other| other.context.group == member.context.group);
            if in_group().any(|other| other.is_joining) {
                self.joined.push(id);
                continue;
            }
            let stores = in_group().flat_map(|other| self.store(&other.pattern, other.format).collections());
            for collection in stores.collect::<Vec<_>>() {
                self.change(collection, member, true);
            }
        }
    }

    fn message(
        &mut self,
        due: &Due,
        members: &BTreeMap<SubscriptionId, ElementMember>,
        dialect: &dyn Dialect,
        now: Instant,
    ) -> Option<Frame> {
        let key = (due.collection, due.context.group.clone());
        let seen = self.seen.get(&key).copied().unwrap_or_default();
        let shown = members.values().filter(|member| !member.is_joining && member.context.group == key.1);
        let shown = shown.filter_map(|member| {
            let mut stores = self.stores.iter();
            let (_, store) =
                stores.find(|(of, store)| *of == member.format && *store.pattern() == member.pattern)?;
            let context = Some(&*member.context);
            // The shell tells of no lost elements, so it does not matter when the member joined.
            let (pattern, since) = (&member.pattern, member.since);
            Some(CollectingMember { pattern, store, since, joined: 0, context })
        });
        let shown: Vec<_> = shown.collect();
        let selection = select(due.collection, &shown, Sent { seen, told_left_out: false }, now);
        let elements: Vec<&str> =
            selection.elements.iter().filter_map(|stored| stored.element.json()).collect();
        let time = selection.elements.iter().map(|stored| stored.time).max();
        let is_due = selection.has_new || due.is_forced;
        let message = time.filter(|_| is_due).and_then(|time| {
            let message = CollectedMessage { collection: due.collection, elements: &elements, time };
            dialect.collected(&message, Some(&due.context))
        });
        let newest = selection.newest;
        self.seen.insert(key, newest.max(seen));
        message
    }
}
