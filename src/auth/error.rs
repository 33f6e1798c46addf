//! `AuthError`: why a credential was rejected: a message for people, a code for clients, and a reason for logs.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::template::TemplateError;

use crate::auth::decisions::Undecided;

/// The reason of a credential that cannot be verified now.
pub const KEYS_UNAVAILABLE: &str = "keys_unavailable";

/// Why a credential was rejected. Messages never contain the token or a value from it.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum AuthError {
    #[error("the token is longer than {max} bytes; shorten it or raise auth.max_token_bytes")]
    TooLong { max: usize },
    #[error("the token is malformed: {problem}")]
    Malformed { problem: &'static str },
    #[error("the token is malformed: its {part} {how}")]
    Unreadable { part: &'static str, how: &'static str },
    #[error(
        "the token's \"kid\" matches no key of its issuer; set it to the kid of an [[auth.key]], or of a key that the issuer \
         publishes"
    )]
    UnknownKey,
    #[error(
        "the token has no \"kid\", and its issuer has several keys; put the kid of the key that signs it into the token's \
         header"
    )]
    UnnamedKey,
    #[error("the keys of the token's issuer have not been fetched yet; try again in {} s", retry_after.as_secs().max(1))]
    KeysUnavailable { retry_after: Duration },
    #[error(
        "the token's \"alg\" is not the algorithm of its key; sign it with the algorithm in [[auth.key]]"
    )]
    WrongAlgorithm,
    #[error(
        "the token has a \"crit\" header, and no critical extension is supported; issue it without \"crit\""
    )]
    CriticalHeader,
    #[error("the token contains another token (\"cty\" is \"JWT\"); send the inner token")]
    NestedToken,
    #[error("the token's \"{name}\" is not in auth.token_types; send the right kind of token")]
    WrongTokenType { name: String },
    #[error(
        "the token's signature does not match its key; check that the issuer signs with the key that Tidegate has"
    )]
    BadSignature,
    #[error("the token lacks the claim \"{claim}\"; the issuer must add it")]
    MissingClaim { claim: String },
    #[error(
        "the token's claim \"{claim}\" has the wrong type or an invalid value; the issuer must correct it"
    )]
    BadClaim { claim: String },
    #[error(
        "the token's \"{claim}\" is in milliseconds; it must be in seconds since 1970 (RFC 7519), so divide it by 1000"
    )]
    Milliseconds { claim: &'static str },
    #[error("the token has expired; get a new one")]
    Expired,
    #[error("the token's \"nbf\" is in the future; wait, or correct the clocks")]
    NotYetValid,
    #[error("the token's \"iat\" is in the future; correct the clocks")]
    IssuedInFuture,
    #[error("the token is valid for longer than auth.max_token_lifetime_s; issue it for a shorter time")]
    LivesTooLong,
    #[error(
        "the token's \"iss\" is not in auth.issuer; use a token of a configured issuer, or correct auth.issuer"
    )]
    WrongIssuer,
    #[error(
        "the token's \"aud\" does not contain auth.audience; set that key to the audience that tokens are issued for"
    )]
    WrongAudience,
    #[error(
        "the token's \"sub\" cannot be part of a subject; it must have 1 to 128 characters, only letters, digits \
         and \"_-=@:\""
    )]
    BadSubject,
    #[error(
        "the token's \"{claim}\" cannot be a user; it must be a whole number up to 2^53, or text without quotation marks, \
         backslashes and control characters, of 1 to 128 bytes as a token, where each byte other than letters, digits and \
         \"_-@:\" takes three"
    )]
    BadUserClaim { claim: String },
    #[error(
        "the token's \"{claim}\" is not verified: \"{claim}_verified\" is not true; let the user confirm the address, or \
         set auth.user_claim to another claim"
    )]
    UnverifiedEmail { claim: String },
    #[error(
        "the token has no role: its claim \"{claim}\" is absent or empty; the issuer must add it, or set auth.role_claim \
         to the claim that has the role, or auth.default_role for tokens without that claim"
    )]
    MissingRole { claim: String },
    #[error("the token's claim \"{claim}\" names no configured [[role]]; names are case-sensitive")]
    NoRole { claim: String },
    #[error("the placeholders of role \"{role}\" cannot be filled from the token: {problem}")]
    RoleTemplate { role: String, problem: TemplateError },
    #[error("the token cannot be signed: {problem}")]
    Signing { problem: String },
    #[error("the credential is neither a token nor a configured API key; check that you send all of it")]
    UnknownApiKey,
    #[error(
        "the credential is an API key, and this endpoint accepts none on sockets; send a token, or set api_keys to true in \
         its [[endpoint]]"
    )]
    ApiKeysNotAccepted,
    #[error("the credential was revoked; sign in again to get a new one")]
    Revoked,
    /// Revoked by age, and the token says nothing about its age.
    #[error(
        "older credentials of this user were revoked, and this token does not say when it was issued; let the issuer add \
         \"iat\" to its tokens"
    )]
    RevokedWithoutTime,
    #[error("a service must judge this credential, and only a running node asks it")]
    NeedsService,
    /// The message is the service's own.
    #[error("{message}")]
    RefusedByService { message: Arc<str> },
    /// It says nothing about the credential.
    #[error("the service that judges this credential gives no answer, because {why}; try again in {} s", retry_after.as_secs().max(1))]
    ServiceUnavailable { why: Undecided, retry_after: Duration },
    #[error("a credential is required here; send a token")]
    IdentityNotTrusted,
    #[error(
        "the token's user begins with the user_prefix of another issuer; rename the user, or change that prefix"
    )]
    UserOfAnotherIssuer,
    #[error(
        "the user's name cannot be part of a subject; it must have 1 to 128 characters, only letters, digits and \
         \"_-=@:\""
    )]
    BadUser,
}

impl AuthError {
    /// The error code for the client.
    pub fn code(&self) -> ErrorCode {
        if *self == Self::Expired {
            ErrorCode::TokenExpired
        } else if self.retry_after().is_some() {
            ErrorCode::Unavailable
        } else {
            ErrorCode::Unauthorized
        }
    }

    /// When to try again, if nothing is wrong with the credential.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::KeysUnavailable { retry_after } | Self::ServiceUnavailable { retry_after, .. } = self {
            Some(*retry_after)
        } else {
            None
        }
    }

    /// The reason for metrics and logs: a stable word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::Malformed { .. } | Self::Unreadable { .. } => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::UnnamedKey => "missing_kid",
            Self::KeysUnavailable { .. } => KEYS_UNAVAILABLE,
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::CriticalHeader => "critical_header",
            Self::NestedToken => "nested_token",
            Self::WrongTokenType { .. } => "wrong_token_type",
            Self::BadSignature => "bad_signature",
            Self::MissingClaim { .. } => "missing_claim",
            Self::BadClaim { .. } => "bad_claim",
            Self::Milliseconds { .. } => "milliseconds",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedInFuture => "issued_in_future",
            Self::LivesTooLong => "lives_too_long",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::BadSubject => "bad_subject_token",
            Self::BadUserClaim { .. } => "bad_user",
            Self::UnverifiedEmail { .. } => "email_not_verified",
            Self::MissingRole { .. } => "missing_role",
            Self::NoRole { .. } => "unknown_role",
            Self::RoleTemplate { problem, .. } => template_reason(problem),
            Self::Signing { .. } => "signing_failed",
            Self::UnknownApiKey => "unknown_api_key",
            Self::ApiKeysNotAccepted => "api_key_not_accepted",
            Self::Revoked | Self::RevokedWithoutTime => "revoked",
            Self::NeedsService => "needs_service",
            Self::RefusedByService { .. } => "refused_by_service",
            Self::ServiceUnavailable { why, .. } => why.reason(),
            Self::IdentityNotTrusted => "identity_not_trusted",
            Self::BadUser => "bad_user",
            Self::UserOfAnotherIssuer => "user_of_another_issuer",
        }
    }
}

fn template_reason(error: &TemplateError) -> &'static str {
    match error {
        TemplateError::Missing { .. } => "missing_claim",
        TemplateError::BadToken { .. } => "bad_subject_token",
        TemplateError::TooManyValues { .. } => "too_many_values",
        TemplateError::Unclosed
        | TemplateError::Unopened
        | TemplateError::BadPlaceholder { .. }
        | TemplateError::TwoPlaceholders { .. }
        | TemplateError::TwoDefaults { .. }
        | TemplateError::Pattern(_) => "bad_template",
    }
}
