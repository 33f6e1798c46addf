//! The files in `tests/vocabularies/mistakes`: vocabularies with mistakes, and the expected diagnostics as comments.
//!
//! ```text
//! UPDATE_EXPECTED=1 cargo test -p tidegate-vocabulary mistakes
//! ```

#[path = "../../../../../tests/mistakes/runner.rs"]
mod runner;

use std::path::Path;

use super::*;

/// The errors of a vocabulary; if there are none, its warnings.
fn diagnostics(text: &str) -> Vec<Diagnostic> {
    compile(text).map_or_else(|errors| errors, |compiled| compiled.warnings)
}

#[test]
fn every_mistake_has_its_diagnostics() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    runner::compare_all(&root, "tests/vocabularies/mistakes", 280, &diagnostics);
}

#[test]
fn a_difference_names_its_line_and_shows_both_sides() {
    let file = "#---\n[protocol]\nrequired = 1\n#! protocol.required: 1 is not a text\n\n#---\nname = \"a\"\n#! no diagnostics\n";
    let comparison = runner::compare(&diagnostics, "some.txt", file);
    let differences = [
        "some.txt:3: required = 1",
        "  expected",
        "    #! protocol.required: 1 is not a text",
        "  found",
        "    #! protocol.required: 1 is neither true nor false",
    ];
    assert!(comparison.differences.contains(&differences.join("\n")), "{}", comparison.differences);
    let second =
        "some.txt:7: name = \"a\"\n  expected\n    #! no diagnostics\n  found\n    #! - path: is missing";
    assert!(comparison.differences.contains(second), "{}", comparison.differences);
    assert_eq!(comparison.cases, 2);
    assert_eq!(runner::compare(&diagnostics, "some.txt", &comparison.updated).differences, "");
}
