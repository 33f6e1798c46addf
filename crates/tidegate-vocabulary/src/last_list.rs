//! `LastList`: last values as the list of an HTTP response. Built value by value, so that long work can pause in between.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tidegate_protocol::elements::CollectionId;
use tidegate_protocol::elements::Element;
use tidegate_protocol::json::list::JsonList;
use tidegate_protocol::message::LastValue;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::subject::Pattern;

use crate::model::CompiledVocabulary;
use crate::placeholder::Value;
use crate::scopes::of_payload;

/// Last values of some channels. Those that rules take apart become their elements on these channels: of each key of a
/// collection the newest.
#[derive(Debug)]
pub struct LastList<'v> {
    vocabulary: &'v CompiledVocabulary,
    places: Places,
    shown: Vec<ShownValue>,
    by_key: HashMap<(CollectionId, Arc<str>), usize>,
}

/// A last value or an element of one.
#[derive(Debug)]
pub struct ShownValue {
    /// The place of its channel among those of the request.
    place: usize,
    time: SystemTime,
    content: ShownContent,
}

#[derive(Debug)]
enum ShownContent {
    Whole(Payload),
    Element(Arc<Element>),
}

/// Finds the place of a subject's channel among those of a request.
#[derive(Debug)]
struct Places {
    literals: HashMap<Box<str>, usize>,
    wildcards: Vec<(usize, Pattern)>,
    count: usize,
}

impl CompiledVocabulary {
    /// An empty list of last values of these channels.
    pub fn last_list(&self, channels: &[Pattern]) -> LastList<'_> {
        let places = Places::of(channels);
        LastList { vocabulary: self, places, shown: Vec::new(), by_key: HashMap::new() }
    }

    /// Last values of these channels as a JSON list.
    pub fn last_values_json(&self, channels: &[Pattern], values: &[LastValue]) -> JsonList {
        let (mut list, mut json) = (self.last_list(channels), JsonList::default());
        values.iter().for_each(|value| list.push(value));
        list.in_order().for_each(|shown| shown.put(&mut json));
        json
    }
}

impl LastList<'_> {
    /// Adds a value.
    pub fn push(&mut self, value: &LastValue) {
        let time = value.time;
        let Some(elements) = self.vocabulary.last_apart(value) else {
            let place = self.places.of_subject(&value.subject).unwrap_or(self.places.count);
            let content = ShownContent::Whole(value.payload.clone());
            return self.shown.push(ShownValue { place, time, content });
        };
        for element in elements {
            let Some(place) = self.places.of_subject(&element.channel) else { continue };
            let key = element.collection().map(|collection| (collection, Arc::clone(&element.key)));
            let known = key.as_ref().and_then(|key| self.by_key.get(key).copied());
            let content = ShownContent::Element(element);
            match known.and_then(|at| self.shown.get_mut(at)) {
                Some(known) if known.time <= time => (known.time, known.content) = (time, content),
                Some(_) => {}
                None => {
                    self.by_key.extend(key.map(|key| (key, self.shown.len())));
                    self.shown.push(ShownValue { place, time, content });
                }
            }
        }
    }

    /// What the response shows, in its order.
    pub fn in_order(mut self) -> impl Iterator<Item = ShownValue> {
        if !self.by_key.is_empty() {
            self.shown.sort_by_key(|shown| shown.place);
        }
        self.shown.into_iter()
    }
}

impl ShownValue {
    /// Appends it to a JSON list. A payload without text cannot be shown.
    pub fn put(&self, list: &mut JsonList) {
        match &self.content {
            ShownContent::Element(element) => list.push(element.json().unwrap_or_default()),
            ShownContent::Whole(payload) => match of_payload(payload) {
                Some(Value::Json(json)) => list.push(&json),
                Some(Value::Text(text)) => list.push_text(&text),
                None => {}
            },
        }
    }
}

impl Places {
    fn of(channels: &[Pattern]) -> Self {
        let (mut literals, mut wildcards) = (HashMap::new(), Vec::new());
        for (place, channel) in channels.iter().enumerate() {
            if channel.is_literal() {
                literals.entry(channel.as_str().into()).or_insert(place);
            } else {
                wildcards.push((place, channel.clone()));
            }
        }
        Self { literals, wildcards, count: channels.len() }
    }

    fn of_subject(&self, subject: &str) -> Option<usize> {
        let wildcard = self.wildcards.iter().find(|(_, pattern)| pattern.matches(subject));
        let literal = self.literals.get(subject).copied();
        literal.into_iter().chain(wildcard.map(|(place, _)| *place)).min()
    }
}
