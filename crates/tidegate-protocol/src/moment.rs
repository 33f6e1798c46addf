//! `Moment`: a point in time in 8 bytes.

use std::num::NonZeroU64;
use std::sync::LazyLock;
use std::time::Duration;
use std::time::Instant;

/// A day before the first use in this process: earlier than every instant that it may have taken itself.
static START: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_hours(24)).unwrap_or(now)
});

/// An [`Instant`] for what exists many times: half the size, and an `Option` of it is no larger. In nanoseconds since a
/// day before its first use in the process. It ends after 584 years: a later instant becomes the last moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(NonZeroU64);

impl From<Instant> for Moment {
    fn from(instant: Instant) -> Self {
        let nanos = instant.saturating_duration_since(*START).as_nanos();
        Self(NonZeroU64::new(u64::try_from(nanos).unwrap_or(u64::MAX)).unwrap_or(NonZeroU64::MIN))
    }
}

impl From<Moment> for Instant {
    fn from(Moment(nanos): Moment) -> Self {
        *START + Duration::from_nanos(nanos.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optional_moment_is_a_word() {
        assert_eq!(size_of::<Option<Moment>>(), 8);
    }

    #[test]
    fn an_instant_stays_the_same() {
        let before = Instant::now();
        for away in [0, 1, 999_999_999, 1_000_000_001, 100 * 365 * 86_400 * 1_000_000_000] {
            let instant = before + Duration::from_nanos(away);
            assert_eq!(Instant::from(Moment::from(instant)), instant);
        }
        assert!(Moment::from(before) < Moment::from(before + Duration::from_nanos(1)));
    }

    #[test]
    fn an_instant_that_does_not_fit_becomes_the_first_or_the_last_moment() {
        let now = Instant::now();
        let (long_ago, last) = (now - Duration::from_hours(48), now + Duration::from_hours(24 * 365 * 1000));
        assert!(Moment::from(long_ago) < Moment::from(now));
        assert_eq!(Moment::from(last).0, NonZeroU64::MAX);
    }
}
