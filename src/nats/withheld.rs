//! Withheld: which part of a wildcard NATS keeps from this node without a word. No edge can see what it misses by that, but it
//! can say that it will: servers tell their users what they may do.

use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::subject::Pattern;
use tracing::warn;

use crate::nats::permissions::Granted;
use crate::nats::permissions::UserInfo;
use crate::telemetry::limit::LogLimit;

/// What the server has said is asked again after so long.
const FRESH: Duration = Duration::from_secs(30);
/// Patterns that may wait for its answer. Of more than one a second nothing would be said anyway.
const MAX_WAITING: usize = 64;

static WITHHELD: LogLimit = LogLimit::per_second(1);

/// What is known of the node's user on one connection.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    known: Option<(Instant, UserInfo)>,
    waiting: Vec<Pattern>,
    is_asking: bool,
    /// The server does not say.
    is_mute: bool,
}

impl Withheld {
    /// Looks at a pattern that the node is subscribed to. Whether the server is to be asked.
    pub(super) fn look(&mut self, pattern: &Pattern, now: Instant) -> bool {
        if let Some((since, info)) = &self.known
            && now.saturating_duration_since(*since) < FRESH
        {
            complain(info, pattern);
            return false;
        }
        if self.is_mute || self.waiting.len() >= MAX_WAITING {
            return false;
        }
        self.waiting.push(pattern.clone());
        !std::mem::replace(&mut self.is_asking, true)
    }

    /// The server's answer, if it is one.
    pub(super) fn answered(&mut self, json: Option<&[u8]>, now: Instant) {
        self.is_asking = false;
        let waiting = std::mem::take(&mut self.waiting);
        match json.and_then(UserInfo::read) {
            Some(info) => {
                waiting.iter().for_each(|pattern| complain(&info, pattern));
                self.known = Some((now, info));
            }
            None => self.is_mute = true,
        }
    }
}

fn complain(info: &UserInfo, pattern: &Pattern) {
    if let Granted::InPart { but } = info.subscribe.grants(pattern)
        && let Some(suppressed) = WITHHELD.pass()
    {
        warn!(
            pattern = pattern.as_str(),
            but,
            suppressed,
            "nats keeps a part of this pattern from this node, and nobody is told what is missing"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_asked_once_and_again_after_a_while() {
        let (mut withheld, start) = (Withheld::default(), Instant::now());
        let pattern = Pattern::parse("prices.*").unwrap();
        assert!(withheld.look(&pattern, start));
        assert!(!withheld.look(&pattern, start), "it is being asked");
        let info = br#"{"data":{"permissions":{"subscribe":{"deny":["prices.secret"]}}}}"#;
        withheld.answered(Some(info), start);
        assert!(!withheld.look(&pattern, start + FRESH / 2) && withheld.waiting.is_empty());
        assert!(withheld.look(&pattern, start + FRESH));
        withheld.answered(None, start + FRESH);
        assert!(!withheld.look(&pattern, start + 3 * FRESH), "it does not say");
    }

    #[test]
    fn patterns_that_wait_for_the_server_are_bounded() {
        let (mut withheld, now) = (Withheld::default(), Instant::now());
        let pattern = Pattern::parse(">").unwrap();
        (0..1000).for_each(|_| _ = withheld.look(&pattern, now));
        assert_eq!(withheld.waiting.len(), MAX_WAITING);
    }
}
