//! Checks of THREATS.md: the id at the beginning of a test's name has an entry, and each entry names tests that exist.

use std::collections::BTreeSet;

use crate::read;
use crate::sources;

/// The entries, by id, with their text.
fn entries(page: &str) -> Vec<(&str, &str)> {
    let parts = page.split("\n### ").skip(1).map(|part| part.split("\n## ").next().unwrap_or_default());
    parts.map(|part| part.split_once('\n').unwrap_or((part, ""))).collect()
}

/// The names of all functions.
fn functions() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in ["src", "crates", "tests"].iter().flat_map(|folder| sources(folder)) {
        for line in read(&file).lines() {
            let Some((before, behind)) = line.split_once("fn ") else { continue };
            let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            if before.split_whitespace().all(|word| word == "async" || word.starts_with("pub")) {
                found.insert(behind.chars().take_while(is_name).collect());
            }
        }
    }
    found
}

/// The ids at the beginning of a test's name: `acl_01_and_sub_05_…` has two. `a_01_…` is a fixed bug and has none.
fn ids(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut words = name.split('_').peekable();
    while let Some(area) = words.next() {
        let number = words.peek().copied().unwrap_or_default();
        let is_id = area.len() > 1
            && area.chars().all(|c| c.is_ascii_lowercase())
            && number.len() == 2
            && number.chars().all(|c| c.is_ascii_digit());
        if is_id {
            found.push(format!("{area}-{number}"));
            words.next();
        } else if found.is_empty() || area != "and" {
            break;
        }
    }
    found
}

#[test]
fn each_id_of_a_test_has_an_entry() {
    let page = read("docs/THREATS.md");
    let written: BTreeSet<_> = entries(&page).into_iter().map(|(id, _)| id.to_owned()).collect();
    let named: BTreeSet<_> = functions().iter().flat_map(|name| ids(name)).collect();
    assert!(named.len() > 40, "{named:?}");
    assert!(named.is_subset(&written), "without an entry: {:?}", &named - &written);
}

#[test]
fn each_entry_has_a_threat_an_answer_and_tests_that_exist() {
    let page = read("docs/THREATS.md");
    let functions = functions();
    let entries = entries(&page);
    for (id, text) in &entries {
        let parts: Vec<_> = text.split("- **").skip(1).filter_map(|part| part.split_once(":** ")).collect();
        let [("Threat", _), ("Tidegate", _), ("Tests", tests)] = parts[..] else {
            panic!("{id} has other parts: {parts:?}");
        };
        let tests: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{id} has no test");
        for test in tests {
            assert!(functions.contains(test), "{id}: there is no test {test}");
            assert!(ids(test).is_empty() || ids(test).iter().any(|of| of == id), "{test} is none of {id}");
        }
    }
    let (_, missing) = page.split_once("\n## Not yet\n").unwrap();
    for (id, _) in entries {
        assert!(!missing.contains(id), "{id} has an entry, and is not there yet");
    }
}

#[test]
fn names_of_tests_begin_with_ids() {
    assert_eq!(ids("acl_01_and_sub_05_system_subjects"), ["acl-01", "sub-05"]);
    assert_eq!(ids("sub_03_sub_04_a_wildcard"), ["sub-03", "sub-04"]);
    assert!(ids("a_client_and_sub_05").is_empty() && ids("a_01_a_fixed_bug").is_empty());
}
