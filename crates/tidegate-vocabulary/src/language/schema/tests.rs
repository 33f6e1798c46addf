//! The shipped schema is the one that the tables give, and everything in the tables has a name.

use super::*;

#[test]
fn the_shipped_schema_is_made_from_the_tables() {
    let path = format!("{}/../../vocabularies/vocabulary.schema.json", env!("CARGO_MANIFEST_DIR"));
    let shipped = std::fs::read_to_string(path).unwrap();
    let made = schema();
    let differs = shipped.lines().zip(made.lines()).position(|(shipped, made)| shipped != made);
    assert_eq!(
        differs, None,
        "write it anew: tidegate vocabulary schema > vocabularies/vocabulary.schema.json"
    );
    assert_eq!(shipped.len(), made.len());
}

#[test]
fn errors_have_words_in_the_order_of_the_code() {
    let names: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.name()).chain(["default"]).collect();
    assert_eq!(ERRORS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
}

#[test]
fn every_kind_that_a_key_shares_is_defined_and_used() {
    let definitions = definitions();
    let made = schema();
    for (name, _) in entries(&definitions) {
        assert!(made.contains(&format!("\"#/$defs/{name}\"")), "{name} is used nowhere");
    }
    for used in made.split("\"#/$defs/").skip(1) {
        let name = used.split('"').next().unwrap();
        assert!(definitions.find(name).is_some(), "{name} is not defined");
    }
}

#[test]
fn what_a_word_takes_and_needs_are_keys_of_its_section() {
    for (keys, words) in [(RECEIVE, RECEIVE_ACTIONS), (HTTP, HTTP_ACTIONS)] {
        for word in words {
            for name in word.keys.iter().chain(word.required) {
                assert!(keys.iter().any(|key| key.name == *name), "{}: {name}", word.name);
            }
        }
    }
    assert!(ON_CONNECT.iter().all(|name| RECEIVE_ACTIONS.iter().any(|word| word.name == *name)));
}
