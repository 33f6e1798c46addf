//! Delivery: which rules show the publications of a channel, and how.

use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::json;
use tidegate_protocol::json::paths::JsonParts;
use tidegate_protocol::json::paths::JsonPaths;
use tidegate_protocol::json::paths::JsonSpans;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::subject::Pattern;

use crate::json_template::OnMissing;
use crate::known::PublicationScope;
use crate::model::CompiledVocabulary;
use crate::model::Condition;
use crate::model::DeliverIndex;
use crate::model::DeliverRule;
use crate::model::Is;
use crate::model::Literal;
use crate::model::PathIndex;
use crate::model::PathRule;
use crate::placeholder::Placeholder;
use crate::placeholder::Resolve;
use crate::placeholder::Source;
use crate::placeholder::Value;
use crate::route::PayloadPaths;
use crate::route::Route;

/// Is in a note for a field that has no value: no text of a filter is this.
const NO_VALUE: &[u8] = b"\x01";

impl CompiledVocabulary {
    /// The route of a subscription to `pattern` by clients of a path: which rules may show its publications.
    pub(crate) fn route(&self, path: PathIndex, pattern: &Pattern) -> Route {
        let shows = self.path(path).map_or(&[][..], |rule| &rule.shows);
        let first =
            shows.iter().find(|&&show| self.show(show).is_some_and(|show| show.pattern.overlaps(pattern)));
        match first {
            Some(&only)
                if self.show(only).is_some_and(|s| s.when.is_empty() && s.pattern.covers(pattern)) =>
            {
                Route::Deliver(only)
            }
            Some(_) | None => Route::Path(path),
        }
    }

    pub(super) fn path(&self, path: PathIndex) -> Option<&PathRule> {
        self.paths.get(usize::from(path.0))
    }

    fn show(&self, rule: DeliverIndex) -> Option<&DeliverRule> {
        self.shows.get(usize::from(rule.0))
    }

    /// The rules of a route, in order.
    pub(super) fn shows_of(&self, route: Route) -> impl Iterator<Item = &DeliverRule> {
        let (of_path, only) = match route {
            Route::Path(path) => (self.path(path).map_or(&[][..], |rule| &rule.shows), None),
            Route::Deliver(rule) => (&[][..], self.show(rule)),
        };
        of_path.iter().filter_map(|rule| self.show(*rule)).chain(only)
    }

    /// What a channel is about: its token at the first wildcard of the rule that shows it.
    pub fn item(&self, path: PathIndex, channel: &Pattern) -> Option<String> {
        let shows = self.path(path)?.shows.iter().filter_map(|show| self.show(*show));
        let mut covering = shows.filter(|show| show.pattern.covers(channel));
        let mut tokens = covering.next()?.pattern.tokens().zip(channel.tokens());
        tokens.find(|(rule, _)| matches!(*rule, "*" | ">")).map(|(_, token)| token.to_owned())
    }

    /// The numbers of the cuts that publications of a channel may have.
    pub(super) fn tailors(&self, route: Route, pattern: &Pattern) -> Vec<usize> {
        let shows = self.shows_of(route).filter(|show| show.pattern.overlaps(pattern));
        shows.flat_map(|show| show.cuts.clone()).map(|at| at + 1).collect()
    }

    /// Whether a cut is in what is said of channels, and in no publication.
    pub(super) fn has_words(&self, number: u8) -> bool {
        self.shows.last().is_none_or(|last| usize::from(number) > last.cuts.end)
    }

    /// Whether clients may choose among the publications of a channel.
    pub(super) fn has_fields(&self, pattern: &Pattern) -> bool {
        self.fields.iter().any(|field| field.pattern.overlaps(pattern))
    }

    /// For each route, what its rules and the filters of clients look at in payloads.
    pub(super) fn payload_paths(&self) -> PayloadPaths {
        let of_route = |route| {
            let placeholders = self.shows_of(route).flat_map(|show| {
                let conditions = show.when.iter().map(|condition| &condition.placeholder);
                conditions.chain(show.json_template.placeholders())
            });
            let placeholders = placeholders.chain(self.fields.iter().map(|field| &field.placeholder));
            JsonPaths::new(
                placeholders.filter(|placeholder| placeholder.source == Source::Data).map(Placeholder::steps),
            )
        };
        let paths = (0..).map(PathIndex).take(self.paths.len());
        let rules = (0..).map(DeliverIndex).take(self.shows.len());
        PayloadPaths {
            by_path: paths.map(Route::Path).map(of_route).collect(),
            by_rule: rules.map(Route::Deliver).map(of_route).collect(),
        }
    }

    /// Writes a publication as the rules of a route say.
    pub(crate) fn render(&self, route: Route, publication: &Publication) -> Rendered {
        let subject = &publication.subject;
        let spans = JsonSpans::default();
        let data = match &publication.payload {
            Payload::Json(bytes) => std::str::from_utf8(bytes)
                .ok()
                .zip(self.data.get(route))
                .map(|(json, paths)| JsonParts::new(json, paths, &spans)),
            Payload::Text(_) | Payload::Binary(_) => None,
        };
        for show in self.shows_of(route) {
            if !show.pattern.matches(subject) {
                continue;
            }
            let published = PublicationScope { publication, data, pattern: show.pattern.as_str() };
            if !show.when.iter().all(|condition| condition.holds(&published)) {
                continue;
            }
            let capacity = 160 + publication.payload.bytes().len();
            // What a rule asks for and a publication does not have is `null`; bytes that are no text, and members of
            // what is no object, cannot be shown.
            if show.needs_text && matches!(publication.payload, Payload::Binary(_)) {
                return Rendered::Unrenderable;
            }
            let mut is_fit = false;
            let write = |out: &mut Vec<u8>| {
                let slots = show.json_template.render_with_slots(&published, OnMissing::AreNull, out);
                is_fit = slots.is_ok();
                slots.unwrap_or_default()
            };
            let frame = Frame::tailored(capacity, write, &self.note(&published, subject));
            return if is_fit { Rendered::Frame(frame) } else { Rendered::Unrenderable };
        }
        Rendered::Nothing
    }

    /// What filters look at: the value of each field, with a zero byte between.
    fn note(&self, published: &PublicationScope<'_>, subject: &str) -> Vec<u8> {
        if !self.fields.iter().any(|field| field.pattern.matches(subject)) {
            return Vec::new();
        }
        let mut note = Vec::new();
        for (at, field) in self.fields.iter().enumerate() {
            if at > 0 {
                note.push(0);
            }
            let value = field.placeholder.value(published);
            match value.as_ref().and_then(Value::as_text) {
                Some(text) if !text.contains('\0') => note.extend_from_slice(text.as_bytes()),
                Some(_) | None => note.extend_from_slice(NO_VALUE),
            }
        }
        note
    }
}

impl Condition {
    fn holds(&self, fill: &impl Resolve) -> bool {
        let value = self.placeholder.value(fill);
        self.is.holds(value.as_ref().map(Value::to_json).as_deref())
    }
}

impl Is {
    /// Whether it holds of a value, as JSON, if there is one.
    pub(super) fn holds(&self, json: Option<&str>) -> bool {
        let json = json.map(str::trim).filter(|json| *json != "null");
        match self {
            Self::There => json.is_some(),
            Self::Absent => json.is_none(),
            Self::OneOf(literals) => json.is_some_and(|json| literals.iter().any(|literal| literal.is(json))),
        }
    }
}

impl Literal {
    fn is(&self, json: &str) -> bool {
        match self {
            Self::Text(text) => json.starts_with('"') && json::text(json).is_some_and(|said| *said == **text),
            Self::Whole(number) => json.parse() == Ok(*number),
            Self::Truth(truth) => json.parse() == Ok(*truth),
        }
    }
}
