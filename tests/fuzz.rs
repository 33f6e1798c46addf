//! The fuzz target `vocabulary` without the fuzzer: messages from the transcripts, mutated with a fixed seed.
//!
//! `TIDEGATE_FUZZ_RUNS` sets the number of inputs per vocabulary.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]
#![expect(clippy::disallowed_methods, reason = "the environment sets the number of inputs")]
#![expect(clippy::print_stdout, reason = "the test prints how many inputs it tried")]

#[path = "vocabularies/fuzzed.rs"]
mod fuzzed;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_vocabulary::compile::compile;
use tidegate_vocabulary::fuzz::Target;
use tidegate_vocabulary::transcript::Action;
use tidegate_vocabulary::transcript::Transcript;

use crate::fuzzed::fuzzed;

/// Texts that attackers and broken clients send.
const WORDS: [&str; 46] = [
    "*",
    ">",
    ".",
    "..",
    "a.>",
    "BRK.B",
    "a..b",
    ".a",
    "a.",
    "1.2.3.4.5.6.7.8",
    "1.2.3.4.5.6.7.8.9",
    " ",
    "\t",
    "\r\nPUB x 1\r\n",
    "%2E",
    "%00",
    "\0",
    "\\u0000",
    "\\u002a",
    "\\ud800",
    "\u{ff0a}",
    "\u{2028}",
    "\u{feff}",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    "null",
    "true",
    "1e999",
    "-0",
    "1.5",
    ",",
    ":",
    "\"type\":",
    "\"id\":",
    "\"user_id\":\"bob\"",
    "\"token\":\"x\"",
    "$SYS",
    "_INBOX",
    "{user}",
    "{msg}",
    "&",
    "=",
];

#[test]
fn mutated_messages_do_not_break_a_vocabulary() {
    let runs = std::env::var("TIDEGATE_FUZZ_RUNS").map_or(2_000, |runs| runs.parse().unwrap());
    std::thread::scope(|scope| {
        for (name, text) in fuzzed(root()) {
            scope.spawn(move || fuzz(&name, &text, runs));
        }
    });
}

/// The first byte of a seed selects its vocabulary, and a new vocabulary moves the others.
#[test]
fn seeds_of_the_fuzz_target_select_the_vocabulary_in_their_names() {
    let fuzzed = fuzzed(root());
    let mut checked = 0;
    for entry in std::fs::read_dir(root().join("fuzz/seeds/vocabulary")).unwrap() {
        let path = entry.unwrap().path();
        let seed = path.file_name().unwrap().to_str().unwrap();
        let is_of =
            |name: &str| seed.strip_prefix(&name.replace('-', "_")).is_some_and(|rest| rest.starts_with('_'));
        let named = (0..).zip(&fuzzed).filter(|(_, (name, _))| is_of(name));
        let Some((place, (name, _))) = named.max_by_key(|(_, (name, _))| name.len()) else { continue };
        let first = std::fs::read(&path).unwrap()[0];
        assert_eq!(first >> 1, place, "{seed}: the first byte of {name} is {}", 2 * place + (first & 1));
        checked += 1;
    }
    assert!(checked >= 13, "only {checked} seeds have the name of a vocabulary");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fuzz(name: &str, text: &str, runs: u64) {
    let started = Instant::now();
    let target = Target::new(&Arc::new(compile(text).unwrap().vocabulary));
    let seeds = seeds(&root().join("tests/transcripts").join(name));
    let mut rng = Rng::with_seed(1);
    let (mut commands, mut refusals, mut calls) = (0, 0, 0);
    for run in 0..runs {
        let bytes = mutated(&mut rng, &seeds);
        let counts = target.run(&bytes, run % 2 == 0);
        commands += counts.commands;
        refusals += counts.refusals;
        calls += counts.calls;
    }
    println!(
        "{name}: {runs} inputs, {commands} commands, {refusals} refusals, {calls} calls in {:?}",
        started.elapsed()
    );
    assert!(commands > 0 && refusals > 0, "{name}: no commands, or no errors");
}

/// All client messages and publications of the transcripts, and the targets and bodies of HTTP calls.
fn seeds(folder: &Path) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|path| path.extension().is_some_and(|end| end == "txt")) {
        let transcript = Transcript::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
        seeds.push(transcript.target.into_bytes());
        for step in transcript.steps {
            match step.action {
                Action::Client(ClientMessage::Text(text)) => seeds.push(text.into_bytes()),
                Action::Client(ClientMessage::Binary(bytes)) => seeds.push(bytes.to_vec()),
                Action::Publication(published) => seeds.push(published.payload.to_vec()),
                Action::HttpRequest(call) => {
                    seeds.push(call.target.into_bytes());
                    seeds.extend(call.body.map(String::into_bytes));
                }
                Action::Server(_)
                | Action::Output(_)
                | Action::Input(_)
                | Action::After(_)
                | Action::HttpResponse { .. } => {}
            }
        }
    }
    seeds.sort();
    seeds.dedup();
    seeds
}

/// A random seed with up to four mutations. Half of the inputs get mutations of string values only.
fn mutated(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[rng.usize(..seeds.len())].clone();
    let only_values = rng.bool();
    for _ in 0..rng.usize(..5) {
        let kind = if only_values { 3 } else { rng.usize(..8) };
        mutate(rng, &mut bytes, seeds, kind);
    }
    bytes.truncate(4096);
    bytes
}

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], kind: usize) {
    let at = rng.usize(..=bytes.len());
    let end = at + rng.usize(..=(bytes.len() - at).min(24));
    let word = WORDS[rng.usize(..WORDS.len())];
    match kind {
        0 => drop(bytes.drain(at..end)),
        1 => drop(bytes.splice(at..at, word.bytes())),
        2 => drop(bytes.splice(at..end, word.bytes())),
        // Replaces a string value, so that the message remains valid JSON.
        3 => {
            let Some((from, to)) = string_from(bytes, at) else { return };
            bytes.splice(from..to, word.bytes());
        }
        4 => {
            let other = &seeds[rng.usize(..seeds.len())];
            let from = rng.usize(..=other.len());
            bytes.splice(at..end, other[from..].iter().copied());
        }
        5 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        6 if at < bytes.len() => bytes[at] ^= 1 << rng.u32(..8),
        _ => bytes.insert(at, rng.u8(..)),
    }
}

/// The range of the contents of the next string after `at`.
fn string_from(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let quote = |from: usize| Some(from + bytes.get(from..)?.iter().position(|byte| *byte == b'"')?);
    let from = quote(at)? + 1;
    Some((from, quote(from)?))
}
