//! The specification and the RFCs, quoted by tests. A rule of `docs/PROTOCOL.md` is a sentence with "must", "always" or
//! "never"; a test that proves it quotes it above itself:
//!
//! ```text
//! /// PROTOCOL.md: <a quotation mark>Replies always echo it unchanged.<a quotation mark>
//! #[test]
//! ```
//!
//! A quotation may be any part of the sentence that has one of the three words. In a transcript, it is in a `#` line.
//! A rule of an RFC is named by its clause, `RFC 6455 §5.1`, where the code keeps it and where a test proves it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use crate::files;
use crate::read;

/// The words that make a sentence a rule.
const WORDS: [&str; 3] = ["must", "always", "never"];
/// The RFCs whose clauses are cited in the code and by a test.
const RFCS: [&str; 4] = ["6455", "7692", "6750", "9457"];

/// All files of these kinds that have code, tests or transcripts.
fn all(kinds: &[&str]) -> Vec<String> {
    let folders = ["src", "crates", "tests"];
    folders.iter().flat_map(|folder| kinds.iter().flat_map(|kind| files(folder, kind, true))).collect()
}

/// A text with single blanks and without the marks of Markdown.
fn plain(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['[', ']', '`', '*']) {
        kept.push_str(&rest[..at]);
        let is_link = rest[at..].starts_with("](");
        rest = &rest[at + 1..];
        if is_link {
            rest = rest.split_once(')').map_or(rest, |(_, behind)| behind);
        }
    }
    kept.push_str(rest);
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether one of [`WORDS`] is in a text.
fn is_rule(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| WORDS.contains(&word.to_lowercase().as_str()))
}

/// The text of a line that begins an item of a list: `- text` or `1. text`.
fn item(line: &str) -> Option<&str> {
    line.strip_prefix("- ")
        .or_else(|| line.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix(". "))
}

/// The sentences of a page in Markdown, without code blocks. A cell of a table is one too.
fn sentences(page: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    let mut in_code = false;
    for line in page.lines() {
        let line = line.trim();
        let is_fence = line.starts_with("```");
        in_code ^= is_fence;
        let begins = line.is_empty() || line.starts_with(['#', '|']) || is_fence || item(line).is_some();
        if begins {
            blocks.push(String::new());
        }
        if in_code || is_fence {
            continue;
        }
        if line.starts_with('|') {
            blocks.extend(line.split('|').map(str::to_owned));
        } else if let Some(block) = blocks.last_mut() {
            block.push_str(item(line).unwrap_or(line));
            block.push(' ');
        }
    }
    let mut found = Vec::new();
    for block in blocks {
        let mut begin = 0;
        for (at, _) in block.match_indices(['.', '!', '?']) {
            let behind = &block[at + 1..];
            let next = behind.trim_start().chars().next();
            if behind.starts_with(' ') && next.is_some_and(|c| !c.is_lowercase()) {
                found.push(plain(&block[begin..=at]));
                begin = at + 1;
            }
        }
        found.push(plain(&block[begin..]));
    }
    found.retain(|sentence| !sentence.is_empty());
    found
}

/// A quotation of a page: the file and line where it begins, and its words.
struct Citation {
    place: String,
    words: String,
    is_above_a_test: bool,
}

/// The comments of a file, each as one text, with the number of its first line and the code below it.
fn comments(text: &str) -> Vec<(usize, String, &str)> {
    let marks = ["//!", "///", "//", "#"];
    let mut found: Vec<(usize, String, &str)> = Vec::new();
    let mut is_open = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let words = match line.starts_with("#[") || line.starts_with("#!") {
            true => None,
            false => marks.iter().find_map(|mark| line.strip_prefix(mark)),
        };
        match (words, found.last_mut()) {
            (Some(words), Some((_, comment, _))) if is_open => {
                comment.push(' ');
                comment.push_str(words.trim());
            }
            (Some(words), _) => found.push((number + 1, words.trim().to_owned(), "")),
            (None, Some((_, _, below))) if is_open => *below = line,
            (None, _) => {}
        }
        is_open = words.is_some();
    }
    found
}

/// The quotations of the specification in all tests and transcripts.
fn citations() -> Vec<Citation> {
    const MARK: &str = "PROTOCOL.md: \"";
    let mut found = Vec::new();
    for file in all(&["rs", "txt", "mjs", "py"]) {
        let is_rust = Path::new(&file).extension().is_some_and(|kind| kind == "rs");
        for (line, comment, below) in comments(&read(&file)) {
            for quoted in comment.split(MARK).skip(1) {
                let words = plain(quoted.split('"').next().unwrap_or_default());
                let is_above_a_test = !is_rust || (below.starts_with("#[") && below.contains("test"));
                found.push(Citation { place: format!("{file}:{line}"), words, is_above_a_test });
            }
        }
    }
    found
}

/// PROTOCOL.md: "Sentences with *must*, *always* or *never* are its rules: each is quoted by a test that proves it"
#[test]
fn each_rule_of_the_specification_is_quoted_by_a_test() {
    let rules: Vec<_> =
        sentences(&read("docs/PROTOCOL.md")).into_iter().filter(|text| is_rule(text)).collect();
    assert!(rules.len() > 20, "{rules:#?}");
    let citations = citations();
    let uncited: Vec<_> = rules
        .iter()
        .filter(|rule| !citations.iter().any(|citation| rule.contains(&citation.words)))
        .collect();
    assert!(uncited.is_empty(), "{} of {} rules have no test: {uncited:#?}", uncited.len(), rules.len());
}

#[test]
fn each_quotation_is_a_rule_of_the_specification_and_above_a_test() {
    let rules: Vec<_> =
        sentences(&read("docs/PROTOCOL.md")).into_iter().filter(|text| is_rule(text)).collect();
    for Citation { place, words, is_above_a_test } in citations() {
        assert!(is_rule(&words), "{place}: the quotation has none of {WORDS:?}: {words:?}");
        let count = rules.iter().filter(|rule| rule.contains(&words)).count();
        assert_eq!(count, 1, "{place}: PROTOCOL.md has this {count} times: {words:?}");
        assert!(is_above_a_test, "{place}: the quotation is not above a test");
    }
}

/// The clauses of [`RFCS`] that comments name: `RFC 6455 §5.1 and §5.2` are two.
fn clauses(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, comment, _) in comments(text) {
        for part in comment.split("RFC ").skip(1) {
            let number: String = part.chars().take_while(char::is_ascii_digit).collect();
            for clause in part.split('§').skip(1).filter(|_| RFCS.contains(&number.as_str())) {
                let clause: String = clause.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
                found.insert(format!("RFC {number} §{}", clause.trim_end_matches('.')));
            }
        }
    }
    found
}

#[test]
fn each_clause_of_an_rfc_that_the_code_keeps_is_named_by_a_test_and_the_other_way_round() {
    let mut kept = BTreeMap::new();
    let mut tested = BTreeMap::new();
    for file in all(&["rs", "txt"]) {
        let is_test = file.starts_with("tests/") || file.ends_with("/tests.rs") || file.contains("/tests/");
        let text = read(&file);
        let (code, tests) = match text.split_once("\n#[cfg(test)]\nmod tests {") {
            _ if is_test => ("", &*text),
            Some(parts) => parts,
            None => (&*text, ""),
        };
        for (part, found) in [(code, &mut kept), (tests, &mut tested)] {
            found.extend(clauses(part).into_iter().map(|clause| (clause, file.clone())));
        }
    }
    for rfc in RFCS {
        assert!(kept.keys().any(|clause| clause.contains(rfc)), "no clause of RFC {rfc} is cited");
    }
    let untested: Vec<_> = kept.iter().filter(|(clause, _)| !tested.contains_key(*clause)).collect();
    let unkept: Vec<_> = tested.iter().filter(|(clause, _)| !kept.contains_key(*clause)).collect();
    assert!(untested.is_empty() && unkept.is_empty(), "no test: {untested:#?}, no code: {unkept:#?}");
}

#[test]
fn sentences_are_found_in_paragraphs_lists_and_tables_and_not_in_code() {
    let page = "A [link](x.md). It\nmust `do`\n\n- One. **Two** never.\n\n| a | b, always |\n\n```json\nmust\n```\nEnd.";
    let found = sentences(page);
    assert_eq!(found, ["A link.", "It must do", "One.", "Two never.", "a", "b, always", "End."]);
    let rules: Vec<_> = found.iter().filter(|sentence| is_rule(sentence)).collect();
    assert_eq!(rules, ["It must do", "Two never.", "b, always"]);
}
