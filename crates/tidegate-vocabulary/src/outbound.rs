//! Say: what a client whose vocabulary is described in a file is told, and when it is told nothing.

use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::OriginalMessage;
use tidegate_protocol::message::Push;
use tidegate_protocol::message::Reply;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::subscription_context::SubscriptionContext;
use tidegate_protocol::writer::millis;

use crate::binding::Binding;
use crate::json_template::JsonTemplate;
use crate::json_template::OnMissing;
use crate::known::MessageScope;
use crate::known::OutcomeScope;
use crate::placeholder::Resolve;

/// Room for most messages.
const ROOM: usize = 120;

/// The answer to a command, if there are words for it.
pub(crate) fn reply(binding: &Binding, scope: SessionScope<'_>, reply: &Reply) -> Option<Frame> {
    match reply {
        Reply::Connected(_) => {
            let greeting = binding.rules()?.greeting.as_ref()?;
            render(greeting, &MessageScope::of(binding, scope))
        }
        Reply::Subscribed { asked, .. }
        | Reply::Unsubscribed { asked, .. }
        | Reply::Published { asked }
        | Reply::Pong { asked }
        | Reply::Acknowledged { asked } => answer(binding, scope, asked.as_ref(), None),
        Reply::Replied { asked, data } => answer(binding, scope, asked.as_ref(), Some(data)),
        // No rule asks for them.
        Reply::LastValues { .. } | Reply::Statistics { .. } => None,
        Reply::Error { asked, channel, refusal } => {
            error(binding, scope, asked.as_ref(), channel.as_deref(), refusal)
        }
        Reply::Delayed { asked, channel, refusal } => {
            error(binding, scope, asked.as_ref(), Some(channel), refusal)
        }
    }
}

/// The message that is answered.
pub(super) fn question(asked: Option<&RequestContext>) -> Option<&OriginalMessage> {
    match asked? {
        RequestContext::Message(question) => Some(question),
        RequestContext::Id(_) => None,
    }
}

/// What its rule answers to a message; an error where what is to be spread is no object. The session's variables are
/// those of the time when it came.
fn answer(
    binding: &Binding,
    scope: SessionScope<'_>,
    asked: Option<&RequestContext>,
    reply: Option<&Payload>,
) -> Option<Frame> {
    let question = question(asked)?;
    let json_template = binding.rule(question.rule?)?.answer.as_ref()?;
    let known = MessageScope { reply, ..of_question(binding, scope, Some(question)) };
    render(json_template, &known).or_else(|| {
        let (code, whose) = match reply {
            Some(_) => (ErrorCode::Service, "the service"),
            None => (ErrorCode::BadRequest, "the message"),
        };
        let refusal = ClientError::new(code, format!("what {whose} says does not fit: an object is needed"));
        error(binding, scope, asked, None, &refusal)
    })
}

/// What is known of a message that came, with the session's variables of that time.
pub(super) fn of_question<'k>(
    binding: &'k Binding,
    scope: SessionScope<'k>,
    question: Option<&'k OriginalMessage>,
) -> MessageScope<'k> {
    let Some(question) = question else { return MessageScope::of(binding, scope) };
    let scope = SessionScope { variables: Some(&question.variables), ..scope };
    let known = MessageScope::of(binding, scope);
    if question.text.is_empty() { known } else { known.with_message(&question.text, &question.spans) }
}

fn error(
    binding: &Binding,
    scope: SessionScope<'_>,
    asked: Option<&RequestContext>,
    channel: Option<&str>,
    refusal: &ClientError,
) -> Option<Frame> {
    let question = question(asked);
    let own = question.and_then(|question| binding.rule(question.rule?)?.refuse.as_ref());
    let json_template = own.or(binding.described.words.error.as_ref())?;
    let code = binding.code(refusal.code);
    let outcome =
        OutcomeScope { code: Some(&code), words: Some(&refusal.message), channel, ..OutcomeScope::default() };
    render(json_template, &MessageScope { outcome, ..of_question(binding, scope, question) })
}

/// What the server says unasked of the session as a whole, if there are words for it.
pub(crate) fn push(binding: &Binding, scope: SessionScope<'_>, push: &Push) -> Option<Frame> {
    let words = &binding.described.words;
    let (json_template, outcome) = match push {
        Push::Ping => (&binding.described.heartbeat.ping, OutcomeScope::default()),
        Push::Expiring { within } => {
            (&words.expiring, OutcomeScope { millis: Some(millis(*within)), ..OutcomeScope::default() })
        }
        Push::Close { disconnect, retry_after } => {
            let outcome = OutcomeScope {
                close_code: Some(close_code(binding, *disconnect)),
                reason: Some(disconnect.name()),
                millis: retry_after.map(millis),
                ..OutcomeScope::default()
            };
            (&words.close, outcome)
        }
        Push::Gap { .. } | Push::Stale { .. } | Push::Unsubscribed { .. } => {
            return of_channel(binding, push, None);
        }
    };
    render(json_template.as_ref()?, &MessageScope { outcome, ..MessageScope::of(binding, scope) })
}

/// What the server says unasked of a channel, if there are words for it.
pub(crate) fn of_channel(
    binding: &Binding,
    push: &Push,
    subscription_context: Option<&SubscriptionContext>,
) -> Option<Frame> {
    let words = &binding.described.words;
    let mut outcome = OutcomeScope::default();
    let code;
    let json_template = match push {
        Push::Gap { channel, cause, dropped } => {
            outcome = OutcomeScope {
                channel: Some(channel),
                cause: Some(cause.name()),
                dropped: *dropped,
                ..outcome
            };
            &words.gap
        }
        Push::Stale { channel, since } => {
            outcome = OutcomeScope { channel: Some(channel), since: Some(*since), ..outcome };
            &words.stale
        }
        Push::Unsubscribed { channel, refusal } => {
            code = binding.code(refusal.code);
            let said = Some(refusal.message.as_str());
            outcome = OutcomeScope { channel: Some(channel), code: Some(&code), words: said, ..outcome };
            &words.unsubscribed
        }
        Push::Ping | Push::Expiring { .. } | Push::Close { .. } => return None,
    };
    let frame = render(json_template.as_ref()?, &outcome)?;
    if frame.has_slots() {
        Some(frame.fill_slots(|number| subscription_context?.insert(number)))
    } else {
        Some(frame)
    }
}

/// The close code of an end.
pub(crate) fn close_code(binding: &Binding, disconnect: Disconnect) -> u16 {
    let closes = &binding.described.closes;
    let own = closes.iter().find(|(known, _)| *known == disconnect);
    own.map_or_else(|| disconnect.code(), |(_, code)| *code)
}

/// A message that the server says: what is missing in it is `null`. What is no object cannot be spread.
fn render(json_template: &JsonTemplate, fill: &impl Resolve) -> Option<Frame> {
    let mut is_fit = false;
    let write = |out: &mut Vec<u8>| {
        let slots = json_template.render_with_slots(fill, OnMissing::AreNull, out);
        is_fit = slots.is_ok();
        slots.unwrap_or_default()
    };
    let frame = Frame::with_slots(ROOM, write, &[]);
    is_fit.then_some(frame)
}
