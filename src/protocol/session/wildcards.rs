//! The wildcards of one session: NATS delivers a publication once for each pattern that matches it, so that many which
//! overlap cost the server and the node many times what one costs.

use std::rc::Rc;

use crate::protocol::error::ErrorCode;
use crate::protocol::error::Refusal;
use crate::protocol::session::Settings;
use crate::protocol::session::subscription::Subscription;
use crate::protocol::session::subscription::SubscriptionId;
use crate::protocol::session::terms::Terms;
use crate::protocol::subject::Pattern;
use crate::protocol::subject::overlap;

/// What the checks of one message may cost.
const STEPS: usize = 5_000;

#[derive(Debug)]
struct Wildcard {
    terms: Option<Rc<Terms>>,
    pattern: Pattern,
    subscription: SubscriptionId,
}

impl Wildcard {
    fn is_of(&self, group: &str) -> bool {
        self.terms.as_ref().map_or("", |terms| &terms.group) == group
    }
}

/// The subscriptions of a session that have wildcards.
#[derive(Debug)]
pub(super) struct Wildcards {
    list: Vec<Wildcard>,
    steps: usize,
}

impl Wildcards {
    /// Those among a session's subscriptions.
    pub(super) fn of<'s>(subscriptions: impl Iterator<Item = &'s Subscription>) -> Self {
        let mut wildcards = Self { list: Vec::new(), steps: STEPS };
        // One that takes another's place is not one more.
        for subscription in subscriptions.filter(|subscription| subscription.replaces().is_none()) {
            wildcards.add(subscription);
        }
        wildcards
    }

    /// Takes out those of a group that have been left.
    pub(super) fn remove(&mut self, group: &str, left: &[Pattern]) {
        self.list.retain(|wild| !wild.is_of(group) || !left.contains(&wild.pattern));
    }

    /// Adds a subscription, if it has a wildcard.
    pub(super) fn add(&mut self, Subscription { id, pattern, is_wild, terms, .. }: &Subscription) {
        if *is_wild {
            if self.list.capacity() == 0 {
                self.list.reserve(16);
            }
            self.list.push(Wildcard { terms: terms.clone(), pattern: pattern.clone(), subscription: *id });
        }
    }

    /// One of a group that covers the pattern.
    pub(super) fn cover(&self, group: &str, pattern: &Pattern) -> Option<SubscriptionId> {
        let mut of_group = self.list.iter().filter(|wild| wild.is_of(group));
        of_group.find(|wild| wild.pattern.covers(pattern)).map(|wild| wild.subscription)
    }

    /// Whether one more may be added when those that `leaving` names are gone.
    pub(super) fn check(
        &mut self,
        pattern: &Pattern,
        leaving: impl Fn(&Pattern) -> bool,
        settings: &Settings,
    ) -> Result<(), Refusal> {
        let (list, steps) = (&self.list, &mut self.steps);
        let staying = || list.iter().map(|wild| &wild.pattern).filter(|wild| !leaving(wild));
        let max = settings.max_wildcards;
        if staying().count() >= max {
            let words = format!("a session may have {max} channels with wildcards: unsubscribe from one");
            return Err(Refusal::new(ErrorCode::LimitExceeded, words));
        }
        let max = settings.max_overlapping;
        if overlap::reaches(staying(), pattern, max, steps) {
            let words = format!(
                "a session may have {max} channels that match one subject: unsubscribe from one that overlaps this one"
            );
            return Err(Refusal::new(ErrorCode::LimitExceeded, words));
        }
        Ok(())
    }
}
