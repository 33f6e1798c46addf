//! `AuthError`: why a credential was refused, in words, as a code for the client, and as a reason for logs.

use thiserror::Error;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::template::TemplateError;

/// Why a token was refused. Messages never contain the token or a value from it.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum AuthError {
    #[error("the token has more than {max} bytes; make it smaller or raise auth.max_token_bytes")]
    TooLong { max: usize },
    #[error("the token is malformed: {problem}")]
    Malformed { problem: &'static str },
    #[error("the token is malformed: its {part} {how}")]
    Unreadable { part: &'static str, how: &'static str },
    #[error("the token names no key that is configured; set its \"kid\" to that of an [[auth.key]]")]
    UnknownKey,
    #[error("the token's \"alg\" is not the algorithm of its key; sign it with the one in [[auth.key]]")]
    WrongAlgorithm,
    #[error("the token has a \"crit\" header, and no critical extension is supported; issue it without")]
    CriticalHeader,
    #[error("the token wraps another token (\"cty\" is \"JWT\"); send the inner one")]
    NestedToken,
    #[error("the token's \"typ\" is not in auth.token_types; send the right kind of token")]
    WrongTokenType,
    #[error(
        "the token's signature does not fit its key; check that issuer and Tidegate have the same secret"
    )]
    BadSignature,
    #[error("the token lacks the claim \"{claim}\"; let the issuer add it")]
    MissingClaim { claim: String },
    #[error("the token's claim \"{claim}\" has the wrong type or an impossible value")]
    BadClaim { claim: String },
    #[error(
        "the token's \"{claim}\" counts milliseconds; it must count seconds since 1970 (RFC 7519), so divide it by 1000"
    )]
    Milliseconds { claim: &'static str },
    #[error("the token has expired; get a new one")]
    Expired,
    #[error("the token's \"nbf\" lies in the future; wait, or set the clocks right")]
    NotYetValid,
    #[error("the token's \"iat\" lies in the future; set the clocks right")]
    IssuedInFuture,
    #[error("the token lives longer than auth.max_token_lifetime_s allows; issue it for a shorter time")]
    LivesTooLong,
    #[error("the token's \"iss\" is not auth.issuer")]
    WrongIssuer,
    #[error(
        "the token's \"aud\" does not name auth.audience; set that key to the audience that tokens are issued for"
    )]
    WrongAudience,
    #[error(
        "the token's \"sub\" cannot be part of a subject; it must have 1 to 128 characters, only letters, digits \
         and \"_-=@:\""
    )]
    BadSubject,
    #[error(
        "the token has no role: its claim \"{claim}\" is absent or empty; let the issuer add it, or name the claim that \
         has the role with auth.role_claim"
    )]
    MissingRole { claim: String },
    #[error("the token's claim \"{claim}\" names no [[role]] that is configured; names are compared exactly")]
    NoRole { claim: String },
    #[error("the role \"{role}\" cannot be filled from the token: {problem}")]
    RoleTemplate { role: String, problem: TemplateError },
    #[error("the token cannot be signed: {problem}")]
    Signing { problem: String },
    #[error("this is no token, and no API key that is configured; send one of them, whole")]
    UnknownApiKey,
    #[error("a credential is required here; send a token")]
    IdentityNotTrusted,
    #[error(
        "the user's name cannot be part of a subject; it must have 1 to 128 characters, only letters, digits and \
         \"_-=@:\""
    )]
    BadUser,
}

impl AuthError {
    /// What a client is told to act on.
    pub fn code(&self) -> ErrorCode {
        if *self == Self::Expired { ErrorCode::TokenExpired } else { ErrorCode::Unauthorized }
    }

    /// A stable word for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::Malformed { .. } | Self::Unreadable { .. } => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::CriticalHeader => "critical_header",
            Self::NestedToken => "nested_token",
            Self::WrongTokenType => "wrong_token_type",
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
            Self::MissingRole { .. } => "missing_role",
            Self::NoRole { .. } => "unknown_role",
            Self::RoleTemplate { problem, .. } => template_reason(problem),
            Self::Signing { .. } => "signing_failed",
            Self::UnknownApiKey => "unknown_api_key",
            Self::IdentityNotTrusted => "identity_not_trusted",
            Self::BadUser => "bad_user",
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
        | TemplateError::BadHole { .. }
        | TemplateError::TwoHoles { .. }
        | TemplateError::Pattern(_) => "bad_template",
    }
}
