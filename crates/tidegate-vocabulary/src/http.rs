//! HTTP: finds the route of a vocabulary for a request. A session that lives for one message then runs it.

pub mod answer;
mod dialect;

use std::collections::HashSet;
use std::sync::Arc;

use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::json;
use tidegate_protocol::json::list::JsonList;
use tidegate_protocol::json::paths::JsonParts;
use tidegate_protocol::json::paths::JsonSpans;
use tidegate_protocol::members::Members;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::payload::is_json;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::subject::Pattern;

use crate::arguments::channels_of;
use crate::binding::Binding;
use crate::http::answer::HttpAnswer;
use crate::http::answer::note_of_json;
use crate::model::CompiledVocabulary;
use crate::model::HttpAction;
use crate::model::HttpIndex;
use crate::model::HttpRoute;
use crate::model::NoMatch;
use crate::model::RuleAction;
use crate::outbound::message_scope;
use crate::outbound::original;
use crate::path::parameters;
use crate::placeholder::Resolve;
use crate::placeholder::Source;
use crate::placeholder::SourceValue;
use crate::placeholder::Value;
use crate::route::PathIndex;
use crate::scopes::MessageScope;

/// The result of looking up a method and a path.
pub enum Lookup {
    Found(MatchedRoute),
    /// The path has routes for these methods only.
    OtherMethod(Vec<Box<str>>),
    /// A value in the path is not allowed there.
    BadValue,
    /// A query parameter or a header cannot be used: what is wrong with it.
    BadParameter(String),
    /// There are routes with this method and path, and the `when` of none of them holds.
    Unmatched,
    /// No route has this path.
    Nothing,
}

/// A request, and the routes that match it as far as that is known without its body, in the order of the file.
#[derive(Debug)]
pub struct MatchedRoute {
    first: RouteDialect,
    others: Vec<RouteDialect>,
}

/// A request that passed the checks of its route, and its body.
#[derive(Debug)]
pub struct AcceptedRequest {
    route: RouteDialect,
    /// Empty if there is no body.
    body: String,
}

/// What serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    Session,
    /// The health of the node.
    Health,
    /// The test page.
    Console,
}

/// The dialect of the one message of a request.
#[derive(Debug)]
pub struct RouteDialect {
    binding: Binding,
    index: HttpIndex,
    /// Whether the values in the path can be parts of its subjects.
    allows_values: bool,
    /// The channels whose last values it reads. Known before the session runs, so that the caller can count a request
    /// for many channels as several.
    channels: Vec<String>,
}

/// The values for the response of a request.
#[derive(Clone, Copy, Debug, Default)]
struct HttpOutcome<'o> {
    /// The reply of a service.
    reply: Option<&'o Payload>,
    values: Option<&'o JsonList>,
    /// Statistics, as JSON.
    stats: Option<&'o str>,
    /// The health of the node.
    status: Option<&'o str>,
}

impl CompiledVocabulary {
    /// Finds the route for a request.
    pub fn lookup<'r>(
        self: &Arc<Self>,
        number: VocabularyId,
        method: &str,
        path: &str,
        query: Option<&str>,
        header: impl Fn(&str) -> Option<&'r [u8]>,
    ) -> Lookup {
        let here = self.http_routes.iter().zip((0..).map(HttpIndex));
        let here = here.filter_map(|(route, at)| Some((at, route, parameters(&route.segments, path)?)));
        let (mut others, mut found, mut is_method_known) = (Vec::new(), Vec::new(), false);
        for (at, route, parameters) in here {
            if *route.method != *method && !(method == "HEAD" && *route.method == *"GET") {
                others.push(route.method.clone());
                continue;
            }
            is_method_known = true;
            // A `receive` route handles its body by the rules of the file's first path.
            let binding = match self.binding(number, PathIndex(0), parameters, query, &header) {
                Ok(binding) => binding,
                Err(NoMatch::BadParameter(wrong)) => return Lookup::BadParameter(wrong),
                Err(NoMatch::BadValue | NoMatch::UnknownPath) => return Lookup::BadValue,
            };
            if !route.may_take(&MessageScope::of(&binding, SessionScope::default())) {
                continue;
            }
            // Only the route that takes the request decides about the values, and the body may choose another one.
            let allows_values = binding.fits(&route.parameters);
            found.push(RouteDialect { binding, index: at, allows_values, channels: Vec::new() });
            if !route.looks_at_body() {
                break;
            }
        }
        // Whichever the body chooses, it is refused.
        if !found.is_empty() && !found.iter().any(|candidate| candidate.allows_values) {
            return Lookup::BadValue;
        }
        let mut found = found.into_iter();
        match found.next() {
            Some(first) => Lookup::Found(MatchedRoute { first, others: found.collect() }),
            None if is_method_known => Lookup::Unmatched,
            None if others.is_empty() => Lookup::Nothing,
            None => Lookup::OtherMethod(others),
        }
    }

    /// Each route that returns last values: its path, a pattern that covers its channels, and whether that is its one
    /// channel.
    pub fn last_values(&self) -> impl Iterator<Item = (&str, Pattern, bool)> {
        self.http_routes.iter().flat_map(|route| {
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

    /// Whether a route needs values from other nodes.
    pub fn needs_other_nodes(&self) -> bool {
        self.http_routes
            .iter()
            .any(|route| matches!(route.action, HttpAction::Stats | HttpAction::Last { .. }))
    }

    pub fn has_http_route(&self, path: &str) -> bool {
        self.http_template(path).is_some()
    }

    /// The path of the first route that matches this one, as in the file.
    pub fn http_template(&self, path: &str) -> Option<&str> {
        let route = self.http_routes.iter().find(|route| parameters(&route.segments, path).is_some())?;
        Some(&route.template)
    }
}

impl HttpRoute {
    /// Whether its `when` holds, as far as that is known without the body.
    fn may_take(&self, known: &MessageScope<'_>) -> bool {
        let mut when = self.when.iter().filter(|condition| condition.placeholder.source != Source::Message);
        when.all(|condition| condition.holds(known))
    }

    fn looks_at_body(&self) -> bool {
        self.when.iter().any(|condition| condition.placeholder.source == Source::Message)
    }
}

impl MatchedRoute {
    /// The vocabulary, and the values of this request.
    pub fn binding(&self) -> &Binding {
        &self.first.binding
    }

    /// Whether only clients with an identity may use it. If the body decides the route, one of the routes is enough.
    pub fn needs_identity(&self) -> bool {
        let all = std::iter::once(&self.first).chain(&self.others);
        all.filter(|candidate| candidate.allows_values).any(RouteDialect::needs_identity)
    }

    /// The route for a body, which is empty if there is none.
    fn choose(self, body: &str) -> Result<RouteDialect, ClientError> {
        let spans = JsonSpans::default();
        let takes = |candidate: &RouteDialect| {
            let known = known(&candidate.binding, SessionScope::default(), body, &spans);
            candidate.route().is_some_and(|route| route.when.iter().all(|condition| condition.holds(&known)))
        };
        let bad = |words: &str| Err(ClientError::new(ErrorCode::BadRequest, words));
        match std::iter::once(self.first).chain(self.others).find(takes) {
            Some(chosen) if chosen.allows_values => Ok(chosen),
            Some(_) => bad("a parameter in the path has a value that is not allowed there"),
            None => bad("this path has no call for such a body: check its members"),
        }
    }

    /// Checks a request: its `require` must hold, and its body must follow the rules for messages.
    pub fn accept(
        self,
        scope: SessionScope<'_>,
        body: Option<String>,
    ) -> Result<AcceptedRequest, ClientError> {
        let body = body.filter(|body| !body.trim().is_empty()).unwrap_or_default();
        if !body.is_empty() {
            check(&body)?;
        }
        let mut route = self.choose(&body)?;
        let spans = JsonSpans::default();
        let known = known(&route.binding, scope, &body, &spans);
        let requires = route.route().map_or(&[][..], |route| &route.require);
        if !requires.iter().all(|require| require.holds(&known, true)) {
            let words = "identity mismatch: you can only act as yourself";
            return Err(ClientError::new(ErrorCode::Forbidden, words));
        }
        if route.is_receive() && body.is_empty() {
            return Err(ClientError::new(ErrorCode::NotJson, "the body is empty: send a message"));
        }
        if let Some(HttpAction::Last { each, channels }) = route.route().map(|route| &route.action) {
            let names = channels_of(each.as_ref(), channels, known)?.names;
            // Different texts may give one channel, whose values are read once.
            let mut seen = HashSet::new();
            let names: Vec<String> = names.into_iter().collect::<Result<_, _>>()?;
            route.channels = names.into_iter().filter(|name| seen.insert(name.clone())).collect();
        }
        Ok(AcceptedRequest { route, body })
    }

    #[cfg(test)]
    pub(crate) fn into_dialect(self) -> RouteDialect {
        self.first
    }
}

impl AcceptedRequest {
    pub fn handler(&self) -> Handler {
        match self.route.route().map(|route| &route.action) {
            Some(HttpAction::Health) => Handler::Health,
            Some(HttpAction::Console) => Handler::Console,
            Some(HttpAction::Rule(_) | HttpAction::Last { .. } | HttpAction::Stats | HttpAction::Receive)
            | None => Handler::Session,
        }
    }

    /// The number of channels whose last values it reads.
    pub fn channels(&self) -> usize {
        self.route.channels.len()
    }

    /// The message for the session, and its dialect: the vocabulary's for a route with `do = "receive"`, else the
    /// route's own.
    pub fn into_message(self) -> (Arc<dyn Dialect>, String) {
        let is_receive = self.route.is_receive();
        let dialect: Arc<dyn Dialect> =
            if is_receive { Arc::new(self.route.binding) } else { Arc::new(self.route) };
        (dialect, self.body)
    }

    /// The response of a route that reports health.
    pub fn health(&self, scope: SessionScope<'_>, status: &str) -> HttpAnswer {
        let spans = JsonSpans::default();
        let known = known(&self.route.binding, scope, &self.body, &spans);
        let outcome = HttpOutcome { status: Some(status), ..HttpOutcome::default() };
        HttpAnswer::of(&[self.route.render(known, outcome)])
    }
}

impl RouteDialect {
    fn route(&self) -> Option<&HttpRoute> {
        self.binding.vocabulary.http_routes.get(usize::from(self.index.0))
    }

    #[cfg(test)]
    pub(crate) fn index(&self) -> HttpIndex {
        self.index
    }

    fn needs_identity(&self) -> bool {
        !matches!(
            self.route().map(|route| &route.action),
            Some(HttpAction::Rule(RuleAction::Send) | HttpAction::Health | HttpAction::Console) | None
        )
    }

    fn is_receive(&self) -> bool {
        self.route().is_some_and(|route| matches!(route.action, HttpAction::Receive))
    }

    fn answer(
        &self,
        scope: SessionScope<'_>,
        request_context: Option<&RequestContext>,
        outcome: HttpOutcome<'_>,
    ) -> Frame {
        self.render(message_scope(&self.binding, scope, original(request_context)), outcome)
    }

    /// The response, as a frame. Its body is written where the response is sent from.
    fn render(&self, known: MessageScope<'_>, outcome: HttpOutcome<'_>) -> Frame {
        let Some(route) = self.route() else { return HttpAnswer::NoValue.to_frame() };
        let status = route.status.unwrap_or(200);
        let Some(send) = &route.send else { return HttpAnswer::Status(status).to_frame() };
        let shows_one = send.placeholders().iter().any(|placeholder| placeholder.source == Source::Data);
        let known = MessageScope { reply: outcome.reply, ..known };
        if shows_one && outcome.values.is_some_and(|values| values.count() == 0) {
            return HttpAnswer::NoValue.to_frame();
        }
        let room = ROOM + outcome.values.map_or(0, |values| values.as_str().len());
        let (answered, note) = (Answered { known, outcome }, note_of_json(status));
        let rendered = send.frame(&mut Scratch::default(), room, &answered, note.as_bytes());
        rendered.unwrap_or_else(|| {
            // A value that cannot be spread is as good as none.
            if outcome.values.is_some() {
                return HttpAnswer::NoValue.to_frame();
            }
            let words = "the answer is no object, so it cannot be shown";
            HttpAnswer::Refused(ClientError::new(ErrorCode::Service, words)).to_frame()
        })
    }
}

/// The scope of a request before it runs. `body` is empty if there is none; `spans` belongs to it.
fn known<'k>(
    binding: &'k Binding,
    scope: SessionScope<'k>,
    body: &'k str,
    spans: &'k JsonSpans,
) -> MessageScope<'k> {
    let known = MessageScope::of(binding, scope);
    if body.is_empty() { known } else { known.with_message(body, spans) }
}

/// Capacity in bytes that fits most responses, without the last values.
const ROOM: usize = 120;

/// The deepest nesting of a body. Services that receive it may not be able to parse more.
const MAX_DEPTH: usize = 64;

/// Checks that a body follows the rules for messages: no duplicate members, not too many members, not too deep.
fn check(body: &str) -> Result<(), ClientError> {
    let bad = |words: String| Err(ClientError::new(ErrorCode::BadRequest, words));
    if !is_json(body) {
        return Err(ClientError::new(ErrorCode::NotJson, "the body is not JSON"));
    }
    if json::is_deeper_than(body, MAX_DEPTH) {
        return bad(format!("the body is nested deeper than {MAX_DEPTH} levels"));
    }
    match serde_json::from_str::<Members<'_>>(body) {
        Err(error) if body.trim_start().starts_with('{') => bad(format!("the body is invalid: {error}")),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The values for the response.
struct Answered<'a> {
    known: MessageScope<'a>,
    outcome: HttpOutcome<'a>,
}

impl Resolve for Answered<'_> {
    fn value(&self, source: &Source) -> Option<SourceValue<'_>> {
        let json = |json| Some(SourceValue::Value(Value::Json(json)));
        let values = self.outcome.values;
        if *source == Source::Data {
            json(values?.first()?.into())
        } else if *source == Source::List {
            json(values.map_or("[]", JsonList::as_str).into())
        } else if *source == Source::Count {
            json(values.map_or(0, JsonList::count).to_string().into())
        } else if *source == Source::Stats {
            Some(SourceValue::Value(Value::Json(self.outcome.stats?.into())))
        } else if *source == Source::Status {
            Some(SourceValue::Value(Value::Text(self.outcome.status?.into())))
        } else {
            self.known.value(source)
        }
    }

    fn encodes_users(&self) -> bool {
        self.known.encodes_users()
    }

    fn parts(&self, source: &Source) -> Option<JsonParts<'_>> {
        self.known.parts(source)
    }
}

#[cfg(test)]
mod tests;
