//! The files in `tests/config/mistakes`: configurations with mistakes, and the expected diagnostics as comments. Errors
//! hide warnings, so a case has either.
//!
//! ```text
//! UPDATE_EXPECTED=1 cargo test --lib config::tests::mistakes
//! ```

#[path = "../../../tests/mistakes/runner.rs"]
mod runner;

use super::*;

/// The diagnostics of a configuration, without the name of its file.
fn diagnostics(text: &str) -> Vec<Diagnostic> {
    let file = Scratch::new(text);
    let loaded = load(&Sources { file: Some(file.0.clone()), ..Sources::default() });
    let mut diagnostics = loaded.map_or_else(|invalid| invalid.0, |loaded| loaded.warnings);
    for found in diagnostics.iter_mut().filter(|found| found.origin == file.path()) {
        found.origin.clear();
    }
    diagnostics
}

#[test]
fn every_mistake_has_its_diagnostics() {
    runner::compare_all(Path::new(env!("CARGO_MANIFEST_DIR")), "tests/config/mistakes", 192, &diagnostics);
}

#[test]
fn a_difference_names_its_line_and_shows_both_sides() {
    let file = "[http]\n#---\nconsle = true\n#! http.consle: why?\n";
    let comparison = runner::compare(&diagnostics, "file", file);
    let expected = "file:3: consle = true\n  expected\n    #! http.consle: why?\n  found\n    \
                    #! http.consle: there is no such key\n    #!   help: did you mean `http.console`?\n";
    assert_eq!((comparison.differences.as_str(), comparison.cases), (expected, 1));
    assert_eq!(runner::compare(&diagnostics, "file", &comparison.updated).differences, "");
}
