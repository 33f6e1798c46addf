//! What one client has heard of one subject, with its gaps: for workloads in which some may be missing, if it is said.

use crate::client::ear::Heard;

/// Of one client.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Publications.
    pub received: u64,
    /// The number that should come next.
    pub next: u64,
    /// Gaps, by cause.
    pub gaps: Vec<String>,
    /// What the gaps say is missing.
    pub dropped: u64,
    /// Publications that are missing or out of order without a gap before them.
    pub unannounced: u64,
    /// Whether a gap has come since the last publication.
    gap_open: bool,
    /// Why it has ended.
    pub ended: Option<String>,
}

impl Account {
    /// Notes what was heard.
    pub fn hear(&mut self, heard: Heard<'_>) {
        match heard {
            Heard::Publication(number) => {
                if number != self.next && !self.gap_open {
                    self.unannounced += number.abs_diff(self.next);
                }
                self.gap_open = false;
                self.next = number.saturating_add(1);
                self.received += 1;
            }
            Heard::Gap { cause, dropped } => {
                self.gaps.push(cause.to_owned());
                self.dropped += dropped.unwrap_or_default();
                self.gap_open = true;
            }
            Heard::Ended(reason) => drop(self.ended.get_or_insert_with(|| reason.to_owned())),
            Heard::Live { .. } | Heard::Compressed(_) | Heard::Answered | Heard::Refused => {}
        }
    }

    /// Whether it has heard everything, and of no gap.
    pub fn is_whole(&self) -> bool {
        self.gaps.is_empty() && self.unannounced == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_announced_or_it_counts() {
        let mut account = Account::default();
        for number in [0, 1] {
            account.hear(Heard::Publication(number));
        }
        assert!(account.is_whole());
        account.hear(Heard::Gap { cause: "slow", dropped: Some(3) });
        account.hear(Heard::Publication(5));
        assert_eq!((account.unannounced, account.dropped, account.received, account.next), (0, 3, 3, 6));
        account.hear(Heard::Publication(8));
        assert_eq!((account.unannounced, account.gaps.len()), (2, 1));
        account.hear(Heard::Ended("first"));
        account.hear(Heard::Ended("second"));
        assert_eq!(account.ended.as_deref(), Some("first"));
    }
}
