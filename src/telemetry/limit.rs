//! `LogLimit`: limits how often one place in the code logs, so that no peer can fill a disk, and counts the suppressed
//! lines.

use std::sync::LazyLock;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The start of the count of seconds.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The limit of one place that logs, shared by all threads. Declare it as a `static` next to the log line:
///
/// ```
/// use tidegate::telemetry::limit::LogLimit;
///
/// static DENIED: LogLimit = LogLimit::per_second(1);
/// if let Some(suppressed) = DENIED.pass() {
///     tracing::warn!(suppressed, "subscription denied");
/// }
/// ```
#[derive(Debug)]
pub struct LogLimit {
    lines: u32,
    interval_s: u32,
    /// The low half: the second (counted from 1) in which the interval began. The high half: the lines since then.
    state: AtomicU64,
}

impl LogLimit {
    /// Allows so many lines (at least one) in each second.
    pub const fn per_second(lines: u32) -> Self {
        Self::every(1, lines)
    }

    /// Allows so many lines (at least one) in each interval. An interval begins with its first line.
    pub const fn every(interval_s: u32, lines: u32) -> Self {
        Self { lines, interval_s, state: AtomicU64::new(0) }
    }

    /// Returns `None` if a line must not be logged now; otherwise the number of lines that were suppressed in the last
    /// interval.
    pub fn pass(&self) -> Option<u64> {
        let seconds = START.elapsed().as_secs();
        self.pass_at(u32::try_from(seconds).unwrap_or(u32::MAX - 1))
    }

    fn pass_at(&self, second: u32) -> Option<u64> {
        let now = second.saturating_add(1);
        let next = |state: u64| {
            let (began, lines) = unpack(state);
            let is_same_interval = began > 0 && now < began.saturating_add(self.interval_s);
            Some(if is_same_interval { pack(began, lines.saturating_add(1)) } else { pack(now, 1) })
        };
        let before = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        let (began, lines) = unpack(before);
        if began > 0 && now < began.saturating_add(self.interval_s) {
            return (lines < self.lines).then_some(0);
        }
        Some(u64::from(lines.saturating_sub(self.lines)))
    }
}

/// A limit for each reason of one place that logs, so that a flood for one reason does not hide another.
#[derive(Debug)]
pub struct LimitByReason {
    reasons: [(OnceLock<&'static str>, LogLimit); REASONS],
}

/// More reasons than any place has. If there are more, they share the last limit.
const REASONS: usize = 64;

impl LimitByReason {
    /// Allows so many lines (at least one) in each second for each reason.
    pub const fn per_second(lines: u32) -> Self {
        let mut limits = [const { (OnceLock::new(), LogLimit::per_second(1)) }; REASONS];
        let mut at = 0;
        while at < REASONS {
            limits[at].1.lines = lines;
            at += 1;
        }
        Self { reasons: limits }
    }

    /// Like [`LogLimit::pass`], for this reason.
    pub fn pass(&self, reason: &'static str) -> Option<u64> {
        let of_reason =
            |(name, _): &&(OnceLock<&'static str>, LogLimit)| *name.get_or_init(|| reason) == reason;
        self.reasons
            .iter()
            .find(of_reason)
            .or_else(|| self.reasons.last())
            .and_then(|(_, limit)| limit.pass())
    }
}

fn pack(began: u32, lines: u32) -> u64 {
    u64::from(lines) << 32 | u64::from(began)
}

fn unpack(state: u64) -> (u32, u32) {
    let low = u32::try_from(state & u64::from(u32::MAX)).unwrap_or_default();
    let high = u32::try_from(state >> 32).unwrap_or_default();
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_second_with_the_number_of_suppressed_lines() {
        let limit = LogLimit::per_second(1);
        let passed: Vec<_> = (0..500).filter_map(|_| limit.pass_at(0)).collect();
        assert_eq!(passed, [0]);
        let passed: Vec<_> = (0..3).map(|_| limit.pass_at(1)).collect();
        assert_eq!(passed, [Some(499), None, None]);
        assert_eq!(limit.pass_at(60), Some(2), "however late");
        assert_eq!(limit.pass_at(61), Some(0));
    }

    #[test]
    fn a_flood_for_one_reason_hides_no_other() {
        let limit = LimitByReason::per_second(10);
        assert_eq!((0..1000).filter_map(|_| limit.pass("expired")).count() / 30, 0, "however slow this is");
        assert!(limit.pass("bad_signature").is_some());
        let many: Vec<&'static str> = (0..100).map(|number| &*number.to_string().leak()).collect();
        let passed = many.iter().filter(|reason| limit.pass(reason).is_some()).count();
        assert!(
            (REASONS - 2..=REASONS + 30).contains(&passed),
            "{passed}: reasons beyond the table share one limit"
        );
    }

    #[test]
    fn an_interval_begins_with_its_first_line() {
        let limit = LogLimit::every(30, 2);
        assert_eq!([limit.pass_at(7), limit.pass_at(20), limit.pass_at(36)], [Some(0), Some(0), None]);
        assert_eq!([limit.pass_at(37), limit.pass_at(66), limit.pass_at(66)], [Some(1), Some(0), None]);
    }

    #[test]
    fn threads_share_the_limit_and_count_nothing_twice() {
        let limit = &LogLimit::per_second(10);
        let passed: usize = std::thread::scope(|scope| {
            let count = || (0..1000).filter_map(|_| limit.pass_at(5)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 10);
        assert_eq!(limit.pass_at(6), Some(3990));
    }
}
