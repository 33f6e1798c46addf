//! Placeholder: a place in a template where a value goes, `{msg.symbol|upper}`: which value, which part of it, and as what.

use std::borrow::Cow;
use std::time::Duration;
use std::time::SystemTime;

use thiserror::Error;
use tidegate_protocol::json;
use tidegate_protocol::json::Step;
use tidegate_protocol::json::paths::JsonParts;
use tidegate_protocol::payload::is_embeddable;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `{user}`
    User,
    /// `{claims.x.y}`
    Claims,
    /// `{session}`: the session's id
    Session,
    /// `{node}`: the node's name
    Node,
    /// `{path.x}`, a parameter of the path
    Path(Box<str>),
    /// `{query.x}`
    Query(Box<str>),
    /// `{header.x}`, of the handshake or the request
    Header(Box<str>),
    /// `{var.x}`: what a rule has set
    Variable(Box<str>),
    /// `{msg.x.y}`, `{msg}`: the client's message
    Message,
    /// `{item}`: the element in hand of `each`
    Item,
    /// `{sub.x}`: what a rule has kept when the subscription was made
    Kept(Box<str>),
    /// `{data.x.y}`, `{data}`: the payload
    Data,
    /// `{subject}`
    Subject,
    /// `{subject.N}`: its token N, from 0
    Token(usize),
    /// `{capture.N}`: the token of the pattern's wildcard N, from 0
    Capture(usize),
    /// `{time}`: when the node received the publication
    Time,
    /// `{nats.Name}`: a NATS header
    NatsHeader(Box<str>),
    /// `{reply.x.y}`, `{reply}`: what a service answered
    Reply,
    /// `{code}`: what went wrong, as a word
    Code,
    /// `{message}`: the same, as a sentence
    Words,
    /// `{channel}`: of which something is said
    Channel,
    /// `{cause}` of a gap
    Cause,
    /// `{dropped}`: how many publications a gap represents
    Dropped,
    /// `{since}`: how long nothing has come
    Since,
    /// `{in_ms}`: how long the credential still holds
    ExpiresIn,
    /// `{close_code}`
    CloseCode,
    /// `{reason}` of a close
    Reason,
    /// `{retry_after_ms}`: when to come back
    RetryAfter,
    /// `{now}`
    Now,
    /// `{stats.x.y}`
    Stats,
    /// `{list}`: last values
    List,
    /// `{count}` of them
    Count,
    /// `{status}` of the node
    Status,
}

/// When a value is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// As long as the session.
    Session,
    /// While a client's message is handled.
    Message,
    /// As long as the subscription.
    Subscription,
    /// For each publication.
    Publication,
    /// When a service has answered.
    Reply,
    /// When there is something to say of a channel or a session.
    Outcome,
    /// When an HTTP call is answered.
    Call,
    /// Always.
    Always,
}

/// How an instant is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// `2024-10-05T10:30:00.000Z`
    #[default]
    Rfc3339Millis,
    /// `2024-10-05T10:30:00Z`
    Rfc3339,
    /// `2024-10-05T10:30:00`, in UTC
    Naive,
    /// Seconds since 1970, a number
    Unix,
    /// Milliseconds since 1970, a number
    UnixMillis,
}

/// What is done to a value, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    Upper,
    Lower,
    /// Text with commas → a list of texts.
    Split,
    /// Text that is a JSON number → the number.
    Number,
    /// Any value → a text: the JSON of it, but text stays as it is.
    Text,
    /// Text that is JSON → the value.
    Json,
}

/// What is there when there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhenAbsent {
    /// What the place says: a client's mistake, or `null`.
    Missing,
    /// Nothing: the member or element is left out.
    LeftOut,
    /// This JSON.
    Default(Box<str>),
}

/// A place for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// As it is written, without filters.
    pub name: Box<str>,
    /// Where the value comes from.
    pub source: Source,
    /// Which part of it.
    steps: Box<[Step]>,
    filters: Box<[Filter]>,
    time: Option<TimeFormat>,
    /// What is there without it.
    pub absent: WhenAbsent,
}

/// Why a placeholder is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlaceholderError {
    /// No such source.
    #[error("there is no placeholder {{{name}}}")]
    Unknown { name: String },
    /// `{path}` says too little, `{user.x}` too much.
    #[error("{{{name}}} is written {{{form}}}")]
    Form { name: String, form: &'static str },
    /// No such filter.
    #[error("there is no filter \"{name}\"")]
    Filter { name: String },
    /// Two answers to what is there without a value.
    #[error("\"default\" and \"optional\" exclude each other in {{{name}}}")]
    TwoAbsent { name: String },
    /// A time filter where there is no time.
    #[error("{{{name}}} is no instant, so \"{filter}\" means nothing")]
    NoInstant { name: String, filter: String },
}

/// What a placeholder holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'v> {
    /// A text.
    Text(Cow<'v, str>),
    /// JSON text.
    Json(Cow<'v, str>),
}

/// What a source gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Given<'v> {
    /// A value as it is.
    Value(Value<'v>),
    /// An instant, to be written as the placeholder says.
    Time(SystemTime),
}

/// Gives the values for placeholders.
pub trait Resolve {
    /// The value of a source, if there is one.
    fn value(&self, source: &Source) -> Option<Given<'_>>;

    /// The parts of a source that is JSON, where they are all found at once.
    fn parts(&self, _: &Source) -> Option<JsonParts<'_>> {
        None
    }
}

/// What is behind a source's first word.
#[derive(Clone, Copy)]
enum Tail {
    /// Nothing.
    Bare(fn() -> Source),
    /// Any fields.
    Fields(fn() -> Source),
    /// One field at least.
    SomeFields(fn() -> Source),
    /// One name.
    Name(fn(Box<str>) -> Source),
    /// A number.
    Number(fn(usize) -> Source),
    /// Nothing, or a number.
    BareOrNumber(fn() -> Source, fn(usize) -> Source),
}

/// Every first word, how the placeholder is written, and what it means.
const SOURCES: [(&str, &str, Tail); 32] = [
    ("user", "user", Tail::Bare(|| Source::User)),
    ("claims", "claims.name", Tail::SomeFields(|| Source::Claims)),
    ("session", "session", Tail::Bare(|| Source::Session)),
    ("node", "node", Tail::Bare(|| Source::Node)),
    ("path", "path.name", Tail::Name(Source::Path)),
    ("query", "query.name", Tail::Name(Source::Query)),
    ("header", "header.name", Tail::Name(Source::Header)),
    ("var", "var.name", Tail::Name(Source::Variable)),
    ("msg", "msg.field", Tail::Fields(|| Source::Message)),
    ("item", "item", Tail::Bare(|| Source::Item)),
    ("sub", "sub.name", Tail::Name(Source::Kept)),
    ("data", "data.field", Tail::Fields(|| Source::Data)),
    ("subject", "subject.0", Tail::BareOrNumber(|| Source::Subject, Source::Token)),
    ("capture", "capture.0", Tail::Number(Source::Capture)),
    ("time", "time", Tail::Bare(|| Source::Time)),
    ("nats", "nats.Name", Tail::Name(Source::NatsHeader)),
    ("reply", "reply.field", Tail::Fields(|| Source::Reply)),
    ("code", "code", Tail::Bare(|| Source::Code)),
    ("message", "message", Tail::Bare(|| Source::Words)),
    ("channel", "channel", Tail::Bare(|| Source::Channel)),
    ("cause", "cause", Tail::Bare(|| Source::Cause)),
    ("dropped", "dropped", Tail::Bare(|| Source::Dropped)),
    ("since", "since", Tail::Bare(|| Source::Since)),
    ("in_ms", "in_ms", Tail::Bare(|| Source::ExpiresIn)),
    ("close_code", "close_code", Tail::Bare(|| Source::CloseCode)),
    ("reason", "reason", Tail::Bare(|| Source::Reason)),
    ("retry_after_ms", "retry_after_ms", Tail::Bare(|| Source::RetryAfter)),
    ("now", "now", Tail::Bare(|| Source::Now)),
    ("stats", "stats.name", Tail::SomeFields(|| Source::Stats)),
    ("list", "list", Tail::Bare(|| Source::List)),
    ("count", "count", Tail::Bare(|| Source::Count)),
    ("status", "status", Tail::Bare(|| Source::Status)),
];
const FILTERS: [(&str, Filter); 6] = [
    ("upper", Filter::Upper),
    ("lower", Filter::Lower),
    ("split", Filter::Split),
    ("number", Filter::Number),
    ("string", Filter::Text),
    ("json", Filter::Json),
];
const TIMES: [(&str, TimeFormat); 5] = [
    ("rfc3339_ms", TimeFormat::Rfc3339Millis),
    ("rfc3339", TimeFormat::Rfc3339),
    ("naive", TimeFormat::Naive),
    ("unix", TimeFormat::Unix),
    ("unix_ms", TimeFormat::UnixMillis),
];

/// How a placeholder can begin, for whoever has misspelt one.
pub fn known_placeholders() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().map(|(_, form, _)| *form)
}

/// Every filter.
pub fn known_filters() -> impl Iterator<Item = &'static str> {
    let names = FILTERS.iter().map(|(name, _)| *name).chain(TIMES.iter().map(|(name, _)| *name));
    names.chain(["default", "optional"])
}

impl Source {
    /// When its value is known.
    pub fn scope(&self) -> Scope {
        match self {
            Self::User
            | Self::Claims
            | Self::Session
            | Self::Node
            | Self::Path(_)
            | Self::Query(_)
            | Self::Header(_)
            | Self::Variable(_) => Scope::Session,
            Self::Message | Self::Item => Scope::Message,
            Self::Kept(_) => Scope::Subscription,
            Self::Data
            | Self::Subject
            | Self::Token(_)
            | Self::Capture(_)
            | Self::Time
            | Self::NatsHeader(_) => Scope::Publication,
            Self::Reply => Scope::Reply,
            Self::Code
            | Self::Words
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

    /// Whether it may differ between two clients who are sent the same publication.
    pub(crate) fn is_personal(&self) -> bool {
        matches!(self.scope(), Scope::Session | Scope::Subscription)
    }

    fn is_instant(&self) -> bool {
        matches!(self, Self::Time | Self::Now | Self::Since)
    }

    /// The source that a placeholder names, and the steps behind it.
    fn read(name: &str) -> Result<(Self, Box<[Step]>), PlaceholderError> {
        let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
        let Some((_, form, tail)) = SOURCES.iter().find(|(word, ..)| *word == first) else {
            return Err(PlaceholderError::Unknown { name: name.to_owned() });
        };
        let steps = || {
            let fields = rest?.split('.');
            fields.clone().all(|field| !field.is_empty()).then(|| fields.map(Step::read).collect())
        };
        let number = || rest?.parse().ok();
        let read = match (tail, rest) {
            (Tail::Bare(source) | Tail::Fields(source) | Tail::BareOrNumber(source, _), None) => {
                Some((source(), Box::default()))
            }
            (Tail::Fields(source) | Tail::SomeFields(source), Some(_)) => {
                steps().map(|steps| (source(), steps))
            }
            (Tail::Name(source), Some(name)) => {
                (!name.is_empty() && !name.contains('.')).then(|| (source(name.into()), Box::default()))
            }
            (Tail::Number(source) | Tail::BareOrNumber(_, source), Some(_)) => {
                number().map(|number| (source(number), Box::default()))
            }
            (Tail::Bare(_), Some(_)) | (Tail::SomeFields(_) | Tail::Name(_) | Tail::Number(_), None) => None,
        };
        read.ok_or_else(|| PlaceholderError::Form { name: name.to_owned(), form })
    }
}

impl Placeholder {
    /// The steps to the part of its source that it shows.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The first field that it looks into.
    pub fn field(&self) -> Option<&str> {
        self.steps.first().map(Step::name)
    }

    /// Whether its value may be a text with quotation marks in it, or JSON: not what Tidegate itself makes, and no number.
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
            | Source::Header(_)
            | Source::Variable(_)
            | Source::Message
            | Source::Item
            | Source::Kept(_)
            | Source::Data
            | Source::Subject
            | Source::Token(_)
            | Source::Capture(_)
            | Source::NatsHeader(_)
            | Source::Reply
            | Source::Code
            | Source::Words
            | Source::Channel
            | Source::Reason
            | Source::Stats
            | Source::List => false,
        };
        !is_ours && self.filters.last() != Some(&Filter::Number)
    }

    /// The group whose items it names, `{stats.items_by_label.GROUP}`.
    pub(crate) fn group_of_items(&self) -> Option<&str> {
        match &self.steps[..] {
            [first, group, ..] if first.name() == "items_by_label" => Some(group.name()),
            _ => None,
        }
    }

    /// Reads what is between the braces. An instant without a filter is written as `time`.
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
            absent: WhenAbsent::Missing,
        };
        let mut filters = Vec::new();
        for part in parts {
            let absent = match (part.strip_prefix("default:"), part) {
                (Some(value), _) => WhenAbsent::Default(json::json_or_string(value).into()),
                (None, "optional") => WhenAbsent::LeftOut,
                (None, part) => {
                    placeholder.filter(name, part, &mut filters)?;
                    continue;
                }
            };
            if placeholder.absent != WhenAbsent::Missing {
                return Err(PlaceholderError::TwoAbsent { name: name.to_owned() });
            }
            placeholder.absent = absent;
        }
        placeholder.filters = filters.into();
        Ok(placeholder)
    }

    fn filter(&mut self, name: &str, word: &str, filters: &mut Vec<Filter>) -> Result<(), PlaceholderError> {
        if let Some((_, filter)) = FILTERS.iter().find(|(known, _)| *known == word) {
            filters.push(*filter);
            return Ok(());
        }
        let Some((_, time)) = TIMES.iter().find(|(known, _)| *known == word) else {
            return Err(PlaceholderError::Filter { name: word.to_owned() });
        };
        if self.time.is_none() {
            return Err(PlaceholderError::NoInstant { name: name.to_owned(), filter: word.to_owned() });
        }
        self.time = Some(*time);
        Ok(())
    }

    /// Its value: a text, or JSON text. `None` if there is none, or none that its filters can be applied to; what then
    /// is there is not looked at here.
    pub fn value<'v>(&self, fill: &'v impl Resolve) -> Option<Value<'v>> {
        let mut value = self.unfiltered(fill)?;
        for filter in &self.filters {
            value = filter.apply(value)?;
        }
        // What replaces a value that is absent replaces `null` too.
        let is_null = matches!(&value, Value::Json(json) if json.trim() == "null");
        (!is_null || self.absent == WhenAbsent::Missing).then_some(value)
    }

    fn unfiltered<'v>(&self, fill: &'v impl Resolve) -> Option<Value<'v>> {
        if !self.steps.is_empty()
            && let Some(parts) = fill.parts(&self.source)
        {
            return Some(Value::Json(parts.at(&self.steps)?.into()));
        }
        Some(match fill.value(&self.source)? {
            Given::Time(time) => self.time.unwrap_or_default().write(time),
            Given::Value(value) if self.steps.is_empty() => value,
            Given::Value(Value::Text(_)) => return None,
            Given::Value(Value::Json(json)) => Value::Json(match json {
                Cow::Borrowed(json) => Cow::Borrowed(json::find(json, &self.steps)?),
                Cow::Owned(json) => json::find(&json, &self.steps)?.to_owned().into(),
            }),
        })
    }
}

impl Placeholder {
    /// Its value, or what it says is there without one.
    pub(crate) fn value_or_default<'v>(&'v self, fill: &'v impl Resolve) -> Option<Value<'v>> {
        let value = self.value(fill);
        if let (None, WhenAbsent::Default(json)) = (&value, &self.absent) {
            return Some(Value::Json(Cow::Borrowed(json)));
        }
        value
    }
}

impl Value<'_> {
    /// The value as JSON.
    pub fn to_json(&self) -> String {
        match self {
            Self::Text(text) => json::string(text),
            Self::Json(json) => json.trim().to_owned(),
        }
    }

    /// The value as text: of a JSON string what is in it, of other JSON the JSON. `null` is none.
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
    fn apply(self, value: Value<'_>) -> Option<Value<'_>> {
        let text = || value.as_text();
        // Truth values, lists and objects have no capitals.
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
        })
    }
}

impl TimeFormat {
    /// The format of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        TIMES.iter().find(|(known, _)| *known == name).map(|(_, time)| *time)
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TIMES.iter().map(|(name, _)| *name)
    }

    fn write(self, time: SystemTime) -> Value<'static> {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        match self {
            Self::Rfc3339Millis => Value::Text(humantime::format_rfc3339_millis(time).to_string().into()),
            Self::Rfc3339 => Value::Text(humantime::format_rfc3339_seconds(time).to_string().into()),
            Self::Naive => {
                let text = humantime::format_rfc3339_seconds(time).to_string();
                Value::Text(text.trim_end_matches('Z').to_owned().into())
            }
            Self::Unix => Value::Json(since.as_secs().to_string().into()),
            Self::UnixMillis => Value::Json(since.as_millis().to_string().into()),
        }
    }
}

#[cfg(test)]
mod tests;
