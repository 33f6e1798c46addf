//! `AtomicRate`: a rate that all threads read, and that can change while the node runs.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tidegate_protocol::session::limits::Rate;

/// Both numbers of a [`Rate`] in one word, so that no thread sees one of them changed and the other not.
#[derive(Debug)]
pub(super) struct AtomicRate(AtomicU64);

impl AtomicRate {
    pub(super) fn new(rate: Rate) -> Self {
        Self(AtomicU64::new(packed(rate)))
    }

    pub(super) fn get(&self) -> Rate {
        let packed = self.0.load(Ordering::Relaxed).to_be_bytes();
        let [a, b, c, d, e, f, g, h] = packed;
        Rate { per_second: u32::from_be_bytes([a, b, c, d]), burst: u32::from_be_bytes([e, f, g, h]) }
    }

    pub(super) fn set(&self, rate: Rate) {
        self.0.store(packed(rate), Ordering::Relaxed);
    }
}

fn packed(rate: Rate) -> u64 {
    u64::from(rate.per_second) << 32 | u64::from(rate.burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_returns_what_was_set() {
        let rates = [(0, 1), (1, u32::MAX), (u32::MAX, 0), (500, 2000)]
            .map(|(per_second, burst)| Rate { per_second, burst });
        let atomic = AtomicRate::new(rates[0]);
        for rate in rates {
            atomic.set(rate);
            assert_eq!(atomic.get(), rate);
        }
    }
}
