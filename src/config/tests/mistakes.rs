//! The files in `tests/config/mistakes`: configurations with mistakes, and the expected diagnostics as comments.
//!
//! A file is one family of mistakes. `#---` begins a case, with or without a title. The lines above the first `#---`
//! begin every case of the file.
//!
//! Below a line are the diagnostics that point at it. `#!` begins one at column 1; `#` with a `^` below the column
//! begins one at any other. The text is the whole message, and the whole help with `#!` on the next line:
//!
//! ```toml
//! [http]
//! listen = "localhost"
//! #! http.listen: "localhost" is not an IP address with a port
//! #!   help: write both, such as "127.0.0.1:8080"
//! ```
//!
//! Diagnostics without a place begin with `#! -` at the end of their case. A valid case without a warning ends with
//! `#! no diagnostics`. Errors hide warnings, so a case has either.
//!
//! This command writes the diagnostics into the files; review the changes before you commit them:
//!
//! ```text
//! UPDATE_EXPECTED=1 cargo test --lib config::tests::mistakes
//! ```

use std::fmt::Write;

use tidegate_document::diagnostic::Severity;

use super::*;

/// Cases may be added, but not lost.
const MIN_CASES: usize = 192;

/// A line of a file, and the expected diagnostics below it.
struct Line<'t> {
    number: usize,
    text: &'t str,
    expected: Vec<String>,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        match lines.last_mut() {
            Some(line) if is_expectation(text) => line.expected.push(text.to_owned()),
            _ => lines.push(Line { number, text, expected: Vec::new() }),
        }
    }
    lines
}

fn is_expectation(text: &str) -> bool {
    let comment = text.strip_prefix('#').unwrap_or_default();
    comment.starts_with('!') || comment.trim_start_matches(' ').starts_with('^')
}

/// The shared lines of a file, and its cases, each from its `#---` on.
fn cases<'f, 't>(lines: &'f [Line<'t>]) -> (&'f [Line<'t>], Vec<&'f [Line<'t>]>) {
    let is_begin = |line: &Line<'_>| line.text.starts_with("#---");
    let first = lines.iter().position(is_begin).unwrap_or(lines.len());
    let (shared, mut rest) = lines.split_at(first);
    let mut cases = Vec::new();
    while let Some(after) = rest.get(1..) {
        let end = 1 + after.iter().position(is_begin).unwrap_or(after.len());
        let (case, others) = rest.split_at(end);
        cases.push(case);
        rest = others;
    }
    (shared, cases)
}

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

/// The diagnostics for each line of a case.
fn reported(shared: &[Line<'_>], case: &[Line<'_>]) -> Vec<Vec<String>> {
    let last = case.iter().rposition(|line| !line.text.trim().is_empty()).unwrap_or(0);
    let texts: Vec<&str> = shared.iter().chain(&case[..=last]).map(|line| line.text).collect();
    let diagnostics = diagnostics(&texts.join("\n"));
    let mut reported = vec![Vec::new(); case.len()];
    let mut elsewhere = Vec::new();
    for found in &diagnostics {
        // A place in another file is a part of the text.
        let Some(place) = found.place.filter(|_| found.origin.is_empty()) else {
            elsewhere.extend(comment(found, "#! -"));
            continue;
        };
        let at = place.line.checked_sub(shared.len() + 1);
        let at = at.unwrap_or_else(|| panic!("move the line that this points at into the case: {found:#?}"));
        let mark =
            if place.column == 1 { "#!".to_owned() } else { format!("#{:>1$}", '^', place.column - 1) };
        reported[at].extend(comment(found, &mark));
    }
    if diagnostics.is_empty() {
        elsewhere.push("#! no diagnostics".to_owned());
    }
    reported[last].append(&mut elsewhere);
    reported
}

/// A diagnostic as comments, the first of which begins with `mark`.
fn comment(found: &Diagnostic, mark: &str) -> Vec<String> {
    let severity = match found.severity {
        Severity::Error => "",
        Severity::Warning => "warning: ",
    };
    let text = found.to_string();
    let mut lines = text.lines();
    let first = format!("{mark} {severity}{}", lines.next().unwrap_or_default());
    let indent = " ".repeat(mark.len() - 2);
    std::iter::once(first).chain(lines.map(|line| format!("#!{indent} {line}"))).collect()
}

/// What is wrong with the expectations of one file.
struct Checked {
    differences: String,
    /// The file with the diagnostics of this run.
    updated: String,
    cases: usize,
}

fn check(name: &str, text: &str) -> Checked {
    let lines = lines(text);
    let (shared, cases) = cases(&lines);
    let mut differences = String::new();
    let mut updated: String = shared.iter().map(|line| format!("{}\n", line.text)).collect();
    for case in &cases {
        for (line, found) in case.iter().zip(reported(shared, case)) {
            let Line { number, text, expected } = line;
            if *expected != found {
                let [expected, found] = [expected, &found].map(|lines| lines.join("\n    "));
                let _ = writeln!(
                    differences,
                    "{name}:{number}: {text}\n  expected:\n    {expected}\n  found:\n    {found}"
                );
            }
            updated += &format!("{text}\n");
            found.iter().for_each(|line| updated += &format!("{line}\n"));
        }
    }
    Checked { differences, updated, cases: cases.len() }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "only the person who runs the test can decide to rewrite the files"
)]
fn every_mistake_has_its_diagnostics() {
    let is_update = std::env::var("UPDATE_EXPECTED").is_ok_and(|value| value == "1");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/mistakes");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut differences, mut count) = (String::new(), 0);
    for path in files {
        let name = format!("tests/config/mistakes/{}", path.file_name().unwrap().to_string_lossy());
        let checked = check(&name, &std::fs::read_to_string(&path).unwrap());
        assert!(checked.cases > 0, "{name}: begin each case with #---");
        count += checked.cases;
        if is_update {
            std::fs::write(&path, checked.updated).unwrap();
        } else {
            differences += &checked.differences;
        }
    }
    assert!(count >= MIN_CASES, "there are only {count} cases");
    assert!(
        differences.is_empty(),
        "\n{differences}\nIf the new diagnostics are right, write them with UPDATE_EXPECTED=1"
    );
}

#[test]
fn a_difference_names_its_line_and_shows_both_sides() {
    let file = "[http]\n#---\nconsle = true\n#! http.consle: why?\n";
    let checked = check("file", file);
    let expected = "file:3: consle = true\n  expected:\n    #! http.consle: why?\n  found:\n    \
                    #! http.consle: there is no such key\n    #!   help: did you mean `http.console`?\n";
    assert_eq!((checked.differences.as_str(), checked.cases), (expected, 1));
    assert_eq!(check("file", &checked.updated).differences, "");
}
