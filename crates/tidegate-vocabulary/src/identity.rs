//! Identity: checks whether an identity may use a path, and reads the user and the label of a session.

use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::json::paths::JsonSpans;

use crate::binding::Binding;
use crate::json_template::OnMissing;
use crate::model::CompiledVocabulary;
use crate::model::Require;
use crate::placeholder::Resolve;
use crate::placeholder::Source;
use crate::placeholder::Value;
use crate::scopes::MessageScope;

/// The longest label of a session in statistics, in bytes.
const MAX_LABEL_BYTES: usize = 128;

impl Binding {
    /// Whether an identity may use this path: each `require` on the path, query or headers must hold.
    pub(super) fn permits_identity(&self, scope: SessionScope<'_>) -> bool {
        let known = MessageScope::of(self, scope);
        let requires = self.path_rule().map_or(&[][..], |path| &path.require);
        let of_handshake = |require: &&Require| require.left.source != Source::Message;
        requires.iter().filter(of_handshake).all(|require| require.holds(&known, false))
    }

    /// The label of the session in statistics.
    pub(super) fn session_label(&self, scope: SessionScope<'_>) -> Option<String> {
        let label = self.path_rule()?.label.as_ref()?;
        let text = label.text(&MessageScope::of(self, scope), OnMissing::Null).ok()?;
        let plain = text.len() <= MAX_LABEL_BYTES && !text.contains(char::is_control);
        plain.then_some(text)
    }

    /// The user that a client without a credential claims to be, if this endpoint trusts it.
    pub(super) fn claimed_user_in(&self, scope: SessionScope<'_>, message: Option<&str>) -> Option<String> {
        let placeholder = self.identity_hint.as_ref()?;
        let (spans, known) = (JsonSpans::default(), MessageScope::of(self, scope));
        let known = message.map_or(known, |message| known.with_message(message, &spans));
        Some(placeholder.value(&known)?.as_text()?.into_owned())
    }
}

impl CompiledVocabulary {
    /// Whether a path has a `require` for this value, such as `path.user_id`.
    pub fn requires(&self, given: &str) -> bool {
        self.paths.iter().any(|path| path.require.iter().any(|require| *require.left.name == *given))
    }

    /// Whether an HTTP route has a `require` for this value.
    pub fn requires_in_http(&self, given: &str) -> bool {
        self.http_routes.iter().any(|route| route.require.iter().any(|require| *require.left.name == *given))
    }
}

impl Require {
    /// Whether it compares a part of messages with the user. What a session without a credential sends there is ignored:
    /// it has no user, so the value is neither wrong nor right.
    pub(super) fn names_user(&self) -> bool {
        self.left.source == Source::Message
            && self.right.placeholders().iter().any(|placeholder| placeholder.source == Source::User)
    }

    /// Whether both sides are the same text. If the left side is missing, the result is `may_be_absent`.
    pub(super) fn holds(&self, fill: &impl Resolve, may_be_absent: bool) -> bool {
        let Some(left) = self.left.value(fill) else { return may_be_absent };
        if may_be_absent && left == Value::Json("null".into()) {
            return true;
        }
        // An object or list is never a name, even if its text looks like one.
        if matches!(&left, Value::Json(json) if json.trim().starts_with(['{', '['])) {
            return false;
        }
        let right = self.right.text(fill, OnMissing::Fail);
        matches!((left.as_text(), right), (Some(left), Ok(right)) if left == right)
    }
}
