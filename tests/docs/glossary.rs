//! Checks of GLOSSARY.md and STYLE.md: words are in order, their types exist, and rules have examples.

use crate::read;
use crate::root;
use crate::rows;
use crate::section;

/// The file and the name of a type: `hub::topic::Topic` is in `src/hub/topic.rs`.
fn file_of(path: &str) -> (String, &str) {
    let (modules, name) = path.rsplit_once("::").unwrap_or_else(|| panic!("{path} has no module"));
    let (first, rest) = modules.split_once("::").unwrap_or((modules, ""));
    match first.strip_prefix("tidegate_") {
        Some(name_of_crate) => {
            let file = if rest.is_empty() { "lib".to_owned() } else { rest.replace("::", "/") };
            (format!("crates/tidegate-{name_of_crate}/src/{file}.rs"), name)
        }
        None => (format!("src/{}.rs", modules.replace("::", "/")), name),
    }
}

#[test]
fn each_word_of_the_glossary_has_a_type_that_exists() {
    let table = rows(&read("docs/GLOSSARY.md"));
    assert!(table.len() > 25);
    for row in &table {
        let (file, name) = file_of(row[2].trim_matches('`'));
        assert!(root().join(&file).exists(), "{}: there is no {file}", row[0]);
        let code = read(&file);
        let is_there = ["struct", "enum", "trait"].iter().any(|kind| {
            let begin = format!("pub {kind} {name}");
            code.match_indices(&begin).any(|(at, _)| {
                !code[at + begin.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
            })
        });
        assert!(is_there, "{}: {file} has no public type {name}", row[0]);
    }
}

#[test]
fn the_glossary_is_in_alphabetical_order_with_one_sentence_a_word() {
    let table = rows(&read("docs/GLOSSARY.md"));
    let words: Vec<_> = table.iter().map(|row| row[0].trim_matches('*')).collect();
    assert!(words.is_sorted() && words.windows(2).all(|pair| pair[0] != pair[1]), "{words:?}");
    assert!(table.iter().all(|row| row[1].ends_with('.')));
}

#[test]
fn each_rule_of_style_about_words_has_a_good_and_a_bad_example() {
    let style = read("docs/STYLE.md");
    for heading in ["Names", "Errors and messages"] {
        let rules: Vec<_> = section(&style, heading).split("\n- **").skip(1).collect();
        assert!(rules.len() > 3, "{heading}");
        for rule in rules {
            for example in ["\n  - Good: ", "\n  - Bad: "] {
                assert_eq!(rule.matches(example).count(), 1, "{heading}: {rule}");
            }
        }
    }
}
