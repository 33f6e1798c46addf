//! Limits on the wildcard subscriptions of one session. NATS delivers a publication once for each matching pattern, so
//! overlapping patterns multiply the work of NATS and of this node.

use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::session::settings::Settings;
use crate::session::subscription::Subscription;
use crate::session::subscription::SubscriptionId;
use crate::session::subscription::Subscriptions;
use crate::subject::Pattern;
use crate::subject::overlap;

/// Steps that the checks of one message may take.
pub(super) const MAX_STEPS: usize = 5_000;

/// The wildcard subscriptions of a session, for the checks of one message. A subscription that replaces another one
/// does not count, nor one that a pending change ends.
#[derive(Debug)]
pub(super) enum Wildcards {
    /// All of the session: a message with one channel scans them once.
    Session,
    /// Only these: a message with many channels should not scan all subscriptions for each.
    These(Vec<SubscriptionId>),
}

impl Wildcards {
    /// The wildcard subscriptions that a message with this many channels compares.
    pub(super) fn of(subscriptions: &Subscriptions, channels: usize) -> Self {
        if channels < 2 {
            return Self::Session;
        }
        let wild = subscriptions.iter().filter(|subscription| counts(subscription));
        Self::These(wild.map(|wild| wild.id).collect())
    }

    /// Adds a subscription if it has a wildcard.
    pub(super) fn add(&mut self, subscription: &Subscription) {
        if let Self::These(list) = self
            && counts(subscription)
        {
            list.push(subscription.id);
        }
    }

    /// A subscription of the group that covers the pattern.
    pub(super) fn covering(
        &self,
        subscriptions: &Subscriptions,
        group: &str,
        pattern: &Pattern,
    ) -> Option<SubscriptionId> {
        let mut all = self.all(subscriptions);
        all.find(|wild| wild.group() == group && wild.pattern.covers(pattern)).map(|wild| wild.id)
    }

    /// Checks the limits for one more wildcard subscription, without those that `leaves` matches. Uses up `steps`.
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
            let message = format!("a session may have {max} channels with wildcards: unsubscribe from one");
            return Err(ClientError::new(ErrorCode::LimitExceeded, message));
        }
        let max = settings.max_overlapping;
        if overlap::reaches(staying(), pattern, max, steps) {
            let message = format!(
                "a session may have {max} channels that match one subject: unsubscribe from one that overlaps this one"
            );
            return Err(ClientError::new(ErrorCode::LimitExceeded, message));
        }
        Ok(())
    }

    fn all<'s>(&'s self, subscriptions: &'s Subscriptions) -> impl Iterator<Item = &'s Subscription> + Clone {
        let (session, these) = match self {
            Self::Session => (Some(subscriptions.iter()), &[][..]),
            Self::These(list) => (None, &list[..]),
        };
        let session = session.into_iter().flatten().filter(|subscription| counts(subscription));
        let these = these.iter().filter_map(|id| subscriptions.get(*id));
        session.chain(these).filter(|subscription| subscription.left_by().is_none())
    }
}

fn counts(subscription: &Subscription) -> bool {
    subscription.is_wild && subscription.replaces().is_none()
}
