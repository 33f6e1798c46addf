//! Every error that a client can be sent, in one table.

use std::fmt;

/// Why a command was refused. The name goes to the client; what it means is next to it and in `docs/PROTOCOL.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The message is not JSON, or lacks a field, or has one of the wrong type.
    BadRequest,
    /// The message is no JSON object; said so only in vocabularies, where the native protocol says `bad_request`.
    NotJson,
    /// The `type` is none that this vocabulary knows.
    UnknownType,
    /// The command or option is known, but this node cannot do it (yet) for this channel.
    Unsupported,
    /// The session has no identity yet, or the token was refused.
    Unauthorized,
    /// The token was good, and has ended.
    TokenExpired,
    /// The identity may not do this.
    Forbidden,
    /// The channel is no valid NATS subject or pattern, or too long.
    BadChannel,
    /// The session has this channel already.
    AlreadySubscribed,
    /// The session does not have this channel.
    NotSubscribed,
    /// A limit on how many (subscriptions, requests in flight) is reached.
    LimitExceeded,
    /// Too many commands in too short a time.
    RateLimited,
    /// The data or a header is too large or not allowed.
    BadData,
    /// No one on NATS answers this subject.
    NoResponders,
    /// Whoever serves this subject says that it has failed (`Nats-Service-Error`).
    Service,
    /// No answer came in time.
    Timeout,
    /// NATS is away; nothing was sent. Try again.
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

/// What a client is told: a code to act on, and words for a person.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientError {
    /// What to act on.
    pub code: ErrorCode,
    /// What is wrong and how to mend it. Never a token, never somebody else's subject.
    pub message: String,
}

impl ClientError {
    /// A refusal with its words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The longest part of a client's message that comes back in words, in characters.
const MAX_ECHO: usize = 200;

/// A client's words as they may come back in ours: not too long.
pub fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_ECHO) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
