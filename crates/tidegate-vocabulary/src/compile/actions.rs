//! Actions: the values of `do` in rules and HTTP routes, and the keys that each of them allows.

use tidegate_document::diagnostic::ValueError;
use tidegate_document::section::Section;
use tidegate_document::suggest::did_you_mean;

use crate::language::key::ActionSpec;

/// Sections of a configuration file, for a hint.
const CONFIGURATION_SECTIONS: [&str; 8] =
    ["nats", "auth", "role", "class", "endpoint", "server", "limits", "log"];
/// Actions and keys of features that this version does not have.
const NOT_YET_SUPPORTED: [&str; 6] = ["ack", "history", "since", "join", "leave", "presence"];

/// All values of `do` in one kind of section.
pub(super) struct ActionTable(pub(super) &'static [ActionSpec]);

impl ActionTable {
    /// All names, for diagnostics.
    pub(super) fn list(&self) -> String {
        self.names().join(", ")
    }

    /// The keys that an action allows. `None` if there is no such action.
    pub(super) fn keys(&self, word: &str) -> Option<&'static [&'static str]> {
        self.0.iter().find(|known| known.name == word).map(|known| known.keys)
    }

    /// Reports an unknown value of `do`.
    pub(super) fn reject_unknown(&self, section: &Section<'_>, word: &str) {
        let wrong = not_yet_supported(word).unwrap_or_else(|| {
            let help = format!("{}known are {}", did_you_mean(word, &self.names()), self.list());
            ValueError::new(format!("\"{word}\" is not an action"), help)
        });
        section.error("do", wrong.message, wrong.help);
    }

    /// Explains why a key is not allowed with an action, if other actions allow it.
    pub(super) fn misplaced_key(&self, key: &str, word: &str) -> Option<ValueError> {
        let takers = self.0.iter().filter(|word| word.keys.contains(&key)).map(|word| word.name);
        let takers: Vec<&str> = takers.collect();
        let said = (!takers.is_empty()).then(|| {
            let problem = format!("\"{key}\" has no meaning for do = \"{word}\"");
            ValueError::new(problem, format!("remove it, or choose one of {}", takers.join(", ")))
        });
        not_yet_supported(key).or(said)
    }

    fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|word| word.name).collect()
    }
}

/// Explains that an action or key needs stored subjects or presence.
pub(super) fn not_yet_supported(word: &str) -> Option<ValueError> {
    NOT_YET_SUPPORTED.contains(&word).then(|| {
        let problem =
            format!("\"{word}\" needs stored subjects or presence, which this version does not have");
        ValueError::new(problem, "remove it; the rest of the file works without")
    })
}

/// Explains an unknown section, if possible.
pub(super) fn unknown_section(word: &str) -> Option<ValueError> {
    let of_another = CONFIGURATION_SECTIONS.contains(&word).then(|| {
        let help = "is this the right file? `tidegate check --config FILE` reads a configuration";
        ValueError::new("is a part of a configuration, not of a vocabulary", help)
    });
    of_another.or_else(|| not_yet_supported(word))
}
