//! The wildcards of one session: NATS delivers a publication once for each pattern that matches it, so that many which
//! overlap cost the server and the node many times what one costs.

use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::session::settings::Settings;
use crate::session::subscription::Subscription;
use crate::session::subscription::SubscriptionId;
use crate::session::subscription::Subscriptions;
use crate::subject::Pattern;
use crate::subject::overlap;

/// What the checks of one message may cost.
pub(super) const STEPS: usize = 5_000;

/// The subscriptions of a session that have wildcards, as far as one message has not left them. One that takes another's
/// place is not one more.
#[derive(Debug)]
pub(super) enum Wildcards {
    /// All that the session has: it is looked through for the only channel of the message.
    Session,
    /// These: the message has many channels, and the session may have many that are no wildcards.
    These(Vec<SubscriptionId>),
}

impl Wildcards {
    /// Those that matter for a message with so many channels.
    pub(super) fn of(subscriptions: &Subscriptions, channels: usize) -> Self {
        if channels < 2 {
            return Self::Session;
        }
        let wild = subscriptions.iter().filter(|subscription| counts(subscription));
        Self::These(wild.map(|wild| wild.id).collect())
    }

    /// Adds a subscription, if it has a wildcard.
    pub(super) fn add(&mut self, subscription: &Subscription) {
        if let Self::These(list) = self
            && counts(subscription)
        {
            list.push(subscription.id);
        }
    }

    /// One of a group that covers the pattern.
    pub(super) fn cover(
        &self,
        subscriptions: &Subscriptions,
        group: &str,
        pattern: &Pattern,
    ) -> Option<SubscriptionId> {
        let mut all = self.all(subscriptions);
        all.find(|wild| wild.group() == group && wild.pattern.covers(pattern)).map(|wild| wild.id)
    }

    /// Whether one more may be added when those that `leaves` names are gone; for so many `steps`.
    pub(super) fn check(
        &self,
        subscriptions: &Subscriptions,
        pattern: &Pattern,
        leaves: impl Fn(&Subscription) -> bool,
        settings: &Settings,
        steps: &mut usize,
    ) -> Result<(), ClientError> {
        let staying = || self.all(subscriptions).filter(|wild| !leaves(wild)).map(|wild| &wild.pattern);
        let max = settings.max_wildcards;
        if staying().count() >= max {
            let words = format!("a session may have {max} channels with wildcards: unsubscribe from one");
            return Err(ClientError::new(ErrorCode::LimitExceeded, words));
        }
        let max = settings.max_overlapping;
        if overlap::reaches(staying(), pattern, max, steps) {
            let words = format!(
                "a session may have {max} channels that match one subject: unsubscribe from one that overlaps this one"
            );
            return Err(ClientError::new(ErrorCode::LimitExceeded, words));
        }
        Ok(())
    }

    fn all<'s>(&'s self, subscriptions: &'s Subscriptions) -> impl Iterator<Item = &'s Subscription> + Clone {
        let (session, these) = match self {
            Self::Session => (Some(subscriptions.iter()), &[][..]),
            Self::These(list) => (None, &list[..]),
        };
        let session = session.into_iter().flatten().filter(|subscription| counts(subscription));
        session.chain(these.iter().filter_map(|id| subscriptions.get(*id)))
    }
}

fn counts(subscription: &Subscription) -> bool {
    subscription.is_wild && subscription.replaces().is_none()
}
