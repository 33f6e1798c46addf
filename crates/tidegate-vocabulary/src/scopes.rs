//! Scopes: the values of placeholders in a session, in an error or notice, and in a publication.

use std::borrow::Cow;
use std::time::SystemTime;

use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::elements::CollectedMessage;
use tidegate_protocol::json::paths::JsonParts;
use tidegate_protocol::json::paths::JsonSpans;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Publication;

use crate::binding::Binding;
use crate::binding::named;
use crate::placeholder::Resolve;
use crate::placeholder::Source;
use crate::placeholder::SourceValue;
use crate::placeholder::Value;

/// The values for an error or a notice.
#[derive(Clone, Copy, Default)]
pub(crate) struct OutcomeScope<'o> {
    /// `{code}`, as JSON.
    pub code: Option<&'o str>,
    /// `{message}`
    pub message: Option<&'o str>,
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

/// The values for placeholders in one session.
#[derive(Clone, Copy)]
pub(crate) struct MessageScope<'k> {
    /// The client's path, query and headers.
    pub binding: &'k Binding,
    pub scope: SessionScope<'k>,
    /// The client's message, as JSON.
    pub message: Option<JsonParts<'k>>,
    /// The current element of `each`, as JSON.
    pub item: Option<&'k str>,
    /// The elements of `each` whose channels are joined, as JSON.
    pub joined: Option<&'k str>,
    /// The values that `keep` stored with the subscription: names, and JSON.
    pub kept: &'k [(Box<str>, Box<str>)],
    /// The reply of a service.
    pub reply: Option<&'k Payload>,
    /// The error or notice that is rendered.
    pub outcome: OutcomeScope<'k>,
}

impl<'k> MessageScope<'k> {
    /// The values of the session and the handshake alone.
    pub(crate) fn of(binding: &'k Binding, scope: SessionScope<'k>) -> Self {
        let outcome = OutcomeScope::default();
        Self { binding, scope, message: None, item: None, joined: None, kept: &[], reply: None, outcome }
    }

    /// Adds a client's message. `spans` belongs to that message.
    pub(crate) fn with_message(self, json: &'k str, spans: &'k JsonSpans) -> Self {
        Self { message: Some(JsonParts::new(json, &self.binding.vocabulary.messages, spans)), ..self }
    }
}

fn text(text: &str) -> Option<SourceValue<'_>> {
    Some(SourceValue::Value(Value::Text(text.into())))
}

fn json(json: &str) -> Option<SourceValue<'_>> {
    Some(SourceValue::Value(Value::Json(json.into())))
}

fn number(number: impl ToString) -> Option<SourceValue<'static>> {
    Some(SourceValue::Value(Value::Json(number.to_string().into())))
}

/// A payload as a value: JSON, or text. Binary payloads have no value.
pub(crate) fn of_payload(payload: &Payload) -> Option<Value<'_>> {
    let text = || Some(Cow::Borrowed(std::str::from_utf8(payload.bytes()).ok()?));
    match payload {
        Payload::Json(_) => text().map(Value::Json),
        Payload::Text(_) => text().map(Value::Text),
        Payload::Binary(_) => None,
    }
}

impl Resolve for OutcomeScope<'_> {
    fn value(&self, source: &Source) -> Option<SourceValue<'_>> {
        match source {
            Source::Code => json(self.code?),
            Source::ErrorMessage => text(self.message?),
            Source::Channel => text(self.channel?),
            Source::Cause => text(self.cause?),
            Source::Dropped => number(self.dropped?),
            Source::Since => Some(SourceValue::Time(self.since?)),
            Source::ExpiresIn | Source::RetryAfter => number(self.millis?),
            Source::CloseCode => number(self.close_code?),
            Source::Reason => text(self.reason?),
            Source::User
            | Source::Claims
            | Source::Session
            | Source::Node
            | Source::Path(_)
            | Source::Query(_)
            | Source::QueryList(_)
            | Source::Header(_)
            | Source::Variable(_)
            | Source::Message
            | Source::Item
            | Source::Joined
            | Source::Subscription(_)
            | Source::Data
            | Source::Subject
            | Source::Token(_)
            | Source::Tokens(_)
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
    fn value(&self, source: &Source) -> Option<SourceValue<'_>> {
        let Self { binding, scope, outcome, .. } = self;
        match source {
            Source::User => text(&scope.identity?.user),
            Source::Claims => json(scope.identity?.claims.as_deref()?),
            Source::Session => text(scope.session),
            Source::Node => text(scope.node),
            Source::Path(name) => text(binding.parameters.get(name)?),
            Source::Query(name) => text(binding.query.get(name)?),
            Source::QueryList(name) => text(binding.query_lists.get(name)?),
            Source::Header(name) => text(binding.headers.get(name)?),
            Source::Variable(name) => json(scope.variables?.get(name)?),
            Source::Message => json(self.message?.json()),
            Source::Item => json(self.item?),
            Source::Joined => json(self.joined?),
            Source::Subscription(name) => json(named(self.kept, name)?),
            Source::Reply => of_payload(self.reply?).map(SourceValue::Value),
            Source::Code
            | Source::ErrorMessage
            | Source::Channel
            | Source::Cause
            | Source::Dropped
            | Source::Since
            | Source::ExpiresIn
            | Source::RetryAfter
            | Source::CloseCode
            | Source::Reason => outcome.value(source),
            Source::Now => Some(SourceValue::Time(scope.now)),
            Source::Data
            | Source::Subject
            | Source::Token(_)
            | Source::Tokens(_)
            | Source::Capture(_)
            | Source::Time
            | Source::NatsHeader(_)
            | Source::Stats
            | Source::List
            | Source::Count
            | Source::Status => None,
        }
    }

    fn user_token(&self) -> Option<&str> {
        Some(self.scope.identity?.user_token())
    }

    fn encodes_users(&self) -> bool {
        self.binding.vocabulary.encodes_users
    }

    fn parts(&self, source: &Source) -> Option<JsonParts<'_>> {
        self.message.filter(|_| *source == Source::Message)
    }
}

/// The values of a publication.
pub(crate) struct PublicationScope<'p> {
    pub publication: &'p Publication,
    /// Its payload, if it is JSON.
    pub data: Option<JsonParts<'p>>,
    /// The pattern of the rule that renders it, for `{capture.N}`.
    pub pattern: &'p str,
    /// Whether the names of users are encoded in subjects.
    pub encodes_users: bool,
}

impl Resolve for PublicationScope<'_> {
    fn value(&self, source: &Source) -> Option<SourceValue<'_>> {
        let publication = self.publication;
        match source {
            Source::Data => match self.data {
                Some(data) => json(data.json()),
                None => of_payload(&publication.payload).map(SourceValue::Value),
            },
            Source::Subject => text(&publication.subject),
            Source::Token(at) => text(publication.subject.split('.').nth(*at)?),
            Source::Tokens(at) => text(publication.subject.splitn(at.checked_add(1)?, '.').nth(*at)?),
            Source::Capture(at) => {
                let tokens = self.pattern.split('.').zip(publication.subject.split('.'));
                let mut captured = tokens.filter(|(token, _)| matches!(*token, "*" | ">"));
                text(captured.nth(*at)?.1)
            }
            Source::Time | Source::Now => Some(SourceValue::Time(publication.time)),
            Source::NatsHeader(name) => {
                let mut headers = publication.headers.iter();
                text(headers.find(|(known, _)| known.eq_ignore_ascii_case(name))?.1)
            }
            Source::User
            | Source::Claims
            | Source::Session
            | Source::Node
            | Source::Path(_)
            | Source::Query(_)
            | Source::QueryList(_)
            | Source::Header(_)
            | Source::Variable(_)
            | Source::Message
            | Source::Item
            | Source::Joined
            | Source::Subscription(_)
            | Source::Reply
            | Source::Code
            | Source::ErrorMessage
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

    fn encodes_users(&self) -> bool {
        self.encodes_users
    }

    fn parts(&self, source: &Source) -> Option<JsonParts<'_>> {
        self.data.filter(|_| *source == Source::Data)
    }
}

/// The values of a message with the elements of a collection.
pub(crate) struct CollectedScope<'c> {
    pub message: CollectedMessage<'c>,
}

impl Resolve for CollectedScope<'_> {
    fn value(&self, source: &Source) -> Option<SourceValue<'_>> {
        let CollectedMessage { elements, time, .. } = &self.message;
        if *source == Source::List {
            // With its size known, the list is written once.
            let length: usize = elements.iter().map(|element| element.len() + 1).sum();
            let mut list = String::with_capacity(length + 1);
            list.push('[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    list.push(',');
                }
                list.push_str(element);
            }
            list.push(']');
            Some(SourceValue::Value(Value::Json(list.into())))
        } else if *source == Source::Count {
            number(elements.len())
        } else if *source == Source::Time {
            Some(SourceValue::Time(*time))
        } else {
            // What differs by client is in slots. The compiler refuses the rest.
            None
        }
    }
}
