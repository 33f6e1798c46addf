//! `Denied`: an operation that a client may not do, for the operator's log. The client learns less: not which rule denies
//! it.

use std::borrow::Cow;

use crate::error::ErrorCode;
use crate::permissions::Denial;
use crate::permissions::Operation;
use crate::subject::Pattern;

/// An operation that the permissions of a client, or a service, do not allow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denied {
    pub operation: DeniedOperation,
    /// `None` for statistics.
    pub channel: Option<Pattern>,
    pub cause: DenialCause,
}

/// What the client wanted to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeniedOperation {
    Channel(Operation),
    Statistics,
}

/// Why the client may not do it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DenialCause {
    Rule(Denial),
    /// No role of the client has `stats`.
    NoStatistics,
    /// The service that decides about the channel refuses, with this message for the client.
    Service {
        message: Box<str>,
    },
    /// That service gives no answer.
    NoAnswer {
        reason: &'static str,
        detail: Box<str>,
    },
}

impl Denied {
    pub(super) fn channel(operation: Operation, channel: &Pattern, denial: Denial) -> Self {
        let operation = DeniedOperation::Channel(operation);
        Self { operation, channel: Some(channel.clone()), cause: DenialCause::Rule(denial) }
    }

    pub(super) fn statistics() -> Self {
        Self { operation: DeniedOperation::Statistics, channel: None, cause: DenialCause::NoStatistics }
    }

    /// A subscription about which services decide.
    pub fn by_service(channel: &Pattern, cause: DenialCause) -> Self {
        let operation = DeniedOperation::Channel(Operation::Subscribe);
        Self { operation, channel: Some(channel.clone()), cause }
    }

    /// The code of the error that the client gets.
    pub fn code(&self) -> ErrorCode {
        match &self.cause {
            DenialCause::NoAnswer { .. } => ErrorCode::Unavailable,
            DenialCause::Rule(_) | DenialCause::NoStatistics | DenialCause::Service { .. } => {
                ErrorCode::Forbidden
            }
        }
    }

    /// The reason for logs: a stable word.
    pub fn reason(&self) -> &'static str {
        match &self.cause {
            DenialCause::Rule(Denial::System { .. }) => "system_subject",
            DenialCause::Rule(Denial::SystemWildcard) => "system_wildcard",
            DenialCause::Rule(Denial::NotLiteral) => "not_literal",
            DenialCause::Rule(Denial::NotAllowed) => "not_allowed",
            DenialCause::Rule(Denial::Denied { .. }) => "denied",
            DenialCause::NoStatistics => "no_statistics",
            DenialCause::Service { .. } => "refused_by_service",
            DenialCause::NoAnswer { reason, .. } => reason,
        }
    }

    /// Why, with the rule if there is one.
    pub fn detail(&self) -> Cow<'static, str> {
        match &self.cause {
            DenialCause::Rule(denial) => denial.to_string().into(),
            DenialCause::NoStatistics => "no role of the client has `stats`".into(),
            DenialCause::Service { message } => message.to_string().into(),
            DenialCause::NoAnswer { detail, .. } => detail.to_string().into(),
        }
    }
}

impl DeniedOperation {
    /// The word in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Channel(Operation::Subscribe) => "subscribe",
            Self::Channel(Operation::Publish) => "publish",
            Self::Channel(Operation::Request) => "request",
            Self::Statistics => "statistics",
        }
    }
}
