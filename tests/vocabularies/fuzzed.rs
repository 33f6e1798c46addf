//! The vocabularies that are fuzzed, by the fuzz target and by the test that needs no fuzzer.

#[path = "shipped.rs"]
mod shipped;

use std::path::Path;

/// Vocabularies for tests, with features that the shipped ones do not have.
const FOR_TESTS: [&str; 1] = ["dotted"];

/// The name and the text of each vocabulary. The first byte of an input for the fuzz target selects one by its place here:
/// twice the place, plus 1 for a client without an identity.
pub(crate) fn fuzzed(root: &Path) -> Vec<(String, String)> {
    let mut fuzzed = shipped::shipped(root);
    for name in FOR_TESTS {
        let file = root.join(format!("tests/transcripts/{name}/vocabulary.toml"));
        fuzzed.push((name.to_owned(), std::fs::read_to_string(file).unwrap()));
    }
    fuzzed
}
