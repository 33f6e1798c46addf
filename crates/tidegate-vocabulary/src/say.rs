//! Say: what a client whose vocabulary is described in a file is told, and when it is told nothing.

use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::error::Refusal;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::message::Asked;
use tidegate_protocol::message::Push;
use tidegate_protocol::message::Question;
use tidegate_protocol::message::Reply;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::terms::Terms;
use tidegate_protocol::writer::millis;

use crate::entered::Entered;
use crate::hole::Fill;
use crate::known::Known;
use crate::known::Outcome;
use crate::shape::Gaps;
use crate::shape::Shape;

/// Room for most messages.
const ROOM: usize = 120;

/// The answer to a command, if there are words for it.
pub(crate) fn reply(entered: &Entered, scene: SessionScope<'_>, reply: &Reply) -> Option<Frame> {
    match reply {
        Reply::Connected(_) => {
            let greeting = entered.rules()?.greeting.as_ref()?;
            render(greeting, &Known::of(entered, scene))
        }
        Reply::Subscribed { asked, .. }
        | Reply::Unsubscribed { asked, .. }
        | Reply::Published { asked }
        | Reply::Pong { asked }
        | Reply::Said { asked } => answer(entered, scene, asked.as_ref(), None),
        Reply::Replied { asked, data } => answer(entered, scene, asked.as_ref(), Some(data)),
        // No rule asks for them.
        Reply::LastValues { .. } | Reply::Statistics { .. } => None,
        Reply::Error { asked, channel, refusal } => {
            error(entered, scene, asked.as_ref(), channel.as_deref(), refusal)
        }
        Reply::Delayed { asked, channel, refusal } => {
            error(entered, scene, asked.as_ref(), Some(channel), refusal)
        }
    }
}

/// The message that is answered.
pub(super) fn question(asked: Option<&Asked>) -> Option<&Question> {
    match asked? {
        Asked::Message(question) => Some(question),
        Asked::Id(_) => None,
    }
}

/// What its rule answers to a message; an error where what is to be spread is no object. The session's variables are
/// those of the time when it came.
fn answer(
    entered: &Entered,
    scene: SessionScope<'_>,
    asked: Option<&Asked>,
    reply: Option<&Payload>,
) -> Option<Frame> {
    let question = question(asked)?;
    let shape = entered.rule(question.rule?)?.answer.as_ref()?;
    let known = Known { reply, ..of_question(entered, scene, Some(question)) };
    render(shape, &known).or_else(|| {
        let (code, whose) = match reply {
            Some(_) => (ErrorCode::Service, "the service"),
            None => (ErrorCode::BadRequest, "the message"),
        };
        let refusal = Refusal::new(code, format!("what {whose} says does not fit: an object is needed"));
        error(entered, scene, asked, None, &refusal)
    })
}

/// What is known of a message that came, with the session's variables of that time.
pub(super) fn of_question<'k>(
    entered: &'k Entered,
    scene: SessionScope<'k>,
    question: Option<&'k Question>,
) -> Known<'k> {
    let Some(question) = question else { return Known::of(entered, scene) };
    let scene = SessionScope { variables: Some(&question.variables), ..scene };
    let known = Known::of(entered, scene);
    if question.text.is_empty() { known } else { known.with_message(&question.text, &question.spans) }
}

fn error(
    entered: &Entered,
    scene: SessionScope<'_>,
    asked: Option<&Asked>,
    channel: Option<&str>,
    refusal: &Refusal,
) -> Option<Frame> {
    let question = question(asked);
    let own = question.and_then(|question| entered.rule(question.rule?)?.refuse.as_ref());
    let shape = own.or(entered.described.words.error.as_ref())?;
    let code = entered.code(refusal.code);
    let outcome = Outcome { code: Some(&code), words: Some(&refusal.message), channel, ..Outcome::default() };
    render(shape, &Known { outcome, ..of_question(entered, scene, question) })
}

/// What the server says unasked of the session as a whole, if there are words for it.
pub(crate) fn push(entered: &Entered, scene: SessionScope<'_>, push: &Push) -> Option<Frame> {
    let words = &entered.described.words;
    let (shape, outcome) = match push {
        Push::Ping => (&entered.described.heartbeat.ping, Outcome::default()),
        Push::Expiring { within } => {
            (&words.expiring, Outcome { millis: Some(millis(*within)), ..Outcome::default() })
        }
        Push::Close { disconnect, retry_after } => {
            let outcome = Outcome {
                close_code: Some(close_code(entered, *disconnect)),
                reason: Some(disconnect.name()),
                millis: retry_after.map(millis),
                ..Outcome::default()
            };
            (&words.close, outcome)
        }
        Push::Gap { .. } | Push::Stale { .. } | Push::Unsubscribed { .. } => {
            return of_channel(entered, push, None);
        }
    };
    render(shape.as_ref()?, &Known { outcome, ..Known::of(entered, scene) })
}

/// What the server says unasked of a channel, if there are words for it.
pub(crate) fn of_channel(entered: &Entered, push: &Push, terms: Option<&Terms>) -> Option<Frame> {
    let words = &entered.described.words;
    let mut outcome = Outcome::default();
    let code;
    let shape = match push {
        Push::Gap { channel, cause, dropped } => {
            outcome =
                Outcome { channel: Some(channel), cause: Some(cause.name()), dropped: *dropped, ..outcome };
            &words.gap
        }
        Push::Stale { channel, since } => {
            outcome = Outcome { channel: Some(channel), since: Some(*since), ..outcome };
            &words.stale
        }
        Push::Unsubscribed { channel, refusal } => {
            code = entered.code(refusal.code);
            let said = Some(refusal.message.as_str());
            outcome = Outcome { channel: Some(channel), code: Some(&code), words: said, ..outcome };
            &words.unsubscribed
        }
        Push::Ping | Push::Expiring { .. } | Push::Close { .. } => return None,
    };
    let frame = render(shape.as_ref()?, &outcome)?;
    if frame.has_slots() { Some(frame.filled(|number| terms?.insert(number))) } else { Some(frame) }
}

/// The close code of an end.
pub(crate) fn close_code(entered: &Entered, disconnect: Disconnect) -> u16 {
    let closes = &entered.described.closes;
    let own = closes.iter().find(|(known, _)| *known == disconnect);
    own.map_or_else(|| disconnect.code(), |(_, code)| *code)
}

/// A message that the server says: what is missing in it is `null`. What is no object cannot be spread.
fn render(shape: &Shape, fill: &impl Fill) -> Option<Frame> {
    let mut is_fit = false;
    let write = |out: &mut Vec<u8>| {
        let slots = shape.render_with_slots(fill, Gaps::AreNull, out);
        is_fit = slots.is_ok();
        slots.unwrap_or_default()
    };
    let frame = Frame::tailored(ROOM, write, &[]);
    is_fit.then_some(frame)
}
