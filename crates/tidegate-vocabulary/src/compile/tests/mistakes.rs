//! The files in `tests/vocabularies/mistakes`: vocabularies with mistakes, and the expected diagnostics as comments.
//!
//! A file is one family of mistakes. `#---` begins a case, with or without a title. The lines above the first `#---`
//! begin every case of the file.
//!
//! Below a line are the diagnostics that point at it. `#!` begins one at column 1; `#` with a `^` below the column
//! begins one at any other. The text is the whole message, and the whole help with `#!` on the next line:
//!
//! ```toml
//! [[receive]]
//! do = "subscribe"
//! channel = "a..{msg.x}"
//! #! receive[0].channel: it is no subject: token 2 is empty; take out the leading, trailing or doubled dot
//! #!   help: write tokens with dots between them, such as "prices.{msg.symbol}"
//! keep = { id = 1979-05-27 }
//! #        ^ receive[0].keep.id: has a value that JSON does not have
//! #!         help: write texts, numbers, true, false, lists and tables; times as texts
//! ```
//!
//! Diagnostics without a place begin with `#! -` at the end of their case. A case that compiles without a warning ends
//! with `#! no diagnostics`.
//!
//! This writes what the compiler reports into the files; read the difference before you commit it:
//!
//! ```text
//! UPDATE_EXPECTED=1 cargo test -p tidegate-vocabulary mistakes
//! ```

use std::path::Path;

use tidegate_document::diagnostic::Severity;

use super::*;

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

/// What the compiler reports below each line of a case.
fn reported(shared: &[Line<'_>], case: &[Line<'_>]) -> Result<Vec<Vec<String>>, String> {
    let last = case.iter().rposition(|line| !line.text.trim().is_empty()).unwrap_or(0);
    let texts: Vec<&str> = shared.iter().chain(&case[..=last]).map(|line| line.text).collect();
    let diagnostics = match compile(&texts.join("\n")) {
        Ok(compiled) => compiled.warnings,
        Err(mistakes) => mistakes,
    };
    if !diagnostics.is_sorted_by_key(|found| found.place) {
        return Err(format!("the diagnostics are not in the order of the file: {diagnostics:#?}"));
    }
    let mut reported = vec![Vec::new(); case.len()];
    let mut elsewhere = Vec::new();
    for found in &diagnostics {
        let Some(place) = found.place else {
            elsewhere.extend(comment(found, "#! -"));
            continue;
        };
        let at = place.line.checked_sub(shared.len() + 1);
        let at = at.ok_or_else(|| {
            format!("move line {} into the case, for this points at it: {found}", place.line)
        })?;
        let mark =
            if place.column == 1 { "#!".to_owned() } else { format!("#{:>1$}", '^', place.column - 1) };
        reported[at].extend(comment(found, &mark));
    }
    if diagnostics.is_empty() {
        elsewhere.push("#! no diagnostics".to_owned());
    }
    reported[last].append(&mut elsewhere);
    Ok(reported)
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

/// A file compared with what the compiler reports.
#[derive(Default)]
struct Comparison {
    differences: String,
    /// The file as it would be without differences.
    updated: String,
    cases: usize,
}

fn compare(name: &str, text: &str) -> Comparison {
    let lines = lines(text);
    let (shared, cases) = cases(&lines);
    let mut comparison = Comparison { cases: cases.len(), ..Comparison::default() };
    for Line { number, text, expected } in shared {
        assert!(expected.is_empty(), "{name}:{number}: diagnostics belong into a case");
        comparison.updated += &format!("{text}\n");
    }
    for case in &cases {
        let found =
            reported(shared, case).unwrap_or_else(|error| panic!("{name}:{}: {error}", case[0].number));
        for (Line { number, text, expected }, found) in case.iter().zip(found) {
            if *expected != found {
                let [expected, found] = [expected, &found]
                    .map(|lines| if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n    ") });
                comparison.differences +=
                    &format!("{name}:{number}: {text}\n  expected\n    {expected}\n  found\n    {found}\n");
            }
            comparison.updated += &format!("{text}\n");
            found.iter().for_each(|line| comparison.updated += &format!("{line}\n"));
        }
    }
    comparison
}

#[test]
#[expect(clippy::disallowed_methods, reason = "UPDATE_EXPECTED asks to write the files")]
fn every_mistake_has_its_diagnostics() {
    let is_update = std::env::var("UPDATE_EXPECTED").is_ok_and(|value| value == "1");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vocabularies/mistakes");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut differences, mut count) = (String::new(), 0);
    for path in files {
        let name = format!("tests/vocabularies/mistakes/{}", path.file_name().unwrap().to_string_lossy());
        let text = std::fs::read_to_string(&path).unwrap();
        let comparison = compare(&name, &text);
        assert!(comparison.cases > 0, "{name}: begin each case with #---");
        count += comparison.cases;
        if is_update {
            std::fs::write(&path, comparison.updated).unwrap();
        } else {
            differences += &comparison.differences;
        }
    }
    assert!(count >= 280, "there are only {count} cases");
    assert!(
        differences.is_empty(),
        "\n{differences}\nIf the compiler is right, update the files with UPDATE_EXPECTED=1"
    );
}

#[test]
fn a_difference_names_its_line_and_shows_both_sides() {
    let file = "#---\n[protocol]\nrequired = 1\n#! protocol.required: 1 is not a text\n\n#---\nname = \"a\"\n#! no diagnostics\n";
    let comparison = compare("some.txt", file);
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
    assert_eq!(compare("some.txt", &comparison.updated).differences, "");
}
