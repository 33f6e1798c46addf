//! Delivery: finds the rules for publications of a channel, and renders them.

use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::elements::CollectionId;
use tidegate_protocol::json;
use tidegate_protocol::json::paths::JsonParts;
use tidegate_protocol::json::paths::JsonPaths;
use tidegate_protocol::json::paths::JsonSpans;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::subject::Pattern;

use crate::apart::Apart;
use crate::json_template::OnMissing;
use crate::model::CompiledVocabulary;
use crate::model::Condition;
use crate::model::DeliverRule;
use crate::model::EachRule;
use crate::model::Field;
use crate::model::Literal;
use crate::model::Matcher;
use crate::model::PathRule;
use crate::placeholder::Placeholder;
use crate::placeholder::Resolve;
use crate::placeholder::Source;
use crate::placeholder::Value;
use crate::route::DeliverIndex;
use crate::route::PathIndex;
use crate::route::PayloadPaths;
use crate::route::Route;
use crate::scopes::PublicationScope;

/// In a frame's note, the value of a field that is missing. No value of a filter equals it.
const NO_VALUE: &[u8] = b"\x01";

impl CompiledVocabulary {
    /// The route for a subscription to `pattern` by clients of a path.
    pub(crate) fn route(&self, path: PathIndex, pattern: &Pattern) -> Route {
        let deliver_rules = self.path(path).map_or(&[][..], |rule| &rule.deliver_rules);
        let rules = deliver_rules.iter().filter_map(|&at| Some((at, self.deliver_rule(at)?)));
        let mut matching = rules.filter(|(_, rule)| rule.pattern.overlaps(pattern));
        match matching.next() {
            // What it cannot render, no later rule can.
            Some((only, rule))
                if rule.takes_all()
                    && rule.pattern.covers(pattern)
                    && (!rule.may_fail() || matching.next().is_none()) =>
            {
                Route::Deliver(only)
            }
            Some(_) | None => Route::Path(path),
        }
    }

    pub(super) fn path(&self, path: PathIndex) -> Option<&PathRule> {
        self.paths.get(usize::from(path.0))
    }

    fn deliver_rule(&self, rule: DeliverIndex) -> Option<&DeliverRule> {
        self.deliver_rules.get(usize::from(rule.0))
    }

    /// The first rule of a collection. The others have the same template.
    pub(super) fn rule_of_collection(&self, collection: CollectionId) -> Option<&DeliverRule> {
        let is_of = |rule: &&DeliverRule| {
            let collect = rule.each.as_ref().and_then(|each| each.collect.as_ref());
            collect.is_some_and(|collect| collect.collection == collection)
        };
        self.deliver_rules.iter().find(is_of)
    }

    /// The rules of a route, in the order of the file.
    pub(super) fn deliver_rules_of(&self, route: Route) -> impl Iterator<Item = &DeliverRule> {
        let (of_path, only) = match route {
            Route::Path(path) => (self.path(path).map_or(&[][..], |rule| &rule.deliver_rules), None),
            Route::Deliver(rule) => (&[][..], self.deliver_rule(rule)),
        };
        of_path.iter().filter_map(|rule| self.deliver_rule(*rule)).chain(only)
    }

    /// The item of a channel in statistics: the token at the first wildcard of the rule that renders the channel; all
    /// remaining tokens, if that wildcard is `>`.
    pub fn item(&self, path: PathIndex, channel: &Pattern) -> Option<String> {
        let deliver_rules = self.path(path)?.deliver_rules.iter().filter_map(|rule| self.deliver_rule(*rule));
        let mut covering = deliver_rules.filter(|rule| rule.pattern.covers(channel));
        let mut rest = channel.as_str();
        for token in covering.next()?.pattern.tokens() {
            let (first, after) = rest.split_once('.').unwrap_or((rest, ""));
            match token {
                ">" => return Some(rest.to_owned()),
                "*" => return Some(first.to_owned()),
                _ => rest = after,
            }
        }
        None
    }

    /// The numbers of the slots that publications of a channel may have.
    pub(super) fn slots_of(&self, route: Route, pattern: &Pattern) -> Vec<usize> {
        let deliver_rules = self.deliver_rules_of(route).filter(|rule| rule.pattern.overlaps(pattern));
        deliver_rules.flat_map(|rule| rule.slots.clone()).map(|at| at + 1).collect()
    }

    /// Whether a slot belongs to a notice about a channel rather than to a publication.
    pub(super) fn is_notice_slot(&self, number: u8) -> bool {
        self.deliver_rules.iter().all(|rule| usize::from(number) > rule.slots.end)
    }

    /// Whether publications of a channel may be taken apart.
    pub(super) fn takes_apart(&self, route: Route, pattern: &Pattern) -> bool {
        self.deliver_rules_of(route).any(|rule| rule.each.is_some() && rule.pattern.overlaps(pattern))
    }

    /// Whether clients may filter the publications of a channel.
    pub(super) fn has_fields(&self, pattern: &Pattern) -> bool {
        self.fields.iter().any(|field| field.pattern.overlaps(pattern))
    }

    /// For each route, the parts of payloads that its rules and the filters of clients read.
    pub(super) fn payload_paths(&self) -> PayloadPaths {
        let of_route = |route| {
            let placeholders = self.deliver_rules_of(route).flat_map(|rule| {
                let conditions = rule.when.iter().map(|condition| &condition.placeholder);
                let each = rule.each.iter().flat_map(EachRule::placeholders);
                conditions.chain(rule.json_template.placeholders()).chain(each)
            });
            let placeholders = placeholders.chain(self.fields.iter().map(|field| &field.placeholder));
            JsonPaths::new(
                placeholders.filter(|placeholder| placeholder.source == Source::Data).map(Placeholder::steps),
            )
        };
        let paths = (0..).map(PathIndex).take(self.paths.len());
        let rules = (0..).map(DeliverIndex).take(self.deliver_rules.len());
        PayloadPaths {
            by_path: paths.map(Route::Path).map(of_route).collect(),
            by_rule: rules.map(Route::Deliver).map(of_route).collect(),
        }
    }

    /// Renders a publication with the first rule of a route that matches it and can render it.
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
        let mut otherwise = Rendered::Nothing;
        let mut apart: Option<Apart<'_>> = None;
        for rule in self.deliver_rules_of(route) {
            if !rule.pattern.matches(subject) {
                continue;
            }
            let (pattern, encodes_users) = (rule.pattern.as_str(), self.encodes_users);
            let published = PublicationScope { publication, data, pattern, encodes_users };
            if let Some(each) = &rule.each {
                let paths = self.data.get(route);
                apart
                    .get_or_insert_with(|| Apart::new(publication, paths))
                    .apply(self, rule, each, &published);
                continue;
            }
            if apart.as_ref().is_some_and(Apart::is_taken) {
                continue;
            }
            if !rule.when.iter().all(|condition| condition.holds(&published)) {
                continue;
            }
            let capacity = 160 + publication.payload.bytes().len();
            // Missing values become `null`. Binary payloads cannot be rendered, nor can the members of a value that is
            // not an object.
            if rule.needs_text && matches!(publication.payload, Payload::Binary(_)) {
                otherwise = Rendered::Unrenderable;
                continue;
            }
            let note = self.note(&published, [subject; 2]);
            match rule.json_template.frame(capacity, &published, &note) {
                Some(frame) => return Rendered::Frame(frame),
                None => otherwise = Rendered::Unrenderable,
            }
        }
        apart.and_then(Apart::end).unwrap_or(otherwise)
    }

    /// The note of a frame or an element, for filters: the value of each field, separated by zero bytes. Empty if there
    /// are no filters for any of the subjects.
    pub(super) fn note(&self, published: &PublicationScope<'_>, subjects: [&str; 2]) -> Vec<u8> {
        let is_filtered = |field: &Field| subjects.iter().any(|subject| field.pattern.matches(subject));
        if !self.fields.iter().any(is_filtered) {
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

impl DeliverRule {
    /// Whether there are publications that match and that it cannot render.
    fn may_fail(&self) -> bool {
        self.needs_text || self.json_template.spreads().next().is_some()
    }

    /// Whether it can render this publication, which it matches.
    pub(super) fn can_render(&self, published: &PublicationScope<'_>) -> bool {
        let is_binary = matches!(published.publication.payload, Payload::Binary(_));
        let render =
            |out: &mut Vec<u8>| self.json_template.render_with_slots(published, OnMissing::Null, out).is_ok();
        !self.may_fail() || !(self.needs_text && is_binary) && render(&mut Vec::new())
    }

    /// Whether it renders some publications that `earlier` cannot render.
    pub(super) fn renders_more_than(&self, earlier: &Self) -> bool {
        let spreads: Vec<_> = self.json_template.spreads().collect();
        // A binary payload has no parts.
        let needs_part = |condition: &Condition| {
            condition.placeholder.source == Source::Data && condition.matcher != Matcher::Absent
        };
        (earlier.needs_text && !self.needs_text && !self.when.iter().any(needs_part))
            || earlier.json_template.spreads().any(|placeholder| !spreads.contains(&placeholder))
    }

    /// Whether it shows every publication of its pattern that has text.
    pub(super) fn takes_all(&self) -> bool {
        self.when.is_empty() && self.each.as_ref().is_none_or(EachRule::takes_all)
    }
}

impl Condition {
    pub(super) fn holds(&self, fill: &impl Resolve) -> bool {
        let value = self.placeholder.value(fill);
        self.matcher.matches(value.as_ref().map(Value::to_json).as_deref())
    }
}

impl Matcher {
    /// Whether a value matches. `json` is `None` if there is no value.
    pub(super) fn matches(&self, json: Option<&str>) -> bool {
        let json = json.map(str::trim).filter(|json| *json != "null");
        match self {
            Self::Present => json.is_some(),
            Self::Absent => json.is_none(),
            Self::OneOf(literals) => json.is_some_and(|json| literals.iter().any(|literal| literal.is(json))),
        }
    }
}

impl Literal {
    fn is(&self, json: &str) -> bool {
        match self {
            Self::Text(text) => json.starts_with('"') && json::text(json).is_some_and(|said| *said == **text),
            Self::Integer(number) => json.parse() == Ok(*number),
            Self::Boolean(boolean) => json.parse() == Ok(*boolean),
            Self::EmptyList => json::elements(json).is_some_and(|elements| elements.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests;
