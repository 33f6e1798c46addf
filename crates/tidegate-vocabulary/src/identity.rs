//! Identity: who may be where a client has come in, who it says that it is, and what it is called.

use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::json::paths::JsonSpans;

use crate::binding::Binding;
use crate::json_template::OnMissing;
use crate::known::MessageScope;
use crate::model::CompiledVocabulary;
use crate::model::Require;
use crate::placeholder::Resolve;
use crate::placeholder::Source;
use crate::placeholder::Value;

/// The longest name by which statistics call a session, in bytes.
const MAX_LABEL_BYTES: usize = 128;

impl Binding {
    /// Whether somebody may be on this path at all: what is in the path, the query or a header must be what the
    /// identity says.
    pub(super) fn is_open_to(&self, scope: SessionScope<'_>) -> bool {
        let known = MessageScope::of(self, scope);
        let requires = self.rules().map_or(&[][..], |path| &path.require);
        let of_handshake = |require: &&Require| require.left.source != Source::Message;
        requires.iter().filter(of_handshake).all(|require| require.holds(&known, false))
    }

    /// What statistics call the session.
    pub(super) fn name_of(&self, scope: SessionScope<'_>) -> Option<String> {
        let label = self.rules()?.label.as_ref()?;
        let text = label.text(&MessageScope::of(self, scope), OnMissing::AreNull).ok()?;
        let plain = text.len() <= MAX_LABEL_BYTES && !text.contains(char::is_control);
        plain.then_some(text)
    }

    /// Who a client without a credential says that it is, where the endpoint trusts that.
    pub(super) fn claimed_user_in(&self, scope: SessionScope<'_>, message: Option<&str>) -> Option<String> {
        let placeholder = self.identity_hint.as_ref()?;
        let (spans, known) = (JsonSpans::default(), MessageScope::of(self, scope));
        let known = message.map_or(known, |message| known.with_message(message, &spans));
        Some(placeholder.value(&known)?.as_text()?.into_owned())
    }
}

impl CompiledVocabulary {
    /// Whether some path requires of what a client gives there, `path.user_id`, to be what the session knows.
    pub fn compares(&self, given: &str) -> bool {
        self.paths.iter().any(|path| path.require.iter().any(|require| *require.left.name == *given))
    }

    /// The same of some call.
    pub fn compares_in_calls(&self, given: &str) -> bool {
        self.calls.iter().any(|call| call.require.iter().any(|require| *require.left.name == *given))
    }
}

impl Require {
    /// Whether both sides are the same text. A left side that is not there passes if it may be absent.
    pub(super) fn holds(&self, fill: &impl Resolve, may_be_absent: bool) -> bool {
        let Some(left) = self.left.value(fill) else { return may_be_absent };
        if may_be_absent && left == Value::Json("null".into()) {
            return true;
        }
        // An object is no one's name, whatever it looks like as a text.
        if matches!(&left, Value::Json(json) if json.trim().starts_with(['{', '['])) {
            return false;
        }
        let right = self.right.text(fill, OnMissing::AreMistakes);
        matches!((left.as_text(), right), (Some(left), Ok(right)) if left == right)
    }
}
