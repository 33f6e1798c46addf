//! Compares what a client received with what was published: no message may be missing without a gap.

use std::collections::BTreeMap;

use crate::support::recorder::Log;
use crate::support::recorder::Received;

/// A gap as a client received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) cause: String,
    pub(crate) dropped: Option<u64>,
}

/// Checks one channel of class `buffer`: the numbers of each subject ascend without duplicates; where some are missing
/// there is a gap, and its count is right. Returns the gaps.
pub(crate) fn audit(log: &Log, channel: &str) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    let mut newest = BTreeMap::<&str, (u64, usize)>::new();
    let mut missing = 0;
    let mut whole = true;
    for received in of_channel(log, channel) {
        match received {
            Received::Gap { cause, dropped, .. } => {
                gaps.push(Gap { cause: cause.clone(), dropped: *dropped })
            }
            Received::Message { subject, number, .. } => {
                let earlier = newest.insert(subject, (*number, gaps.len()));
                // The number of messages before the first one is unknown.
                whole &= earlier.is_some() || gaps.is_empty();
                if let Some((last, before)) = earlier {
                    assert!(*number > last, "{channel}: {number} of {subject} after {last}");
                    let (lost, since) = (number - last - 1, &gaps[before..]);
                    assert!(
                        lost == 0 || !since.is_empty(),
                        "{channel}: {lost} of {subject} after {last} lost in silence"
                    );
                    let is_literal = subject == channel;
                    assert!(!is_literal || is_true(lost, since), "{channel}: {lost} after {last}, {since:?}");
                    missing += lost;
                }
            }
            // Messages that arrive without a subscription are for no client.
            Received::Subscribed { .. } => {
                whole &= newest.is_empty();
                newest.clear();
            }
            Received::Unsubscribed { .. } | Received::Refused { .. } | Received::Other(_) => {}
        }
    }
    assert!(!whole || is_true(missing, &gaps), "{channel}: {missing} missing, {gaps:?}");
    gaps
}

/// Checks one channel of class `latest`: the numbers of each subject ascend, and the last one arrives in the end.
pub(crate) fn audit_latest(log: &Log, channel: &str, subject: &str, last: u64) {
    let mut newest = 0;
    for received in of_channel(log, channel) {
        match received {
            Received::Message { subject: of, number, .. } if of == subject => {
                assert!(*number > newest, "{channel}: {number} of {subject} after {newest}");
                newest = *number;
            }
            Received::Message { .. }
            | Received::Gap { .. }
            | Received::Subscribed { .. }
            | Received::Unsubscribed { .. }
            | Received::Refused { .. }
            | Received::Other(_) => {}
        }
    }
    assert_eq!(newest, last, "{channel}: the last of {subject}");
}

/// Whether these gaps explain so many missing messages.
fn is_true(missing: u64, gaps: &[Gap]) -> bool {
    let counted = gaps.iter().filter_map(|gap| gap.dropped).sum();
    let exact = gaps.iter().all(|gap| gap.dropped.is_some());
    if exact { missing == counted } else { missing >= counted }
}

fn of_channel<'l>(log: &'l Log, channel: &'l str) -> impl Iterator<Item = &'l Received> {
    log.received.iter().filter(move |received| match received {
        Received::Subscribed { channel: on, .. }
        | Received::Unsubscribed { channel: on }
        | Received::Message { channel: on, .. }
        | Received::Gap { channel: on, .. }
        | Received::Refused { channel: on, .. } => on == channel,
        Received::Other(_) => false,
    })
}
