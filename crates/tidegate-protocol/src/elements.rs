//! Elements: the parts of publications that a vocabulary takes apart.

pub mod select;
pub mod store;

use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use crate::class::Priority;
use crate::frame::Frame;

/// The most elements of one publication. A store keeps as many.
pub const MAX_ELEMENTS: usize = 10_000;
/// The most bytes of the elements of one publication. A store keeps as many.
pub const MAX_ELEMENT_BYTES: usize = 4 * 1024 * 1024;
/// Memory of an element, in addition to its texts.
const ELEMENT_BYTES: usize = 128;

/// Rules of a vocabulary whose elements a client gets in one message. Only the vocabulary knows what the number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionId(pub u16);

/// One element of a publication.
#[derive(Debug)]
pub struct Element {
    /// The channel to which it belongs: a literal subject. Only clients that have joined it may get the element.
    pub channel: Arc<str>,
    /// What it replaces: an element of its collection and channel, or a publication under class `latest`.
    pub key: Arc<str>,
    /// How clients get it.
    pub form: ElementForm,
}

/// How clients get an element.
#[derive(Debug)]
pub enum ElementForm {
    /// As a separate message.
    Message(Frame),
    /// As JSON in a list: with the client's other elements of its collection in one message, or without a collection in
    /// an HTTP response.
    Json { collection: Option<CollectionId>, json: Box<str>, note: Box<[u8]> },
}

impl Element {
    /// The approximate size in memory.
    pub fn bytes(&self) -> usize {
        let form = match &self.form {
            ElementForm::Message(frame) => frame.len(),
            ElementForm::Json { json, note, .. } => json.len() + note.len(),
        };
        ELEMENT_BYTES + self.channel.len() + self.key.len() + form
    }

    /// The note, by which filters decide whether a client gets it.
    pub fn note(&self) -> &[u8] {
        match &self.form {
            ElementForm::Message(frame) => frame.note(),
            ElementForm::Json { note, .. } => note,
        }
    }

    /// Its JSON, if it is part of a list.
    pub fn json(&self) -> Option<&str> {
        match &self.form {
            ElementForm::Message(_) => None,
            ElementForm::Json { json, .. } => Some(json),
        }
    }

    /// The frame, if the element is sent as a separate message.
    pub fn frame(&self) -> Option<&Frame> {
        match &self.form {
            ElementForm::Message(frame) => Some(frame),
            ElementForm::Json { .. } => None,
        }
    }

    /// The collection that it belongs to.
    pub fn collection(&self) -> Option<CollectionId> {
        match &self.form {
            ElementForm::Message(_) => None,
            ElementForm::Json { collection, .. } => *collection,
        }
    }
}

/// The elements of one publication, in order.
#[derive(Clone, Debug)]
pub struct Elements {
    pub list: Vec<Arc<Element>>,
    /// The priority of the publication, for elements that are sent as separate messages.
    pub priority: Priority,
    /// When the lane received the publication.
    pub arrived: Instant,
    /// The same as a time of day.
    pub time: SystemTime,
}

impl Elements {
    /// The approximate size in memory.
    pub fn bytes(&self) -> usize {
        self.list.iter().map(|element| element.bytes()).sum()
    }

    /// The collections with an element here, each once.
    pub fn collections(&self) -> Vec<CollectionId> {
        let mut found = Vec::new();
        for collection in self.list.iter().filter_map(|element| element.collection()) {
            if !found.contains(&collection) {
                found.push(collection);
            }
        }
        found
    }
}

/// A message with elements of one collection, to be rendered.
#[derive(Clone, Copy, Debug)]
pub struct CollectedMessage<'c> {
    pub collection: CollectionId,
    /// The elements as JSON, in order.
    pub elements: &'c [&'c str],
    /// When the newest of them was received.
    pub time: SystemTime,
}
