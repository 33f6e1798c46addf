//! Placeholder: a place in a template for a value, such as `{msg.symbol|upper}`: its source, the part of it, and
//! filters.

use std::borrow::Cow;
use std::time::Duration;
use std::time::SystemTime;

use thiserror::Error;
use tidegate_protocol::json;
use tidegate_protocol::json::Step;
use tidegate_protocol::json::paths::JsonParts;
use tidegate_protocol::payload::is_embeddable;
use tidegate_protocol::template::is_token_value;
use tidegate_protocol::user_token;

use crate::time_format::TimeFormat;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    User,
    Claims,
    /// `{session}`: the session id
    Session,
    /// `{node}`: the node name
    Node,
    /// `{path.x}`: a parameter of the path
    Path(Box<str>),
    /// `{query.x}`: the first value of `x`, or else of `x[]`
    Query(Box<str>),
    /// `{query.x|split}`: all values of `x` and `x[]`, with commas between them
    QueryList(Box<str>),
    /// `{header.x}`: a header of the handshake or HTTP request
    Header(Box<str>),
    /// `{var.x}`: a value that a rule set
    Variable(Box<str>),
    /// `{msg.x.y}`, `{msg}`: the client's message
    Message,
    /// `{item}`: the current element of `each`
    Item,
    /// `{joined}`: the elements of `each` whose channels are joined
    Joined,
    /// `{sub.x}`: a value that `keep` stored with the subscription
    Subscription(Box<str>),
    /// `{data.x.y}`, `{data}`: the payload
    Data,
    Subject,
    /// `{subject.N}`: token N of the subject, from 0
    Token(usize),
    /// `{subject.N..}`: the tokens of the subject from token N to the end, with their dots
    Tokens(usize),
    /// `{capture.N}`: the token at wildcard N of the pattern, from 0
    Capture(usize),
    /// `{time}`: when the node received the publication
    Time,
    /// `{nats.Name}`: a NATS header
    NatsHeader(Box<str>),
    /// `{reply.x.y}`, `{reply}`: the reply of a service
    Reply,
    /// `{code}`: the name of an error
    Code,
    /// `{message}`: the text of an error
    ErrorMessage,
    /// `{channel}`: the channel of an error or notice
    Channel,
    /// `{cause}`: the cause of a gap
    Cause,
    /// `{dropped}`: how many publications are missing in a gap
    Dropped,
    /// `{since}`: when the last publication of a stale channel arrived
    Since,
    /// `{in_ms}`: how long the credential is still valid
    ExpiresIn,
    CloseCode,
    /// `{reason}`: the reason of a close
    Reason,
    /// `{retry_after_ms}`: when the client should reconnect
    RetryAfter,
    Now,
    Stats,
    /// `{list}`: last values
    List,
    /// `{count}`: the number of last values
    Count,
    /// `{status}`: the health of the node
    Status,
}

/// When a placeholder has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// During the session.
    Session,
    /// While a client's message is handled.
    Message,
    /// During the subscription.
    Subscription,
    /// While a publication is rendered.
    Publication,
    /// After a service replied.
    Reply,
    /// While an error or a notice is rendered.
    Outcome,
    /// While the response to an HTTP request is rendered.
    Call,
    Always,
}

/// A filter. Filters are applied from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    Upper,
    Lower,
    /// Splits a text at commas into a list of texts.
    Split,
    /// Parses a text as a JSON number.
    Number,
    /// Turns any value into a text: its JSON, or the text itself.
    Text,
    /// Parses a text as JSON.
    Json,
    /// Turns the name of a user into its token in subjects.
    UserToken,
    /// Turns a user's token into the name.
    UserName,
}

/// What a placeholder without a value becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// An error of the client or `null`, depending on the template.
    None,
    /// Nothing: its member or element is left out.
    Omit,
    /// This JSON.
    Default(Box<str>),
}

/// A placeholder in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// As in the file, without filters.
    pub name: Box<str>,
    pub source: Source,
    /// The part of the source that it shows.
    steps: Box<[Step]>,
    filters: Box<[Filter]>,
    time: Option<TimeFormat>,
    /// Whether its value may be several tokens of a subject.
    pub(crate) is_dotted: bool,
    /// What it becomes without a value.
    pub fallback: Fallback,
}

/// What is wrong with a placeholder.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlaceholderError {
    #[error("there is no placeholder {{{name}}}")]
    Unknown { name: String },
    /// It has too few or too many parts: `{path}`, `{user.x}`.
    #[error("{{{name}}} is written {{{form}}}")]
    Form { name: String, form: &'static str },
    #[error("there is no filter \"{name}\"")]
    Filter { name: String },
    /// It has more than one fallback.
    #[error("\"default\" and \"optional\" exclude each other in {{{name}}}")]
    TwoFallbacks { name: String },
    /// It has a time filter, but is not an instant.
    #[error("{{{name}}} is not a time, so \"{filter}\" means nothing")]
    NoInstant { name: String, filter: String },
}

/// The value of a placeholder.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'v> {
    Text(Cow<'v, str>),
    /// JSON text.
    Json(Cow<'v, str>),
}

/// The value of a source.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceValue<'v> {
    Value(Value<'v>),
    /// An instant, for the time format of the placeholder.
    Time(SystemTime),
}

/// Gives placeholders their values.
pub trait Resolve {
    /// The value of a source. `None` if it has none.
    fn value(&self, source: &Source) -> Option<SourceValue<'_>>;

    /// The user as a token of subjects, which may differ from the value of [`Source::User`].
    fn user_token(&self) -> Option<&str> {
        None
    }

    /// Whether the names of users are encoded in subjects.
    fn encodes_users(&self) -> bool {
        false
    }

    /// The members of a JSON source, if they are extracted together in one pass.
    fn parts(&self, _: &Source) -> Option<JsonParts<'_>> {
        None
    }
}

/// What may follow the first word of a placeholder.
#[derive(Clone, Copy)]
enum Suffix {
    /// Nothing.
    Bare(fn() -> Source),
    /// Any number of fields.
    Fields(fn() -> Source),
    /// At least one field.
    SomeFields(fn() -> Source),
    /// One name.
    Name(fn(Box<str>) -> Source),
    /// A number.
    Number(fn(usize) -> Source),
    /// Nothing, a number, or a number and `..`.
    Tokens(fn() -> Source, fn(usize) -> Source, fn(usize) -> Source),
}

/// The first word of each placeholder, an example, and its source.
const SOURCES: [(&str, &str, Suffix); 33] = [
    ("user", "user", Suffix::Bare(|| Source::User)),
    ("claims", "claims.name", Suffix::SomeFields(|| Source::Claims)),
    ("session", "session", Suffix::Bare(|| Source::Session)),
    ("node", "node", Suffix::Bare(|| Source::Node)),
    ("path", "path.name", Suffix::Name(Source::Path)),
    ("query", "query.name", Suffix::Name(Source::Query)),
    ("header", "header.name", Suffix::Name(Source::Header)),
    ("var", "var.name", Suffix::Name(Source::Variable)),
    ("msg", "msg.field", Suffix::Fields(|| Source::Message)),
    ("item", "item", Suffix::Bare(|| Source::Item)),
    ("joined", "joined", Suffix::Bare(|| Source::Joined)),
    ("sub", "sub.name", Suffix::Name(Source::Subscription)),
    ("data", "data.field", Suffix::Fields(|| Source::Data)),
    ("subject", "subject.0", Suffix::Tokens(|| Source::Subject, Source::Token, Source::Tokens)),
    ("capture", "capture.0", Suffix::Number(Source::Capture)),
    ("time", "time", Suffix::Bare(|| Source::Time)),
    ("nats", "nats.Name", Suffix::Name(Source::NatsHeader)),
    ("reply", "reply.field", Suffix::Fields(|| Source::Reply)),
    ("code", "code", Suffix::Bare(|| Source::Code)),
    ("message", "message", Suffix::Bare(|| Source::ErrorMessage)),
    ("channel", "channel", Suffix::Bare(|| Source::Channel)),
    ("cause", "cause", Suffix::Bare(|| Source::Cause)),
    ("dropped", "dropped", Suffix::Bare(|| Source::Dropped)),
    ("since", "since", Suffix::Bare(|| Source::Since)),
    ("in_ms", "in_ms", Suffix::Bare(|| Source::ExpiresIn)),
    ("close_code", "close_code", Suffix::Bare(|| Source::CloseCode)),
    ("reason", "reason", Suffix::Bare(|| Source::Reason)),
    ("retry_after_ms", "retry_after_ms", Suffix::Bare(|| Source::RetryAfter)),
    ("now", "now", Suffix::Bare(|| Source::Now)),
    ("stats", "stats.name", Suffix::SomeFields(|| Source::Stats)),
    ("list", "list", Suffix::Bare(|| Source::List)),
    ("count", "count", Suffix::Bare(|| Source::Count)),
    ("status", "status", Suffix::Bare(|| Source::Status)),
];
const FILTERS: [(&str, Filter); 8] = [
    ("upper", Filter::Upper),
    ("lower", Filter::Lower),
    ("split", Filter::Split),
    ("number", Filter::Number),
    ("string", Filter::Text),
    ("json", Filter::Json),
    ("user_token", Filter::UserToken),
    ("user_name", Filter::UserName),
];
/// The filter of a value that may be several tokens of a subject.
const DOTTED: &str = "dotted";

/// An example of each placeholder, for hints.
pub fn known_placeholders() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().map(|(_, form, _)| *form)
}

/// The names of all filters.
pub fn known_filters() -> impl Iterator<Item = &'static str> {
    let names = FILTERS.iter().map(|(name, _)| *name).chain(TimeFormat::names());
    names.chain([DOTTED, "default", "optional"])
}

impl Source {
    /// When it has a value.
    pub fn scope(&self) -> Scope {
        match self {
            Self::User
            | Self::Claims
            | Self::Session
            | Self::Node
            | Self::Path(_)
            | Self::Query(_)
            | Self::QueryList(_)
            | Self::Header(_)
            | Self::Variable(_) => Scope::Session,
            Self::Message | Self::Item | Self::Joined => Scope::Message,
            Self::Subscription(_) => Scope::Subscription,
            Self::Data
            | Self::Subject
            | Self::Token(_)
            | Self::Tokens(_)
            | Self::Capture(_)
            | Self::Time
            | Self::NatsHeader(_) => Scope::Publication,
            Self::Reply => Scope::Reply,
            Self::Code
            | Self::ErrorMessage
            | Self::Channel
            | Self::Cause
            | Self::Dropped
            | Self::Since
            | Self::ExpiresIn
            | Self::CloseCode
            | Self::Reason
            | Self::RetryAfter => Scope::Outcome,
            Self::Stats | Self::List | Self::Count | Self::Status => Scope::Call,
            Self::Now => Scope::Always,
        }
    }

    /// Whether it can differ between two clients that receive the same publication.
    pub(crate) fn is_personal(&self) -> bool {
        matches!(self.scope(), Scope::Session | Scope::Subscription)
    }

    fn is_instant(&self) -> bool {
        matches!(self, Self::Time | Self::Now | Self::Since)
    }

    /// Parses the name of a placeholder into its source and the steps after it.
    fn read(name: &str) -> Result<(Self, Box<[Step]>), PlaceholderError> {
        let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
        let Some((_, form, suffix)) = SOURCES.iter().find(|(word, ..)| *word == first) else {
            return Err(PlaceholderError::Unknown { name: name.to_owned() });
        };
        let steps = || {
            let fields = rest?.split('.');
            fields.clone().all(|field| !field.is_empty()).then(|| fields.map(Step::read).collect())
        };
        let number = || rest?.parse().ok();
        let first_of_several = || rest?.strip_suffix("..")?.parse().ok();
        let read = match (suffix, rest) {
            (Suffix::Bare(source) | Suffix::Fields(source) | Suffix::Tokens(source, ..), None) => {
                Some((source(), Box::default()))
            }
            (Suffix::Fields(source) | Suffix::SomeFields(source), Some(_)) => {
                steps().map(|steps| (source(), steps))
            }
            (Suffix::Name(source), Some(name)) => {
                (!name.is_empty() && !name.contains('.')).then(|| (source(name.into()), Box::default()))
            }
            (Suffix::Number(source), Some(_)) => number().map(|number| (source(number), Box::default())),
            (Suffix::Tokens(_, one, several), Some(_)) => {
                let source = number().map(one).or_else(|| first_of_several().map(several));
                source.map(|source| (source, Box::default()))
            }
            (Suffix::Bare(_), Some(_))
            | (Suffix::SomeFields(_) | Suffix::Name(_) | Suffix::Number(_), None) => None,
        };
        read.ok_or_else(|| PlaceholderError::Form { name: name.to_owned(), form })
    }
}

impl Placeholder {
    /// The steps to the part of the source that it shows.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether both have the same value in every message. `dotted` changes no value.
    pub(crate) fn has_same_value(&self, other: &Self) -> bool {
        *self == Self { is_dotted: self.is_dotted, ..other.clone() }
    }

    /// The first field in its source.
    pub fn field(&self) -> Option<&str> {
        self.steps.first().map(Step::name)
    }

    /// Whether its value can contain quotation marks or JSON. Values that Tidegate makes and numbers cannot.
    pub(crate) fn may_hold_quotes(&self) -> bool {
        let is_ours = match &self.source {
            Source::User
            | Source::Session
            | Source::Node
            | Source::Time
            | Source::Now
            | Source::Since
            | Source::Dropped
            | Source::ExpiresIn
            | Source::CloseCode
            | Source::RetryAfter
            | Source::Count
            | Source::Status
            | Source::Cause => true,
            Source::Claims
            | Source::Path(_)
            | Source::Query(_)
            | Source::QueryList(_)
            | Source::Header(_)
            | Source::Variable(_)
            | Source::Message
            | Source::Item
            | Source::Joined
            | Source::Subscription(_)
            | Source::Data
            | Source::Subject
            | Source::Token(_)
            | Source::Tokens(_)
            | Source::Capture(_)
            | Source::NatsHeader(_)
            | Source::Reply
            | Source::Code
            | Source::ErrorMessage
            | Source::Channel
            | Source::Reason
            | Source::Stats
            | Source::List => false,
        };
        !is_ours && self.filters.last() != Some(&Filter::Number)
    }

    /// The group of `{stats.items_by_label.GROUP}`.
    pub(crate) fn group_of_items(&self) -> Option<&str> {
        match &self.steps[..] {
            [first, group, ..] if first.name() == "items_by_label" => Some(group.name()),
            _ => None,
        }
    }

    /// Parses the text between the braces. `time` is the format of an instant without a time filter.
    pub fn parse(text: &str, time: TimeFormat) -> Result<Self, PlaceholderError> {
        let mut parts = text.split('|').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let (source, steps) = Source::read(name)?;
        let mut placeholder = Self {
            name: name.into(),
            time: source.is_instant().then_some(time),
            source,
            steps,
            filters: Box::default(),
            is_dotted: false,
            fallback: Fallback::None,
        };
        let mut filters = Vec::new();
        for part in parts {
            let fallback = match (part.strip_prefix("default:"), part) {
                (Some(value), _) => Fallback::Default(json::json_or_string(value).into()),
                (None, "optional") => Fallback::Omit,
                (None, DOTTED) => {
                    placeholder.is_dotted = true;
                    continue;
                }
                (None, part) => {
                    placeholder.filter(name, part, &mut filters)?;
                    continue;
                }
            };
            if placeholder.fallback != Fallback::None {
                return Err(PlaceholderError::TwoFallbacks { name: name.to_owned() });
            }
            placeholder.fallback = fallback;
        }
        placeholder.filters = filters.into();
        if let Source::Query(name) = &placeholder.source
            && placeholder.filters.first() == Some(&Filter::Split)
        {
            placeholder.source = Source::QueryList(name.clone());
        }
        Ok(placeholder)
    }

    fn filter(&mut self, name: &str, word: &str, filters: &mut Vec<Filter>) -> Result<(), PlaceholderError> {
        if let Some((_, filter)) = FILTERS.iter().find(|(known, _)| *known == word) {
            filters.push(*filter);
            return Ok(());
        }
        let Some(time) = TimeFormat::by_name(word) else {
            return Err(PlaceholderError::Filter { name: word.to_owned() });
        };
        if self.time.is_none() {
            return Err(PlaceholderError::NoInstant { name: name.to_owned(), filter: word.to_owned() });
        }
        self.time = Some(time);
        Ok(())
    }

    /// Its value. `None` if the source has none, or a filter cannot be applied. The fallback is not used.
    pub fn value<'v>(&self, fill: &'v impl Resolve) -> Option<Value<'v>> {
        let mut value = self.unfiltered(fill)?;
        for filter in &self.filters {
            value = filter.apply(value, fill.encodes_users())?;
        }
        // A fallback replaces `null` too.
        let is_null = matches!(&value, Value::Json(json) if json.trim() == "null");
        (!is_null || self.fallback == Fallback::None).then_some(value)
    }

    /// Whether it is the token of a user whom the client names.
    pub(crate) fn is_user_token(&self) -> bool {
        self.filters.contains(&Filter::UserToken)
    }

    /// Its value before any filter.
    pub(crate) fn unfiltered<'v>(&self, fill: &'v impl Resolve) -> Option<Value<'v>> {
        if !self.steps.is_empty()
            && let Some(parts) = fill.parts(&self.source)
        {
            return Some(Value::Json(parts.at(&self.steps)?.into()));
        }
        Some(match fill.value(&self.source)? {
            SourceValue::Time(time) => written(time, self.time.unwrap_or_default()),
            SourceValue::Value(value) if self.steps.is_empty() => value,
            SourceValue::Value(Value::Text(_)) => return None,
            SourceValue::Value(Value::Json(json)) => Value::Json(match json {
                Cow::Borrowed(json) => Cow::Borrowed(json::find(json, &self.steps)?),
                Cow::Owned(json) => json::find(&json, &self.steps)?.to_owned().into(),
            }),
        })
    }
}

impl Placeholder {
    /// Its value, or else its default.
    pub(crate) fn value_or_default<'v>(&'v self, fill: &'v impl Resolve) -> Option<Value<'v>> {
        let value = self.value(fill);
        if let (None, Fallback::Default(json)) = (&value, &self.fallback) {
            return Some(Value::Json(Cow::Borrowed(json)));
        }
        value
    }
}

impl Value<'_> {
    pub fn to_json(&self) -> String {
        match self {
            Self::Text(text) => json::string(text),
            Self::Json(json) => json.trim().to_owned(),
        }
    }

    /// The value as text: the content of a JSON string, or else the JSON. `None` for `null`.
    pub(crate) fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Json(json) => match json.trim() {
                "null" => None,
                json if json.starts_with('"') => json::text(json),
                json => Some(Cow::Borrowed(json)),
            },
        }
    }
}

impl Filter {
    fn apply(self, value: Value<'_>, encodes_users: bool) -> Option<Value<'_>> {
        let text = || value.as_text();
        let word = || match &value {
            Value::Json(json) if !json.trim().starts_with('"') && !json::is_number(json.trim()) => None,
            Value::Json(_) | Value::Text(_) => value.as_text(),
        };
        Some(match self {
            Self::Upper => Value::Text(word()?.to_uppercase().into()),
            Self::Lower => Value::Text(word()?.to_lowercase().into()),
            Self::Split => {
                Value::Json(json::list(word()?.split(',').map(|text| text.trim_matches(' '))).into())
            }
            Self::Number => Value::Json(text().filter(|text| json::is_number(text))?.into_owned().into()),
            Self::Json => Value::Json(text().filter(|text| is_embeddable(text))?.into_owned().into()),
            Self::Text => Value::Text(text()?.into_owned().into()),
            Self::UserToken if encodes_users => Value::Text(user_token::encode(&word()?)?.into()),
            Self::UserName if encodes_users => Value::Text(user_token::decode(&word()?)?.into()),
            Self::UserToken | Self::UserName => {
                Value::Text(word().filter(|name| is_token_value(name))?.into_owned().into())
            }
        })
    }
}

/// An instant in this format.
fn written(time: SystemTime, format: TimeFormat) -> Value<'static> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    match format {
        TimeFormat::Rfc3339Millis => Value::Text(humantime::format_rfc3339_millis(time).to_string().into()),
        TimeFormat::Rfc3339 => Value::Text(humantime::format_rfc3339_seconds(time).to_string().into()),
        TimeFormat::Naive => {
            let text = humantime::format_rfc3339_seconds(time).to_string();
            Value::Text(text.trim_end_matches('Z').to_owned().into())
        }
        TimeFormat::Unix => Value::Json(since.as_secs().to_string().into()),
        TimeFormat::UnixMillis => Value::Json(since.as_millis().to_string().into()),
    }
}

#[cfg(test)]
mod tests;
