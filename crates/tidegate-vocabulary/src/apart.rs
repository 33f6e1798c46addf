//! Takes publications apart: applies the rules with `each` to the elements of a payload.

use std::borrow::Cow;
use std::sync::Arc;

use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::elements::Element;
use tidegate_protocol::elements::ElementForm;
use tidegate_protocol::elements::MAX_ELEMENT_BYTES;
use tidegate_protocol::elements::MAX_ELEMENTS;
use tidegate_protocol::json;
use tidegate_protocol::json::paths::JsonParts;
use tidegate_protocol::json::paths::JsonPaths;
use tidegate_protocol::json::paths::JsonSpans;
use tidegate_protocol::message::LastValue;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::scratch::Scratch;

use crate::channel::Channel;
use crate::channel::FillError;
use crate::model::Collect;
use crate::model::CompiledVocabulary;
use crate::model::DeliverRule;
use crate::model::EachRule;
use crate::placeholder::Placeholder;
use crate::placeholder::Value;
use crate::scopes::PublicationScope;

/// A publication while it is taken apart.
pub(super) struct Apart<'p> {
    publication: &'p Publication,
    /// The parts that rules read, if they are known.
    paths: Option<&'p JsonPaths>,
    /// The list that was taken apart, and its elements that no rule has shown, as JSON.
    rest: Option<(&'p Placeholder, Vec<RestElement<'p>>)>,
    /// Whether a rule has shown an element, or the list is empty.
    is_taken: bool,
    /// Whether the payload is binary, and has no elements.
    is_binary: bool,
    /// Whether elements stay JSON, also those that are sent as separate messages.
    stays_json: bool,
    list: Vec<Arc<Element>>,
    bytes: usize,
}

struct RestElement<'p> {
    json: Cow<'p, str>,
    /// Whether a rule matches it, but cannot show it.
    is_unfit: bool,
}

/// Why a rule does not show an element.
struct Unfit;

impl<'p> Apart<'p> {
    pub(super) fn new(publication: &'p Publication, paths: Option<&'p JsonPaths>) -> Self {
        Self {
            publication,
            paths,
            rest: None,
            is_taken: false,
            is_binary: false,
            stays_json: false,
            list: Vec::new(),
            bytes: 0,
        }
    }

    /// Whether the publication as a whole is not to be shown by further rules.
    pub(super) fn is_taken(&self) -> bool {
        self.is_taken
    }

    /// Applies a rule to the elements that no earlier rule has shown.
    pub(super) fn apply(
        &mut self,
        vocabulary: &CompiledVocabulary,
        rule: &'p DeliverRule,
        each: &'p EachRule,
        whole: &PublicationScope<'_>,
        scratch: &mut Scratch,
    ) {
        if self.rest.as_ref().is_none_or(|(of, _)| **of != each.each) {
            if self.is_taken {
                return;
            }
            let Some(elements) = elements(&each.each, whole) else {
                self.is_binary = matches!(self.publication.payload, Payload::Binary(_));
                return;
            };
            self.is_taken = elements.is_empty();
            let rest = elements.into_iter().map(|json| RestElement { json, is_unfit: false });
            self.rest = Some((&each.each, rest.collect()));
        }
        if self.is_too_large() {
            return;
        }
        let Some((_, rest)) = &mut self.rest else { return };
        for mut element in std::mem::take(rest) {
            let (spans, unknown) = (JsonSpans::default(), JsonPaths::default());
            let paths = self.paths.unwrap_or(&unknown);
            let scope = PublicationScope {
                publication: self.publication,
                data: Some(JsonParts::new(&element.json, paths, &spans)),
                pattern: rule.pattern.as_str(),
                encodes_users: vocabulary.encodes_users,
            };
            if !rule.when.iter().all(|condition| condition.holds(&scope)) {
                rest.push(element);
                continue;
            }
            let at = (!self.stays_json).then_some(self.list.len());
            match vocabulary.element(rule, each, &scope, at, scratch) {
                Ok(shown) => {
                    self.is_taken = true;
                    self.bytes += shown.bytes();
                    if self.bytes > MAX_ELEMENT_BYTES {
                        return;
                    }
                    self.list.push(Arc::new(shown));
                }
                Err(Unfit) => {
                    element.is_unfit = true;
                    rest.push(element);
                }
            }
        }
    }

    fn is_too_large(&self) -> bool {
        let rest = self.rest.as_ref().map_or(0, |(_, rest)| rest.len());
        self.list.len() + rest > MAX_ELEMENTS || self.bytes > MAX_ELEMENT_BYTES
    }

    /// What the rules have shown. `None` if they have shown nothing, and the list is not empty.
    pub(super) fn end(self) -> Option<Rendered> {
        if self.is_too_large() {
            return Some(Rendered::TooManyElements);
        }
        let rest = self.rest.map(|(_, rest)| rest).unwrap_or_default();
        let is_complete = !rest.iter().any(|element| element.is_unfit);
        if !self.is_taken {
            return (self.is_binary || !is_complete).then_some(Rendered::Unrenderable);
        }
        Some(Rendered::Elements { list: self.list, is_complete })
    }
}

impl CompiledVocabulary {
    /// The element as this rule shows it. `at` is its place among the shown elements of its publication; without it, the
    /// element stays JSON.
    fn element(
        &self,
        rule: &DeliverRule,
        each: &EachRule,
        scope: &PublicationScope<'_>,
        at: Option<usize>,
        scratch: &mut Scratch,
    ) -> Result<Element, Unfit> {
        let subject = &scope.publication.subject;
        let channel = each.channel_of(scope)?;
        let json = scope.data.map_or("", JsonParts::json).trim();
        let note = self.note(scope, [subject, &channel]);
        if let Some(Collect { collection, by }) = &each.collect {
            let key = by.value_or_default(scope).ok_or(Unfit)?;
            let key = key.as_text().ok_or(Unfit)?.as_ref().into();
            let collection = Some(*collection);
            let form = ElementForm::Json { collection, json: json.into(), note: note.into() };
            return Ok(Element { channel, key, form });
        }
        let Some(at) = at else {
            let form = ElementForm::Json { collection: None, json: json.into(), note: note.into() };
            let key = Arc::clone(subject);
            return Ok(Element { channel, key, form });
        };
        let frame = rule.json_template.frame(scratch, 160 + json.len(), scope, &note).ok_or(Unfit)?;
        // As if it had been published alone: on its channel. Elements of one subject must not replace each other.
        let key = if channel != *subject {
            Arc::clone(&channel)
        } else if at == 0 {
            Arc::clone(&scope.publication.key)
        } else {
            format!("{} #{at}", scope.publication.key).into()
        };
        Ok(Element { channel, key, form: ElementForm::Message(frame) })
    }
}

impl CompiledVocabulary {
    /// The elements of a last value, if a rule takes it apart before another one shows the whole: none if that rule
    /// cannot show it, because the whole may have elements of channels that the caller did not ask for. `None` if the
    /// value is shown as a whole. An HTTP call has no path, so the rules of all paths apply, in the order of the file.
    pub(super) fn last_apart(&self, value: &LastValue) -> Option<Vec<Arc<Element>>> {
        let LastValue { subject, payload, time } = value.clone();
        let publication = Publication::without_headers(subject, payload, time);
        let mut apart = Apart { stays_json: true, ..Apart::new(&publication, None) };
        let rules = self.deliver_rules.iter().filter(|rule| rule.pattern.matches(&publication.subject));
        let (mut has_each, mut scratch) = (false, Scratch::default());
        for rule in rules {
            let (pattern, encodes_users) = (rule.pattern.as_str(), self.encodes_users);
            let scope = PublicationScope { publication: &publication, data: None, pattern, encodes_users };
            match &rule.each {
                Some(each) => {
                    has_each = true;
                    apart.apply(self, rule, each, &scope, &mut scratch);
                }
                None if apart.is_taken => {}
                None if rule.when.iter().all(|condition| condition.holds(&scope))
                    && rule.can_render(&scope) =>
                {
                    return None;
                }
                None => {}
            }
        }
        let shown = if let Some(Rendered::Elements { list, .. }) = apart.end() { list } else { Vec::new() };
        has_each.then_some(shown)
    }
}

impl EachRule {
    /// The channel of an element. Without a value, it is the subject; a value that is no token makes it unfit, because
    /// only clients that have joined its channel may get it.
    fn channel_of(&self, scope: &PublicationScope<'_>) -> Result<Arc<str>, Unfit> {
        let subject = &scope.publication.subject;
        let Some(channel) = &self.channel else { return Ok(Arc::clone(subject)) };
        match channel.fill(scope) {
            Ok(channel) if channel == **subject => Ok(Arc::clone(subject)),
            Ok(channel) => Ok(channel.into()),
            Err(FillError::Missing(_)) => Ok(Arc::clone(subject)),
            Err(FillError::NotAToken(..)) => Err(Unfit),
        }
    }

    /// Its placeholders that read elements.
    pub(super) fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        let channel = self.channel.iter().flat_map(Channel::placeholders);
        channel.chain(self.collect.iter().map(|collect| &collect.by))
    }

    /// Whether it takes every publication apart that has text.
    pub(super) fn takes_all(&self) -> bool {
        self.each.steps().is_empty()
    }
}

/// The elements of a list, as JSON; another value is one element. `None` if there is no value.
fn elements<'v>(each: &'v Placeholder, scope: &PublicationScope<'_>) -> Option<Vec<Cow<'v, str>>> {
    let value = each.value_or_default(scope)?;
    let json = match value {
        Value::Text(text) => return Some(vec![json::string(&text).into()]),
        // A part that is `null` is as good as absent.
        Value::Json(json) if json.trim() == "null" && !each.steps().is_empty() => return None,
        Value::Json(json) => json,
    };
    match json::elements(&json) {
        Some(elements) => Some(elements.into_iter().map(|element| element.to_owned().into()).collect()),
        None => Some(vec![json.into_owned().into()]),
    }
}
