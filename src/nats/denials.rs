//! Denials: what the server has lately not let this connection do. It says so beside the point, in an event, and
//! whoever had asked for it would take silence for success.

use std::collections::VecDeque;

use tokio::sync::watch;

/// Denials that are remembered; whoever asks for what is denied looks within milliseconds.
const REMEMBERED: usize = 256;

/// What a connection may be denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Publishing to a subject.
    Publish,
    /// Subscribing to a subject or pattern.
    Subscription,
}

impl Denied {
    fn words(self) -> &'static str {
        match self {
            Self::Publish => "Permissions Violation for Publish to \"",
            Self::Subscription => "Permissions Violation for Subscription to \"",
        }
    }
}

/// The latest denials of one connection.
#[derive(Debug)]
pub(super) struct Denials {
    latest: watch::Sender<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    count: u64,
    denials: VecDeque<(u64, Denied, String)>,
}

impl Default for Denials {
    fn default() -> Self {
        Self { latest: watch::Sender::new(Latest::default()) }
    }
}

impl Denials {
    /// Takes in what the server says, if it is a denial.
    pub(super) fn note(&self, words: &str) {
        for denied in [Denied::Publish, Denied::Subscription] {
            let Some((_, rest)) = words.split_once(denied.words()) else { continue };
            let subject = rest.split('"').next().unwrap_or_default().to_owned();
            self.latest.send_modify(|latest| {
                latest.count += 1;
                if latest.denials.len() == REMEMBERED {
                    latest.denials.pop_front();
                }
                latest.denials.push_back((latest.count, denied, subject));
            });
        }
    }

    /// How many there have been.
    pub(super) fn count(&self) -> u64 {
        self.latest.borrow().count
    }

    /// Whether one of those after the first `count` is this one.
    pub(super) fn since(&self, count: u64, what: Denied, subject: &str) -> bool {
        let latest = self.latest.borrow();
        let mut newer = latest.denials.iter().rev().take_while(|(number, ..)| *number > count);
        newer.any(|(_, denied, of)| *denied == what && of == subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_found_by_what_it_denies_and_when() {
        let denials = Denials::default();
        denials.note("nats: Permissions Violation for Publish to \"chat.a\"");
        denials.note("nats: Authorization Violation");
        let count = denials.count();
        assert_eq!(count, 1);
        assert!(denials.since(0, Denied::Publish, "chat.a"));
        assert!(!denials.since(0, Denied::Subscription, "chat.a"));
        assert!(!denials.since(0, Denied::Publish, "chat"));
        assert!(!denials.since(count, Denied::Publish, "chat.a"), "that was before");
        denials.note("nats: Permissions Violation for Subscription to \"prices.>\"");
        assert!(denials.since(count, Denied::Subscription, "prices.>"));
        (0..1000).for_each(|n| denials.note(&format!("Permissions Violation for Publish to \"x.{n}\"")));
        assert_eq!(denials.latest.borrow().denials.len(), REMEMBERED);
    }
}
