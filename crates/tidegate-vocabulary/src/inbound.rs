//! Inbound: decodes client messages into commands, by the rules of the vocabulary.

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
use tidegate_protocol::message::OriginalMessage;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::message::RuleId;
use tidegate_protocol::message::SubscribeRequest;

use crate::arguments::NamedChannels;
use crate::arguments::bad_value;
use crate::arguments::bound_of;
use crate::arguments::channels_of;
use crate::arguments::fill_error;
use crate::arguments::group_of;
use crate::arguments::headers_of;
use crate::arguments::json_of;
use crate::arguments::max_rate;
use crate::arguments::millis;
use crate::arguments::pairs_of;
use crate::arguments::render_error;
use crate::arguments::values_of;
use crate::binding::Binding;
use crate::json_template::OnMissing;
use crate::model::MessageTest;
use crate::model::Rule;
use crate::model::RuleAction;
use crate::model::SubscribeSpec;
use crate::model::UnknownMessage;
use crate::placeholder::Placeholder;
use crate::placeholder::Source;
use crate::scopes::MessageScope;

/// The credential in a message, if the path has a `token_field`.
pub(crate) fn credential(binding: &Binding, message: &ClientMessage) -> Option<String> {
    let field = binding.path_rule()?.token_field.as_deref()?;
    let ClientMessage::Text(text) = message else { return None };
    let members: Members<'_> = serde_json::from_str(text).ok()?;
    json::text(value_at(&members, field)?).map(String::from)
}

/// Decodes one message. It never panics, whatever the bytes.
pub(crate) fn command(
    binding: &Binding,
    scope: SessionScope<'_>,
    message: &ClientMessage,
) -> Result<Command, DecodeError> {
    let text = match message {
        ClientMessage::Text(text) => text,
        ClientMessage::Binary(_) => {
            return Err(not_json("binary messages are not supported: send text"));
        }
    };
    let members: Members<'_> = serde_json::from_str(text)
        .map_err(|error| not_json(format!("the message is not one JSON object: {error}")))?;
    let vocabulary = &binding.vocabulary;
    if vocabulary.heartbeat.pong.as_ref().is_some_and(|pong| all_match(pong, &members)) {
        return Ok(Command::Pong);
    }
    let spans = JsonSpans::default();
    let known = MessageScope::of(binding, scope).with_message(text, &spans);
    let Some((at, rule)) = rule_for(binding, &members) else { return unknown(binding, known, text) };
    let keeps = rule.keeps_message || vocabulary.errors_name_message;
    let text = if keeps { text.as_str().into() } else { Box::default() };
    apply(at, rule, known, text, check(binding, rule, known))
}

/// The commands to run when a client has connected, in order.
pub(crate) fn on_connect(binding: &Binding, scope: SessionScope<'_>) -> Vec<Result<Command, DecodeError>> {
    let Some(path) = binding.path_rule() else { return Vec::new() };
    let known = MessageScope::of(binding, scope);
    let rules = path.on_connect.iter().filter_map(|at| Some((*at, binding.rule(*at)?)));
    rules.map(|(at, rule)| apply(at, rule, known, Box::default(), check_rule(rule, known))).collect()
}

/// The command for a message that a rule matches, if it is allowed. `text` is the message, if its answer needs it.
fn apply(
    at: RuleId,
    rule: &Rule,
    known: MessageScope<'_>,
    text: Box<str>,
    allowed: Result<(), ClientError>,
) -> Result<Command, DecodeError> {
    let set = allowed.and_then(|()| pairs_of(&rule.set, &known));
    let variables = known.scope.variables.cloned().unwrap_or_default();
    let original =
        |set| OriginalMessage { rule: Some(at), text, variables, set, ..OriginalMessage::default() };
    match set {
        Err(error) => {
            Err(DecodeError { request_context: Some(request_context(original(Box::default()))), error })
        }
        Ok(set) => {
            let request_context = request_context(original(set));
            let done = command_for(&rule.action, &rule.filter_name, known, request_context.clone());
            done.map_err(|error| DecodeError { request_context: Some(request_context), error })
        }
    }
}

fn request_context(original: OriginalMessage) -> RequestContext {
    RequestContext::Message(Rc::new(original))
}

fn reject<T>(code: ErrorCode, words: impl Into<String>) -> Result<T, ClientError> {
    Err(ClientError::new(code, words))
}

fn not_json(words: impl Into<String>) -> DecodeError {
    DecodeError { request_context: None, error: ClientError::new(ErrorCode::NotJson, words) }
}

fn rule_for<'e>(binding: &'e Binding, members: &Members<'_>) -> Option<(RuleId, &'e Rule)> {
    let dispatch = &binding.path_rule()?.dispatch;
    let text = members.get(&dispatch.field).and_then(|value| json::text(value.get()));
    let arm = text.and_then(|text| dispatch.arms.get(&*text)).unwrap_or(&dispatch.rest);
    let rules = arm.iter().filter_map(|at| Some((*at, binding.rule(*at)?)));
    let mut matching = rules.filter(|(_, rule)| all_match(&rule.when, members));
    matching.next()
}

fn all_match(tests: &[MessageTest], members: &Members<'_>) -> bool {
    tests.iter().all(|test| test_matches(test, members))
}

pub(super) fn test_matches(test: &MessageTest, members: &Members<'_>) -> bool {
    test.path.is_empty() || test.matcher.matches(value_at(members, &test.path))
}

/// The value at a path of a message, as JSON.
fn value_at<'m>(members: &'m Members<'_>, path: &[Step]) -> Option<&'m str> {
    let (first, rest) = path.split_first()?;
    members.get(first.name()).and_then(|value| json::find(value.get(), rest))
}

fn unknown(binding: &Binding, known: MessageScope<'_>, text: &str) -> Result<Command, DecodeError> {
    let (code, message) = match &binding.vocabulary.unknown {
        UnknownMessage::Ignore => return Ok(Command::Pong),
        UnknownMessage::Default => (ErrorCode::UnknownType, None),
        UnknownMessage::Error { code, message } => (*code, message.as_ref()),
    };
    let words = message.and_then(|message| message.text(&known, OnMissing::Fail).ok()).map(shortened);
    let words = words.unwrap_or_else(|| "no rule of this vocabulary matches the message".to_owned());
    let text = if binding.vocabulary.errors_name_message { text.into() } else { Box::default() };
    let variables = known.scope.variables.cloned().unwrap_or_default();
    let original = OriginalMessage { text, variables, ..OriginalMessage::default() };
    Err(DecodeError {
        request_context: Some(request_context(original)),
        error: ClientError::new(code, words),
    })
}

/// Checks that the session may use this rule.
fn check(binding: &Binding, rule: &Rule, known: MessageScope<'_>) -> Result<(), ClientError> {
    let needs_identity = match &rule.action {
        RuleAction::Auth(_)
        | RuleAction::Pong
        | RuleAction::Ignore
        | RuleAction::Error { .. }
        | RuleAction::Close { .. } => false,
        RuleAction::Subscribe(_)
        | RuleAction::Unsubscribe { .. }
        | RuleAction::Filter { .. }
        | RuleAction::Publish { .. }
        | RuleAction::Request { .. }
        | RuleAction::Send => true,
    };
    if needs_identity && known.scope.identity.is_none() {
        return reject(ErrorCode::Unauthorized, "the session has no identity yet: send a token first");
    }
    if let Some(identity) = known.scope.identity {
        let requires = binding.path_rule().map_or(&[][..], |path| &path.require);
        let mut checked = requires.iter().filter(|require| !(identity.anonymous && require.names_user()));
        if !checked.all(|require| require.holds(&known, require.left.source == Source::Message)) {
            return Err(identity_mismatch());
        }
    }
    check_rule(rule, known)
}

fn check_rule(rule: &Rule, known: MessageScope<'_>) -> Result<(), ClientError> {
    let holds = rule.require.iter().all(|require| require.holds(&known, false));
    holds.then_some(()).ok_or_else(identity_mismatch)
}

fn identity_mismatch() -> ClientError {
    ClientError::new(ErrorCode::Forbidden, "identity mismatch: you can only act as yourself")
}

/// The command for an action. `filter_name` is the field of a filter, as in the file.
pub(super) fn command_for(
    act: &RuleAction,
    filter_name: &str,
    known: MessageScope<'_>,
    request_context: RequestContext,
) -> Result<Command, ClientError> {
    let request_context = Some(request_context);
    Ok(match act {
        RuleAction::Subscribe(spec) => {
            let wanted = subscribe_request(spec, known)?;
            Command::Subscribe { request_context, wanted }
        }
        RuleAction::Unsubscribe { each, channels, group } => {
            let group = group_of(group.as_ref(), &known)?;
            let channels = match channels[..] {
                [] => None,
                _ => Some(channels_of(each.as_ref(), channels, known)?.names),
            };
            Command::Unsubscribe { request_context, channels, group }
        }
        RuleAction::Filter { channel, field, tests, change } => {
            let channel = channel.fill(&known).map_err(fill_error)?;
            let list =
                |list: &Option<Placeholder>| list.as_ref().map(|list| values_of(list, &known)).transpose();
            let filter = Filter {
                field: *field,
                name: filter_name.into(),
                values: list(&tests.values)?,
                not: list(&tests.not)?.unwrap_or_default(),
                min: bound_of(tests.min.as_ref(), &known)?,
                max: bound_of(tests.max.as_ref(), &known)?,
            };
            Command::Filter { request_context, channel, filter, change: *change }
        }
        RuleAction::Publish { subject, data, headers } => {
            let channel = subject.fill(&known).map_err(fill_error)?;
            let data = Bytes::from(json_of(data, &known)?);
            let headers = headers_of(headers, &known)?;
            Command::Publish { request_context, channel, data, headers }
        }
        RuleAction::Request { subject, data, headers, timeout } => {
            let channel = subject.fill(&known).map_err(fill_error)?;
            let data = Bytes::from(json_of(data, &known)?);
            let headers = headers_of(headers, &known)?;
            let timeout = timeout.as_ref().map(|timeout| millis(timeout, &known)).transpose()?;
            Command::Request { request_context, channel, data, headers, timeout }
        }
        RuleAction::Auth(placeholder) => {
            let token = match placeholder.value(&known) {
                Some(value) if value.to_json().starts_with('"') => value.as_text().map(String::from),
                Some(_) | None => None,
            };
            let token = token.ok_or_else(|| bad_value(placeholder, "must be a text with the token"))?;
            Command::Auth { request_context, token }
        }
        RuleAction::Send => Command::Acknowledge { request_context },
        RuleAction::Pong => Command::Ping { request_context },
        RuleAction::Ignore => Command::Pong,
        RuleAction::Error { code, message } => {
            let words = message.text(&known, OnMissing::Null).map_err(render_error)?;
            return reject(*code, shortened(words));
        }
        RuleAction::Close { code, reason } => Command::Close { code: *code, reason: reason.clone() },
    })
}

fn subscribe_request(spec: &SubscribeSpec, known: MessageScope<'_>) -> Result<SubscribeRequest, ClientError> {
    let NamedChannels { names, elements } = channels_of(spec.each.as_ref(), &spec.channels, known)?;
    Ok(SubscribeRequest {
        channels: names,
        elements,
        max_rate: spec.max_rate.as_ref().map(|rate| max_rate(rate, &known)).transpose()?,
        group: group_of(spec.group.as_ref(), &known)?,
        joining: spec.joining,
        kept: pairs_of(&spec.keep, &known)?,
        since: None,
    })
}

#[cfg(test)]
mod tests;
