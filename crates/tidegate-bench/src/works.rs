//! The workloads: each measures one target once.

pub mod abuse;
pub mod churn;
pub mod connect;
pub mod idle;
pub mod messages;
pub mod restart;
pub mod slow;

use crate::Bench;
use crate::figures::Round;
use crate::servers::Target;
use crate::works::abuse::Abuse;
use crate::works::churn::Churn;
use crate::works::connect::Connect;
use crate::works::connect::Storm;
use crate::works::idle::Idle;
use crate::works::messages::Kind;
use crate::works::messages::Messages;
use crate::works::restart::Restart;
use crate::works::slow::Slow;

/// What is done to a target.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    Messages(Messages),
    Idle(Idle),
    Connect(Connect),
    Storm(Storm),
    Churn(Churn),
    Slow(Slow),
    Restart(Restart),
    Abuse(Abuse),
}

impl Work {
    /// Whether it makes sense with this target.
    pub fn suits(&self, target: &Target) -> bool {
        if matches!(target, Target::Described { .. } | Target::File { .. }) {
            let is_market = |messages: &Messages| messages.kind == Kind::Market && messages.max_rate_ms == 0;
            return matches!(self, Self::Messages(messages) if is_market(messages));
        }
        match self {
            Self::Messages(_) | Self::Idle(_) | Self::Connect(_) | Self::Storm(_) => true,
            // The floor knows no commands.
            Self::Churn(_) => *target != Target::Floor,
            // What Tidegate promises, and no one else.
            Self::Slow(_) | Self::Restart(_) | Self::Abuse(_) => matches!(target, Target::Tidegate { .. }),
        }
    }

    /// Measures a target once, with servers of its own.
    pub fn round(&self, bench: &Bench, target: &Target) -> anyhow::Result<Round> {
        match self {
            Self::Messages(messages) => messages.round(bench, target),
            Self::Idle(idle) => idle.round(bench, target),
            Self::Connect(connect) => connect.round(bench, target),
            Self::Storm(storm) => storm.round(bench, target),
            Self::Churn(churn) => churn.round(bench, target),
            Self::Slow(slow) => slow.round(bench, target),
            Self::Restart(restart) => restart.round(bench, target),
            Self::Abuse(abuse) => abuse.round(bench, target),
        }
    }

    /// How many sockets a server has of it at most.
    pub fn sockets(&self) -> usize {
        match self {
            Self::Messages(messages) => messages.shape.sockets,
            Self::Idle(idle) => idle.sockets,
            Self::Connect(connect) => 2 * connect.at_once,
            // Some of those that went may not have gone when they come again.
            Self::Storm(storm) => 2 * storm.sockets,
            Self::Churn(churn) => churn.sockets,
            Self::Slow(slow) => slow.sockets,
            Self::Restart(restart) => restart.sockets,
            // Attackers too.
            Self::Abuse(abuse) => abuse.sockets + 1000,
        }
    }

    /// What it is, in a line.
    pub fn title(&self) -> String {
        match self {
            Self::Messages(messages) => messages.title(),
            Self::Idle(idle) => idle.title(),
            Self::Connect(connect) => connect.title(),
            Self::Storm(storm) => storm.title(),
            Self::Churn(churn) => churn.title(),
            Self::Slow(slow) => slow.title(),
            Self::Restart(restart) => restart.title(),
            Self::Abuse(abuse) => abuse.title(),
        }
    }
}
