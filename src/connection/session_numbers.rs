//! `SessionNumbers`: numbers the sessions of a shard. Events keep only the lower half of a number.

use std::cell::Cell;

use crate::connection::events::event::SessionNumber;

/// How many sessions a shard has had. HTTP calls count apart: they have no events under their number, and are far more.
#[derive(Debug, Default)]
pub(super) struct SessionNumbers {
    /// The number of the next session.
    next: Cell<u64>,
    calls: Cell<u64>,
}

impl SessionNumbers {
    /// Takes the number of a new session. None is that of events without a session.
    pub(super) fn take(&self) -> SessionNumber {
        let number = self.next.get();
        let is_none = SessionNumber(number as u32) == SessionNumber::NONE;
        let number = if is_none { number + 1 } else { number };
        self.next.set(number + 1);
        SessionNumber(number as u32)
    }

    /// The whole number of a session: of one that was created, or else the greatest that was with these lower 32 bits.
    pub(super) fn whole(&self, SessionNumber(low): SessionNumber) -> u64 {
        let last = self.next.get().saturating_sub(1);
        last.saturating_sub((last as u32).wrapping_sub(low).into())
    }

    /// Takes the number of a new call.
    pub(super) fn take_call(&self) -> u64 {
        let number = self.calls.get();
        self.calls.set(number + 1);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_apart_when_their_lower_half_wraps() {
        let numbers = SessionNumbers::default();
        numbers.next.set(u64::from(u32::MAX) - 1);
        let taken: Vec<_> = (0..3).map(|_| numbers.take()).collect();
        assert_eq!(taken, [u32::MAX - 1, 0, 1].map(SessionNumber), "no session has the number of none");
        let whole = taken.into_iter().map(|number| numbers.whole(number));
        assert!(whole.eq([(1 << 32) - 2, 1 << 32, (1 << 32) + 1]));
    }

    #[test]
    fn calls_use_up_no_numbers_of_sessions() {
        let numbers = SessionNumbers::default();
        let calls: Vec<_> = (0..1000).map(|_| numbers.take_call()).collect();
        assert_eq!((numbers.take(), calls), (SessionNumber(0), (0..1000).collect()));
    }
}
