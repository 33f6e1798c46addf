//! Checks of VOCABULARIES.md: runs the tutorial, compiles the examples, and compares the tables with the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_vocabulary::compile::compile;
use tidegate_vocabulary::placeholder::known_filters;
use tidegate_vocabulary::placeholder::known_placeholders;
use tidegate_vocabulary::statistics::NAMES;

use crate::fenced;
use crate::files;
use crate::read;
use crate::rows;
use crate::section;
use crate::write_key;

fn manual() -> String {
    read("docs/VOCABULARIES.md")
}

#[test]
fn the_hour_of_the_manual_can_be_walked() {
    let manual = manual();
    let folder = std::env::temp_dir().join(format!("tidegate-manual-{}", std::process::id()));
    fs::create_dir_all(folder.join("transcripts/board")).unwrap();
    write_key(&folder);
    let (mut before, mut commands) = ("", 0);
    let mut parts = section(&manual, "In an hour").split("\n```");
    while let (Some(text), Some(block)) = (parts.next(), parts.next()) {
        let (language, block) = block.split_once('\n').unwrap();
        // A block belongs into the file that the text before it names last.
        before = text.trim_end().strip_suffix("`:").map_or("", |text| text.rsplit('`').next().unwrap());
        match (language, before) {
            ("toml" | "text", file) if !file.is_empty() => add(&folder.join(file), block),
            ("console", _) => {
                run(&folder, block);
                commands += 1;
            }
            ("text", _) => {}
            _ => panic!("nobody tests this block: {block}"),
        }
    }
    fs::remove_dir_all(&folder).unwrap();
    assert!(commands >= 4 && before.is_empty(), "{commands} commands");
}

fn add(file: &Path, text: &str) {
    let there = fs::read_to_string(file).unwrap_or_default();
    fs::write(file, there + text + "\n").unwrap();
}

/// Runs a command of the tutorial and compares its output.
fn run(folder: &Path, block: &str) {
    let (command, expected) = block.split_once('\n').unwrap();
    let words = command.strip_prefix("$ tidegate ").unwrap().split(' ').map(|word| word.trim_matches('\''));
    let mut program = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = program.args(words).current_dir(folder).env_clear().output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.trim_end(), expected, "{command}");
    assert!(said.ends_with('\n'), "{command}: a terminal goes on behind it");
    assert_eq!(output.status.success(), !expected.contains("FAILED"), "{command}");
}

#[test]
fn every_example_of_the_reference_compiles() {
    let manual = manual();
    let (_, reference) = manual.split_once("\n## The file").unwrap();
    let examples = fenced(reference, "toml");
    assert!(examples.len() > 4);
    for example in examples {
        let head = "name = \"x\"\n[[path]]\nname = \"x\"\npath = \"/x/{symbol}\"\n";
        // Examples of rules leave out the `[[deliver]]` rules of their channels.
        let shown = "\n[[deliver]]\npattern = \">\"\nsend = \"{data}\"\n";
        let compiled = compile(&format!("{head}{example}{shown}"));
        assert!(compiled.is_ok(), "{example}\n{:?}", compiled.err());
    }
    let blocks = reference.matches("\n```").count() / 2;
    assert_eq!(blocks, fenced(reference, "toml").len(), "a block that is no example is tested by nobody");
}

#[test]
fn a_vocabulary_that_fails_says_where() {
    let folder = std::env::temp_dir().join(format!("tidegate-fails-{}", std::process::id()));
    fs::create_dir_all(folder.join("empty")).unwrap();
    let file = "name = \"x\"\nnmae = \"y\"\n[[path]]\nname = \"x\"\npath = \"/x\"\ntoken_qury = \"t\"\n";
    fs::write(folder.join("wrong.toml"), file).unwrap();
    fs::write(folder.join("x.toml"), "name = \"x\"\n[[path]]\nname = \"x\"\npath = \"/x\"\n").unwrap();
    fs::write(folder.join("bad.txt"), "# Title\npath: /x\nconnect: ann\n").unwrap();
    for (command, says) in [
        (
            "vocabulary test wrong.toml",
            [
                "error: wrong.toml:6:1: path[0].token_qury: there is no such key\n  help: did you mean \"token_query\"?",
                "error: wrong.toml:2:1: nmae: there is no such key\n  help: did you mean \"name\"?",
            ],
        ),
        (
            "vocabulary show wrong.toml",
            ["error: wrong.toml:6:1: path[0].token_qury: ", "error: wrong.toml:2:1: nmae: "],
        ),
        ("vocabulary test x.toml bad.txt", ["FAILED bad:3: there is no identity \"ann\"", ""]),
        ("vocabulary test x.toml none.txt", ["FAILED none:1: none.txt: ", ""]),
        ("vocabulary test x.toml empty", ["error: empty: there are no transcripts: write a transcript", ""]),
        ("vocabulary test x.toml", ["error: transcripts/x: ", ""]),
        ("vocabulary test none.toml", ["error: none.toml: ", ""]),
        ("vocabulary show x.toml --switch y", ["error: --switch: \"y\" is not a switch of x\n  help: ", ""]),
        ("vocabulary test x.toml --switch y", ["error: --switch: \"y\" is not a switch of x\n  help: ", ""]),
        ("vocabulary explain x.toml {} --switch y", ["error: --switch: \"y\" is not a switch of x\n", ""]),
    ] {
        let program = &mut Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let output = program.args(command.split(' ')).current_dir(&folder).env_clear().output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(says.iter().all(|words| said.contains(words)), "{command}: {said}");
        assert!(said.ends_with('\n'), "{command}: a terminal goes on behind it: {said}");
        assert_eq!(output.status.code(), Some(1), "{command}");
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn every_shipped_vocabulary_passes_its_transcripts_and_can_be_explained() {
    let shipped = files("vocabularies", "toml", false);
    for file in shipped.iter().filter(|file| !file.ends_with(".config.toml")) {
        let name = Path::new(file).file_stem().unwrap().to_str().unwrap();
        let transcripts = format!("tests/transcripts/{name}");
        for arguments in [vec!["test", file, &transcripts], vec!["show", file]] {
            let program = &mut Command::new(env!("CARGO_BIN_EXE_tidegate"));
            let output =
                program.arg("vocabulary").args(&arguments).current_dir(crate::root()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{arguments:?}: {said}");
            assert!(!said.contains("no [[deliver]] has words"), "{file}: {said}");
        }
    }
}

#[test]
fn the_tables_of_sections_have_every_key() {
    let manual = manual();
    let schema: Value = serde_json::from_str(&read("vocabularies/vocabulary.schema.json")).unwrap();
    let keys = |pointer: &str| -> BTreeSet<String> {
        schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
    };
    for (heading, pointer) in [
        ("Top", "/properties"),
        ("`[protocol]`", "/properties/protocol/properties"),
        ("`[[path]]`", "/$defs/path/properties"),
        ("`[greeting]`", "/properties/greeting/properties"),
        ("`[heartbeat]`", "/properties/heartbeat/properties"),
        ("`[unknown]`", "/properties/unknown/properties"),
        ("`[[deliver]]`", "/$defs/deliver/properties"),
        ("`[error]`", "/properties/error/properties"),
    ] {
        let part = manual.split("\n### ").find(|part| part.starts_with(&format!("{heading}\n"))).unwrap();
        assert_eq!(quoted(&rows(part), 0), keys(pointer), "{heading}");
    }
    let every: BTreeSet<String> = quoted(&rows(section(&manual, "The file")), 0);
    let ends: BTreeSet<String> = Disconnect::ALL.iter().map(|end| end.name().to_owned()).collect();
    assert!(keys("/properties/close/properties").is_subset(&(&every | &ends)));
    let (receive, of_http) = (quoted(&rows(section(&manual, "Actions")), 0), rows(section(&manual, "HTTP")));
    assert!(keys("/$defs/receive/properties").is_subset(&(&every | &receive)));
    assert!(keys("/$defs/http/properties").is_subset(&quoted(&of_http, 0)));
}

#[test]
fn the_tables_of_actions_say_what_each_takes() {
    let manual = manual();
    let schema: Value = serde_json::from_str(&read("vocabularies/vocabulary.schema.json")).unwrap();
    let names = |value: &Value| -> BTreeSet<String> {
        value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    for (heading, of, plain) in [("Actions", "receive", "ignore"), ("HTTP", "http", "stats")] {
        let (_, table) = section(&manual, heading).split_once("\n| `do` | does ").unwrap();
        let table = rows(table.split("\n\n").next().unwrap());
        let branches = schema["$defs"][of]["allOf"].as_array().unwrap();
        let taken = |word: &str| {
            let branch = branches.iter().find(|branch| branch["if"]["properties"]["do"]["const"] == word);
            names(&branch.unwrap()["then"]["propertyNames"]["enum"])
        };
        assert_eq!(quoted(&table, 0), names(&schema["$defs"][of]["properties"]["do"]["enum"]));
        for row in &table {
            let word = row[0].trim_matches('`');
            // Keys that most rules have are in the table of rules.
            let common = &taken(plain) | &["confirm", "set"].map(str::to_owned).into();
            assert_eq!(quoted(std::slice::from_ref(row), 2), &taken(word) - &common, "{of} {word}");
        }
    }
}

#[test]
fn the_table_of_figures_is_that_of_the_code() {
    let manual = manual();
    let (_, table) = section(&manual, "HTTP").split_once("\n| figure | is |").unwrap();
    let figure = |row: &Vec<String>| {
        let name = row[0].trim_matches('`').strip_prefix("{stats.").unwrap();
        name.trim_end_matches('}').split('.').next().unwrap().to_owned()
    };
    let written: Vec<_> = rows(table.split("\n\n").next().unwrap()).iter().map(figure).collect();
    assert_eq!(written, NAMES);
}

#[test]
fn the_tables_of_placeholders_filters_errors_and_ends_are_those_of_the_code() {
    let manual = manual();
    let (_, templates) = manual.split_once("\n### Placeholders").unwrap();
    let (placeholders, rest) = templates.split_once("\nWhere which of them").unwrap();
    let written: Vec<_> =
        rows(placeholders).into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let coded: Vec<_> = known_placeholders().map(|form| format!("{{{form}}}")).collect();
    assert_eq!(written.iter().collect::<BTreeSet<_>>(), coded.iter().collect(), "placeholders");
    let (_, filters) = rest.split_once("\n### Filters").unwrap();
    let (filters, _) = filters.split_once("\n## ").unwrap();
    assert_eq!(quoted(&rows(filters), 0), known_filters().map(str::to_owned).collect(), "filters");
    let errors: Vec<_> = rows(section(&manual, "Errors")).into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(errors, ErrorCode::ALL.map(|code| format!("`{code}`")));
    let ends = rows(section(&manual, "Ends"));
    assert_eq!(ends, Disconnect::ALL.map(|end| vec![format!("`{}`", end.name()), end.code().to_string()]));
}

#[test]
fn the_table_of_the_shipped_names_each_of_them() {
    let manual = manual();
    let shipped = files("vocabularies", "toml", false);
    let names = shipped.iter().filter(|file| !file.ends_with(".config.toml"));
    let names = names.map(|file| Path::new(file).file_stem().unwrap().to_str().unwrap().to_owned());
    assert_eq!(quoted(&rows(section(&manual, "Those that are shipped")), 0), names.collect());
}

/// The code spans of one column of a table.
fn quoted(rows: &[Vec<String>], column: usize) -> BTreeSet<String> {
    let cells = rows.iter().filter_map(|row| row.get(column));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}
