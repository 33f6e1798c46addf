//! Entered: a vocabulary and the way by which one client came into it.

use std::sync::Arc;

use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::json;

use crate::model::CompiledVocabulary;
use crate::model::PathRule;
use crate::model::Rule;
use crate::placeholder::Placeholder;

/// What a request says next to what it is: names and texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestValues(pub Box<[(Box<str>, Box<str>)]>);

impl RequestValues {
    /// The text of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        named(&self.0, name)
    }
}

/// What is next to a name.
pub(super) fn named<'n>(pairs: &'n [(Box<str>, Box<str>)], name: &str) -> Option<&'n str> {
    pairs.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
}

/// A vocabulary, and what the handshake has said in it.
#[derive(Debug)]
pub struct Binding {
    /// The vocabulary.
    pub described: Arc<CompiledVocabulary>,
    /// Its place in the node's list.
    pub number: u16,
    /// Which of its paths.
    pub path: u16,
    /// The values of the path: names and texts.
    pub parameters: RequestValues,
    /// Of the query, what the vocabulary speaks of.
    pub query: RequestValues,
    /// Of the headers, what the vocabulary speaks of.
    pub headers: RequestValues,
    /// Where a client without a credential names its user, if the endpoint trusts that.
    pub identity_hint: Option<Arc<Placeholder>>,
}

impl Binding {
    /// The rules of its path.
    pub fn rules(&self) -> Option<&PathRule> {
        self.described.paths.get(usize::from(self.path))
    }

    /// Whether a client without an identity can still get one.
    pub fn can_authenticate(&self) -> bool {
        let by_message = self.rules().is_some_and(|path| path.has_auth || path.token_field.is_some());
        by_message || self.identity_hint.is_some()
    }

    pub(super) fn rule(&self, at: u16) -> Option<&Rule> {
        self.described.rules.get(usize::from(at))
    }

    /// What an error is called, as JSON.
    pub(super) fn code(&self, code: ErrorCode) -> String {
        let codes = &self.described.codes;
        let named = codes.names.iter().find(|(known, _)| *known == code).map(|(_, name)| name);
        let shown = named.or(codes.default.as_ref()).map(|shown| shown.clone().into_string());
        shown.unwrap_or_else(|| json::string(code.name()))
    }
}
