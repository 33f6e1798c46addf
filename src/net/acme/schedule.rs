//! When to renew a certificate, and when to try again after an error.

use std::time::Duration;
use std::time::SystemTime;

use crate::net::tls::validity::Validity;

/// The pause after the first error. Let's Encrypt allows five failed checks of a name in an hour.
const FIRST_PAUSE: Duration = Duration::from_mins(5);
/// The pause doubles with each error, up to this.
const LONGEST_PAUSE: Duration = Duration::from_hours(6);
/// The pause after the authority has said that there are too many requests.
const RATE_LIMIT_PAUSE: Duration = Duration::from_hours(2);

/// When to renew a certificate: when a third of its time is left, as Let's Encrypt advises, and up to a thirtieth later,
/// by `jitter` from 0 to 1.
pub(super) fn due(validity: Validity, jitter: f64) -> SystemTime {
    let whole = validity.not_after.duration_since(validity.not_before).unwrap_or_default();
    let left = whole / 3 - (whole / 30).mul_f64(jitter.clamp(0.0, 1.0));
    validity.not_after.checked_sub(left).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The errors in a row, and when to try again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) failures: u32,
    /// In seconds since 1970.
    pub(super) at: u64,
}

impl Retry {
    /// How long to wait; `None` if the time has come. A time further away than any pause is that of a wrong clock.
    pub(super) fn wait(self, now: SystemTime) -> Option<Duration> {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.at))?;
        at.duration_since(now).ok().filter(|wait| !wait.is_zero() && *wait <= LONGEST_PAUSE)
    }

    /// The state after one more error.
    pub(super) fn after_failure(self, now: SystemTime, is_rate_limit: bool) -> Self {
        let doubled = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let least = if is_rate_limit { RATE_LIMIT_PAUSE } else { FIRST_PAUSE };
        let at = now + doubled.clamp(least, LONGEST_PAUSE);
        Self {
            failures: self.failures.saturating_add(1),
            at: at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_time_is_left() {
        let validity = Validity { not_before: NOW, not_after: NOW + 90 * DAY };
        assert_eq!(due(validity, 0.0), NOW + 60 * DAY);
        assert_eq!(due(validity, 1.0), NOW + 63 * DAY);
        let short = Validity { not_before: NOW, not_after: NOW + 6 * DAY };
        assert_eq!(due(short, 0.0), NOW + 4 * DAY);
    }

    #[test]
    fn pauses_double_up_to_six_hours_and_are_longer_when_the_authority_limits() {
        let mut retry = Retry::default();
        let mut minutes = Vec::new();
        for _ in 0..9 {
            retry = retry.after_failure(NOW, false);
            minutes.push(retry.wait(NOW).unwrap().as_secs() / 60);
        }
        assert_eq!(minutes, [5, 10, 20, 40, 80, 160, 320, 360, 360]);
        assert_eq!(
            Retry { failures: u32::MAX, at: 0 }.after_failure(NOW, false).wait(NOW),
            Some(LONGEST_PAUSE)
        );
        assert_eq!(Retry::default().after_failure(NOW, true).wait(NOW), Some(RATE_LIMIT_PAUSE));
        assert_eq!(Retry { failures: 1, at: 300 }.wait(NOW + Duration::from_mins(5)), None);
        assert_eq!(Retry { failures: 1, at: u64::MAX }.wait(NOW), None);
        assert_eq!(Retry { failures: 1, at: 30_000 }.wait(NOW), None, "a clock was wrong");
    }
}
