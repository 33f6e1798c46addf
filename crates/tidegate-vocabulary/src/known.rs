//! Known: what the placeholders of a vocabulary are filled from, in a session and for a publication.

use std::borrow::Cow;
use std::time::SystemTime;

use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::json::paths::JsonParts;
use tidegate_protocol::json::paths::JsonSpans;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Publication;

use crate::binding::Binding;
use crate::binding::named;
use crate::placeholder::Given;
use crate::placeholder::Resolve;
use crate::placeholder::Source;
use crate::placeholder::Value;

/// What happened, for those who are to be told.
#[derive(Clone, Copy, Default)]
pub(crate) struct OutcomeScope<'o> {
    /// `{code}`, as JSON.
    pub code: Option<&'o str>,
    /// `{message}`
    pub words: Option<&'o str>,
    /// `{channel}`
    pub channel: Option<&'o str>,
    /// `{cause}`
    pub cause: Option<&'o str>,
    /// `{dropped}`
    pub dropped: Option<u64>,
    /// `{since}`
    pub since: Option<SystemTime>,
    /// `{in_ms}` or `{retry_after_ms}`
    pub millis: Option<u64>,
    /// `{close_code}`
    pub close_code: Option<u16>,
    /// `{reason}`
    pub reason: Option<&'o str>,
}

/// Everything that may be known where a session fills a placeholder.
#[derive(Clone, Copy)]
pub(crate) struct MessageScope<'k> {
    /// Where the client came in.
    pub binding: &'k Binding,
    /// The session.
    pub scope: SessionScope<'k>,
    /// The client's message, JSON.
    pub message: Option<JsonParts<'k>>,
    /// The element in hand, JSON.
    pub item: Option<&'k str>,
    /// What the subscription has kept: names, and values as JSON.
    pub kept: &'k [(Box<str>, Box<str>)],
    /// What a service has answered.
    pub reply: Option<&'k Payload>,
    /// What happened.
    pub outcome: OutcomeScope<'k>,
}

impl<'k> MessageScope<'k> {
    /// Only what the session itself knows.
    pub(crate) fn of(binding: &'k Binding, scope: SessionScope<'k>) -> Self {
        let outcome = OutcomeScope::default();
        Self { binding, scope, message: None, item: None, kept: &[], reply: None, outcome }
    }

    /// The same with a client's message. `spans` is of that message.
    pub(crate) fn with_message(self, json: &'k str, spans: &'k JsonSpans) -> Self {
        Self { message: Some(JsonParts::new(json, &self.binding.described.messages, spans)), ..self }
    }
}

fn text(text: &str) -> Option<Given<'_>> {
    Some(Given::Value(Value::Text(text.into())))
}

fn json(json: &str) -> Option<Given<'_>> {
    Some(Given::Value(Value::Json(json.into())))
}

fn number(number: impl ToString) -> Option<Given<'static>> {
    Some(Given::Value(Value::Json(number.to_string().into())))
}

/// A payload as a value: JSON as it is, other text as text. Other bytes are none.
pub(crate) fn of_payload(payload: &Payload) -> Option<Value<'_>> {
    let text = || Some(Cow::Borrowed(std::str::from_utf8(payload.bytes()).ok()?));
    match payload {
        Payload::Json(_) => text().map(Value::Json),
        Payload::Text(_) => text().map(Value::Text),
        Payload::Binary(_) => None,
    }
}

impl Resolve for OutcomeScope<'_> {
    fn value(&self, source: &Source) -> Option<Given<'_>> {
        match source {
            Source::Code => json(self.code?),
            Source::Words => text(self.words?),
            Source::Channel => text(self.channel?),
            Source::Cause => text(self.cause?),
            Source::Dropped => number(self.dropped?),
            Source::Since => Some(Given::Time(self.since?)),
            Source::ExpiresIn | Source::RetryAfter => number(self.millis?),
            Source::CloseCode => number(self.close_code?),
            Source::Reason => text(self.reason?),
            Source::User
            | Source::Claims
            | Source::Session
            | Source::Node
            | Source::Path(_)
            | Source::Query(_)
            | Source::Header(_)
            | Source::Variable(_)
            | Source::Message
            | Source::Item
            | Source::Kept(_)
            | Source::Data
            | Source::Subject
            | Source::Token(_)
            | Source::Capture(_)
            | Source::Time
            | Source::NatsHeader(_)
            | Source::Reply
            | Source::Now
            | Source::Stats
            | Source::List
            | Source::Count
            | Source::Status => None,
        }
    }
}

impl Resolve for MessageScope<'_> {
    fn value(&self, source: &Source) -> Option<Given<'_>> {
        let Self { binding, scope, outcome, .. } = self;
        match source {
            Source::User => text(&scope.identity?.user),
            Source::Claims => json(scope.identity?.claims.as_deref()?),
            Source::Session => text(scope.session),
            Source::Node => text(scope.node),
            Source::Path(name) => text(binding.parameters.get(name)?),
            Source::Query(name) => text(binding.query.get(name)?),
            Source::Header(name) => text(binding.headers.get(name)?),
            Source::Variable(name) => json(scope.variables?.get(name)?),
            Source::Message => json(self.message?.json()),
            Source::Item => json(self.item?),
            Source::Kept(name) => json(named(self.kept, name)?),
            Source::Reply => of_payload(self.reply?).map(Given::Value),
            Source::Code
            | Source::Words
            | Source::Channel
            | Source::Cause
            | Source::Dropped
            | Source::Since
            | Source::ExpiresIn
            | Source::RetryAfter
            | Source::CloseCode
            | Source::Reason => outcome.value(source),
            Source::Now => Some(Given::Time(scope.now)),
            Source::Data
            | Source::Subject
            | Source::Token(_)
            | Source::Capture(_)
            | Source::Time
            | Source::NatsHeader(_)
            | Source::Stats
            | Source::List
            | Source::Count
            | Source::Status => None,
        }
    }

    fn parts(&self, source: &Source) -> Option<JsonParts<'_>> {
        self.message.filter(|_| *source == Source::Message)
    }
}

/// What is known of a publication.
pub(crate) struct PublicationScope<'p> {
    /// The publication.
    pub publication: &'p Publication,
    /// Its payload, if that is JSON.
    pub data: Option<JsonParts<'p>>,
    /// The pattern of the rule that shows it, for the tokens of its wildcards.
    pub pattern: &'p str,
}

impl Resolve for PublicationScope<'_> {
    fn value(&self, source: &Source) -> Option<Given<'_>> {
        let publication = self.publication;
        match source {
            Source::Data => match self.data {
                Some(data) => json(data.json()),
                None => of_payload(&publication.payload).map(Given::Value),
            },
            Source::Subject => text(&publication.subject),
            Source::Token(at) => text(publication.subject.split('.').nth(*at)?),
            Source::Capture(at) => {
                let tokens = self.pattern.split('.').zip(publication.subject.split('.'));
                let mut captured = tokens.filter(|(token, _)| matches!(*token, "*" | ">"));
                text(captured.nth(*at)?.1)
            }
            Source::Time | Source::Now => Some(Given::Time(publication.time)),
            Source::NatsHeader(name) => {
                let found = publication.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                text(&found?.1)
            }
            Source::User
            | Source::Claims
            | Source::Session
            | Source::Node
            | Source::Path(_)
            | Source::Query(_)
            | Source::Header(_)
            | Source::Variable(_)
            | Source::Message
            | Source::Item
            | Source::Kept(_)
            | Source::Reply
            | Source::Code
            | Source::Words
            | Source::Channel
            | Source::Cause
            | Source::Dropped
            | Source::Since
            | Source::ExpiresIn
            | Source::CloseCode
            | Source::Reason
            | Source::RetryAfter
            | Source::Stats
            | Source::List
            | Source::Count
            | Source::Status => None,
        }
    }

    fn parts(&self, source: &Source) -> Option<JsonParts<'_>> {
        self.data.filter(|_| *source == Source::Data)
    }
}
