//! Described: one frontend's language as its file says it, compiled. It never changes, and all threads share it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::dialect::Rendered;
use crate::protocol::disconnect::Disconnect;
use crate::protocol::error::ErrorCode;
use crate::protocol::frame::Frame;
use crate::protocol::json;
use crate::protocol::json::Step;
use crate::protocol::message::Joining;
use crate::protocol::payload::Payload;
use crate::protocol::publication::Publication;
use crate::protocol::subject::Pattern;
use crate::vocabulary::call::Call;
use crate::vocabulary::channel::Channel;
use crate::vocabulary::channel::is_token;
use crate::vocabulary::entered::Entered;
use crate::vocabulary::entered::Given;
use crate::vocabulary::hole::Fill;
use crate::vocabulary::hole::Hole;
use crate::vocabulary::hole::Value;
use crate::vocabulary::known::Published;
use crate::vocabulary::shape::Cut;
use crate::vocabulary::shape::Gaps;
use crate::vocabulary::shape::Shape;

/// The longest value of a path, a query or a header that a vocabulary may speak of, in bytes.
const MAX_GIVEN_BYTES: usize = 1024;
/// The longest value of a path, as any text, in bytes.
const MAX_SEGMENT_BYTES: usize = 128;
/// Stands in a note for a field that has no value: no text of a filter is this.
const NO_VALUE: &[u8] = b"\x01";

/// One frontend's language.
#[derive(Debug, Default)]
pub struct Described {
    /// Its name, which is a subprotocol too.
    pub name: Box<str>,
    /// What it is for.
    pub description: Box<str>,
    /// The subprotocols that stand for it; its name is the last of them.
    pub subprotocols: Box<[Box<str>]>,
    /// Whether a client has to offer one of them.
    pub is_subprotocol_required: bool,
    /// Where clients come in.
    pub paths: Box<[PathRule]>,
    pub(super) rules: Box<[Rule]>,
    pub(super) shows: Box<[Show]>,
    /// What each of the cuts of all `shows` holds, from number 1.
    pub(super) cuts: Box<[Cut]>,
    /// By which fields of which channels clients may choose.
    pub(super) fields: Box<[Field]>,
    pub(super) words: Words,
    pub(super) codes: Codes,
    pub(super) closes: Box<[(Disconnect, u16)]>,
    pub(super) heartbeat: Beats,
    pub(super) unknown: Unknown,
    /// What HTTP requests may ask for.
    pub calls: Box<[Call]>,
    /// Groups whose items statistics name.
    pub counted: Box<[Box<str>]>,
    /// The queries and headers that some hole names.
    pub(super) queries: Box<[Box<str>]>,
    pub(super) headers: Box<[Box<str>]>,
    /// Whether errors name the message that they answer.
    pub(super) errors_name_message: bool,
    /// The claims that holes name.
    pub claims: Box<[Box<str>]>,
}

/// One kind of place where clients come in.
#[derive(Debug)]
pub struct PathRule {
    /// Its name, for rules and statistics.
    pub name: Box<str>,
    /// As it is written, `/ws/{symbol}`.
    pub template: Box<str>,
    pub(super) segments: Box<[Segment]>,
    /// Parameters that go into subjects or are compared with who somebody is: each is one token.
    pub(super) tokens: Box<[Box<str>]>,
    /// The query parameter that may hold a credential.
    pub token_query: Option<Box<str>>,
    /// The member of a message that may; a path into it.
    pub(super) token_field: Option<Box<[Step]>>,
    pub(super) require: Box<[Require]>,
    pub(super) label: Option<Shape>,
    pub(super) greeting: Option<Shape>,
    pub(super) on_connect: Box<[u16]>,
    pub(super) dispatch: Dispatch,
    /// Its rules for publications, in order.
    pub(super) shows: Box<[u16]>,
    /// Whether a client without an identity can get one by a message.
    pub(super) has_auth: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<str>),
    Parameter(Box<str>),
}

/// Something that must be what the session knows: both sides as texts.
#[derive(Debug)]
pub(super) struct Require {
    pub(super) left: Hole,
    pub(super) right: Shape,
}

/// Which rules to try for a message: by the text of the member that most of them look at.
#[derive(Debug, Default)]
pub(super) struct Dispatch {
    pub(super) field: Box<str>,
    pub(super) arms: BTreeMap<Box<str>, Box<[u16]>>,
    /// For every other value.
    pub(super) rest: Box<[u16]>,
}

/// What becomes of one kind of message.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) when: Box<[Test]>,
    pub(super) require: Box<[Require]>,
    pub(super) act: Act,
    /// What the client hears when it is done; of a request, the reply.
    pub(super) answer: Option<Shape>,
    /// What it hears when it is refused, in place of the vocabulary's error.
    pub(super) refuse: Option<Shape>,
    pub(super) set: Box<[(Box<str>, Shape)]>,
    /// The field by which a filter chooses, as it is written.
    pub(super) filter_name: Box<str>,
    /// Whether what is said later needs the message itself.
    pub(super) keeps_message: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) path: Box<[Step]>,
    pub(super) is: Is,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Is {
    There,
    Absent,
    OneOf(Box<[Literal]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    Text(Box<str>),
    Whole(i64),
    Truth(bool),
}

#[derive(Debug)]
pub(super) enum Act {
    Subscribe(Wants),
    Unsubscribe { each: Option<Each>, channels: Box<[Channel]>, group: Option<Shape> },
    Filter { channel: Channel, field: u16, values: Hole },
    Publish { subject: Channel, data: Shape, headers: Box<[(Box<str>, Shape)]> },
    Request { subject: Channel, data: Shape, timeout: Option<Millis> },
    Auth(Hole),
    Send,
    Pong,
    Ignore,
    Error { code: ErrorCode, message: Shape },
    Close { code: u16, reason: Box<str> },
}

#[derive(Debug)]
pub(super) struct Wants {
    pub(super) each: Option<Each>,
    pub(super) channels: Box<[Channel]>,
    pub(super) group: Option<Shape>,
    pub(super) joining: Joining,
    pub(super) keep: Box<[(Box<str>, Shape)]>,
    pub(super) max_rate: Option<Millis>,
}

#[derive(Debug)]
pub(super) enum Each {
    Hole(Hole),
    List(Box<[Box<str>]>),
}

#[derive(Debug)]
pub(super) enum Millis {
    Fixed(Duration),
    Hole(Hole),
}

/// How publications of a pattern are shown.
#[derive(Debug)]
pub(super) struct Show {
    pub(super) pattern: Pattern,
    pub(super) when: Box<[Condition]>,
    pub(super) shape: Shape,
    /// Whether it shows the payload, or a part of it.
    pub(super) needs_text: bool,
    /// The places of its cuts among all of them.
    pub(super) cuts: std::ops::Range<usize>,
}

/// What must hold of a publication.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) hole: Hole,
    pub(super) is: Is,
}

/// A field by which clients may choose among the publications of some channels.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) pattern: Pattern,
    pub(super) hole: Hole,
}

/// What is said beside answers and publications; nothing where there is no shape.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) error: Option<Shape>,
    pub(super) gap: Option<Shape>,
    pub(super) stale: Option<Shape>,
    pub(super) unsubscribed: Option<Shape>,
    pub(super) expiring: Option<Shape>,
    pub(super) close: Option<Shape>,
}

/// What errors are called, and which of them end the session.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// As JSON.
    pub(super) names: Box<[(ErrorCode, Box<str>)]>,
    pub(super) default: Option<Box<str>>,
    pub(super) closing: Box<[(ErrorCode, u16)]>,
}

/// Who pings in messages.
#[derive(Debug, Default)]
pub(super) struct Beats {
    pub(super) ping: Option<Shape>,
    pub(super) every: Option<Duration>,
    pub(super) pong: Option<Box<[Test]>>,
}

/// What becomes of a message that no rule takes.
#[derive(Debug, Default)]
pub(super) enum Unknown {
    #[default]
    Plain,
    Ignore,
    Error {
        code: ErrorCode,
        message: Option<Shape>,
    },
}

/// A way into a vocabulary that there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEntry {
    /// No path of this shape.
    Elsewhere,
    /// The path is there, and one of its values is none that may stand there.
    BadValue,
}

impl Described {
    /// Looks for the path that a request names, in raw form, with its query. `number` is the vocabulary's place in the
    /// node's list.
    pub fn enter<'r>(
        self: &Arc<Self>,
        number: u16,
        path: &str,
        query: Option<&str>,
        header: impl Fn(&str) -> Option<&'r str>,
    ) -> Result<Entered, NoEntry> {
        let found =
            self.paths.iter().zip(0_u16..).find_map(|(rule, at)| Some((rule, at, rule.matches(path)?)));
        let (rule, at, parameters) = found.ok_or(NoEntry::Elsewhere)?;
        self.entered(number, at, &rule.tokens, parameters, query, &header)
    }

    /// What a request says beside its path; `tokens` are the parameters that must be tokens.
    pub(super) fn entered<'r>(
        self: &Arc<Self>,
        number: u16,
        path: u16,
        tokens: &[Box<str>],
        parameters: Given,
        query: Option<&str>,
        header: &impl Fn(&str) -> Option<&'r str>,
    ) -> Result<Entered, NoEntry> {
        let fits = |(name, value): &(Box<str>, Box<str>)| {
            let plain =
                value.len() <= MAX_SEGMENT_BYTES && !value.is_empty() && !value.contains(char::is_control);
            plain && (!tokens.contains(name) || is_token(value))
        };
        if !parameters.0.iter().all(fits) {
            return Err(NoEntry::BadValue);
        }
        let query = self.queries.iter().filter_map(|name| {
            let value = in_query(query?, name)?;
            (value.len() <= MAX_GIVEN_BYTES).then(|| (name.clone(), value.into_boxed_str()))
        });
        let headers = self.headers.iter().filter_map(|name| {
            let value = header(name)?;
            (value.len() <= MAX_GIVEN_BYTES).then(|| (name.clone(), value.into()))
        });
        Ok(Entered {
            described: Arc::clone(self),
            number,
            path,
            parameters,
            query: Given(query.collect()),
            headers: Given(headers.collect()),
            believe: None,
        })
    }

    /// The route of a subscription to `pattern` by clients of a path: which rules may show its publications.
    pub fn route(&self, path: u16, pattern: &Pattern) -> u16 {
        let paths = u16::try_from(self.paths.len()).unwrap_or(u16::MAX);
        let shows = self.paths.get(usize::from(path)).map_or(&[][..], |rule| &rule.shows);
        let first =
            shows.iter().find(|&&show| self.show(show).is_some_and(|show| show.pattern.overlaps(pattern)));
        match first {
            Some(&only)
                if self.show(only).is_some_and(|s| s.when.is_empty() && s.pattern.covers(pattern)) =>
            {
                paths + only
            }
            Some(_) | None => path,
        }
    }

    fn show(&self, at: u16) -> Option<&Show> {
        self.shows.get(usize::from(at))
    }

    /// The rules of a route, in order.
    pub(super) fn shows_of(&self, route: u16) -> impl Iterator<Item = &Show> {
        let paths = self.paths.len();
        let of_path = self.paths.get(usize::from(route)).map_or(&[][..], |rule| &rule.shows);
        let only = usize::from(route).checked_sub(paths).and_then(|only| self.shows.get(only));
        of_path.iter().filter_map(|at| self.show(*at)).chain(only)
    }

    /// What a channel is about: its token at the first wildcard of the rule that shows it.
    pub fn item(&self, path: u16, channel: &Pattern) -> Option<String> {
        let shows = self.paths.get(usize::from(path))?.shows.iter().filter_map(|show| self.show(*show));
        let mut covering = shows.filter(|show| show.pattern.covers(channel));
        let mut tokens = covering.next()?.pattern.tokens().zip(channel.tokens());
        tokens.find(|(rule, _)| matches!(*rule, "*" | ">")).map(|(_, token)| token.to_owned())
    }

    /// Whether some path requires of what a client gives there, `path.user_id`, to be what the session knows.
    pub fn compares(&self, given: &str) -> bool {
        self.paths.iter().any(|path| path.require.iter().any(|require| *require.left.name == *given))
    }

    /// The same of some call.
    pub fn compares_in_calls(&self, given: &str) -> bool {
        self.calls.iter().any(|call| call.require.iter().any(|require| *require.left.name == *given))
    }

    /// The numbers of the cuts that publications of a channel may have.
    pub(super) fn tailors(&self, route: u16, pattern: &Pattern) -> Vec<usize> {
        let shows = self.shows_of(route).filter(|show| show.pattern.overlaps(pattern));
        shows.flat_map(|show| show.cuts.clone()).map(|at| at + 1).collect()
    }

    /// Whether a cut stands in what is said of channels, and in no publication.
    pub(super) fn has_words(&self, number: u8) -> bool {
        self.shows.last().is_none_or(|last| usize::from(number) > last.cuts.end)
    }

    /// Whether clients may choose among the publications of a channel.
    pub(super) fn has_fields(&self, pattern: &Pattern) -> bool {
        self.fields.iter().any(|field| field.pattern.overlaps(pattern))
    }

    /// Writes a publication as the rules of a route say.
    pub fn render(&self, route: u16, publication: &Publication) -> Rendered {
        let subject = &publication.subject;
        for show in self.shows_of(route) {
            if !show.pattern.matches(subject) {
                continue;
            }
            let published = Published { publication, pattern: show.pattern.as_str() };
            if !show.when.iter().all(|condition| condition.holds(&published)) {
                continue;
            }
            let capacity = 160 + publication.payload.bytes().len();
            // What a rule asks for and a publication does not have is `null`; bytes that are no text, and members of
            // what is no object, cannot be shown.
            if show.needs_text && matches!(publication.payload, Payload::Binary(_)) {
                return Rendered::Unrenderable;
            }
            let mut is_fit = false;
            let write =
                |out: &mut Vec<u8>| is_fit = show.shape.render(&published, Gaps::AreNull, out).is_ok();
            let frame = Frame::noted(capacity, write, &self.note(&published, subject));
            return if is_fit { Rendered::Frame(frame) } else { Rendered::Unrenderable };
        }
        Rendered::Nothing
    }

    /// What filters look at: the value of each field, with a zero byte between.
    fn note(&self, published: &Published<'_>, subject: &str) -> Vec<u8> {
        if !self.fields.iter().any(|field| field.pattern.matches(subject)) {
            return Vec::new();
        }
        let mut note = Vec::new();
        for (at, field) in self.fields.iter().enumerate() {
            if at > 0 {
                note.push(0);
            }
            let value = field.hole.value(published);
            match value.as_ref().and_then(Value::as_text) {
                Some(text) if !text.contains('\0') => note.extend_from_slice(text.as_bytes()),
                Some(_) | None => note.extend_from_slice(NO_VALUE),
            }
        }
        note
    }
}

impl Condition {
    fn holds(&self, fill: &impl Fill) -> bool {
        let value = self.hole.value(fill);
        self.is.holds(value.as_ref().map(Value::to_json).as_deref())
    }
}

impl Is {
    /// Whether it holds of a value, as JSON, if there is one.
    pub(super) fn holds(&self, json: Option<&str>) -> bool {
        let json = json.map(str::trim).filter(|json| *json != "null");
        match self {
            Self::There => json.is_some(),
            Self::Absent => json.is_none(),
            Self::OneOf(literals) => json.is_some_and(|json| literals.iter().any(|literal| literal.is(json))),
        }
    }
}

impl Literal {
    fn is(&self, json: &str) -> bool {
        match self {
            Self::Text(text) => json.starts_with('"') && json::text(json).is_some_and(|said| *said == **text),
            Self::Whole(number) => json.parse() == Ok(*number),
            Self::Truth(truth) => json.parse() == Ok(*truth),
        }
    }
}

impl PathRule {
    /// Whether a raw path is one of these.
    pub fn is_at(&self, path: &str) -> bool {
        self.matches(path).is_some()
    }

    fn matches(&self, path: &str) -> Option<Given> {
        parameters(&self.segments, path)
    }
}

/// The parameters of a raw path, decoded, if it has these segments. One that cannot be decoded is empty.
pub(super) fn parameters(segments: &[Segment], path: &str) -> Option<Given> {
    let mut parameters = Vec::new();
    let mut given = path.strip_prefix('/')?.split('/');
    for segment in segments {
        let raw = given.next()?;
        match segment {
            Segment::Literal(text) if **text == *raw => {}
            Segment::Literal(_) => return None,
            Segment::Parameter(_) if raw.is_empty() => return None,
            Segment::Parameter(name) => {
                let value = unescaped(raw, false).unwrap_or_default();
                parameters.push((name.clone(), value.into_boxed_str()));
            }
        }
    }
    given.next().is_none().then(|| Given(parameters.into()))
}

/// The first value of that name in a query.
pub fn in_query(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescaped(key, true)? == name).then(|| unescaped(value, true))?
    })
}

/// A part of a URL without its escapes (RFC 3986 §2.1). `None` if it is no text.
fn unescaped(text: &str, plus_is_blank: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        match first {
            b'%' => {
                let digits = std::str::from_utf8(behind.get(..2)?).ok()?;
                if digits.starts_with('+') {
                    return None;
                }
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &behind[2..];
            }
            b'+' if plus_is_blank => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}
