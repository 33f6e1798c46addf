//! Tests of commands, flags and hints; and that every flag that our texts mention exists.

#[cfg(feature = "bench")]
#[path = "../../tests/vocabularies/shipped.rs"]
pub(crate) mod shipped;

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use super::*;

/// Flags of other programs that our texts mention.
const FOREIGN: [&str; 20] = [
    "--raw",
    "--defaults",
    "--all",
    "--stream",
    "--password",
    "--release",
    "--no-default-features",
    "--nofile",
    "--ports_file_dir",
    "--lib",
    "--nocapture",
    "--test",
    "--compatible",
    "--control",
    "--sysctl",
    "--max-msgs-per-subject",
    "--max-age",
    "--dupe-window",
    "--republish-source",
    "--republish-destination",
];

fn flags(command: &clap::Command, found: &mut BTreeSet<String>) {
    found.extend(command.get_arguments().filter_map(clap::Arg::get_long).map(|long| format!("--{long}")));
    command.get_subcommands().for_each(|inner| flags(inner, found));
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
}

/// The flags in a text: `--word` after a space, a quotation mark or a bracket.
fn mentioned(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("--").filter_map(|(at, _)| {
        let before = text[..at].chars().next_back();
        let is_begun = before.is_none_or(|before| before.is_whitespace() || "\"`([".contains(before));
        let rest = &text[at + 2..];
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.{".contains(c)).unwrap_or(rest.len());
        let word = rest[..end].trim_end_matches('.');
        (is_begun && word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '{'))
            .then(|| &text[at..at + 2 + word.len()])
    })
}

#[test]
fn every_mentioned_flag_exists() {
    let mut known: BTreeSet<String> = ["--help", "--version"].map(str::to_owned).into();
    flags(&Cli::command(), &mut known);
    known.extend(FOREIGN.map(str::to_owned));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = vec![root.join("README.md"), root.join("config.toml")];
    files(&root.join("src"), "rs", &mut texts);
    files(&root.join("src"), "html", &mut texts);
    files(&root.join("src"), "js", &mut texts);
    files(&root.join("crates"), "rs", &mut texts);
    texts.extend(
        ["PROTOCOL", "VOCABULARIES", "ARCHITECTURE", "BENCHMARKS", "OPERATIONS"]
            .map(|name| root.join(format!("docs/{name}.md"))),
    );
    let texts = texts.iter().filter(|path| !path.to_string_lossy().contains("tests"));
    for path in texts {
        for flag in mentioned(&std::fs::read_to_string(path).unwrap()) {
            // A hint that has a placeholder for the flag.
            let is_filled = flag == "--{meant" && path.ends_with("cli.rs");
            assert!(is_filled || known.contains(flag), "{}: there is no flag {flag}", path.display());
        }
    }
}

fn hint_for(arguments: &[&str]) -> Option<String> {
    let all = std::iter::once("tidegate").chain(arguments.iter().copied());
    let error = Cli::try_parse_from(all).unwrap_err();
    hint(&error, arguments.iter().map(|argument| (*argument).to_owned()))
}

#[test]
fn a_misspelt_command_or_flag_gets_a_hint() {
    for (arguments, expected) in [
        (&["serv"][..], Some("did you mean `tidegate serve`?")),
        (&["chekc"], Some("did you mean `tidegate check`?")),
        (&["vocabulary", "tets", "a.toml"], Some("did you mean `tidegate vocabulary test`?")),
        (&["check", "--conect"], Some("did you mean --connect?")),
        (&["serve", "--http.listen=1.2.3.4:5"], Some("set a configuration key with --set http.listen=VALUE")),
        (&["serve", "--confg", "a"], Some("did you mean --config?")),
        (&["something"], None),
        (&["exec-floor"], None),
        (&[], None),
    ] {
        assert_eq!(hint_for(arguments).as_deref(), expected, "{arguments:?}");
    }
}

#[test]
fn help_is_a_command_too() {
    for arguments in
        [&["tidegate", "help"][..], &["tidegate", "help", "check"], &["tidegate", "vocabulary", "help"]]
    {
        let shown = Cli::try_parse_from(arguments).unwrap_err();
        assert_eq!(shown.kind(), clap::error::ErrorKind::DisplayHelp, "{arguments:?}");
    }
}
