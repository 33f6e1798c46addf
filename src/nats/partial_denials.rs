//! Warns when NATS denies a part of a wildcard that this node is subscribed to. The server then omits those messages
//! without an error, but its user info shows the permissions.

use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::subject::Pattern;
use tracing::warn;

use crate::nats::permissions::Access;
use crate::nats::permissions::UserInfo;
use crate::telemetry::limit::LogLimit;

/// The user info is requested again after this time.
const REFRESH_AFTER: Duration = Duration::from_secs(30);
/// How many patterns may wait for the user info. The log shows at most one a second anyway.
const MAX_PENDING: usize = 64;

static PARTLY_DENIED: LogLimit = LogLimit::per_second(1);

/// What is known of this node's user on one connection.
#[derive(Debug, Default)]
pub(super) struct PartialDenials {
    known: Option<(Instant, UserInfo)>,
    pending: Vec<Pattern>,
    is_requested: bool,
    /// The server did not answer, or this node may not request it.
    is_unavailable: bool,
}

impl PartialDenials {
    /// Checks a pattern that the node is subscribed to. Returns whether to request the user info.
    pub(super) fn check(&mut self, pattern: &Pattern, now: Instant) -> bool {
        if let Some((since, info)) = &self.known
            && now.saturating_duration_since(*since) < REFRESH_AFTER
        {
            log_partial_denial(info, pattern);
            return false;
        }
        if self.is_unavailable || self.pending.len() >= MAX_PENDING {
            return false;
        }
        self.pending.push(pattern.clone());
        !std::mem::replace(&mut self.is_requested, true)
    }

    /// Handles the server's reply; `None` if there is none.
    pub(super) fn on_user_info(&mut self, json: Option<&[u8]>, now: Instant) {
        self.is_requested = false;
        let pending = std::mem::take(&mut self.pending);
        match json.and_then(UserInfo::parse) {
            Some(info) => {
                pending.iter().for_each(|pattern| log_partial_denial(&info, pattern));
                self.known = Some((now, info));
            }
            None => self.is_unavailable = true,
        }
    }
}

fn log_partial_denial(info: &UserInfo, pattern: &Pattern) {
    if let Access::Partial { denied } = info.subscribe.access_to(pattern)
        && let Some(suppressed) = PARTLY_DENIED.pass()
    {
        warn!(
            pattern = pattern.as_str(),
            denied, suppressed, "clients miss a part of this pattern: allow it for this node's nats user"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_asked_once_and_again_after_a_while() {
        let (mut partial_denials, start) = (PartialDenials::default(), Instant::now());
        let pattern = Pattern::parse("prices.*").unwrap();
        assert!(partial_denials.check(&pattern, start));
        assert!(!partial_denials.check(&pattern, start), "the request is pending");
        let info = br#"{"data":{"permissions":{"subscribe":{"deny":["prices.secret"]}}}}"#;
        partial_denials.on_user_info(Some(info), start);
        assert!(
            !partial_denials.check(&pattern, start + REFRESH_AFTER / 2) && partial_denials.pending.is_empty()
        );
        assert!(partial_denials.check(&pattern, start + REFRESH_AFTER));
        partial_denials.on_user_info(None, start + REFRESH_AFTER);
        assert!(!partial_denials.check(&pattern, start + 3 * REFRESH_AFTER), "the server did not answer");
    }

    #[test]
    fn patterns_that_wait_for_the_server_are_bounded() {
        let (mut partial_denials, now) = (PartialDenials::default(), Instant::now());
        let pattern = Pattern::parse(">").unwrap();
        (0..1000).for_each(|_| _ = partial_denials.check(&pattern, now));
        assert_eq!(partial_denials.pending.len(), MAX_PENDING);
    }
}
