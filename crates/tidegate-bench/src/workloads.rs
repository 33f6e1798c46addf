//! The workloads. Each call of [`Workload::round`] measures one target once.

pub mod abuse;
pub mod churn;
pub mod connect;
pub mod heartbeats;
pub mod idle;
pub mod messages;
pub mod restart;
pub mod slow;

use crate::Bench;
use crate::metrics::Round;
use crate::servers::Target;
use crate::workloads::abuse::Abuse;
use crate::workloads::churn::Churn;
use crate::workloads::connect::Connect;
use crate::workloads::connect::Storm;
use crate::workloads::heartbeats::Heartbeats;
use crate::workloads::idle::Idle;
use crate::workloads::messages::Messages;
use crate::workloads::messages::SubjectKind;
use crate::workloads::restart::Restart;
use crate::workloads::slow::Slow;

#[derive(Clone, Debug, PartialEq)]
pub enum Workload {
    Messages(Messages),
    Idle(Idle),
    Heartbeats(Heartbeats),
    Connect(Connect),
    Storm(Storm),
    Churn(Churn),
    Slow(Slow),
    Restart(Restart),
    Abuse(Abuse),
}

impl Workload {
    /// Whether the workload can measure this target.
    pub fn supports(&self, target: &Target) -> bool {
        if matches!(target, Target::StockAgent { .. } | Target::Vocabulary { .. }) {
            let is_market =
                |messages: &Messages| messages.kind == SubjectKind::Market && messages.max_rate_ms == 0;
            return matches!(self, Self::Messages(messages) if is_market(messages));
        }
        if matches!(target, Target::Centrifugo { .. }) {
            let is_plain = |messages: &Messages| messages.max_rate_ms == 0 && !messages.compress;
            return matches!(self, Self::Messages(messages) if is_plain(messages));
        }
        if target.has_own_lane() {
            return matches!(self, Self::Messages(messages) if messages.kind == SubjectKind::Lone);
        }
        match self {
            Self::Messages(_) | Self::Connect(_) | Self::Storm(_) => true,
            // Of the others there is one process, which may not open as many sockets.
            Self::Idle(idle) => idle.processes == 1 || matches!(target, Target::Tidegate { .. }),
            // The baseline has no commands.
            Self::Churn(_) => *target != Target::Baseline,
            // Only Tidegate has their settings, and makes the guarantees that they check.
            Self::Heartbeats(_) | Self::Slow(_) | Self::Restart(_) | Self::Abuse(_) => {
                matches!(target, Target::Tidegate { .. })
            }
        }
    }

    /// Measures a target once, with newly started servers.
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        match self {
            Self::Messages(messages) => messages.round(bench, target),
            Self::Idle(idle) => idle.round(bench, target),
            Self::Heartbeats(heartbeats) => heartbeats.round(bench, target),
            Self::Connect(connect) => connect.round(bench, target),
            Self::Storm(storm) => storm.round(bench, target),
            Self::Churn(churn) => churn.round(bench, target),
            Self::Slow(slow) => slow.round(bench, target),
            Self::Restart(restart) => restart.round(bench, target),
            Self::Abuse(abuse) => abuse.round(bench, target),
        }
    }

    /// The largest number of sockets that a server process, or a client process, has open at once.
    pub fn sockets_per_process(&self) -> usize {
        match self {
            Self::Messages(messages) => messages.shape.sockets,
            Self::Idle(idle) => idle.sockets.div_ceil(idle.processes),
            Self::Heartbeats(heartbeats) => heartbeats.sockets.div_ceil(heartbeats.processes),
            Self::Connect(connect) => 2 * connect.at_once,
            // The server may not have closed all old sockets when their clients reconnect.
            Self::Storm(storm) => 2 * storm.sockets,
            Self::Churn(churn) => churn.sockets,
            Self::Slow(slow) => slow.sockets,
            Self::Restart(restart) => restart.sockets,
            // Attackers included.
            Self::Abuse(abuse) => abuse.sockets + 1000 + abuse.attack.sockets(abuse.attackers),
        }
    }

    /// One line for tables: what the workload does, with its sizes.
    pub fn title(&self) -> String {
        match self {
            Self::Messages(messages) => messages.title(),
            Self::Idle(idle) => idle.title(),
            Self::Heartbeats(heartbeats) => heartbeats.title(),
            Self::Connect(connect) => connect.title(),
            Self::Storm(storm) => storm.title(),
            Self::Churn(churn) => churn.title(),
            Self::Slow(slow) => slow.title(),
            Self::Restart(restart) => restart.title(),
            Self::Abuse(abuse) => abuse.title(),
        }
    }
}
