//! Words: what may represent `do`, and which keys mean something next to each; in rules, and in calls.

use tidegate_document::diagnostic::Wrong;
use tidegate_document::section::Section;
use tidegate_document::suggest::did_you_mean;

use crate::language::key::Word;

/// Sections of the other kind of file.
const OF_CONFIGURATIONS: [&str; 8] = ["nats", "auth", "role", "class", "endpoint", "server", "limits", "log"];
/// Words and keys that need what this version does not have.
const LATER: [&str; 6] = ["ack", "history", "since", "join", "leave", "presence"];

/// Every word for `do` in rules or in calls.
pub(super) struct ActionWords(pub(super) &'static [Word]);

impl ActionWords {
    /// All of them, for whoever has named none.
    pub(super) fn list(&self) -> String {
        self.names().join(", ")
    }

    /// The keys that mean something next to a word; `None` if it is none.
    pub(super) fn keys(&self, word: &str) -> Option<&'static [&'static str]> {
        self.0.iter().find(|known| known.name == word).map(|known| known.keys)
    }

    /// Notes that a word is none.
    pub(super) fn refuse(&self, section: &Section<'_>, word: &str) {
        let wrong = later(word).unwrap_or_else(|| {
            let help = format!("{}known are {}", did_you_mean(word, &self.names()), self.list());
            Wrong::new(format!("\"{word}\" is not a word for do"), help)
        });
        section.mistake("do", wrong.message, wrong.help);
    }

    /// What is said of a key that means nothing next to this word, if it is known.
    pub(super) fn elsewhere(&self, key: &str, word: &str) -> Option<Wrong> {
        let takers = self.0.iter().filter(|word| word.keys.contains(&key)).map(|word| word.name);
        let takers: Vec<&str> = takers.collect();
        let said = (!takers.is_empty()).then(|| {
            let problem = format!("\"{key}\" means nothing for do = \"{word}\"");
            Wrong::new(problem, format!("remove it, or choose one of {}", takers.join(", ")))
        });
        later(key).or(said)
    }

    fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|word| word.name).collect()
    }
}

/// What is said of words that need stored subjects or presence.
pub(super) fn later(word: &str) -> Option<Wrong> {
    LATER.contains(&word).then(|| {
        let problem =
            format!("\"{word}\" needs stored subjects or presence, which this version does not have");
        Wrong::new(problem, "remove it; the rest of the file works without")
    })
}

/// What is said of a section that there is not.
pub(super) fn no_section(word: &str) -> Option<Wrong> {
    let of_another = OF_CONFIGURATIONS.contains(&word).then(|| {
        let help = "is this the right file? `tidegate check --config FILE` reads a configuration";
        Wrong::new("is a part of a configuration, not of a vocabulary", help)
    });
    of_another.or_else(|| later(word))
}
