//! Parses one line of a conversation. Its first character says what it is.

use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;

use crate::transcript::Action;
use crate::transcript::Expected;
use crate::transcript::HttpRequest;
use crate::transcript::LineError;
use crate::transcript::Published;
use crate::transcript::ShellInput;

pub(super) enum Line<'t> {
    Nothing,
    Declaration(&'t str),
    Action(Action),
}

/// Parses a line without trailing white space.
pub(super) fn action(line: &str) -> Result<Line<'_>, LineError> {
    let mut rest = line.chars();
    let mark = rest.next();
    let rest = rest.as_str();
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    Ok(Line::Action(match mark {
        None | Some('#') => return Ok(Line::Nothing),
        Some('>') if rest.starts_with('>') => Action::HttpRequest(http_request(rest[1..].trim_start())?),
        Some('<') if rest.starts_with('<') => http_response(rest[1..].trim_start())?,
        Some('>') => Action::Client(match rest.strip_prefix("base64:") {
            Some(text) => ClientMessage::Binary(base64(text)?),
            None => ClientMessage::Text(rest.to_owned()),
        }),
        Some('<') => Action::Server(Expected::parse(rest)?),
        Some('!') => Action::Output(rest.to_owned()),
        Some('=') => Action::Input(input(rest)?),
        Some('*') => Action::Publication(published(rest)?),
        Some('@') => Action::After(duration(rest.strip_prefix('+').ok_or(LineError::After)?)?),
        Some(_) => return Ok(Line::Declaration(line)),
    }))
}

fn input(text: &str) -> Result<ShellInput, LineError> {
    let mut words = LineWords(text);
    let input = match words.next() {
        "joined" => {
            ShellInput::Joined { channel: words.channel()?, stale_for: words.time_after("stale for")? }
        }
        "unjoined" => ShellInput::Unjoined { channel: words.channel()?, code: words.code()? },
        "lost" => {
            ShellInput::Lost { channel: words.channel()?, cause: words.cause()?, dropped: words.count()? }
        }
        "stale" => {
            ShellInput::Stale { channel: words.channel()?, stale_for: needed(words.time_after("for")?)? }
        }
        "authenticated" => ShellInput::Authenticated { persona: words.next().to_owned() },
        "unauthenticated" => ShellInput::Unauthenticated,
        "narrowed" => ShellInput::Narrowed { persona: words.next().to_owned() },
        "published" => ShellInput::Published { subject: words.subject()? },
        "unpublished" => ShellInput::Unpublished { subject: words.subject()?, code: words.code()? },
        "replied" => ShellInput::Replied { subject: words.subject()?, payload: payload(words.rest())? },
        "unreplied" => ShellInput::Unreplied { subject: words.subject()?, code: words.code()? },
        "alive" => ShellInput::Alive,
        "failed" => ShellInput::Failed(words.close_code()?),
        "drain" => ShellInput::Drain { retry_after: needed(words.time_after("retry after")?)? },
        unknown => {
            return Err(LineError::Input { verb: unknown.to_owned() });
        }
    };
    match words.rest() {
        "" => Ok(input),
        left => Err(LineError::TrailingWords { text: left.to_owned() }),
    }
}

/// The rest of a line.
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

    fn channel(&mut self) -> Result<Pattern, LineError> {
        pattern(self.next())
    }

    fn subject(&mut self) -> Result<Subject, LineError> {
        subject(self.next())
    }

    /// The duration after these words, if they are next.
    fn time_after(&mut self, words: &str) -> Result<Option<Duration>, LineError> {
        let Some(rest) = self.0.strip_prefix(words) else {
            return Ok(None);
        };
        self.0 = rest.trim_start();
        duration(self.next()).map(Some)
    }

    fn count(&mut self) -> Result<Option<u64>, LineError> {
        match self.next() {
            "" => Ok(None),
            count => number(count).map(Some),
        }
    }

    fn code(&mut self) -> Result<ErrorCode, LineError> {
        let name = self.next();
        let code = ErrorCode::ALL.into_iter().find(|code| code.name() == name);
        code.ok_or_else(|| LineError::ErrorCode { name: name.to_owned() })
    }

    fn cause(&mut self) -> Result<GapCause, LineError> {
        let name = self.next();
        let cause = GapCause::ALL.into_iter().find(|cause| cause.name() == name);
        cause.ok_or_else(|| LineError::GapCause { name: name.to_owned() })
    }

    fn close_code(&mut self) -> Result<Disconnect, LineError> {
        let text = self.next();
        let code: u16 = number(text)?;
        let disconnect = Disconnect::ALL.into_iter().find(|disconnect| disconnect.code() == code);
        disconnect.ok_or_else(|| LineError::CloseCode { text: text.to_owned() })
    }
}

fn needed(time: Option<Duration>) -> Result<Duration, LineError> {
    time.ok_or_else(|| LineError::Duration { text: String::new() })
}

fn published(text: &str) -> Result<Published, LineError> {
    let (to, rest) = word(text);
    let Headed { headers, rest } = headed(rest)?;
    Ok(Published { subject: subject(to)?, headers, payload: payload(rest)? })
}

/// A text that begins with headers, `(Name: value; Other: value)`.
struct Headed<'t> {
    headers: Vec<(String, String)>,
    rest: &'t str,
}

fn headed(text: &str) -> Result<Headed<'_>, LineError> {
    let Some(opened) = text.strip_prefix('(') else { return Ok(Headed { headers: Vec::new(), rest: text }) };
    let (inside, after) = opened.split_once(')').ok_or(LineError::Headers)?;
    let headers = inside.split(';').map(|header| {
        let (name, value) = header.split_once(':').ok_or(LineError::Headers)?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    });
    let rest = after.strip_prefix(' ').unwrap_or(after);
    Ok(Headed { headers: headers.collect::<Result<_, _>>()?, rest })
}

fn http_request(text: &str) -> Result<HttpRequest, LineError> {
    let (method, rest) = word(text);
    let (target, mut rest) = word(rest);
    if !target.starts_with('/') {
        return Err(LineError::HttpRequest);
    }
    let mut persona = None;
    if let Some(named) = rest.strip_prefix("as ") {
        let (name, after) = word(named);
        (persona, rest) = (Some(name.to_owned()), after);
    }
    let Headed { headers, rest } = headed(rest)?;
    let body = (!rest.is_empty()).then(|| rest.to_owned());
    Ok(HttpRequest { method: method.to_owned(), target: target.to_owned(), persona, headers, body })
}

fn http_response(text: &str) -> Result<Action, LineError> {
    let (status, rest) = word(text);
    let status = status.parse().map_err(|_| LineError::HttpRequest)?;
    let body = if rest.is_empty() { None } else { Some(Expected::parse(rest)?) };
    Ok(Action::HttpResponse { status, body })
}

fn payload(text: &str) -> Result<Bytes, LineError> {
    match text.strip_prefix("base64:") {
        Some(text) => base64(text),
        None => Ok(Bytes::copy_from_slice(text.as_bytes())),
    }
}

/// Headers, as a step writes them after the subject; nothing if there are none.
pub(super) fn headers_text(headers: &[(String, String)]) -> String {
    let written: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    if written.is_empty() { String::new() } else { format!(" ({})", written.join("; ")) }
}

/// A payload in the words of a transcript, after a space.
pub(super) fn payload_text(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok("") => String::new(),
        Ok(text) => format!(" {text}"),
        Err(_) => {
            let mut base64 = b" base64:".to_vec();
            Payload::put_base64(data, &mut base64);
            String::from_utf8_lossy(&base64).into_owned()
        }
    }
}

fn base64(text: &str) -> Result<Bytes, LineError> {
    Payload::from_base64(text).ok_or(LineError::Base64)
}

/// The text up to the first space, and the rest.
pub(super) fn word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

pub(super) fn pattern(text: &str) -> Result<Pattern, LineError> {
    Pattern::parse(text).map_err(|error| LineError::Subject { text: text.to_owned(), error })
}

fn subject(text: &str) -> Result<Subject, LineError> {
    Subject::parse(text).map_err(|error| LineError::Subject { text: text.to_owned(), error })
}

pub(super) fn duration(text: &str) -> Result<Duration, LineError> {
    humantime::parse_duration(text).map_err(|_| LineError::Duration { text: text.to_owned() })
}

pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, LineError> {
    text.parse().map_err(|_| LineError::Number { text: text.to_owned() })
}
