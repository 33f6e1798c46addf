//! Golden transcripts: conversations written down, which the session alone and real sockets both have to repeat.
//! This file reads them, `play.rs` repeats them on the session alone, with `shell.rs` in place of a connection.
//!
//! The first comment is the title. Then comes the head, one declaration a line, its clauses parted by `;`:
//!
//! ```text
//! path: /ws?token=$alice
//! connect: alice
//! identity alice: user u1; subscribe chat.> prices.*; deny-subscribe chat.staff; publish chat.general; expires 10s
//! class prices.>: latest; snapshot; max_rate 250ms
//! limits: max_errors 2; ping_interval 20s
//! ```
//!
//! Without `path` the client comes to `/ws`. Without `connect` the handshake shows no credential. An identity may also
//! say what else its token says (`claims {"accounts":["A1"]}`), which figures it may see (`stats counts`), that its
//! credential is an `api_key`, or that it shows none and has `trust_client_identity`. What is not declared is as in
//! the default configuration. An identity that says neither `expires` nor `anonymous` lasts an hour. Then comes the
//! conversation:
//!
//! | line | is |
//! |---|---|
//! | `> text`, `> base64:AP8=` | a text or binary message of the client; `"$alice"` in it represents Alice's token |
//! | `< json` | a message of the server; `"$time"`, `"$number"`, `"$text"` and `"$any"` represent what varies |
//! | `! words` | what the session asks of whoever drives it |
//! | `>> GET /ws/stats as alice (Name: value) body` | an HTTP call next to the conversation, until `<< 200 json` |
//! | `= words` | what it is answered, or told unasked: see [`Answer`] |
//! | `* subject (Name: value; Other: value) payload` | a publication on NATS; headers may be left out |
//! | `@ +25s` | time passes |
//! | `# words` | a comment |
//!
//! A payload is the rest of its line, or bytes as `base64:AP8=`; text that begins with `(` is written so too.

mod head;
mod line;
mod parse;
pub mod play;
pub mod shell;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use thiserror::Error;
use tidegate_protocol::class::Classes;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::message::GapCause;
use tidegate_protocol::session::limits::Rate;
use tidegate_protocol::session::settings::Settings;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;
use tidegate_protocol::subject::SubjectError;
use tidegate_protocol::subject::SubjectLimits;

/// One conversation, and what must hold for it to come about.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// What it shows.
    pub title: String,
    /// By which rules the session lives; the classes are among them.
    pub settings: Settings,
    /// Everybody whose credential is shown in it.
    pub personas: Vec<Persona>,
    /// Where the client comes to: a path, and perhaps a query in which `$alice` represents Alice's token.
    pub target: String,
    /// Whose credential comes with the handshake.
    pub connect: Option<String>,
    /// What is said and done, in this order.
    pub steps: Vec<Step>,
}

/// Somebody who can show a credential.
#[derive(Clone, Debug)]
pub struct Persona {
    /// What the transcript calls the credential; the user's name may differ.
    pub name: String,
    /// Whom it proves.
    pub identity: Identity,
    /// How long it lasts from when it is shown.
    pub expires_in: Option<Duration>,
    /// What kind of credential it is.
    pub credential: Credential,
}

/// What somebody shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A token; nothing, if the identity is anonymous.
    Token,
    /// An API key.
    ApiKey,
    /// Nothing but its name.
    Name,
}

/// One line of a conversation.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its number in the file.
    pub line: usize,
    /// What happens.
    pub action: Action,
}

/// What a line says.
#[derive(Clone, Debug)]
pub enum Action {
    /// `>`: the client says something.
    Client(ClientMessage),
    /// `<`: the server says something.
    Server(Expected),
    /// `!`: the session asks something of its shell, in the words of whoever runs the transcript.
    Asked(String),
    /// `=`: the session is told something.
    Answer(Answer),
    /// `*`: something is published on NATS.
    Publication(Published),
    /// `@`: time passes.
    After(Duration),
    /// `>>`: an HTTP call.
    Call(Call),
    /// `<<`: its answer.
    Called { status: u16, body: Option<Expected> },
}

/// An HTTP call next to the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `GET`
    pub method: String,
    /// `/ws/stats?x=1`
    pub target: String,
    /// Whose credential it shows.
    pub persona: Option<String>,
    /// Headers next to those of every call.
    pub headers: Vec<(String, String)>,
    /// What it sends.
    pub body: Option<String>,
}

/// What a session is told, other than messages and publications. The text in code font is how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `joined chat.general`, `joined prices.AAPL stale for 5s`. The last values follow from the publications so far.
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
    /// `published chat.general`: of several that wait, the oldest.
    Published { subject: Subject },
    /// `unpublished chat.general unavailable`
    Unpublished { subject: Subject, code: ErrorCode },
    /// `replied time.now {"time":5}`
    Replied { subject: Subject, payload: Bytes },
    /// `unreplied time.now no_responders`
    Unreplied { subject: Subject, code: ErrorCode },
    /// `alive`: a control frame came.
    Alive,
    /// `failed 1009`: the transport cannot go on.
    Failed(Disconnect),
    /// `drain retry after 3s`
    Drain { retry_after: Duration },
}

/// A publication as a producer makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where to.
    pub subject: Subject,
    /// Its headers, in the order in which they are.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub payload: Bytes,
}

/// A message of the server, but for what varies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(Value);

/// What is wrong with a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {mistake}")]
pub struct TranscriptError {
    /// In which line.
    pub line: usize,
    /// What, and how to mend it.
    pub mistake: Mistake,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Mistake {
    #[error("the first line must be the title: begin it with \"# \" and say what the conversation shows")]
    NoTitle,
    #[error(
        "unknown declaration: known are path, connect, identity, class and limits, each with a colon and a space"
    )]
    Declaration,
    #[error("a declaration stands behind the first line of the conversation: move it up")]
    LateDeclaration,
    #[error("unknown clause {clause:?}: look at the table of clauses beside the parser")]
    Clause { clause: String },
    #[error(
        "there is no identity {name:?}: declare it in the head, as in \"identity {name}: subscribe chat.>\""
    )]
    Nobody { name: String },
    #[error("{text:?} is no number")]
    Number { text: String },
    #[error("{text:?} is no time: write it like 250ms, 25s or 1h")]
    Duration { text: String },
    #[error("time passes like this: \"@ +25s\"")]
    After,
    #[error("{text:?} is no subject or pattern: {error}")]
    Subject { text: String, error: SubjectError },
    #[error("unknown answer {verb:?}: known are those in the documentation of `Answer`")]
    Answer { verb: String },
    #[error("{text:?} has more words than the answer takes")]
    Superfluous { text: String },
    #[error("{name:?} is no error code: take one of the table in `protocol::error`")]
    ErrorCode { name: String },
    #[error("{name:?} is no cause of a gap: take one of `GapCause`")]
    GapCause { name: String },
    #[error("{text:?} is no close code: take one of the table in `protocol::disconnect`")]
    CloseCode { text: String },
    #[error("a call is written like this: \">> GET /path as alice\", its answer like this: \"<< 200 {{…}}\"")]
    Call,
    #[error("what stands behind \"base64:\" is not base64 with padding")]
    Base64,
    #[error("headers stand in round brackets, as in \"(Name: value; Other: value)\"")]
    Headers,
    #[error("the server's message is not JSON: {error}")]
    Json { error: String },
    #[error(
        "{text:?} stands for nothing: what varies is \"$time\", \"$naive\", \"$number\", \"$text\" or \"$any\""
    )]
    Wildcard { text: String },
}

impl Transcript {
    /// The one who is called so.
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
    /// Reads a server's message; strings that begin with `$` must be wildcards.
    pub fn parse(json: &str) -> Result<Self, Mistake> {
        let value = serde_json::from_str(json).map_err(|error| Mistake::Json { error: error.to_string() })?;
        check_wildcards(&value)?;
        Ok(Self(value))
    }

    /// Compares a message as JSON: the order of members does not count, everything else does. The error says where
    /// it differs first.
    pub fn check(&self, message: &[u8]) -> Result<(), String> {
        let actual: Value = serde_json::from_slice(message).map_err(|error| format!("not JSON: {error}"))?;
        differs(&self.0, &actual, "").map_or(Ok(()), Err)
    }
}

const WILDCARDS: [&str; 5] = ["$time", "$naive", "$number", "$text", "$any"];

fn check_wildcards(value: &Value) -> Result<(), Mistake> {
    match value {
        Value::String(text) if text.starts_with('$') && !WILDCARDS.contains(&text.as_str()) => {
            Err(Mistake::Wildcard { text: text.clone() })
        }
        Value::Array(values) => values.iter().try_for_each(check_wildcards),
        Value::Object(members) => members.values().try_for_each(check_wildcards),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn differs(expected: &Value, actual: &Value, path: &str) -> Option<String> {
    match (expected, actual) {
        (Value::String(word), _) if word.starts_with('$') => {
            (!stands_for(word, actual)).then(|| format!("{path}: {actual} is not {word}"))
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            let mut pairs = expected.iter().zip(actual).enumerate();
            pairs.find_map(|(at, (expected, actual))| differs(expected, actual, &format!("{path}[{at}]")))
        }
        (Value::Object(expected), Value::Object(actual)) => {
            if let Some(name) = actual.keys().find(|name| !expected.contains_key(*name)) {
                return Some(format!("{path}.{name}: is there and should not be"));
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

fn stands_for(wildcard: &str, actual: &Value) -> bool {
    match wildcard {
        "$time" => actual.as_str().is_some_and(|text| humantime::parse_rfc3339(text).is_ok()),
        "$naive" => actual.as_str().is_some_and(|text| humantime::parse_rfc3339(&format!("{text}Z")).is_ok()),
        "$number" => actual.is_u64(),
        "$text" => actual.as_str().is_some_and(|text| !text.is_empty()),
        _ => true,
    }
}

/// As in the default configuration.
pub fn default_settings() -> Settings {
    Settings {
        node: Arc::from("node-1"),
        classes: Classes::default(),
        subjects: SubjectLimits::default(),
        max_message: 65_536,
        max_subscriptions: 1000,
        max_wildcards: 50,
        max_overlapping: 8,
        join_patience: Duration::from_secs(5),
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
