//! `JoinedChannels`: the channels of a group that a session has joined, for messages that list them.

use std::collections::HashSet;

use crate::session::subscription::State;
use crate::session::subscription::Subscription;
use crate::session::subscription::Subscriptions;
use crate::subject::Pattern;

/// A message with more names than this has a hash set made for it.
const MAX_SCANS: usize = 2;

/// The channels of one group that a session has joined. Those that still wait for their lanes are not among them.
pub struct JoinedChannels<'s> {
    subscriptions: &'s Subscriptions,
    group: &'s str,
    /// Their names; only for a message with many names, which should not scan all subscriptions for each.
    names: Option<HashSet<&'s str>>,
    wild: Vec<&'s Pattern>,
}

impl<'s> JoinedChannels<'s> {
    /// For a message that asks for this many names.
    pub fn of(subscriptions: &'s Subscriptions, group: &'s str, names: usize) -> Self {
        let joined = || joined(subscriptions, group);
        let wild = joined().filter(|joined| joined.is_wild).map(|joined| &joined.pattern).collect();
        let names = (names > MAX_SCANS).then(|| joined().map(|joined| joined.pattern.as_str()).collect());
        Self { subscriptions, group, names, wild }
    }

    /// Whether this channel, or a pattern that covers it, is joined.
    pub fn contains(&self, channel: &str) -> bool {
        let is_named = match &self.names {
            Some(names) => names.contains(channel),
            None => joined(self.subscriptions, self.group).any(|joined| joined.pattern.as_str() == channel),
        };
        let is_covered = |channel: Pattern| self.wild.iter().any(|wild| wild.covers(&channel));
        is_named || !self.wild.is_empty() && Pattern::parse(channel).is_ok_and(is_covered)
    }
}

fn joined<'s>(subscriptions: &'s Subscriptions, group: &str) -> impl Iterator<Item = &'s Subscription> {
    let in_group = subscriptions.in_group(group);
    in_group.filter(|subscription| !matches!(subscription.state, State::Joining(_)))
}
