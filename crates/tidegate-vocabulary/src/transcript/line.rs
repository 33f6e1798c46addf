//! One line of a conversation, by its first character.

use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::message::GapCause;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;

use crate::transcript::Action;
use crate::transcript::Answer;
use crate::transcript::Call;
use crate::transcript::Expected;
use crate::transcript::Mistake;
use crate::transcript::Published;

/// What a line is.
pub(super) enum Line<'t> {
    Nothing,
    Declaration(&'t str),
    Action(Action),
}

/// Reads a line, without white space at its end.
pub(super) fn action(line: &str) -> Result<Line<'_>, Mistake> {
    let mut rest = line.chars();
    let mark = rest.next();
    let rest = rest.as_str();
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    Ok(Line::Action(match mark {
        None | Some('#') => return Ok(Line::Nothing),
        Some('>') if rest.starts_with('>') => Action::Call(call(rest[1..].trim_start())?),
        Some('<') if rest.starts_with('<') => called(rest[1..].trim_start())?,
        Some('>') => Action::Client(match rest.strip_prefix("base64:") {
            Some(text) => ClientMessage::Binary(base64(text)?),
            None => ClientMessage::Text(rest.to_owned()),
        }),
        Some('<') => Action::Server(Expected::parse(rest)?),
        Some('!') => Action::Asked(rest.to_owned()),
        Some('=') => Action::Answer(answer(rest)?),
        Some('*') => Action::Publication(published(rest)?),
        Some('@') => Action::After(duration(rest.strip_prefix('+').ok_or(Mistake::After)?)?),
        Some(_) => return Ok(Line::Declaration(line)),
    }))
}

fn answer(text: &str) -> Result<Answer, Mistake> {
    let mut words = LineWords(text);
    let answer = match words.next() {
        "joined" => Answer::Joined { channel: words.channel()?, stale_for: words.time_after("stale for")? },
        "unjoined" => Answer::Unjoined { channel: words.channel()?, code: words.code()? },
        "lost" => Answer::Lost { channel: words.channel()?, cause: words.cause()?, dropped: words.count()? },
        "stale" => Answer::Stale { channel: words.channel()?, stale_for: needed(words.time_after("for")?)? },
        "authenticated" => Answer::Authenticated { persona: words.next().to_owned() },
        "unauthenticated" => Answer::Unauthenticated,
        "published" => Answer::Published { subject: words.subject()? },
        "unpublished" => Answer::Unpublished { subject: words.subject()?, code: words.code()? },
        "replied" => Answer::Replied { subject: words.subject()?, payload: payload(words.rest())? },
        "unreplied" => Answer::Unreplied { subject: words.subject()?, code: words.code()? },
        "alive" => Answer::Alive,
        "failed" => Answer::Failed(words.close_code()?),
        "drain" => Answer::Drain { retry_after: needed(words.time_after("retry after")?)? },
        unknown => {
            return Err(Mistake::Answer { verb: unknown.to_owned() });
        }
    };
    match words.rest() {
        "" => Ok(answer),
        left => Err(Mistake::Superfluous { text: left.to_owned() }),
    }
}

/// What is left of a line.
struct LineWords<'t>(&'t str);

impl<'t> LineWords<'t> {
    fn next(&mut self) -> &'t str {
        let (next, rest) = word(self.0);
        self.0 = rest;
        next
    }

    fn rest(&mut self) -> &'t str {
        std::mem::take(&mut self.0)
    }

    fn channel(&mut self) -> Result<Pattern, Mistake> {
        pattern(self.next())
    }

    fn subject(&mut self) -> Result<Subject, Mistake> {
        subject(self.next())
    }

    /// The time that is behind these words, if they are here.
    fn time_after(&mut self, words: &str) -> Result<Option<Duration>, Mistake> {
        let Some(rest) = self.0.strip_prefix(words) else {
            return Ok(None);
        };
        self.0 = rest.trim_start();
        duration(self.next()).map(Some)
    }

    fn count(&mut self) -> Result<Option<u64>, Mistake> {
        match self.next() {
            "" => Ok(None),
            count => number(count).map(Some),
        }
    }

    fn code(&mut self) -> Result<ErrorCode, Mistake> {
        let name = self.next();
        let code = ErrorCode::ALL.into_iter().find(|code| code.name() == name);
        code.ok_or_else(|| Mistake::ErrorCode { name: name.to_owned() })
    }

    fn cause(&mut self) -> Result<GapCause, Mistake> {
        let name = self.next();
        let cause = CAUSES.into_iter().find(|cause| cause.name() == name);
        cause.ok_or_else(|| Mistake::GapCause { name: name.to_owned() })
    }

    fn close_code(&mut self) -> Result<Disconnect, Mistake> {
        let text = self.next();
        let code: u16 = number(text)?;
        let disconnect = Disconnect::ALL.into_iter().find(|disconnect| disconnect.code() == code);
        disconnect.ok_or_else(|| Mistake::CloseCode { text: text.to_owned() })
    }
}

const CAUSES: [GapCause; 7] = [
    GapCause::Slow,
    GapCause::Expired,
    GapCause::Nats,
    GapCause::Malformed,
    GapCause::TooLarge,
    GapCause::Overflow,
    GapCause::Internal,
];

fn needed(time: Option<Duration>) -> Result<Duration, Mistake> {
    time.ok_or_else(|| Mistake::Duration { text: String::new() })
}

fn published(text: &str) -> Result<Published, Mistake> {
    let (to, rest) = word(text);
    let Headed { headers, rest } = headed(rest)?;
    Ok(Published { subject: subject(to)?, headers, payload: payload(rest)? })
}

/// The headers that a text begins with, `(Name: value; Other: value)`, and what is behind them.
struct Headed<'t> {
    headers: Vec<(String, String)>,
    rest: &'t str,
}

fn headed(text: &str) -> Result<Headed<'_>, Mistake> {
    let Some(opened) = text.strip_prefix('(') else { return Ok(Headed { headers: Vec::new(), rest: text }) };
    let (inside, after) = opened.split_once(')').ok_or(Mistake::Headers)?;
    let headers = inside.split(';').map(|header| {
        let (name, value) = header.split_once(':').ok_or(Mistake::Headers)?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    });
    let rest = after.strip_prefix(' ').unwrap_or(after);
    Ok(Headed { headers: headers.collect::<Result<_, _>>()?, rest })
}

fn call(text: &str) -> Result<Call, Mistake> {
    let (method, rest) = word(text);
    let (target, mut rest) = word(rest);
    if !target.starts_with('/') {
        return Err(Mistake::Call);
    }
    let mut persona = None;
    if let Some(named) = rest.strip_prefix("as ") {
        let (name, after) = word(named);
        (persona, rest) = (Some(name.to_owned()), after);
    }
    let Headed { headers, rest } = headed(rest)?;
    let body = (!rest.is_empty()).then(|| rest.to_owned());
    Ok(Call { method: method.to_owned(), target: target.to_owned(), persona, headers, body })
}

fn called(text: &str) -> Result<Action, Mistake> {
    let (status, rest) = word(text);
    let status = status.parse().map_err(|_| Mistake::Call)?;
    let body = if rest.is_empty() { None } else { Some(Expected::parse(rest)?) };
    Ok(Action::Called { status, body })
}

fn payload(text: &str) -> Result<Bytes, Mistake> {
    match text.strip_prefix("base64:") {
        Some(text) => base64(text),
        None => Ok(Bytes::copy_from_slice(text.as_bytes())),
    }
}

fn base64(text: &str) -> Result<Bytes, Mistake> {
    Payload::from_base64(text).ok_or(Mistake::Base64)
}

/// The text up to the first space, and what follows it.
pub(super) fn word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

pub(super) fn pattern(text: &str) -> Result<Pattern, Mistake> {
    Pattern::parse(text).map_err(|error| Mistake::Subject { text: text.to_owned(), error })
}

fn subject(text: &str) -> Result<Subject, Mistake> {
    Subject::parse(text).map_err(|error| Mistake::Subject { text: text.to_owned(), error })
}

pub(super) fn duration(text: &str) -> Result<Duration, Mistake> {
    humantime::parse_duration(text).map_err(|_| Mistake::Duration { text: text.to_owned() })
}

pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, Mistake> {
    text.parse().map_err(|_| Mistake::Number { text: text.to_owned() })
}
