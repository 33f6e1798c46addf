//! All close codes that Tidegate sends: why a session ended, and whether the client should reconnect.

use std::time::Duration;

/// Why a session ends. 4000–4499: reconnect; 4500–4999: do not reconnect. Codes below 4000 are those of RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disconnect {
    /// The client sent invalid WebSocket frames (RFC 6455 §7.4.1).
    ProtocolError,
    /// A text message is not UTF-8 (RFC 6455 §8.1).
    InvalidUtf8,
    /// Too many control frames or fragments (RFC 6455 §7.4.1).
    PolicyViolation,
    /// A message is larger than `max_message_bytes` (RFC 6455 §7.4.1).
    MessageTooBig,
    /// A fault of the server in this session.
    InternalError,
    /// The node drains.
    GoingAway,
    /// The token expired and was not refreshed.
    TokenExpired,
    /// The client did not read fast enough.
    SlowConsumer,
    /// The client sent nothing after a ping.
    NoPong,
    /// What verifies the credential could not be reached, such as the published keys of its issuer.
    Unavailable,
    /// The client sent more bytes than `inbound_bytes_per_s` and `inbound_burst_bytes` allow.
    RateLimited,
    /// The token was rejected.
    Unauthorized,
    /// No credential arrived in time.
    AuthTimeout,
    /// The credential was revoked.
    Revoked,
    /// The user has the maximum number of connections.
    TooManyConnections,
    /// The client caused more errors than `max_errors`.
    TooManyErrors,
    /// A newer connection of the user has replaced this one.
    Replaced,
    /// An operator or a backend has ended the sessions of the user.
    Disconnected,
}

impl Disconnect {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 18] = [
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::PolicyViolation,
        Self::MessageTooBig,
        Self::InternalError,
        Self::GoingAway,
        Self::TokenExpired,
        Self::SlowConsumer,
        Self::NoPong,
        Self::Unavailable,
        Self::RateLimited,
        Self::Unauthorized,
        Self::AuthTimeout,
        Self::Revoked,
        Self::TooManyConnections,
        Self::TooManyErrors,
        Self::Replaced,
        Self::Disconnected,
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
            Self::Unavailable => 4004,
            Self::RateLimited => 4029,
            Self::Unauthorized => 4501,
            Self::AuthTimeout => 4504,
            Self::Revoked => 4505,
            Self::TooManyConnections => 4508,
            Self::TooManyErrors => 4509,
            Self::Replaced => 4510,
            Self::Disconnected => 4511,
        }
    }

    /// The reason in the close frame. RFC 6455 §5.5: at most 123 bytes fit after the code.
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
            Self::Unavailable => "unavailable",
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::AuthTimeout => "auth_timeout",
            Self::Revoked => "revoked",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyErrors => "too_many_errors",
            Self::Replaced => "replaced",
            Self::Disconnected => "disconnected",
        }
    }

    /// How long the client should wait before it reconnects, if at once would not help.
    pub fn retry_after(self) -> Option<Duration> {
        matches!(self, Self::RateLimited | Self::Unavailable).then_some(Duration::from_secs(5))
    }

    /// Whether the client should reconnect.
    pub fn should_reconnect(self) -> bool {
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
                assert_eq!(disconnect.should_reconnect(), disconnect.code() < 4500, "{disconnect:?}");
            }
            // RFC 6455 §5.5: at most 123 bytes fit after the code.
            assert!(disconnect.name().len() <= 123);
        }
    }
}
