//! HTTP: the request that a route of the vocabulary takes. A session that lives for one message does what it asks for.

pub mod answer;
mod dialect;

use std::sync::Arc;

use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::json;
use tidegate_protocol::json::paths::JsonParts;
use tidegate_protocol::json::paths::JsonSpans;
use tidegate_protocol::members::Members;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::payload::is_json;
use tidegate_protocol::subject::Pattern;

use crate::arguments::names;
use crate::binding::Binding;
use crate::http::answer::HttpAnswer;
use crate::json_template::OnMissing;
use crate::known::MessageScope;
use crate::known::of_payload;
use crate::model::Act;
use crate::model::CompiledVocabulary;
use crate::model::HttpAction;
use crate::model::HttpIndex;
use crate::model::HttpRoute;
use crate::model::NoMatch;
use crate::model::PathIndex;
use crate::outbound::of_question;
use crate::outbound::question;
use crate::path::parameters;
use crate::placeholder::Given;
use crate::placeholder::Resolve;
use crate::placeholder::Source;
use crate::placeholder::Value;

/// What is found at a method and a path.
pub enum Lookup {
    /// This route takes it.
    Found(MatchedRoute),
    /// Other methods may be used here.
    OtherMethod(Vec<Box<str>>),
    /// A value of the path is none that may be there.
    BadValue,
    /// No route is here.
    Nothing,
}

/// A request whose method and path a route takes.
#[derive(Debug)]
pub struct MatchedRoute(RouteDialect);

/// A request that may be made, with the body that it has.
#[derive(Debug)]
pub struct AcceptedRequest {
    route: RouteDialect,
    /// Empty without one.
    body: String,
}

/// Who serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// A session that lives for one message.
    Session,
    /// Whoever knows how the node is.
    Health,
    /// Whoever has the page.
    Console,
}

/// What reads and writes the one message of a request.
#[derive(Debug)]
pub struct RouteDialect {
    binding: Binding,
    at: HttpIndex,
    /// The channels whose last values it asks for. They are named first of all: many are as much work as several requests.
    channels: Vec<String>,
}

/// What a request is answered with.
#[derive(Clone, Copy, Debug, Default)]
struct HttpOutcome<'o> {
    /// What a service has answered.
    reply: Option<&'o Payload>,
    /// Last values.
    values: Option<&'o [Payload]>,
    /// Figures, as JSON.
    stats: Option<&'o str>,
    /// How the node is.
    status: Option<&'o str>,
}

impl CompiledVocabulary {
    /// The route that takes a request.
    pub fn lookup<'r>(
        self: &Arc<Self>,
        number: VocabularyId,
        method: &str,
        path: &str,
        query: Option<&str>,
        header: impl Fn(&str) -> Option<&'r str>,
    ) -> Lookup {
        let here = self.calls.iter().zip((0..).map(HttpIndex));
        let here = here.filter_map(|(route, at)| Some((at, route, parameters(&route.segments, path)?)));
        let mut others = Vec::new();
        for (at, route, parameters) in here {
            if *route.method != *method && !(method == "HEAD" && *route.method == *"GET") {
                others.push(route.method.clone());
                continue;
            }
            return match self.binding(number, PathIndex(0), &route.tokens, parameters, query, &header) {
                Ok(binding) => {
                    Lookup::Found(MatchedRoute(RouteDialect { binding, at, channels: Vec::new() }))
                }
                Err(NoMatch::BadValue | NoMatch::Elsewhere) => Lookup::BadValue,
            };
        }
        if others.is_empty() { Lookup::Nothing } else { Lookup::OtherMethod(others) }
    }

    /// Each route that shows last values: its path, what covers all channels that it may ask for, and whether that is the
    /// one channel that it asks for.
    pub fn last_values(&self) -> impl Iterator<Item = (&str, Pattern, bool)> {
        self.calls.iter().flat_map(|route| {
            let channels =
                if let HttpAction::Last { channels, .. } = &route.action { &**channels } else { &[] };
            channels.iter().map(|channel| {
                (
                    &*route.template,
                    channel.reach(),
                    channel.is_wild() || channel.placeholders().next().is_none(),
                )
            })
        })
    }

    /// Whether some route shows what one node alone does not know.
    pub fn needs_other_nodes(&self) -> bool {
        self.calls.iter().any(|route| matches!(route.action, HttpAction::Stats | HttpAction::Last { .. }))
    }

    /// Whether some route has this path.
    pub fn has_call(&self, path: &str) -> bool {
        self.calls.iter().any(|route| parameters(&route.segments, path).is_some())
    }
}

impl MatchedRoute {
    /// The vocabulary, as this request has come into it.
    pub fn binding(&self) -> &Binding {
        &self.0.binding
    }

    /// Whether it has to be known who calls.
    pub fn needs_identity(&self) -> bool {
        !matches!(
            self.0.route().map(|route| &route.action),
            Some(HttpAction::Act(Act::Send) | HttpAction::Health | HttpAction::Console) | None
        )
    }

    /// The request, if its route takes it from this caller: what is required holds, and the body is as strict as a message.
    pub fn accept(
        self,
        scope: SessionScope<'_>,
        body: Option<String>,
    ) -> Result<AcceptedRequest, ClientError> {
        let body = body.filter(|body| !body.trim().is_empty()).unwrap_or_default();
        if !body.is_empty() {
            check(&body)?;
        }
        let Self(mut route) = self;
        let spans = JsonSpans::default();
        let known = known(&route.binding, scope, &body, &spans);
        let requires = route.route().map_or(&[][..], |route| &route.require);
        if !requires.iter().all(|require| require.holds(&known, true)) {
            let words = "this is another's: a call speaks for its own user";
            return Err(ClientError::new(ErrorCode::Forbidden, words));
        }
        if route.is_receive() && body.is_empty() {
            return Err(ClientError::new(ErrorCode::NotJson, "the body is empty: send a message"));
        }
        if let Some(HttpAction::Last { each, channels }) = route.route().map(|route| &route.action) {
            let names = names(each.as_ref(), channels, known)?;
            route.channels = names.into_iter().collect::<Result<_, _>>()?;
        }
        Ok(AcceptedRequest { route, body })
    }

    /// What reads and writes its message.
    #[cfg(test)]
    pub(crate) fn into_dialect(self) -> RouteDialect {
        self.0
    }
}

impl AcceptedRequest {
    /// Who serves it.
    pub fn handler(&self) -> Handler {
        match self.route.route().map(|route| &route.action) {
            Some(HttpAction::Health) => Handler::Health,
            Some(HttpAction::Console) => Handler::Console,
            Some(HttpAction::Act(_) | HttpAction::Last { .. } | HttpAction::Stats | HttpAction::Receive)
            | None => Handler::Session,
        }
    }

    /// How many channels it asks for the last values of.
    pub fn channels(&self) -> usize {
        self.route.channels.len()
    }

    /// What a session is told, and in which dialect: that of the route, or of the vocabulary where it receives messages as
    /// over a WebSocket.
    pub fn into_message(self) -> (Arc<dyn Dialect>, String) {
        let is_receive = self.route.is_receive();
        let dialect: Arc<dyn Dialect> =
            if is_receive { Arc::new(self.route.binding) } else { Arc::new(self.route) };
        (dialect, self.body)
    }

    /// The answer of a route that shows how the node is.
    pub fn health(&self, scope: SessionScope<'_>, status: &str) -> HttpAnswer {
        let spans = JsonSpans::default();
        let known = known(&self.route.binding, scope, &self.body, &spans);
        self.route.render(known, HttpOutcome { status: Some(status), ..HttpOutcome::default() })
    }
}

impl RouteDialect {
    fn route(&self) -> Option<&HttpRoute> {
        self.binding.described.calls.get(usize::from(self.at.0))
    }

    fn is_receive(&self) -> bool {
        self.route().is_some_and(|route| matches!(route.action, HttpAction::Receive))
    }

    fn answer(
        &self,
        scope: SessionScope<'_>,
        asked: Option<&RequestContext>,
        outcome: HttpOutcome<'_>,
    ) -> HttpAnswer {
        self.render(of_question(&self.binding, scope, question(asked)), outcome)
    }

    fn render(&self, known: MessageScope<'_>, outcome: HttpOutcome<'_>) -> HttpAnswer {
        let Some(route) = self.route() else { return HttpAnswer::NoValue };
        let status = route.status.unwrap_or(200);
        let Some(send) = &route.send else { return HttpAnswer::Status(status) };
        let shows_one = send.placeholders().iter().any(|placeholder| placeholder.source == Source::Data);
        if shows_one && outcome.values.is_some_and(<[Payload]>::is_empty) {
            return HttpAnswer::NoValue;
        }
        let known = MessageScope { reply: outcome.reply, ..known };
        let mut out = Vec::new();
        // What cannot be spread is shown as nothing.
        send.render(&Answered { known, outcome }, OnMissing::AreNull, &mut out).ok();
        match String::from_utf8(out) {
            Ok(body) => HttpAnswer::Json(status, body),
            Err(_) => HttpAnswer::Status(status),
        }
    }
}

/// What is known of a request before it is done. `body` is empty without one; `spans` is of it.
fn known<'k>(
    binding: &'k Binding,
    scope: SessionScope<'k>,
    body: &'k str,
    spans: &'k JsonSpans,
) -> MessageScope<'k> {
    let known = MessageScope::of(binding, scope);
    if body.is_empty() { known } else { known.with_message(body, spans) }
}

/// Levels of lists and objects in a body. Programs that read what is passed on may not be able to read more.
const MAX_DEPTH: usize = 64;

/// A body is as strictly read as a message: no member twice, not too many, and not too deep.
fn check(body: &str) -> Result<(), ClientError> {
    let bad = |words: String| Err(ClientError::new(ErrorCode::BadRequest, words));
    if !is_json(body) {
        return Err(ClientError::new(ErrorCode::NotJson, "the body is not JSON"));
    }
    if json::is_deeper(body, MAX_DEPTH) {
        return bad(format!("lists and objects lie in each other deeper than {MAX_DEPTH} levels"));
    }
    match serde_json::from_str::<Members<'_>>(body) {
        Err(error) if body.trim_start().starts_with('{') => bad(format!("the body cannot be taken: {error}")),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What is known when a request is answered.
struct Answered<'a> {
    known: MessageScope<'a>,
    outcome: HttpOutcome<'a>,
}

impl Resolve for Answered<'_> {
    fn value(&self, source: &Source) -> Option<Given<'_>> {
        let json = |json: String| Some(Given::Value(Value::Json(json.into())));
        let values = || self.outcome.values.unwrap_or_default();
        if *source == Source::Data {
            of_payload(values().first()?).map(Given::Value)
        } else if *source == Source::List {
            let shown = values().iter().filter_map(of_payload).map(|value| value.to_json());
            json(format!("[{}]", shown.collect::<Vec<_>>().join(",")))
        } else if *source == Source::Count {
            json(values().iter().filter_map(of_payload).count().to_string())
        } else if *source == Source::Stats {
            Some(Given::Value(Value::Json(self.outcome.stats?.into())))
        } else if *source == Source::Status {
            Some(Given::Value(Value::Text(self.outcome.status?.into())))
        } else {
            self.known.value(source)
        }
    }

    fn parts(&self, source: &Source) -> Option<JsonParts<'_>> {
        self.known.parts(source)
    }
}

#[cfg(test)]
mod tests;
