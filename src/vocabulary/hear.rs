//! Hear: what a client's message means, as the rules of its vocabulary say.

use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::protocol::class::MAX_RATE_MS;
use crate::protocol::dialect::DecodeError;
use crate::protocol::dialect::SessionScope;
use crate::protocol::error::ErrorCode;
use crate::protocol::error::Refusal;
use crate::protocol::json;
use crate::protocol::json::Step;
use crate::protocol::members::Members;
use crate::protocol::message::Asked;
use crate::protocol::message::Command;
use crate::protocol::message::Filter;
use crate::protocol::message::Pairs;
use crate::protocol::message::Question;
use crate::protocol::message::Wanted;
use crate::protocol::websocket::Event;
use crate::vocabulary::channel::Channel;
use crate::vocabulary::channel::Unnamed;
use crate::vocabulary::described::Act;
use crate::vocabulary::described::Each;
use crate::vocabulary::described::Millis;
use crate::vocabulary::described::Rule;
use crate::vocabulary::described::Test;
use crate::vocabulary::described::Unknown;
use crate::vocabulary::described::Wants;
use crate::vocabulary::entered::Entered;
use crate::vocabulary::hole::Hole;
use crate::vocabulary::hole::Source;
use crate::vocabulary::known::Known;
use crate::vocabulary::known::shortened;
use crate::vocabulary::shape::Gaps;
use crate::vocabulary::shape::Shape;
use crate::vocabulary::shape::Unfilled;

/// The longest value that `keep` and `set` remember, as JSON. Ids, symbols and names are shorter, and a client may cause
/// thousands of them.
const MAX_KEPT_BYTES: usize = 1024;

/// The longest name of a group, and the longest value of a filter, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// The longest list of a filter.
const MAX_VALUES: usize = 64;

/// The credential that a message brings beside what it asks, if the path has a place for one.
pub fn credential(entered: &Entered, event: &Event) -> Option<String> {
    let field = entered.rules()?.token_field.as_deref()?;
    let Event::Text(text) = event else { return None };
    let members: Members<'_> = serde_json::from_str(text).ok()?;
    json::text(at(&members, field)?).map(String::from)
}

/// Reads one message. It never panics, whatever the bytes.
pub fn command(entered: &Entered, scene: SessionScope<'_>, event: &Event) -> Result<Command, DecodeError> {
    let text = match event {
        Event::Text(text) => text,
        Event::Binary(_) | Event::Ping(_) | Event::Pong(_) | Event::Close(_) => {
            return Err(not_json("binary messages mean nothing here: send text"));
        }
    };
    let members: Members<'_> = serde_json::from_str(text)
        .map_err(|error| not_json(format!("the message is not one JSON object: {error}")))?;
    let described = &entered.described;
    if described.heartbeat.pong.as_ref().is_some_and(|pong| hold(pong, &members)) {
        return Ok(Command::Pong);
    }
    let known = Known { message: Some(text), ..Known::of(entered, scene) };
    let Some((at, rule)) = rule_for(entered, &members) else { return unknown(entered, known, text) };
    let keeps = rule.keeps_message || described.errors_name_message;
    let text = if keeps { text.as_str().into() } else { Box::default() };
    take(at, rule, known, text, check(entered, rule, known))
}

/// What is done when a client has come in, in order.
pub fn on_connect(entered: &Entered, scene: SessionScope<'_>) -> Vec<Result<Command, DecodeError>> {
    let Some(path) = entered.rules() else { return Vec::new() };
    let known = Known::of(entered, scene);
    let rules = path.on_connect.iter().filter_map(|at| Some((*at, entered.rule(*at)?)));
    rules.map(|(at, rule)| take(at, rule, known, Box::default(), check_rule(rule, known))).collect()
}

/// What comes of a message that a rule takes, if it is allowed. `text` is the message, if its answer needs it.
fn take(
    at: u16,
    rule: &Rule,
    known: Known<'_>,
    text: Box<str>,
    allowed: Result<(), Refusal>,
) -> Result<Command, DecodeError> {
    let set = allowed.and_then(|()| pairs_of(&rule.set, &known));
    let variables = known.scene.variables.cloned().unwrap_or_default();
    let question = |set| Question { rule: Some(at), text, variables, set, progress: Cell::default() };
    match set {
        Err(refusal) => Err(DecodeError { asked: Some(asked(question(Box::default()))), refusal }),
        Ok(set) => {
            let asked = asked(question(set));
            obey(rule, known, asked.clone()).map_err(|refusal| DecodeError { asked: Some(asked), refusal })
        }
    }
}

fn asked(question: Question) -> Asked {
    Asked::Message(Rc::new(question))
}

fn refused<T>(code: ErrorCode, words: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(code, words))
}

fn not_json(words: impl Into<String>) -> DecodeError {
    DecodeError { asked: None, refusal: Refusal::new(ErrorCode::NotJson, words) }
}

fn rule_for<'e>(entered: &'e Entered, members: &Members<'_>) -> Option<(u16, &'e Rule)> {
    let dispatch = &entered.rules()?.dispatch;
    let word = members.get(&dispatch.field).and_then(|value| json::text(value.get()));
    let arm = word.and_then(|word| dispatch.arms.get(&*word)).unwrap_or(&dispatch.rest);
    let rules = arm.iter().filter_map(|at| Some((*at, entered.rule(*at)?)));
    let mut taking = rules.filter(|(_, rule)| hold(&rule.when, members));
    taking.next()
}

fn hold(tests: &[Test], members: &Members<'_>) -> bool {
    tests.iter().all(|test| holds(test, members))
}

pub(super) fn holds(test: &Test, members: &Members<'_>) -> bool {
    test.path.is_empty() || test.is.holds(at(members, &test.path))
}

/// What stands there in a message.
fn at<'m>(members: &'m Members<'_>, path: &[Step]) -> Option<&'m str> {
    let (first, rest) = path.split_first()?;
    members.get(first.name()).and_then(|value| json::find(value.get(), rest))
}

fn unknown(entered: &Entered, known: Known<'_>, text: &str) -> Result<Command, DecodeError> {
    let (code, message) = match &entered.described.unknown {
        Unknown::Ignore => return Ok(Command::Pong),
        Unknown::Plain => (ErrorCode::UnknownType, None),
        Unknown::Error { code, message } => (*code, message.as_ref()),
    };
    let words = message.and_then(|message| message.text(&known, Gaps::AreMistakes).ok()).map(shortened);
    let words = words.unwrap_or_else(|| "no rule of this vocabulary takes such a message".to_owned());
    let text = if entered.described.errors_name_message { text.into() } else { Box::default() };
    let variables = known.scene.variables.cloned().unwrap_or_default();
    let question = Question { text, variables, ..Question::default() };
    Err(DecodeError { asked: Some(asked(question)), refusal: Refusal::new(code, words) })
}

/// Who may say this at all.
fn check(entered: &Entered, rule: &Rule, known: Known<'_>) -> Result<(), Refusal> {
    let needs_identity = match &rule.act {
        Act::Auth(_) | Act::Pong | Act::Ignore | Act::Error { .. } | Act::Close { .. } => false,
        Act::Subscribe(_)
        | Act::Unsubscribe { .. }
        | Act::Filter { .. }
        | Act::Publish { .. }
        | Act::Request { .. }
        | Act::Send => true,
    };
    if needs_identity && known.scene.identity.is_none() {
        return refused(ErrorCode::Unauthorized, "the session has no identity yet: show a token first");
    }
    if known.scene.identity.is_some() {
        let requires = entered.rules().map_or(&[][..], |path| &path.require);
        if !requires.iter().all(|require| require.holds(&known, require.left.source == Source::Message)) {
            return Err(anothers());
        }
    }
    check_rule(rule, known)
}

fn check_rule(rule: &Rule, known: Known<'_>) -> Result<(), Refusal> {
    let holds = rule.require.iter().all(|require| require.holds(&known, false));
    holds.then_some(()).ok_or_else(anothers)
}

fn anothers() -> Refusal {
    Refusal::new(ErrorCode::Forbidden, "this is another's: a message speaks for its own user")
}

/// What a rule makes of a message.
fn obey(rule: &Rule, known: Known<'_>, asked: Asked) -> Result<Command, Refusal> {
    let asked = Some(asked);
    Ok(match &rule.act {
        Act::Subscribe(wants) => {
            let wanted = wanted(wants, known)?;
            Command::Subscribe { asked, wanted }
        }
        Act::Unsubscribe { each, channels, group } => {
            let group = group_of(group.as_ref(), &known)?;
            let channels = match channels[..] {
                [] => None,
                _ => Some(names(each.as_ref(), channels, known)?),
            };
            Command::Unsubscribe { asked, channels, group }
        }
        Act::Filter { channel, field, values } => {
            let channel = channel.fill(&known).map_err(unnamed)?;
            let values = values_of(values, &known)?;
            let name = rule.filter_name.clone();
            let filter = Filter { field: *field, name, values };
            Command::Filter { asked, channel, filter }
        }
        Act::Publish { subject, data, headers } => {
            let channel = subject.fill(&known).map_err(unnamed)?;
            let data = Bytes::from(json_of(data, &known)?);
            let headers = headers_of(headers, &known)?;
            Command::Publish { asked, channel, data, headers }
        }
        Act::Request { subject, data, timeout } => {
            let channel = subject.fill(&known).map_err(unnamed)?;
            let data = Bytes::from(json_of(data, &known)?);
            let timeout = timeout.as_ref().map(|timeout| millis(timeout, &known)).transpose()?;
            Command::Request { asked, channel, data, timeout }
        }
        Act::Auth(hole) => {
            let token = match hole.value(&known) {
                Some(value) if value.to_json().starts_with('"') => value.as_text().map(String::from),
                Some(_) | None => None,
            };
            let token = token.ok_or_else(|| bad(hole, "must be a text: the token"))?;
            Command::Auth { asked, token }
        }
        Act::Send => Command::Say { asked },
        Act::Pong => Command::Ping { asked },
        Act::Ignore => Command::Pong,
        Act::Error { code, message } => {
            let words = message.text(&known, Gaps::AreNull).map_err(unfilled)?;
            return refused(*code, shortened(words));
        }
        Act::Close { code, reason } => Command::Close { code: *code, reason: reason.clone() },
    })
}

fn wanted(wants: &Wants, known: Known<'_>) -> Result<Wanted, Refusal> {
    Ok(Wanted {
        channels: names(wants.each.as_ref(), &wants.channels, known)?,
        max_rate: wants.max_rate.as_ref().map(|rate| max_rate(rate, &known)).transpose()?,
        group: group_of(wants.group.as_ref(), &known)?,
        joining: wants.joining,
        kept: pairs_of(&wants.keep, &known)?,
    })
}

/// What is remembered of a message, for each channel that it names: not more than a bounded part of it.
fn pairs_of(shapes: &[(Box<str>, Shape)], known: &Known<'_>) -> Result<Pairs, Refusal> {
    let pair = |(name, shape): &(Box<str>, Shape)| {
        let json = json_of(shape, known)?;
        if json.len() > MAX_KEPT_BYTES {
            let words = format!("what is kept as `{name}` has more than {MAX_KEPT_BYTES} bytes");
            return Err(Refusal::new(ErrorCode::BadRequest, words));
        }
        Ok((name.clone(), json.into()))
    };
    shapes.iter().map(pair).collect()
}

/// The channels for each element, or why one of them has no name.
pub(super) fn names(
    each: Option<&Each>,
    channels: &[Channel],
    known: Known<'_>,
) -> Result<Vec<Result<String, Refusal>>, Refusal> {
    let fill = |known: Known<'_>, names: &mut Vec<_>| {
        names.extend(channels.iter().map(|channel| channel.fill(&known).map_err(unnamed)));
    };
    let mut names = Vec::new();
    match each {
        None => fill(known, &mut names),
        Some(Each::List(items)) => {
            items.iter().for_each(|item| fill(Known { item: Some(item), ..known }, &mut names));
        }
        Some(Each::Hole(hole)) => {
            let list = hole.value_or_default(&known).map(|value| value.to_json());
            let elements = list.as_deref().and_then(json::elements);
            let elements = elements.ok_or_else(|| bad(hole, "must be a list"))?;
            // What is written twice has the same names.
            let mut seen = HashSet::new();
            for item in elements.into_iter().filter(|item| seen.insert(*item)) {
                fill(Known { item: Some(item), ..known }, &mut names);
            }
        }
    }
    Ok(names)
}

pub(super) fn headers_of(
    headers: &[(Box<str>, Shape)],
    known: &Known<'_>,
) -> Result<Vec<(String, String)>, Refusal> {
    let headers = headers.iter().map(|(name, value)| {
        let value = value.text(known, Gaps::AreMistakes).map_err(unfilled)?;
        Ok((name.to_string(), value))
    });
    headers.collect()
}

fn group_of(group: Option<&Shape>, known: &Known<'_>) -> Result<Box<str>, Refusal> {
    let Some(group) = group else { return Ok(Box::default()) };
    scalar(&json_of(group, known)?).ok_or_else(|| {
        let words = format!("a name must be a text or a number of at most {MAX_NAME_BYTES} bytes");
        Refusal::new(ErrorCode::BadRequest, words)
    })
}

fn values_of(hole: &Hole, known: &Known<'_>) -> Result<Box<[Box<str>]>, Refusal> {
    let list = hole.value_or_default(known).map(|value| value.to_json());
    let values = list.as_deref().and_then(json::elements);
    let values = values.and_then(|values| values.into_iter().map(scalar).collect::<Option<Box<[_]>>>());
    let values = values.filter(|values| values.len() <= MAX_VALUES);
    values.ok_or_else(|| bad(hole, "must be a list of at most 64 texts or numbers"))
}

/// The text of a value that is no list, no object and not `null`, if it is not too long.
fn scalar(json: &str) -> Option<Box<str>> {
    let text: Box<str> = json::text(json).map_or_else(|| json.into(), |text| Box::from(&*text));
    let fits = text.len() <= MAX_NAME_BYTES && !json.starts_with(['{', '[']) && json != "null";
    fits.then_some(text)
}

fn max_rate(rate: &Millis, known: &Known<'_>) -> Result<Duration, Refusal> {
    let duration = millis(rate, known)?;
    match rate {
        Millis::Hole(hole) if duration.as_millis() > u128::from(MAX_RATE_MS) => {
            Err(bad(hole, &format!("must be at most {MAX_RATE_MS} milliseconds")))
        }
        Millis::Hole(_) | Millis::Fixed(_) => Ok(duration),
    }
}

pub(super) fn millis(millis: &Millis, known: &Known<'_>) -> Result<Duration, Refusal> {
    match millis {
        Millis::Fixed(duration) => Ok(*duration),
        Millis::Hole(hole) => {
            let value = hole.value_or_default(known).and_then(|value| value.to_json().parse::<u32>().ok());
            let value = value.ok_or_else(|| bad(hole, "must be a whole number of milliseconds"))?;
            Ok(Duration::from_millis(u64::from(value)))
        }
    }
}

pub(super) fn json_of(shape: &Shape, known: &Known<'_>) -> Result<String, Refusal> {
    let mut out = Vec::new();
    shape.render(known, Gaps::AreMistakes, &mut out).map_err(unfilled)?;
    Ok(String::from_utf8(out).unwrap_or_default())
}

/// How the client calls what a hole names.
fn called(hole: &Hole) -> &str {
    let name = hole.name.strip_prefix("msg.").unwrap_or(&hole.name);
    if name == "msg" { "the message" } else { name }
}

fn bad(hole: &Hole, words: &str) -> Refusal {
    Refusal::new(ErrorCode::BadRequest, format!("`{}` {words}", called(hole)))
}

fn unfilled(unfilled: Unfilled<'_>) -> Refusal {
    match unfilled {
        Unfilled::Missing(hole) => bad(hole, "is missing"),
        Unfilled::NoObject(hole) => bad(hole, "must be an object"),
    }
}

pub(super) fn unnamed(unnamed: Unnamed<'_>) -> Refusal {
    match unnamed {
        Unnamed::Missing(hole) => bad(hole, "is missing"),
        Unnamed::NoToken(hole, shown) => {
            let words = "must be one word: letters, digits and _-=@:/+^&#~, at most 128 bytes";
            Refusal::new(ErrorCode::BadChannel, format!("`{}` {words}; it is {shown}", called(hole)))
        }
    }
}

#[cfg(test)]
mod tests;
