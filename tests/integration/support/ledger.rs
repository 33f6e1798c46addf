//! What a client heard, held against what was published: nothing may be missing in silence.

use std::collections::BTreeMap;

use crate::support::recorder::Heard;
use crate::support::recorder::Log;

/// A gap as a client heard it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) cause: String,
    pub(crate) dropped: Option<u64>,
}

/// Checks one channel of class `buffer`: each subject's numbers ascend, none comes twice, and where some are missing
/// there stands a gap; if all gaps of the channel say how many, they say the truth. Gives back the gaps.
pub(crate) fn audit(log: &Log, channel: &str) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    let mut newest = BTreeMap::<&str, (u64, usize)>::new();
    let mut missing = 0;
    for heard in &log.heard {
        match heard {
            Heard::Gap { channel: on, cause, dropped } if on == channel => {
                gaps.push(Gap { cause: cause.clone(), dropped: *dropped });
            }
            Heard::Message { channel: on, subject, number } if on == channel => {
                if let Some((last, gaps_then)) = newest.insert(subject, (*number, gaps.len())) {
                    assert!(*number > last, "{channel}: {number} of {subject} after {last}");
                    let silent = *number > last + 1 && gaps_then == gaps.len();
                    assert!(!silent, "{channel}: {number} of {subject} after {last} without a gap");
                    missing += number - last - 1;
                }
            }
            // What comes while nobody listens is nobody's.
            Heard::Subscribed { channel: on, .. } if on == channel => newest.clear(),
            Heard::Message { .. }
            | Heard::Gap { .. }
            | Heard::Subscribed { .. }
            | Heard::Unsubscribed { .. }
            | Heard::Refused { .. }
            | Heard::Other(_) => {}
        }
    }
    let counted: Option<u64> = gaps.iter().map(|gap| gap.dropped).sum();
    assert!(counted.is_none_or(|counted| counted == missing), "{channel}: {missing} missing, {gaps:?}");
    gaps
}
