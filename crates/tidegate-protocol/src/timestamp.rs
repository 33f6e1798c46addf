//! Timestamps: instants as text (RFC 3339), in UTC.

use std::time::Duration;
use std::time::SystemTime;

const SECONDS_PER_DAY: u64 = 86_400;

/// The last instant that a timestamp can have: its year has four digits.
const LAST: Duration = Duration::from_millis(253_402_300_799_999);

/// An instant with milliseconds, such as `2024-10-05T10:30:00.250Z`. Instants outside of 1970 to 9999 become the
/// nearest in these years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp([u8; Self::LEN]);

impl Timestamp {
    const LEN: usize = 24;
    /// The length of the date and the time without the fraction and the zone.
    const SECONDS_LEN: usize = 19;

    pub fn new(time: SystemTime) -> Self {
        let since_epoch = since_epoch(time);
        Self::of_second(since_epoch.as_secs()).with_millis(since_epoch.subsec_millis())
    }

    /// The whole text: `2024-10-05T10:30:00.250Z`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text without the fraction and the zone: `2024-10-05T10:30:00`.
    pub fn seconds(&self) -> &str {
        self.as_str().get(..Self::SECONDS_LEN).unwrap_or_default()
    }

    /// The beginning of this second since 1970.
    fn of_second(second: u64) -> Self {
        let (year, month, day) = date((second / SECONDS_PER_DAY) as u32);
        let second = (second % SECONDS_PER_DAY) as u32;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let [y1, y2] = digits(year / 100);
        let [y3, y4] = digits(year % 100);
        let [[o1, o2], [d1, d2]] = [digits(month), digits(day)];
        let [[h1, h2], [m1, m2], [s1, s2]] = [digits(hour), digits(minute), digits(second)];
        Self([
            y1, y2, y3, y4, b'-', o1, o2, b'-', d1, d2, b'T', h1, h2, b':', m1, m2, b':', s1, s2, b'.', b'0',
            b'0', b'0', b'Z',
        ])
    }

    /// The same second with these milliseconds.
    fn with_millis(mut self, millis: u32) -> Self {
        let [tens, ones] = digits(millis % 100);
        self.0[20] = b'0' + (millis / 100) as u8;
        self.0[21] = tens;
        self.0[22] = ones;
        self
    }
}

/// Makes timestamps. Most instants are in the same second as the one before, so it keeps the text of that second.
#[derive(Clone, Copy, Debug)]
pub struct TimestampCache {
    second: u64,
    text: Timestamp,
}

impl Default for TimestampCache {
    fn default() -> Self {
        Self { second: 0, text: Timestamp::of_second(0) }
    }
}

impl TimestampCache {
    pub fn timestamp(&mut self, time: SystemTime) -> Timestamp {
        let since_epoch = since_epoch(time);
        let second = since_epoch.as_secs();
        if second != self.second {
            *self = Self { second, text: Timestamp::of_second(second) };
        }
        self.text.with_millis(since_epoch.subsec_millis())
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(LAST)
}

/// The year, month and day of a day since 1970. Years begin in March here, so that a leap day is the last of its year,
/// and the days count from 1 March of the year 0.
fn date(day: u32) -> (u32, u32, u32) {
    const DAYS_BEFORE_1970: u32 = 719_468;
    const DAYS_PER_400_YEARS: u32 = 146_097;
    let day = day + DAYS_BEFORE_1970;
    let (cycle, day) = (day / DAYS_PER_400_YEARS, day % DAYS_PER_400_YEARS);
    // Without the leap days before this day, each year has 365 days: one leap day in 4 years (1,460 days), but not in
    // 100 (36,524), and again in 400, whose last day this is.
    let year = (day - day / 1460 + day / 36_524 - day / (DAYS_PER_400_YEARS - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March to July and from August to December, five months have 153 days.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (next_year, month) = if month < 10 { (0, month + 3) } else { (1, month - 9) };
    (400 * cycle + year + next_year, month, day)
}

/// Two decimal digits.
fn digits(number: u32) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    /// Compares with the general formatter of `humantime`.
    fn check(cache: &mut TimestampCache, time: SystemTime) {
        let timestamp = Timestamp::new(time);
        assert_eq!(timestamp.as_str(), humantime::format_rfc3339_millis(time).to_string());
        assert_eq!(format!("{}Z", timestamp.seconds()), humantime::format_rfc3339_seconds(time).to_string());
        assert_eq!(cache.timestamp(time), timestamp);
    }

    #[test]
    fn the_days_from_1970_to_9999_follow_each_other() {
        let mut expected = (1970, 1, 1);
        for day in 0..=(LAST.as_secs() / SECONDS_PER_DAY) as u32 {
            assert_eq!(date(day), expected);
            let (year, month, in_month) = expected;
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let february = if is_leap { 29 } else { 28 };
            let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            expected = match (month, in_month) {
                (12, 31) => (year + 1, 1, 1),
                (_, last) if last == lengths[month as usize - 1] => (year, month + 1, 1),
                _ => (year, month, in_month + 1),
            };
        }
        assert_eq!(expected, (10_000, 1, 1));
    }

    #[test]
    fn borders_of_seconds_days_years_and_leap_days() {
        let mut cache = TimestampCache::default();
        for border in [
            "1970-01-01T00:00:00Z",
            "1970-01-01T00:00:01Z",
            "1972-02-29T00:00:00Z",
            "1972-03-01T00:00:00Z",
            "1999-12-31T23:59:59Z",
            "2000-01-01T00:00:00Z",
            "2000-02-29T00:00:00Z",
            "2000-03-01T00:00:00Z",
            "2026-10-09T09:09:10Z",
            "2026-12-31T23:00:00Z",
            "2100-02-28T23:59:59Z",
            "2100-03-01T00:00:00Z",
            "2400-02-29T23:59:59Z",
            "2400-03-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
        ] {
            let time = humantime::parse_rfc3339(border).unwrap();
            for millis in [0, 1, 9, 10, 99, 100, 999] {
                check(&mut cache, time + Duration::from_millis(millis));
            }
            if time > SystemTime::UNIX_EPOCH {
                check(&mut cache, time - Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn instants_that_have_no_timestamp_become_the_nearest() {
        let text = |time| Timestamp::new(time).as_str().to_owned();
        assert_eq!(text(SystemTime::UNIX_EPOCH - Duration::from_nanos(1)), "1970-01-01T00:00:00.000Z");
        let last = SystemTime::UNIX_EPOCH + LAST;
        for after in [0, 1, 1000, 1 << 40] {
            assert_eq!(text(last + Duration::from_millis(after)), "9999-12-31T23:59:59.999Z");
        }
        assert_eq!(text(last - Duration::from_millis(1)), "9999-12-31T23:59:59.998Z");
    }

    proptest! {
        #[test]
        fn timestamps_are_those_of_the_general_formatter(
            times in prop::collection::vec((0..=LAST.as_millis() as u64, 0..1_000_000_u32), 1..20),
            steps in prop::collection::vec(0..1500_u64, 1..20),
        ) {
            let mut cache = TimestampCache::default();
            let mut last = 0;
            for (millis, nanos) in times {
                last = millis;
                check(&mut cache, at(millis) + Duration::from_nanos(nanos.into()));
            }
            for step in steps {
                last = (last + step).min(LAST.as_millis() as u64);
                check(&mut cache, at(last));
            }
        }
    }
}
