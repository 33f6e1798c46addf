//! Hear: what a client's message means, as the rules of its vocabulary say.

use std::rc::Rc;

use bytes::Bytes;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::DecodeError;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::error::shortened;
use tidegate_protocol::json;
use tidegate_protocol::json::Step;
use tidegate_protocol::json::paths::JsonSpans;
use tidegate_protocol::members::Members;
use tidegate_protocol::message::Command;
use tidegate_protocol::message::Filter;
use tidegate_protocol::message::Question;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::message::RuleId;
use tidegate_protocol::message::SubscribeRequest;

use crate::arguments::bad;
use crate::arguments::group_of;
use crate::arguments::headers_of;
use crate::arguments::json_of;
use crate::arguments::max_rate;
use crate::arguments::millis;
use crate::arguments::names;
use crate::arguments::pairs_of;
use crate::arguments::unfilled;
use crate::arguments::unnamed;
use crate::arguments::values_of;
use crate::binding::Binding;
use crate::json_template::OnMissing;
use crate::known::MessageScope;
use crate::model::Act;
use crate::model::Rule;
use crate::model::SubscribeSpec;
use crate::model::Test;
use crate::model::Unknown;
use crate::placeholder::Source;

/// The credential that a message brings next to what it asks, if the path has a place for one.
pub(crate) fn credential(binding: &Binding, message: &ClientMessage) -> Option<String> {
    let field = binding.rules()?.token_field.as_deref()?;
    let ClientMessage::Text(text) = message else { return None };
    let members: Members<'_> = serde_json::from_str(text).ok()?;
    json::text(at(&members, field)?).map(String::from)
}

/// Reads one message. It never panics, whatever the bytes.
pub(crate) fn command(
    binding: &Binding,
    scope: SessionScope<'_>,
    message: &ClientMessage,
) -> Result<Command, DecodeError> {
    let text = match message {
        ClientMessage::Text(text) => text,
        ClientMessage::Binary(_) => {
            return Err(not_json("binary messages mean nothing here: send text"));
        }
    };
    let members: Members<'_> = serde_json::from_str(text)
        .map_err(|error| not_json(format!("the message is not one JSON object: {error}")))?;
    let described = &binding.described;
    if described.heartbeat.pong.as_ref().is_some_and(|pong| hold(pong, &members)) {
        return Ok(Command::Pong);
    }
    let spans = JsonSpans::default();
    let known = MessageScope::of(binding, scope).with_message(text, &spans);
    let Some((at, rule)) = rule_for(binding, &members) else { return unknown(binding, known, text) };
    let keeps = rule.keeps_message || described.errors_name_message;
    let text = if keeps { text.as_str().into() } else { Box::default() };
    take(at, rule, known, text, check(binding, rule, known))
}

/// What is done when a client has come in, in order.
pub(crate) fn on_connect(binding: &Binding, scope: SessionScope<'_>) -> Vec<Result<Command, DecodeError>> {
    let Some(path) = binding.rules() else { return Vec::new() };
    let known = MessageScope::of(binding, scope);
    let rules = path.on_connect.iter().filter_map(|at| Some((*at, binding.rule(*at)?)));
    rules.map(|(at, rule)| take(at, rule, known, Box::default(), check_rule(rule, known))).collect()
}

/// What comes of a message that a rule takes, if it is allowed. `text` is the message, if its answer needs it.
fn take(
    at: RuleId,
    rule: &Rule,
    known: MessageScope<'_>,
    text: Box<str>,
    allowed: Result<(), ClientError>,
) -> Result<Command, DecodeError> {
    let set = allowed.and_then(|()| pairs_of(&rule.set, &known));
    let variables = known.scope.variables.cloned().unwrap_or_default();
    let question = |set| Question { rule: Some(at), text, variables, set, ..Question::default() };
    match set {
        Err(refusal) => Err(DecodeError { asked: Some(asked(question(Box::default()))), refusal }),
        Ok(set) => {
            let asked = asked(question(set));
            let done = obey(&rule.act, &rule.filter_name, known, asked.clone());
            done.map_err(|refusal| DecodeError { asked: Some(asked), refusal })
        }
    }
}

fn asked(question: Question) -> RequestContext {
    RequestContext::Message(Rc::new(question))
}

fn refused<T>(code: ErrorCode, words: impl Into<String>) -> Result<T, ClientError> {
    Err(ClientError::new(code, words))
}

fn not_json(words: impl Into<String>) -> DecodeError {
    DecodeError { asked: None, refusal: ClientError::new(ErrorCode::NotJson, words) }
}

fn rule_for<'e>(binding: &'e Binding, members: &Members<'_>) -> Option<(RuleId, &'e Rule)> {
    let dispatch = &binding.rules()?.dispatch;
    let word = members.get(&dispatch.field).and_then(|value| json::text(value.get()));
    let arm = word.and_then(|word| dispatch.arms.get(&*word)).unwrap_or(&dispatch.rest);
    let rules = arm.iter().filter_map(|at| Some((*at, binding.rule(*at)?)));
    let mut taking = rules.filter(|(_, rule)| hold(&rule.when, members));
    taking.next()
}

fn hold(tests: &[Test], members: &Members<'_>) -> bool {
    tests.iter().all(|test| holds(test, members))
}

pub(super) fn holds(test: &Test, members: &Members<'_>) -> bool {
    test.path.is_empty() || test.is.holds(at(members, &test.path))
}

/// What is there in a message.
fn at<'m>(members: &'m Members<'_>, path: &[Step]) -> Option<&'m str> {
    let (first, rest) = path.split_first()?;
    members.get(first.name()).and_then(|value| json::find(value.get(), rest))
}

fn unknown(binding: &Binding, known: MessageScope<'_>, text: &str) -> Result<Command, DecodeError> {
    let (code, message) = match &binding.described.unknown {
        Unknown::Ignore => return Ok(Command::Pong),
        Unknown::Plain => (ErrorCode::UnknownType, None),
        Unknown::Error { code, message } => (*code, message.as_ref()),
    };
    let words = message.and_then(|message| message.text(&known, OnMissing::AreMistakes).ok()).map(shortened);
    let words = words.unwrap_or_else(|| "no rule of this vocabulary takes such a message".to_owned());
    let text = if binding.described.errors_name_message { text.into() } else { Box::default() };
    let variables = known.scope.variables.cloned().unwrap_or_default();
    let question = Question { text, variables, ..Question::default() };
    Err(DecodeError { asked: Some(asked(question)), refusal: ClientError::new(code, words) })
}

/// Who may say this at all.
fn check(binding: &Binding, rule: &Rule, known: MessageScope<'_>) -> Result<(), ClientError> {
    let needs_identity = match &rule.act {
        Act::Auth(_) | Act::Pong | Act::Ignore | Act::Error { .. } | Act::Close { .. } => false,
        Act::Subscribe(_)
        | Act::Unsubscribe { .. }
        | Act::Filter { .. }
        | Act::Publish { .. }
        | Act::Request { .. }
        | Act::Send => true,
    };
    if needs_identity && known.scope.identity.is_none() {
        return refused(ErrorCode::Unauthorized, "the session has no identity yet: show a token first");
    }
    if known.scope.identity.is_some() {
        let requires = binding.rules().map_or(&[][..], |path| &path.require);
        if !requires.iter().all(|require| require.holds(&known, require.left.source == Source::Message)) {
            return Err(anothers());
        }
    }
    check_rule(rule, known)
}

fn check_rule(rule: &Rule, known: MessageScope<'_>) -> Result<(), ClientError> {
    let holds = rule.require.iter().all(|require| require.holds(&known, false));
    holds.then_some(()).ok_or_else(anothers)
}

fn anothers() -> ClientError {
    ClientError::new(ErrorCode::Forbidden, "this is another's: a message speaks for its own user")
}

/// What a rule makes of a message. `filter_name` is how it writes the field of a filter.
pub(super) fn obey(
    act: &Act,
    filter_name: &str,
    known: MessageScope<'_>,
    asked: RequestContext,
) -> Result<Command, ClientError> {
    let asked = Some(asked);
    Ok(match act {
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
            let filter = Filter { field: *field, name: filter_name.into(), values };
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
        Act::Auth(placeholder) => {
            let token = match placeholder.value(&known) {
                Some(value) if value.to_json().starts_with('"') => value.as_text().map(String::from),
                Some(_) | None => None,
            };
            let token = token.ok_or_else(|| bad(placeholder, "must be a text: the token"))?;
            Command::Auth { asked, token }
        }
        Act::Send => Command::Say { asked },
        Act::Pong => Command::Ping { asked },
        Act::Ignore => Command::Pong,
        Act::Error { code, message } => {
            let words = message.text(&known, OnMissing::AreNull).map_err(unfilled)?;
            return refused(*code, shortened(words));
        }
        Act::Close { code, reason } => Command::Close { code: *code, reason: reason.clone() },
    })
}

fn wanted(wants: &SubscribeSpec, known: MessageScope<'_>) -> Result<SubscribeRequest, ClientError> {
    Ok(SubscribeRequest {
        channels: names(wants.each.as_ref(), &wants.channels, known)?,
        max_rate: wants.max_rate.as_ref().map(|rate| max_rate(rate, &known)).transpose()?,
        group: group_of(wants.group.as_ref(), &known)?,
        joining: wants.joining,
        kept: pairs_of(&wants.keep, &known)?,
    })
}

#[cfg(test)]
mod tests;
