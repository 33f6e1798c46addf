//! `Expiry`: how soon a certificate expires, as far as the operator must know.

use std::time::Duration;
use std::time::SystemTime;

/// From when on the log warns, and from when on with errors.
const SOON: Duration = Duration::from_hours(14 * 24);
const VERY_SOON: Duration = Duration::from_hours(3 * 24);

/// How soon a certificate expires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expiry {
    Distant,
    Soon,
    /// Within three days, or it has expired.
    VerySoon,
}

impl Expiry {
    pub(super) fn of(not_after: SystemTime, now: SystemTime) -> Self {
        match not_after.duration_since(now) {
            Ok(left) if left > SOON => Self::Distant,
            Ok(left) if left > VERY_SOON => Self::Soon,
            Ok(_) | Err(_) => Self::VerySoon,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_soon_at_fourteen_days_and_very_soon_at_three() {
        let (now, second) = (SystemTime::UNIX_EPOCH + 10 * SOON, Duration::from_secs(1));
        for (end, expected) in [
            (now + SOON + second, Expiry::Distant),
            (now + SOON, Expiry::Soon),
            (now + VERY_SOON + second, Expiry::Soon),
            (now + VERY_SOON, Expiry::VerySoon),
            (now, Expiry::VerySoon),
            (now - second, Expiry::VerySoon),
        ] {
            assert_eq!(Expiry::of(end, now), expected);
        }
    }
}
