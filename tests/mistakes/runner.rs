//! Runs the files in `tests/config/mistakes` and `tests/vocabularies/mistakes`: documents with mistakes, and the expected
//! diagnostics as comments.
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
//! `#! no diagnostics`.
//!
//! With `UPDATE_EXPECTED=1` the test writes the diagnostics into the files. Review the changes before you commit them.

use std::path::Path;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::diagnostic::Severity;

/// The diagnostics of a document, in the order of the document. Those of the document itself have no origin.
type Diagnose<'d> = &'d dyn Fn(&str) -> Vec<Diagnostic>;

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

/// The diagnostics for each line of a case.
fn reported(diagnose: Diagnose<'_>, shared: &[Line<'_>], case: &[Line<'_>]) -> Vec<Vec<String>> {
    let last = case.iter().rposition(|line| !line.text.trim().is_empty()).unwrap_or(0);
    let texts: Vec<&str> = shared.iter().chain(&case[..=last]).map(|line| line.text).collect();
    let diagnostics = diagnose(&texts.join("\n"));
    assert!(
        diagnostics.is_sorted_by_key(|found| found.place),
        "not in the order of the file: {diagnostics:#?}"
    );
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

/// A file compared with the diagnostics of this run.
pub(super) struct Comparison {
    /// The lines that have other diagnostics than expected.
    pub(super) differences: String,
    /// The file with the diagnostics of this run.
    pub(super) updated: String,
    pub(super) cases: usize,
}

pub(super) fn compare(diagnose: Diagnose<'_>, name: &str, text: &str) -> Comparison {
    let lines = lines(text);
    let (shared, cases) = cases(&lines);
    let (mut differences, mut updated) = (String::new(), String::new());
    for Line { number, text, expected } in shared {
        assert!(expected.is_empty(), "{name}:{number}: diagnostics belong into a case");
        updated += &format!("{text}\n");
    }
    for case in &cases {
        for (Line { number, text, expected }, found) in case.iter().zip(reported(diagnose, shared, case)) {
            if *expected != found {
                let [expected, found] = [expected, &found]
                    .map(|lines| if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n    ") });
                differences +=
                    &format!("{name}:{number}: {text}\n  expected\n    {expected}\n  found\n    {found}\n");
            }
            updated += &format!("{text}\n");
            found.iter().for_each(|line| updated += &format!("{line}\n"));
        }
    }
    Comparison { differences, updated, cases: cases.len() }
}

/// Compares all files of a folder of `tests`. Cases may be added, but not lost: there are at least `least`.
#[expect(
    clippy::disallowed_methods,
    reason = "only the person who runs the test can decide to rewrite the files"
)]
pub(super) fn compare_all(root: &Path, folder: &str, least: usize, diagnose: Diagnose<'_>) {
    let is_update = std::env::var("UPDATE_EXPECTED").is_ok_and(|value| value == "1");
    let entries = std::fs::read_dir(root.join(folder)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut differences, mut count) = (String::new(), 0);
    for path in files {
        let name = format!("{folder}/{}", path.file_name().unwrap().to_string_lossy());
        let comparison = compare(diagnose, &name, &std::fs::read_to_string(&path).unwrap());
        assert!(comparison.cases > 0, "{name}: begin each case with #---");
        count += comparison.cases;
        if is_update {
            std::fs::write(&path, comparison.updated).unwrap();
        } else {
            differences += &comparison.differences;
        }
    }
    assert!(count >= least, "there are only {count} cases");
    assert!(
        differences.is_empty(),
        "\n{differences}\nIf the new diagnostics are right, write them with UPDATE_EXPECTED=1"
    );
}
