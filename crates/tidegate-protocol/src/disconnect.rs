//! Every close code that Tidegate sends: whether to come back, and why it ended.

use std::time::Duration;

/// Why a session ends. 4000–4499: reconnect; 4500–4999: stop. Codes below 4000 are RFC 6455's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disconnect {
    /// The bytes are no WebSocket frames (RFC 6455 §7.4.1).
    ProtocolError,
    /// A text message is not UTF-8 (RFC 6455 §8.1).
    InvalidUtf8,
    /// Too many control frames or fragments.
    PolicyViolation,
    /// A message is larger than `max_message_bytes`.
    MessageTooBig,
    /// A fault of ours in this session.
    InternalError,
    /// The node drains.
    GoingAway,
    /// The token ran out and was not refreshed.
    TokenExpired,
    /// The client did not take what was sent to it.
    SlowConsumer,
    /// No sign of life after a ping.
    NoPong,
    /// The client sent more bytes than `inbound_bytes_per_s` and `inbound_burst_bytes` allow.
    RateLimited,
    /// The token was refused.
    Unauthorized,
    /// No credential came in time.
    AuthTimeout,
    /// The user has as many connections as one may have.
    TooManyConnections,
    /// More refused commands than `max_errors`.
    TooManyErrors,
}

impl Disconnect {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 14] = [
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::PolicyViolation,
        Self::MessageTooBig,
        Self::InternalError,
        Self::GoingAway,
        Self::TokenExpired,
        Self::SlowConsumer,
        Self::NoPong,
        Self::RateLimited,
        Self::Unauthorized,
        Self::AuthTimeout,
        Self::TooManyConnections,
        Self::TooManyErrors,
    ];

    /// The code of the close frame.
    pub fn code(self) -> u16 {
        match self {
            Self::ProtocolError => 1002,
            Self::InvalidUtf8 => 1007,
            Self::PolicyViolation => 1008,
            Self::MessageTooBig => 1009,
            Self::InternalError => 1011,
            Self::GoingAway => 4000,
            Self::TokenExpired => 4001,
            Self::SlowConsumer => 4002,
            Self::NoPong => 4003,
            Self::RateLimited => 4029,
            Self::Unauthorized => 4501,
            Self::AuthTimeout => 4504,
            Self::TooManyConnections => 4508,
            Self::TooManyErrors => 4509,
        }
    }

    /// The reason, at most 123 bytes.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProtocolError => "protocol_error",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::PolicyViolation => "policy_violation",
            Self::MessageTooBig => "message_too_big",
            Self::InternalError => "internal_error",
            Self::GoingAway => "going_away",
            Self::TokenExpired => "token_expired",
            Self::SlowConsumer => "slow_consumer",
            Self::NoPong => "no_pong",
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::AuthTimeout => "auth_timeout",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyErrors => "too_many_errors",
        }
    }

    /// When a client may come back after an end that it has caused by its speed.
    pub fn retry_after(self) -> Option<Duration> {
        (self == Self::RateLimited).then_some(Duration::from_secs(5))
    }

    /// Whether a client should come back.
    pub fn reconnect(self) -> bool {
        matches!(self.code(), 1011 | 4000..4500)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_follow_the_rule() {
        let mut codes: Vec<u16> = Disconnect::ALL.iter().map(|d| d.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Disconnect::ALL.len());
        for disconnect in Disconnect::ALL {
            if disconnect.code() >= 4000 {
                assert_eq!(disconnect.reconnect(), disconnect.code() < 4500, "{disconnect:?}");
            }
            assert!(disconnect.name().len() <= 123);
        }
    }
}
