//! What clients have of a subject, and whether that accounts for a publication.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The number of the publication, unique over all epochs.
    Delivered(u64),
    /// The publications with these sequences in this epoch.
    Missing {
        epoch: u64,
        from: u64,
        to: u64,
    },
    /// Any.
    MissingAny,
    Skipped,
}

/// Whether a publication was delivered, or reported missing in its place.
pub(super) fn is_accounted_for(entries: &[Entry], number: u64, (epoch, seq): (u64, u64)) -> bool {
    let is_missing_here = |entry: &Entry| match entry {
        Entry::Missing { epoch: of, from, to } => *of == epoch && (*from..=*to).contains(&seq),
        Entry::Delivered(_) | Entry::MissingAny | Entry::Skipped => false,
    };
    if entries.contains(&Entry::Delivered(number)) || entries.iter().any(is_missing_here) {
        return true;
    }
    // A gap without a range covers what is between its neighbours.
    let is_number = |entry: &Entry| matches!(entry, Entry::Delivered(_));
    entries.iter().enumerate().filter(|(_, entry)| **entry == Entry::MissingAny).any(|(at, _)| {
        let number_of = |entry: &Entry| match entry {
            Entry::Delivered(number) => *number,
            Entry::Missing { .. } | Entry::MissingAny | Entry::Skipped => 0,
        };
        let before = entries[..at].iter().rev().find(|entry| is_number(entry)).map_or(0, number_of);
        let after = entries[at..].iter().find(|entry| is_number(entry)).map_or(u64::MAX, number_of);
        before < number && number < after
    })
}
