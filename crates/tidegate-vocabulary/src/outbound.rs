//! Outbound: encodes what the server sends to a client, by the templates of its vocabulary.

use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::elements::CollectedMessage;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::OriginalMessage;
use tidegate_protocol::message::Push;
use tidegate_protocol::message::Reply;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::subscription_context::SubscriptionContext;
use tidegate_protocol::writer::millis;

use crate::arguments::joined_of;
use crate::binding::Binding;
use crate::json_template::JsonTemplate;
use crate::placeholder::Resolve;
use crate::scopes::CollectedScope;
use crate::scopes::MessageScope;
use crate::scopes::OutcomeScope;

/// Capacity in bytes that fits most messages.
const ROOM: usize = 120;

/// The answer to a command, if the vocabulary has a template for it.
pub(crate) fn reply(binding: &Binding, scope: SessionScope<'_>, reply: &Reply) -> Option<Frame> {
    match reply {
        Reply::Connected(_) => {
            let greeting = binding.path_rule()?.greeting.as_ref()?;
            render(greeting, &MessageScope::of(binding, scope))
        }
        Reply::Subscribed { request_context, .. }
        | Reply::Unsubscribed { request_context, .. }
        | Reply::Published { request_context }
        | Reply::Pong { request_context }
        | Reply::Acknowledged { request_context } => answer(binding, scope, request_context.as_ref(), None),
        Reply::Replied { request_context, data } => {
            answer(binding, scope, request_context.as_ref(), Some(data))
        }
        // Rules of `[[receive]]` cannot ask for these.
        Reply::LastValues { .. } | Reply::Statistics { .. } => None,
        Reply::Error { request_context, channel, error } => {
            error_message(binding, scope, request_context.as_ref(), channel.as_deref(), error)
        }
        Reply::Delayed { request_context, channel, error } => {
            error_message(binding, scope, request_context.as_ref(), Some(channel), error)
        }
    }
}

/// The client message that caused a command.
pub(super) fn original(request_context: Option<&RequestContext>) -> Option<&OriginalMessage> {
    match request_context? {
        RequestContext::Message(original) => Some(original),
        RequestContext::Id(_) => None,
    }
}

/// The answer of the rule that matched. Values come from the session's variables at the time of the message. If a
/// template spreads a value that is not an object, the answer is an error.
fn answer(
    binding: &Binding,
    scope: SessionScope<'_>,
    request_context: Option<&RequestContext>,
    reply: Option<&Payload>,
) -> Option<Frame> {
    let original = original(request_context)?;
    let rule = binding.rule(original.rule?)?;
    let json_template = rule.answer.as_ref()?;
    let known = MessageScope { reply, ..message_scope(binding, scope, Some(original)) };
    let joined = rule.lists_joined.then(|| joined_of(&rule.action, known)).flatten();
    let known = MessageScope { joined: joined.as_deref(), ..known };
    render(json_template, &known).or_else(|| {
        let (code, source) = match reply {
            Some(_) => (ErrorCode::Service, "reply of the service"),
            None => (ErrorCode::BadRequest, "message"),
        };
        let error = ClientError::new(code, format!("a value in the {source} must be an object"));
        error_message(binding, scope, request_context, None, &error)
    })
}

/// The scope of an earlier message, with the session's variables at that time.
pub(super) fn message_scope<'k>(
    binding: &'k Binding,
    scope: SessionScope<'k>,
    original: Option<&'k OriginalMessage>,
) -> MessageScope<'k> {
    let Some(original) = original else { return MessageScope::of(binding, scope) };
    let scope = SessionScope { variables: Some(&original.variables), ..scope };
    let known = MessageScope::of(binding, scope);
    if original.text.is_empty() { known } else { known.with_message(&original.text, &original.spans) }
}

fn error_message(
    binding: &Binding,
    scope: SessionScope<'_>,
    request_context: Option<&RequestContext>,
    channel: Option<&str>,
    error: &ClientError,
) -> Option<Frame> {
    let original = original(request_context);
    let own = original.and_then(|original| binding.rule(original.rule?)?.refuse.as_ref());
    let (json_template, code) = match own {
        Some(own) => (own, binding.code_of_refusal(error.code)),
        None => (binding.vocabulary.server_messages.error.as_ref()?, binding.code(error.code)),
    };
    let outcome =
        OutcomeScope { code: Some(&code), message: Some(&error.message), channel, ..OutcomeScope::default() };
    render(json_template, &MessageScope { outcome, ..message_scope(binding, scope, original) })
}

/// Encodes a push about the session, if there is a template for it.
pub(crate) fn push(binding: &Binding, scope: SessionScope<'_>, push: &Push) -> Option<Frame> {
    let messages = &binding.vocabulary.server_messages;
    let (json_template, outcome) = match push {
        Push::Ping => (&binding.vocabulary.heartbeat.ping, OutcomeScope::default()),
        Push::Expiring { within } => {
            (&messages.expiring, OutcomeScope { millis: Some(millis(*within)), ..OutcomeScope::default() })
        }
        Push::Close { disconnect, retry_after } => {
            let outcome = OutcomeScope {
                close_code: Some(close_code(binding, *disconnect)),
                reason: Some(disconnect.name()),
                millis: retry_after.map(millis),
                ..OutcomeScope::default()
            };
            (&messages.close, outcome)
        }
        Push::Gap { .. } | Push::Stale { .. } | Push::Unsubscribed { .. } => {
            return channel_push(binding, push, None);
        }
    };
    render(json_template.as_ref()?, &MessageScope { outcome, ..MessageScope::of(binding, scope) })
}

/// A message about a channel that no command asked for, if there is a template for it.
pub(crate) fn channel_push(
    binding: &Binding,
    push: &Push,
    subscription_context: Option<&SubscriptionContext>,
) -> Option<Frame> {
    let messages = &binding.vocabulary.server_messages;
    let mut outcome = OutcomeScope::default();
    let code;
    let json_template = match push {
        Push::Gap { channel, cause, dropped, range: _ } => {
            outcome = OutcomeScope {
                channel: Some(channel),
                cause: Some(cause.name()),
                dropped: *dropped,
                ..outcome
            };
            &messages.gap
        }
        Push::Stale { channel, since } => {
            outcome = OutcomeScope { channel: Some(channel), since: Some(*since), ..outcome };
            &messages.stale
        }
        Push::Unsubscribed { channel, error } => {
            code = binding.code(error.code);
            let said = Some(error.message.as_str());
            outcome = OutcomeScope { channel: Some(channel), code: Some(&code), message: said, ..outcome };
            &messages.unsubscribed
        }
        Push::Ping | Push::Expiring { .. } | Push::Close { .. } => return None,
    };
    Some(filled(render(json_template.as_ref()?, &outcome)?, subscription_context))
}

/// A message with elements of a collection.
pub(crate) fn collected(
    binding: &Binding,
    message: &CollectedMessage<'_>,
    subscription_context: Option<&SubscriptionContext>,
) -> Option<Frame> {
    let rule = binding.vocabulary.rule_of_collection(message.collection)?;
    let room = ROOM + message.elements.iter().map(|element| element.len() + 1).sum::<usize>();
    let frame = rule.json_template.frame(
        &mut Scratch::default(),
        room,
        &CollectedScope { message: *message },
        &[],
    )?;
    Some(filled(frame, subscription_context))
}

/// The frame with the subscription's texts in its slots.
fn filled(frame: Frame, subscription_context: Option<&SubscriptionContext>) -> Frame {
    if frame.has_slots() { frame.fill_slots(|number| subscription_context?.insert(number)) } else { frame }
}

/// The vocabulary's close code.
pub(crate) fn close_code(binding: &Binding, disconnect: Disconnect) -> u16 {
    let closes = &binding.vocabulary.closes;
    let own = closes.iter().find(|(known, _)| *known == disconnect);
    own.map_or_else(|| disconnect.code(), |(_, code)| *code)
}

/// Renders a server message. Missing values become `null`. `None` if a template spreads a value that is not an object.
fn render(json_template: &JsonTemplate, fill: &impl Resolve) -> Option<Frame> {
    json_template.frame(&mut Scratch::default(), ROOM, fill, &[])
}
