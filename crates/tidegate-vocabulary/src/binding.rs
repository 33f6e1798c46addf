//! Binding: a vocabulary together with the path, query and headers of one client.

use std::sync::Arc;

use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::json;
use tidegate_protocol::message::RuleId;

use crate::model::CompiledVocabulary;
use crate::model::ErrorNames;
use crate::model::PathRule;
use crate::model::Rule;
use crate::placeholder::Placeholder;
use crate::route::PathIndex;

/// Values from a request, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestValues(pub Box<[(Box<str>, Box<str>)]>);

impl RequestValues {
    pub fn get(&self, name: &str) -> Option<&str> {
        named(&self.0, name)
    }
}

/// The value with this name.
pub(super) fn named<'n>(pairs: &'n [(Box<str>, Box<str>)], name: &str) -> Option<&'n str> {
    pairs.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
}

/// A vocabulary, and the values of one client's handshake.
#[derive(Debug)]
pub struct Binding {
    pub vocabulary: Arc<CompiledVocabulary>,
    pub number: VocabularyId,
    /// The path that the client connected to.
    pub path: PathIndex,
    pub parameters: RequestValues,
    /// The query parameters that the vocabulary reads.
    pub query: RequestValues,
    /// All values of the query parameters that the vocabulary reads as lists, with commas between them.
    pub query_lists: RequestValues,
    /// The headers that the vocabulary reads.
    pub headers: RequestValues,
    /// Where a client without a credential gives its user name, if this endpoint trusts it.
    pub identity_hint: Option<Arc<Placeholder>>,
}

impl Binding {
    pub fn path_rule(&self) -> Option<&PathRule> {
        self.vocabulary.path(self.path)
    }

    /// Whether a client without an identity can still get one.
    pub fn can_authenticate(&self) -> bool {
        let by_message = self.path_rule().is_some_and(|path| path.has_auth || path.token_field.is_some());
        by_message || self.identity_hint.is_some()
    }

    pub(super) fn rule(&self, rule: RuleId) -> Option<&Rule> {
        self.vocabulary.rules.get(usize::from(rule.0))
    }

    /// The vocabulary's name for an error, as JSON.
    pub(super) fn code(&self, code: ErrorCode) -> String {
        self.vocabulary.codes.names.of(code)
    }

    /// The same, in `refuse` of a rule.
    pub(super) fn code_of_refusal(&self, code: ErrorCode) -> String {
        let codes = &self.vocabulary.codes;
        codes.of_refusals.as_ref().unwrap_or(&codes.names).of(code)
    }
}

impl ErrorNames {
    fn of(&self, code: ErrorCode) -> String {
        let named = self.names.iter().find(|(known, _)| *known == code).map(|(_, name)| name);
        let shown = named.or(self.default.as_ref()).map(|shown| shown.clone().into_string());
        shown.unwrap_or_else(|| json::string(code.name()))
    }
}
