//! Golden transcripts: written conversations that the session alone and real sockets must both reproduce. This file
//! defines them, `parse.rs` reads them, and `play.rs` plays them on a session, which `shell.rs` drives.
//!
//! The first comment is the title. Then follows the head, with one declaration per line, whose clauses are separated by
//! `;`:
//!
//! ```text
//! path: /ws?token=$alice
//! connect: alice
//! identity alice: user u1; subscribe chat.> prices.*; deny-subscribe chat.staff; publish chat.general; expires 10s
//! class prices.>: latest; snapshot; max_rate 250ms
//! limits: max_errors 2; ping_interval 20s
//! switches: guests console
//! ```
//!
//! `switches` are those of the vocabulary that are on. Without `path`, the client connects to `/ws`. Without `connect`, the handshake has no credential. An identity may
//! also have more claims (`claims {"accounts":["A1"]}`) and access to statistics (`stats counts`), use an `api_key`, or
//! have no credential and only name its user (`trust_client_identity`). Everything else is as in the default
//! configuration. A token without `expires` is valid for an hour. A class with `snapshot` has the last values of all
//! earlier lines; over real sockets, another client is subscribed to its channels meanwhile, but not with
//! `snapshot always`. Then follows the conversation:
//!
//! | line | is |
//! |---|---|
//! | `> text`, `> base64:AP8=` | a text or binary message of the client; `"$alice"` in it represents Alice's token |
//! | `< json` | a message of the server; `"$time"`, `"$naive"`, `"$number"`, `"$text"`, `"$any"` represent what varies |
//! | `! words` | an output of the session for its shell |
//! | `>> GET /ws/stats as alice (Name: value) body` | an HTTP request during the conversation; `<< 200 json` is the response |
//! | `= words` | an input for the session: see [`ShellInput`] |
//! | `* subject (Name: value; Other: value) payload` | a publication on NATS; headers are optional |
//! | `@ +25s` | time passes |
//! | `# words` | a comment |
//!
//! A payload is the rest of its line, or bytes as `base64:AP8=`; text that begins with `(` must be written as base64.

mod head;
mod line;
mod parse;
pub mod play;
pub mod shell;
mod shell_elements;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use thiserror::Error;
use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::diagnostic::ValueError;
use tidegate_protocol::class::Classes;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::session::limits::Rate;
use tidegate_protocol::session::settings::Settings;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;
use tidegate_protocol::subject::SubjectError;
use tidegate_protocol::subject::SubjectLimits;

use crate::compile::compile_with;
use crate::model::CompiledVocabulary;

/// One conversation, and the settings that it needs.
#[derive(Clone, Debug)]
pub struct Transcript {
    pub title: String,
    /// The session's settings, with the classes.
    pub settings: Settings,
    /// Everyone whose credential appears in the transcript.
    pub personas: Vec<Persona>,
    /// The path and query that the client connects to. `$alice` in it represents Alice's token.
    pub target: String,
    /// The persona whose credential the handshake has.
    pub connect: Option<String>,
    /// The switches of the vocabulary that are on. Compile it with them: [`Transcript::vocabulary`].
    pub switches: Vec<String>,
    /// The lines of the conversation, in order.
    pub steps: Vec<Step>,
}

/// A client with a credential.
#[derive(Clone, Debug)]
pub struct Persona {
    /// The name of the credential in the transcript. The user's name may differ.
    pub name: String,
    /// The identity that the credential proves.
    pub identity: Identity,
    /// How long the credential is valid after it was sent.
    pub expires_in: Option<Duration>,
    pub credential: Credential,
}

/// A kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A token; no credential if the identity is anonymous.
    Token,
    ApiKey,
    /// No credential: the client only names its user.
    Name,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub line: usize,
    pub action: Action,
}

/// The content of a line.
#[derive(Clone, Debug)]
pub enum Action {
    /// `>`: a message of the client.
    Client(ClientMessage),
    /// `<`: a message of the server.
    Server(Expected),
    /// `!`: an output of the session for its shell, in words.
    Output(String),
    /// `=`: an input for the session.
    Input(ShellInput),
    /// `*`: a publication on NATS.
    Publication(Published),
    /// `@`: time passes.
    After(Duration),
    /// `>>`: an HTTP request.
    HttpRequest(HttpRequest),
    /// `<<`: the response.
    HttpResponse { status: u16, body: Option<Expected> },
}

/// An HTTP request during the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    pub method: String,
    /// The path and query: `/ws/stats?x=1`
    pub target: String,
    /// The persona whose credential it has.
    pub persona: Option<String>,
    /// Headers besides those that every request has.
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

/// An input for the session other than messages and publications, with its notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShellInput {
    /// `joined chat.general`, `joined prices.AAPL stale for 5s`. The last values come from earlier publications in the
    /// transcript.
    Joined { channel: Pattern, stale_for: Option<Duration> },
    /// `unjoined chat.general unavailable`
    Unjoined { channel: Pattern, code: ErrorCode },
    /// `lost chat.general nats`, `lost chat.general overflow 12`
    Lost { channel: Pattern, cause: GapCause, dropped: Option<u64> },
    /// `stale prices.AAPL for 5s`
    Stale { channel: Pattern, stale_for: Duration },
    /// `authenticated alice`
    Authenticated { persona: String },
    /// `unauthenticated`
    Unauthenticated,
    /// `narrowed alice`: the same user may do less, as this identity.
    Narrowed { persona: String },
    /// `published chat.general`: answers the oldest waiting publish on this subject.
    Published { subject: Subject },
    /// `unpublished chat.general unavailable`
    Unpublished { subject: Subject, code: ErrorCode },
    /// `replied time.now {"time":5}`
    Replied { subject: Subject, payload: Bytes },
    /// `unreplied time.now no_responders`
    Unreplied { subject: Subject, code: ErrorCode },
    /// `alive`: a control frame arrived.
    Alive,
    /// `failed 1009`: the transport failed.
    Failed(Disconnect),
    /// `drain retry after 3s`
    Drain { retry_after: Duration },
}

/// A publication by a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub subject: Subject,
    /// Its headers, in order.
    pub headers: Vec<(String, String)>,
    pub payload: Bytes,
}

/// A message of the server, with wildcards for what varies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(Value);

/// An error in a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {error}")]
pub struct TranscriptError {
    pub line: usize,
    /// What is wrong, and how to fix it.
    pub error: LineError,
}

/// An error in one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineError {
    #[error("the first line must be the title: begin it with \"# \" and say what the conversation shows")]
    NoTitle,
    #[error(
        "unknown declaration: use path, connect, identity, class, limits or switches, with a colon and a space"
    )]
    Declaration,
    #[error("declarations come before the conversation: move this line up")]
    LateDeclaration,
    #[error("unknown clause {clause:?}: `transcript/head.rs` has them all")]
    Clause { clause: String },
    #[error(
        "there is no identity {name:?}: declare it in the head, as in \"identity {name}: subscribe chat.>\""
    )]
    UnknownIdentity { name: String },
    #[error("{text:?} is not a number")]
    Number { text: String },
    #[error("{text:?} is not a duration: write it like 250ms, 25s or 1h")]
    Duration { text: String },
    #[error("write the time that passes like \"@ +25s\"")]
    After,
    #[error("{text:?} is not a subject or pattern: {error}")]
    Subject { text: String, error: SubjectError },
    #[error("unknown input {verb:?}: the documentation of `ShellInput` has them all")]
    Input { verb: String },
    #[error("the line has too many words: remove {text:?}")]
    TrailingWords { text: String },
    #[error("{name:?} is not an error code: `docs/errors` has them all")]
    ErrorCode { name: String },
    #[error("{name:?} is not the cause of a gap: use one of `GapCause`")]
    GapCause { name: String },
    #[error("{text:?} is not a close code: `docs/errors` has them all")]
    CloseCode { text: String },
    #[error("write a request like \">> GET /path as alice\", and its response like \"<< 200 {{…}}\"")]
    HttpRequest,
    #[error("the text after \"base64:\" is not base64 with padding")]
    Base64,
    #[error("write headers in parentheses, as in \"(Name: value; Other: value)\"")]
    Headers,
    #[error("the server's message is not JSON: {error}")]
    Json { error: String },
    #[error("{text:?} is not a wildcard: use \"$time\", \"$naive\", \"$number\", \"$text\" or \"$any\"")]
    Wildcard { text: String },
}

impl Transcript {
    /// Compiles a vocabulary with the switches of this transcript, and with `more`.
    pub fn vocabulary(
        &self,
        file: &str,
        more: &[String],
    ) -> Result<Arc<CompiledVocabulary>, Vec<Diagnostic>> {
        let switches: Vec<&str> = self.switches.iter().chain(more).map(String::as_str).collect();
        let mut vocabulary = compile_with(file, &switches)?.vocabulary;
        vocabulary.encodes_users = self.encodes_users();
        let unknown = switches.iter().filter_map(|name| Some((name, vocabulary.check_switch(name).err()?)));
        let unknown: Vec<Diagnostic> = unknown
            .map(|(name, ValueError { message, help })| {
                Diagnostic::error("switches", format!("\"{name}\" {message}"), help)
            })
            .collect();
        if unknown.is_empty() { Ok(Arc::new(vocabulary)) } else { Err(unknown) }
    }

    /// Whether it is for nodes with `auth.user_claim`: a user has a name that is no token.
    fn encodes_users(&self) -> bool {
        self.personas.iter().any(|persona| persona.identity.encoded_user.is_some())
    }

    /// The persona with this name.
    pub fn persona(&self, name: &str) -> Option<&Persona> {
        self.personas.iter().find(|persona| persona.name == name)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Expected {
    /// Parses an expected message. Strings that begin with `$` must be wildcards.
    pub fn parse(json: &str) -> Result<Self, LineError> {
        let value =
            serde_json::from_str(json).map_err(|error| LineError::Json { error: error.to_string() })?;
        check_wildcards(&value)?;
        Ok(Self(value))
    }

    /// Compares a message as JSON, ignoring the order of members. The error names the first difference.
    pub fn check(&self, message: &[u8]) -> Result<(), String> {
        let actual: Value = serde_json::from_slice(message).map_err(|error| format!("not JSON: {error}"))?;
        differs(&self.0, &actual, "").map_or(Ok(()), Err)
    }
}

const WILDCARDS: [&str; 5] = ["$time", "$naive", "$number", "$text", "$any"];

fn check_wildcards(value: &Value) -> Result<(), LineError> {
    match value {
        Value::String(text) if text.starts_with('$') && !WILDCARDS.contains(&text.as_str()) => {
            Err(LineError::Wildcard { text: text.clone() })
        }
        Value::Array(values) => values.iter().try_for_each(check_wildcards),
        Value::Object(members) => members.values().try_for_each(check_wildcards),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn differs(expected: &Value, actual: &Value, path: &str) -> Option<String> {
    match (expected, actual) {
        (Value::String(word), _) if word.starts_with('$') => {
            (!is_match(word, actual)).then(|| format!("{path}: {actual} is not {word}"))
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            let mut pairs = expected.iter().zip(actual).enumerate();
            pairs.find_map(|(at, (expected, actual))| differs(expected, actual, &format!("{path}[{at}]")))
        }
        (Value::Object(expected), Value::Object(actual)) => {
            if let Some(name) = actual.keys().find(|name| !expected.contains_key(*name)) {
                return Some(format!("{path}.{name}: is unexpected"));
            }
            expected.iter().find_map(|(name, expected)| {
                let path = format!("{path}.{name}");
                match actual.get(name) {
                    Some(actual) => differs(expected, actual, &path),
                    None => Some(format!("{path}: is missing")),
                }
            })
        }
        (expected, actual) if expected == actual => None,
        (expected, actual) => Some(format!("{path}: {actual} is not {expected}")),
    }
}

fn is_match(wildcard: &str, actual: &Value) -> bool {
    match wildcard {
        "$time" => actual.as_str().is_some_and(|text| humantime::parse_rfc3339(text).is_ok()),
        "$naive" => actual.as_str().is_some_and(|text| humantime::parse_rfc3339(&format!("{text}Z")).is_ok()),
        "$number" => actual.is_u64(),
        "$text" => actual.as_str().is_some_and(|text| !text.is_empty()),
        _ => true,
    }
}

/// The settings of the default configuration.
pub fn default_settings() -> Settings {
    Settings {
        node: Arc::from("node-1"),
        classes: Classes::default(),
        subjects: SubjectLimits::default(),
        max_message: 65_536,
        max_subscriptions: 1000,
        max_wildcards: 50,
        max_overlapping: 8,
        join_notice_after: Duration::from_secs(5),
        max_errors: 20,
        commands: Rate { per_second: 50, burst: 200 },
        requests_in_flight: 16,
        request_timeout: Duration::from_secs(2),
        request_timeout_max: Duration::from_secs(30),
        publish_max: 65_536,
        auth_timeout: Duration::from_secs(5),
        ping_interval: Duration::from_secs(25),
        pong_timeout: Duration::from_secs(10),
        expiring: Duration::from_secs(30),
        hold: false,
    }
}

#[cfg(test)]
mod tests;
