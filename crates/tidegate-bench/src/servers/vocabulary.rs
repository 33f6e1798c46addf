//! A vocabulary from a file, under load: a copy of it with a path and a rule that the bench adds. So one client can subscribe
//! in every vocabulary, whatever its own messages are, and hears what its `[[deliver]]` rules make of publications.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use anyhow::bail;
use toml::Table;
use toml::Value;

use crate::client::ADDED;

/// One of them, ready to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Its name in tables: that of the file.
    pub name: String,
    /// The copy.
    pub text: String,
    /// Where clients connect. Parameters of other paths, which a greeting may name, are this path's too.
    pub path: String,
    /// What is in the pattern of the rule that is measured before and behind its last wildcard. Other wildcards have
    /// become a token.
    around: (String, String),
}

impl Vocabulary {
    /// Reads a file.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        Self::new(&name, &text).with_context(|| format!("{} cannot be measured", file.display()))
    }

    /// The one that a text describes.
    pub fn new(name: &str, text: &str) -> anyhow::Result<Self> {
        let table: Table = text.parse().context("it is no TOML")?;
        let rules = table.get("deliver").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let around = rules.iter().find_map(measured).context(
            "it has no [[deliver]] rule without `path` and `when` that has a wildcard in its pattern and shows {data} or \
             {data.n}, the number of a publication",
        )?;
        let added = added(text, &around);
        let copy: Table = added.parse().context("the bench does not find where to add its rule")?;
        let first = |list: &str, key: &str| copy.get(list)?.get(0)?.get(key)?.as_str();
        if [first("path", "name"), first("receive", "path"), copy.get("name").and_then(Value::as_str)]
            != [Some(ADDED); 3]
        {
            bail!("write its `name`, its `[[path]]` and its `[[receive]]` in lines of their own");
        }
        let path = format!("/{ADDED}{}", "/bench".repeat(named(text, "path").len()));
        Ok(Self { name: name.to_owned(), text: added, path, around })
    }

    /// The subject of an item.
    pub fn subject(&self, item: &str) -> String {
        format!("{}{item}{}", self.around.0, self.around.1)
    }

    /// The item of a subject.
    pub fn item<'s>(&self, subject: &'s str) -> &'s str {
        let rest = subject.strip_prefix(self.around.0.as_str()).unwrap_or(subject);
        rest.strip_suffix(self.around.1.as_str()).unwrap_or(rest)
    }
}

/// Where the last wildcard of a rule is, if it is one to be measured.
fn measured(rule: &Value) -> Option<(String, String)> {
    let shows_number = shows_number(rule.get("send")?);
    let is_plain = rule.get("path").is_none() && rule.get("when").is_none();
    let pattern = rule.get("pattern")?.as_str()?;
    let at = pattern.rfind(['*', '>']).filter(|_| shows_number && is_plain)?;
    Some((pattern[..at].replace('*', "bench"), pattern[at + 1..].to_owned()))
}

/// Whether a template has the number of a publication in it.
fn shows_number(template: &Value) -> bool {
    match template {
        Value::String(text) => text.contains("{data}") || text.contains("{data.n}"),
        Value::Array(values) => values.iter().any(shows_number),
        Value::Table(table) => table.values().any(shows_number),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => false,
    }
}

/// What placeholders name of a source: `client_id` for `{path.client_id}`.
fn named<'t>(text: &'t str, source: &str) -> BTreeSet<&'t str> {
    let begin = format!("{{{source}.");
    let rests = text.match_indices(&begin).map(|(at, _)| &text[at + begin.len()..]);
    rests.filter_map(|rest| rest.split(['}', '|']).next()).collect()
}

/// The text with a name of the bench's, and with its path and its rule before those that are there.
fn added(text: &str, around: &(String, String)) -> String {
    let kept: Vec<_> = named(text, "sub").into_iter().map(|name| format!("{name} = \"bench\"")).collect();
    let parameters: String = named(text, "path").into_iter().map(|name| format!("/{{{name}}}")).collect();
    let (before, behind) = around;
    let path = format!(
        "[[path]]\nname = \"{ADDED}\"\npath = \"/{ADDED}{parameters}\"\ngreeting = {{ type = \"connected\" }}\n\n"
    );
    let rule = format!(
        "[[receive]]\npath = \"{ADDED}\"\nwhen = {{ bench = \"subscribe\" }}\ndo = \"subscribe\"\n\
         keep = {{ {} }}\nchannel = \"{before}{{msg.item}}{behind}\"\nconfirm = {{ type = \"subscribed\" }}\n\n",
        kept.join(", ")
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
            added += &format!("name = \"{ADDED}\"\n");
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
    fn the_first_rule_that_shows_a_number_is_measured() {
        let vocabulary = Vocabulary::new("quotes", FILE).unwrap();
        assert_eq!(vocabulary.subject("S00001"), "bench.quotes.S00001.last");
        assert_eq!(vocabulary.item("bench.quotes.S00001.last"), "S00001");
        let copy: Table = vocabulary.text.parse().unwrap();
        let rule = &copy["receive"][0];
        assert_eq!(rule["channel"].as_str(), Some("bench.quotes.{msg.item}.last"));
        assert_eq!(rule["keep"]["id"].as_str(), Some("bench"));
        assert_eq!(copy["receive"][1]["when"]["op"].as_str(), Some("watch"), "the others are still there");
        assert_eq!(copy["path"][1]["name"].as_str(), Some("all"));
        assert_eq!(copy["path"][0]["path"].as_str(), Some("/tidegate-bench/{client}"));
        assert_eq!(vocabulary.path, "/tidegate-bench/bench");
    }

    #[test]
    fn what_cannot_be_measured_is_refused_in_words() {
        for (text, words) in [
            ("name =", "it is no TOML"),
            ("name = \"a\"\n", "no [[deliver]] rule"),
            (&FILE.replace("{data.n}", "{data.m}"), "no [[deliver]] rule"),
            (&FILE.replace("*", "a"), "wildcard"),
            (&FILE.replace("[[path]]", "[[ path ]]"), "in lines of their own"),
        ] {
            let error = Vocabulary::new("a", text).unwrap_err();
            assert!(format!("{error:#}").contains(words), "{text}: {error:#}");
        }
    }
}
