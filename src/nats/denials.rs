//! Denials: what the server has lately not let this connection publish. It says so beside the point, in an event, and
//! whoever had asked for it would take silence for success.

use std::collections::VecDeque;

use tokio::sync::watch;

/// Denials that are remembered; whoever asks for what is denied looks within milliseconds.
const REMEMBERED: usize = 256;

const WORDS: &str = "Permissions Violation for Publish to \"";

/// The latest denials of one connection.
#[derive(Debug)]
pub(super) struct Denials {
    latest: watch::Sender<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    count: u64,
    denials: VecDeque<(u64, String)>,
}

impl Default for Denials {
    fn default() -> Self {
        Self { latest: watch::Sender::new(Latest::default()) }
    }
}

impl Denials {
    /// Takes in what the server says, if it is a denial.
    pub(super) fn note(&self, words: &str) {
        let Some((_, rest)) = words.split_once(WORDS) else { return };
        let subject = rest.split('"').next().unwrap_or_default().to_owned();
        self.latest.send_modify(|latest| {
            latest.count += 1;
            if latest.denials.len() == REMEMBERED {
                latest.denials.pop_front();
            }
            latest.denials.push_back((latest.count, subject));
        });
    }

    /// How many there have been.
    pub(super) fn count(&self) -> u64 {
        self.latest.borrow().count
    }

    /// Whether one of those after the first `count` is of this subject.
    pub(super) fn since(&self, count: u64, subject: &str) -> bool {
        let latest = self.latest.borrow();
        let mut newer = latest.denials.iter().rev().take_while(|(number, _)| *number > count);
        newer.any(|(_, of)| of == subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_found_by_its_subject_and_when() {
        let denials = Denials::default();
        denials.note("nats: Permissions Violation for Publish to \"chat.a\"");
        denials.note("nats: Authorization Violation");
        let count = denials.count();
        assert_eq!(count, 1);
        assert!(denials.since(0, "chat.a"));
        assert!(!denials.since(0, "chat"));
        assert!(!denials.since(count, "chat.a"), "that was before");
        (0..1000).for_each(|n| denials.note(&format!("Permissions Violation for Publish to \"x.{n}\"")));
        assert_eq!(denials.latest.borrow().denials.len(), REMEMBERED);
    }
}
