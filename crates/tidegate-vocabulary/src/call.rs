//! Call: what an HTTP request asks for in a vocabulary, and what it is answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::error::Refusal;
use tidegate_protocol::json;
use tidegate_protocol::json::paths::JsonParts;
use tidegate_protocol::json::paths::JsonSpans;
use tidegate_protocol::members::Members;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::payload::is_json;
use tidegate_protocol::subject::Pattern;

use crate::arguments::headers_of;
use crate::arguments::json_of;
use crate::arguments::millis;
use crate::arguments::names;
use crate::arguments::unnamed;
use crate::entered::Entered;
use crate::hole::Fill;
use crate::hole::Given;
use crate::hole::Source;
use crate::hole::Value;
use crate::known::Known;
use crate::known::of_payload;
use crate::model::Call;
use crate::model::CallAct;
use crate::model::Described;
use crate::model::NoEntry;
use crate::path::parameters;
use crate::shape::Gaps;

/// A request that some call takes.
#[derive(Debug)]
pub struct Called {
    entered: Entered,
    at: usize,
}

/// What a call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Put a message on a subject.
    Publish { channel: String, data: Bytes, headers: Vec<(String, String)> },
    /// The same, and wait for one answer.
    Request { channel: String, data: Bytes, timeout: Option<Duration> },
    /// The last values of these channels.
    Last(Vec<String>),
    /// Who is there.
    Stats,
    /// What a session would do with this message.
    Receive(String),
    /// Nothing but the answer.
    Send,
    /// How the node is.
    Health,
    /// A page.
    Console,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Came<'c> {
    /// What a service has answered.
    pub reply: Option<&'c Payload>,
    /// Last values.
    pub values: Option<&'c [Payload]>,
    /// Figures, as JSON.
    pub stats: Option<&'c str>,
    /// How the node is.
    pub status: Option<&'c str>,
}

/// Who is asked for in which way.
pub enum Lookup {
    /// This call takes it.
    Found(Called),
    /// Other methods may be used here.
    OtherMethod(Vec<Box<str>>),
    /// A value of the path is none that may stand there.
    BadValue,
    /// No call is here.
    Nothing,
}

impl Described {
    /// The call that takes a request.
    pub fn lookup<'r>(
        self: &Arc<Self>,
        number: u16,
        method: &str,
        path: &str,
        query: Option<&str>,
        header: impl Fn(&str) -> Option<&'r str>,
    ) -> Lookup {
        let here = self.calls.iter().enumerate();
        let here = here.filter_map(|(at, call)| Some((at, call, parameters(&call.segments, path)?)));
        let mut others = Vec::new();
        for (at, call, parameters) in here {
            if *call.method != *method && !(method == "HEAD" && *call.method == *"GET") {
                others.push(call.method.clone());
                continue;
            }
            return match self.entered(number, 0, &call.tokens, parameters, query, &header) {
                Ok(entered) => Lookup::Found(Called { entered, at }),
                Err(NoEntry::BadValue | NoEntry::Elsewhere) => Lookup::BadValue,
            };
        }
        if others.is_empty() { Lookup::Nothing } else { Lookup::OtherMethod(others) }
    }

    /// Each call that shows last values: its path, what covers all channels that it may ask for, and whether that is the one
    /// channel that it asks for.
    pub fn last_values(&self) -> impl Iterator<Item = (&str, Pattern, bool)> {
        self.calls.iter().flat_map(|call| {
            let channels = if let CallAct::Last { channels, .. } = &call.act { &**channels } else { &[] };
            channels.iter().map(|channel| {
                (&*call.template, channel.reach(), channel.is_wild() || channel.holes().next().is_none())
            })
        })
    }

    /// Whether some call shows what one node alone does not know.
    pub fn needs_other_nodes(&self) -> bool {
        self.calls.iter().any(|call| matches!(call.act, CallAct::Stats | CallAct::Last { .. }))
    }

    /// Whether some call has this path.
    pub fn has_call(&self, path: &str) -> bool {
        self.calls.iter().any(|call| parameters(&call.segments, path).is_some())
    }
}

impl Called {
    fn call(&self) -> Option<&Call> {
        self.entered.described.calls.get(self.at)
    }

    /// The vocabulary, as this request has come into it.
    pub fn into_entered(self) -> Entered {
        self.entered
    }

    /// The vocabulary, as this request has come into it.
    pub fn entered(&self) -> &Entered {
        &self.entered
    }

    /// Whether it has to be known who calls.
    pub fn needs_identity(&self) -> bool {
        !matches!(
            self.call().map(|call| &call.act),
            Some(CallAct::Send | CallAct::Health | CallAct::Console) | None
        )
    }

    /// What it asks for. `body` is what was sent, if anything was.
    pub fn asks(&self, scene: SessionScope<'_>, body: Option<&str>) -> Result<Asks, Refusal> {
        let Some(call) = self.call() else { return Ok(Asks::Send) };
        let body = body.filter(is_there);
        if let Some(body) = body {
            check(body)?;
        }
        let (spans, known) = (JsonSpans::default(), Known::of(&self.entered, scene));
        let known = body.map_or(known, |body| known.with_message(body, &spans));
        if !call.require.iter().all(|require| require.holds(&known, true)) {
            return Err(Refusal::new(
                ErrorCode::Forbidden,
                "this is another's: a call speaks for its own user",
            ));
        }
        Ok(match &call.act {
            CallAct::Publish { subject, data, headers } => {
                let channel = subject.fill(&known).map_err(unnamed)?;
                let data = Bytes::from(json_of(data, &known)?);
                Asks::Publish { channel, data, headers: headers_of(headers, &known)? }
            }
            CallAct::Request { subject, data, timeout } => {
                let channel = subject.fill(&known).map_err(unnamed)?;
                let timeout = timeout.as_ref().map(|timeout| millis(timeout, &known)).transpose()?;
                Asks::Request { channel, data: Bytes::from(json_of(data, &known)?), timeout }
            }
            CallAct::Last { each, channels } => {
                let names = names(each.as_ref(), channels, known)?;
                Asks::Last(names.into_iter().collect::<Result<_, _>>()?)
            }
            CallAct::Stats => Asks::Stats,
            CallAct::Receive => {
                let body = body
                    .ok_or_else(|| Refusal::new(ErrorCode::NotJson, "the body is empty: send a message"))?;
                Asks::Receive(body.to_owned())
            }
            CallAct::Send => Asks::Send,
            CallAct::Health => Asks::Health,
            CallAct::Console => Asks::Console,
        })
    }

    /// The answer: its status, and its body as JSON, if it has one. `None` if one value was asked for and there is none.
    pub fn answer(
        &self,
        scene: SessionScope<'_>,
        body: Option<&str>,
        came: Came<'_>,
    ) -> Option<(u16, Option<String>)> {
        let call = self.call()?;
        let status = call.status.unwrap_or(200);
        let Some(send) = &call.send else { return Some((status, None)) };
        let shows_one = send.holes().iter().any(|hole| hole.source == Source::Data);
        if shows_one && came.values.is_some_and(<[Payload]>::is_empty) {
            return None;
        }
        let (spans, known) = (JsonSpans::default(), Known::of(&self.entered, scene));
        let known = body.filter(is_there).map_or(known, |body| known.with_message(body, &spans));
        let known = Known { reply: came.reply, ..known };
        let mut out = Vec::new();
        // What cannot be spread is shown as nothing.
        send.render(&Answered { known, came }, Gaps::AreNull, &mut out).ok();
        Some((status, String::from_utf8(out).ok()))
    }
}

/// Levels of lists and objects in a body. Programs that read what is passed on may not be able to read more.
const MAX_DEPTH: usize = 64;

/// A body is as strictly read as a message: no member twice, not too many, and not too deep.
fn check(body: &str) -> Result<(), Refusal> {
    let bad = |words: String| Err(Refusal::new(ErrorCode::BadRequest, words));
    if !is_json(body) {
        return Err(Refusal::new(ErrorCode::NotJson, "the body is not JSON"));
    }
    if json::is_deeper(body, MAX_DEPTH) {
        return bad(format!("lists and objects lie in each other deeper than {MAX_DEPTH} levels"));
    }
    match serde_json::from_str::<Members<'_>>(body) {
        Err(error) if body.trim_start().starts_with('{') => bad(format!("the body cannot be taken: {error}")),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether a body is more than blanks.
fn is_there(body: &&str) -> bool {
    !body.trim().is_empty()
}

/// What is known when a call is answered.
struct Answered<'a> {
    known: Known<'a>,
    came: Came<'a>,
}

impl Fill for Answered<'_> {
    fn value(&self, source: &Source) -> Option<Given<'_>> {
        let json = |json: String| Some(Given::Value(Value::Json(json.into())));
        let values = || self.came.values.unwrap_or_default();
        if *source == Source::Data {
            of_payload(values().first()?).map(Given::Value)
        } else if *source == Source::List {
            let shown = values().iter().filter_map(of_payload).map(|value| value.to_json());
            json(format!("[{}]", shown.collect::<Vec<_>>().join(",")))
        } else if *source == Source::Count {
            json(values().iter().filter_map(of_payload).count().to_string())
        } else if *source == Source::Stats {
            Some(Given::Value(Value::Json(self.came.stats?.into())))
        } else if *source == Source::Status {
            Some(Given::Value(Value::Text(self.came.status?.into())))
        } else {
            self.known.value(source)
        }
    }

    fn parts(&self, source: &Source) -> Option<JsonParts<'_>> {
        self.known.parts(source)
    }
}
