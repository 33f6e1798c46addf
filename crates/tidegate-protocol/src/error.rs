//! All errors that a client can receive.

use std::fmt;

/// Why a command failed. Clients receive the name; `docs/PROTOCOL.md` explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The message is not JSON, lacks a field, or has a field of the wrong type.
    BadRequest,
    /// The message is not a JSON object. Only for vocabularies; the native protocol sends `bad_request`.
    NotJson,
    /// The vocabulary does not know this `type`.
    UnknownType,
    /// The command or option exists, but this node does not support it (yet) for this channel.
    Unsupported,
    /// The session has no identity yet, or the token was rejected.
    Unauthorized,
    /// The token was valid and has expired.
    TokenExpired,
    /// The identity may not do this.
    Forbidden,
    /// The channel is not a valid NATS subject or pattern, or is too long.
    BadChannel,
    /// The session has this channel already.
    AlreadySubscribed,
    /// The session does not have this channel.
    NotSubscribed,
    /// A limit is reached, such as the number of subscriptions.
    LimitExceeded,
    /// Too many HTTP calls in too short a time. No session sends it: commands that come too fast are read later.
    RateLimited,
    /// The data or a header is too large or not allowed.
    BadData,
    /// No service on NATS replies on this subject.
    NoResponders,
    /// The service replied with an error (`Nats-Service-Error`).
    Service,
    /// No reply arrived in time.
    Timeout,
    /// NATS is not connected; nothing was sent. Try again.
    Unavailable,
    /// The node is busy; nothing was done. Try again.
    TryAgain,
}

impl ErrorCode {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 18] = [
        Self::BadRequest,
        Self::NotJson,
        Self::UnknownType,
        Self::Unsupported,
        Self::Unauthorized,
        Self::TokenExpired,
        Self::Forbidden,
        Self::BadChannel,
        Self::AlreadySubscribed,
        Self::NotSubscribed,
        Self::LimitExceeded,
        Self::RateLimited,
        Self::BadData,
        Self::NoResponders,
        Self::Service,
        Self::Timeout,
        Self::Unavailable,
        Self::TryAgain,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NotJson => "not_json",
            Self::UnknownType => "unknown_type",
            Self::Unsupported => "unsupported",
            Self::Unauthorized => "unauthorized",
            Self::TokenExpired => "token_expired",
            Self::Forbidden => "forbidden",
            Self::BadChannel => "bad_channel",
            Self::AlreadySubscribed => "already_subscribed",
            Self::NotSubscribed => "not_subscribed",
            Self::LimitExceeded => "limit_exceeded",
            Self::RateLimited => "rate_limited",
            Self::BadData => "bad_data",
            Self::NoResponders => "no_responders",
            Self::Service => "service",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::TryAgain => "try_again",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error for a client: a code for programs, and a message for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientError {
    /// What programs act on.
    pub code: ErrorCode,
    /// What is wrong and how to fix it. It never has tokens or other users' subjects.
    pub message: String,
}

impl ClientError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The longest part of a client's message that errors repeat, in characters.
const MAX_ECHO: usize = 200;

/// Shortens a part of a client's message for use in an error.
pub fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_ECHO) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
