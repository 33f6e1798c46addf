//! Vocabularies from files, for `tidegate bench market --vocabulary FILE`. The bench serves a copy with one more path
//! and rule, so that its clients can subscribe in any vocabulary. They receive what the `[[deliver]]` rules render.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use anyhow::bail;
use toml::Table;
use toml::Value;

use crate::client::BENCH_VOCABULARY;

/// The copy of a vocabulary that the bench serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// The name in tables: the file's name without extension.
    pub name: String,
    /// The TOML of the copy.
    pub text: String,
    /// The path that clients connect to. It has the parameters of all other paths too, because a greeting may use them.
    pub path: String,
    /// The text before and after the last wildcard in the pattern of the measured rule. Other wildcards are replaced
    /// with the token `bench`.
    affixes: (String, String),
}

impl Vocabulary {
    /// Reads a vocabulary file. Fails if the bench cannot measure it.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        Self::new(&name, &text).with_context(|| format!("{} cannot be measured", file.display()))
    }

    /// Makes the copy of a vocabulary's TOML. Fails if the bench cannot measure it.
    pub fn new(name: &str, text: &str) -> anyhow::Result<Self> {
        let table: Table = text.parse().context("it is not valid TOML")?;
        let rules = table.get("deliver").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let affixes = rules.iter().find_map(measured_affixes).context(
            "it needs a [[deliver]] rule without `path` and `when`, with a wildcard in its pattern, that sends {data} \
             or {data.n} (the number of the publication)",
        )?;
        let added = with_bench_rule(text, &affixes);
        let copy: Table =
            added.parse().context("cannot add the bench's own rule: its copy is not valid TOML")?;
        let first = |list: &str, key: &str| copy.get(list)?.get(0)?.get(key)?.as_str();
        if [first("path", "name"), first("receive", "path"), copy.get("name").and_then(Value::as_str)]
            != [Some(BENCH_VOCABULARY); 3]
        {
            bail!(
                "write its `name`, `[[path]]` and `[[receive]]` on lines of their own, without extra spaces"
            );
        }
        let path = format!("/{BENCH_VOCABULARY}{}", "/bench".repeat(placeholders(text, "path").len()));
        Ok(Self { name: name.to_owned(), text: added, path, affixes })
    }

    /// The subject for an item, which takes the place of the wildcard.
    pub fn subject(&self, item: &str) -> String {
        format!("{}{item}{}", self.affixes.0, self.affixes.1)
    }

    /// The item in a subject: the inverse of [`Vocabulary::subject`].
    pub fn item<'s>(&self, subject: &'s str) -> &'s str {
        let rest = subject.strip_prefix(self.affixes.0.as_str()).unwrap_or(subject);
        rest.strip_suffix(self.affixes.1.as_str()).unwrap_or(rest)
    }
}

/// The text before and after the last wildcard in a rule's pattern. `None` if the rule cannot be measured.
fn measured_affixes(rule: &Value) -> Option<(String, String)> {
    let shows_number = shows_number(rule.get("send")?);
    let is_plain = rule.get("path").is_none() && rule.get("when").is_none();
    let pattern = rule.get("pattern")?.as_str()?;
    let at = pattern.rfind(['*', '>']).filter(|_| shows_number && is_plain)?;
    Some((pattern[..at].replace('*', "bench"), pattern[at + 1..].to_owned()))
}

/// Whether a template sends the number of the publication.
fn shows_number(template: &Value) -> bool {
    match template {
        Value::String(text) => text.contains("{data}") || text.contains("{data.n}"),
        Value::Array(values) => values.iter().any(shows_number),
        Value::Table(table) => table.values().any(shows_number),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => false,
    }
}

/// The names of all placeholders of a source: `client_id` for `{path.client_id}`.
fn placeholders<'t>(text: &'t str, source: &str) -> BTreeSet<&'t str> {
    let begin = format!("{{{source}.");
    let rests = text.match_indices(&begin).map(|(at, _)| &text[at + begin.len()..]);
    rests.filter_map(|rest| rest.split(['}', '|']).next()).collect()
}

/// Replaces the vocabulary's name, and inserts the bench's path and rule before the existing ones.
fn with_bench_rule(text: &str, affixes: &(String, String)) -> String {
    let fields: Vec<_> =
        placeholders(text, "sub").into_iter().map(|name| format!("{name} = \"bench\"")).collect();
    let parameters: String =
        placeholders(text, "path").into_iter().map(|name| format!("/{{{name}}}")).collect();
    let (before, after) = affixes;
    let path = format!(
        "[[path]]\nname = \"{BENCH_VOCABULARY}\"\npath = \"/{BENCH_VOCABULARY}{parameters}\"\ngreeting = {{ type = \"connected\" }}\n\n"
    );
    let rule = format!(
        "[[receive]]\npath = \"{BENCH_VOCABULARY}\"\nwhen = {{ bench = \"subscribe\" }}\ndo = \"subscribe\"\n\
         keep = {{ {} }}\nchannel = \"{before}{{msg.item}}{after}\"\nconfirm = {{ type = \"subscribed\" }}\n\n",
        fields.join(", ")
    );
    let mut added = String::new();
    let (mut path, mut rule, mut is_named) = (Some(path), Some(rule), false);
    for line in text.lines() {
        let new = match line.trim() {
            "[[path]]" => path.take(),
            "[[receive]]" => rule.take(),
            _ => None,
        };
        added += &new.unwrap_or_default();
        if !is_named && line.starts_with("name =") {
            is_named = true;
            added += &format!("name = \"{BENCH_VOCABULARY}\"\n");
        } else {
            added += line;
            added.push('\n');
        }
    }
    added + &rule.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"name = "quotes"
[[path]]
name = "all"
path = "/ws/{client}"

[greeting]
send = { hello = "{path.client|upper}" }

[[receive]]
when = { op = "watch" }
do = "subscribe"
keep = { id = "{msg.id}" }
channel = "acme.quotes.{msg.name}.last"

[[deliver]]
pattern = "acme.*.status"
send = { up = "{data.up}" }

[[deliver]]
pattern = "*.quotes.*.last"
send = { id = "{sub.id|text}", numbers = [{ n = "{data.n}" }, "{data.bid0}"] }
"#;

    #[test]
    fn the_first_rule_that_sends_the_number_is_measured() {
        let vocabulary = Vocabulary::new("quotes", FILE).unwrap();
        assert_eq!(vocabulary.subject("S00001"), "bench.quotes.S00001.last");
        assert_eq!(vocabulary.item("bench.quotes.S00001.last"), "S00001");
        let copy: Table = vocabulary.text.parse().unwrap();
        let rule = &copy["receive"][0];
        assert_eq!(rule["channel"].as_str(), Some("bench.quotes.{msg.item}.last"));
        assert_eq!(rule["keep"]["id"].as_str(), Some("bench"));
        assert_eq!(copy["receive"][1]["when"]["op"].as_str(), Some("watch"), "the other rules are kept");
        assert_eq!(copy["path"][1]["name"].as_str(), Some("all"));
        assert_eq!(copy["path"][0]["path"].as_str(), Some("/tidegate-bench/{client}"));
        assert_eq!(vocabulary.path, "/tidegate-bench/bench");
    }

    #[test]
    fn a_vocabulary_that_cannot_be_measured_is_rejected_with_a_clear_error() {
        for (text, words) in [
            ("name =", "it is not valid TOML"),
            ("name = \"a\"\n", "it needs a [[deliver]] rule"),
            (&FILE.replace("{data.n}", "{data.m}"), "it needs a [[deliver]] rule"),
            (&FILE.replace("*", "a"), "wildcard"),
            (&FILE.replace("[[path]]", "[[ path ]]"), "on lines of their own"),
        ] {
            let error = Vocabulary::new("a", text).unwrap_err();
            assert!(format!("{error:#}").contains(words), "{text}: {error:#}");
        }
    }
}
