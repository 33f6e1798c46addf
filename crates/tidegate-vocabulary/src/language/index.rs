//! Index: the sections that have a key, for diagnostics about a key in the wrong section.

use crate::language::key::Key;
use crate::language::rules::HTTP;
use crate::language::rules::RECEIVE;
use crate::language::sections::DELIVER;
use crate::language::sections::ERROR;
use crate::language::sections::HEARTBEAT;
use crate::language::sections::PATH;
use crate::language::sections::PROTOCOL;
use crate::language::sections::TOP;
use crate::language::sections::UNKNOWN;

/// Each section as it is written in a file, and its keys.
const SECTIONS: [(&str, &[Key]); 9] = [
    ("the top of the file, above all sections", TOP),
    ("[protocol]", PROTOCOL),
    ("[[path]]", PATH),
    ("[heartbeat]", HEARTBEAT),
    ("[[receive]]", RECEIVE),
    ("[unknown]", UNKNOWN),
    ("[[deliver]]", DELIVER),
    ("[error]", ERROR),
    ("[[http]]", HTTP),
];

/// The sections that have this key.
pub(crate) fn sections_with_key(name: &str) -> Vec<&'static str> {
    let has = |keys: &[Key]| keys.iter().any(|key| key.name == name);
    SECTIONS.iter().filter(|(_, keys)| has(keys)).map(|(section, _)| *section).collect()
}
