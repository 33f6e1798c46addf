//! How all pages of the admin listener show the class of a channel.

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::subject::Pattern;

use crate::auth::explanation::class_of;

/// The class of a channel, or null if it has the defaults.
pub(super) fn class_object(classes: &[Class], channel: &Pattern) -> Value {
    let object = |class: &Class| json!({ "pattern": class.pattern.as_str(), "kind": class.kind.name(), "snapshot": class.snapshot });
    class_of(classes, channel).map_or(Value::Null, object)
}
