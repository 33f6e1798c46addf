//! Entered: a vocabulary and the way by which one client came into it.

use std::sync::Arc;

use crate::protocol::dialect::SessionScope;
use crate::protocol::error::ErrorCode;
use crate::protocol::json;
use crate::vocabulary::described::Described;
use crate::vocabulary::described::PathRule;
use crate::vocabulary::described::Require;
use crate::vocabulary::described::Rule;
use crate::vocabulary::hole::Fill;
use crate::vocabulary::hole::Hole;
use crate::vocabulary::hole::Source;
use crate::vocabulary::hole::Value;
use crate::vocabulary::known::Known;
use crate::vocabulary::shape::Gaps;

/// The longest name by which statistics call a session, in bytes.
const MAX_LABEL_BYTES: usize = 128;

/// What a request says beside what it is: names and texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given(pub Box<[(Box<str>, Box<str>)]>);

impl Given {
    /// The text of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        named(&self.0, name)
    }
}

/// What stands beside a name.
pub(super) fn named<'n>(pairs: &'n [(Box<str>, Box<str>)], name: &str) -> Option<&'n str> {
    pairs.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
}

/// A vocabulary, and what the handshake has said in it.
#[derive(Debug)]
pub struct Entered {
    /// The vocabulary.
    pub described: Arc<Described>,
    /// Its place in the node's list.
    pub number: u16,
    /// Which of its paths.
    pub path: u16,
    /// The values of the path: names and texts.
    pub parameters: Given,
    /// Of the query, what the vocabulary speaks of.
    pub query: Given,
    /// Of the headers, what the vocabulary speaks of.
    pub headers: Given,
    /// Where the name of a user stands who is believed without a credential.
    pub believe: Option<Arc<Hole>>,
}

impl Entered {
    /// The rules of its path.
    pub fn rules(&self) -> Option<&PathRule> {
        self.described.paths.get(usize::from(self.path))
    }

    /// Whether a client without an identity can still get one.
    pub fn can_authenticate(&self) -> bool {
        let by_message = self.rules().is_some_and(|path| path.has_auth || path.token_field.is_some());
        by_message || self.believe.is_some()
    }

    /// Whether somebody may be on this path at all: what stands in the path, the query or a header must be what the
    /// identity says.
    pub(super) fn is_open_to(&self, scene: SessionScope<'_>) -> bool {
        let known = Known::of(self, scene);
        let requires = self.rules().map_or(&[][..], |path| &path.require);
        let of_handshake = |require: &&Require| require.left.source != Source::Message;
        requires.iter().filter(of_handshake).all(|require| require.holds(&known, false))
    }

    /// What statistics call the session.
    pub(super) fn name_of(&self, scene: SessionScope<'_>) -> Option<String> {
        let label = self.rules()?.label.as_ref()?;
        let text = label.text(&Known::of(self, scene), Gaps::AreNull).ok()?;
        let plain = text.len() <= MAX_LABEL_BYTES && !text.contains(char::is_control);
        plain.then_some(text)
    }

    /// Who a client without a credential says that it is, if that is believed here.
    pub(super) fn claimed_user(&self, scene: SessionScope<'_>, message: Option<&str>) -> Option<String> {
        let hole = self.believe.as_ref()?;
        let known = Known { message, ..Known::of(self, scene) };
        Some(hole.value(&known)?.as_text()?.into_owned())
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

impl Require {
    /// Whether both sides are the same text. A left side that is not there passes if it may be absent.
    pub(super) fn holds(&self, fill: &impl Fill, may_be_absent: bool) -> bool {
        let Some(left) = self.left.value(fill) else { return may_be_absent };
        if may_be_absent && left == Value::Json("null".into()) {
            return true;
        }
        // An object is nobody's name, whatever it looks like as a text.
        if matches!(&left, Value::Json(json) if json.trim().starts_with(['{', '['])) {
            return false;
        }
        let right = self.right.text(fill, Gaps::AreMistakes);
        matches!((left.as_text(), right), (Some(left), Ok(right)) if left == right)
    }
}
