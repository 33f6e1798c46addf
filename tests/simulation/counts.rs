//! What runs count.

use std::collections::BTreeMap;
use std::fmt;

use crate::action::Action;
use crate::ledger::LedgerCounts;

/// The numbers of one run, or of many.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunCounts {
    pub(crate) runs: u64,
    /// Actions that had something to do, by name.
    actions: BTreeMap<&'static str, u64>,
    pub(crate) publications: u64,
    pub(crate) slow_consumers: u64,
    pub(crate) hang_ups: u64,
    pub(crate) closes: u64,
    /// Connections that the node has ended without a close frame.
    pub(crate) resets: u64,
    ledger: LedgerCounts,
}

impl RunCounts {
    pub(crate) fn count(&mut self, action: Action) {
        *self.actions.entry(action.name()).or_default() += 1;
    }

    pub(crate) fn add_ledger(&mut self, counts: LedgerCounts) {
        self.ledger.deliveries += counts.deliveries;
        self.ledger.gaps += counts.gaps;
        self.ledger.missing += counts.missing;
        self.ledger.snapshots += counts.snapshots;
    }

    /// The actions that had something to do.
    pub(crate) fn events(&self) -> u64 {
        self.actions.values().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        for (name, count) in &other.actions {
            *self.actions.entry(name).or_default() += count;
        }
        self.publications += other.publications;
        self.slow_consumers += other.slow_consumers;
        self.hang_ups += other.hang_ups;
        self.closes += other.closes;
        self.resets += other.resets;
        self.add_ledger(other.ledger);
    }
}

impl fmt::Display for RunCounts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LedgerCounts { deliveries, gaps, missing, snapshots } = self.ledger;
        writeln!(
            formatter,
            "{} runs, {} events, {} publications, {deliveries} deliveries, {gaps} gaps of {missing} publications, \
             {snapshots} snapshots, {} slow lanes cut off, {} connections closed by clients, {} by nodes, {} reset",
            self.runs,
            self.events(),
            self.publications,
            self.slow_consumers,
            self.hang_ups,
            self.closes,
            self.resets,
        )?;
        let actions: Vec<_> = self.actions.iter().map(|(name, count)| format!("{name} {count}")).collect();
        write!(formatter, "{}", actions.join(", "))
    }
}
