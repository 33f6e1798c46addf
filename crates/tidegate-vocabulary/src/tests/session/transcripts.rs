//! Plays every transcript in `tests/transcripts`, with subscriptions that become live and with subscriptions that stay held.
//!
//! A folder is a vocabulary: `native`, one that is shipped, or one for tests, whose file is `vocabulary.toml` in the folder.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tidegate_document::diagnostic::Diagnostic;

use crate::compile::compile;
use crate::model::CompiledVocabulary;
use crate::tests::root;
use crate::tests::shipped_files;
use crate::transcript::Transcript;
use crate::transcript::play::Difference;
use crate::transcript::play::Played;
use crate::transcript::play::play;

/// Plays a transcript with live subscriptions; held ones must show the same.
fn played(
    name: &str,
    mut transcript: Transcript,
    vocabulary: Option<&Arc<CompiledVocabulary>>,
) -> Result<Played, String> {
    let now = Instant::now();
    let failed = |difference: Difference| format!("{name}:{difference}");
    let live = play(&transcript, vocabulary, now).map_err(failed)?;
    transcript.settings.hold = true;
    let held = play(&transcript, vocabulary, now).map_err(|error| failed(error) + " (held)")?;
    assert_eq!(live, held, "{name}: a held subscription gives other messages than a live one");
    Ok(live)
}

fn transcripts(vocabulary: &str) -> Vec<(String, Transcript)> {
    let folder = root().join("tests/transcripts").join(vocabulary);
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut transcripts: Vec<(String, Transcript)> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let name = format!("{vocabulary}/{}", path.file_name().unwrap().to_string_lossy());
            let text = std::fs::read_to_string(&path).unwrap();
            let transcript = Transcript::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, transcript)
        })
        .collect();
    transcripts.sort_by(|(one, _), (other, _)| one.cmp(other));
    transcripts
}

#[test]
fn every_native_transcript_is_repeated_live_and_held() {
    let transcripts = transcripts("native");
    assert!(transcripts.len() >= 12, "the folder of transcripts is there");
    for (name, transcript) in transcripts {
        let played = played(&name, transcript, None).unwrap();
        assert!(!played.received.is_empty(), "{name}: the server sends nothing");
    }
}

/// A vocabulary, and the text of its file.
struct VocabularyOfTests {
    name: Box<str>,
    text: String,
}

/// The vocabularies that are shipped.
fn shipped() -> Vec<VocabularyOfTests> {
    shipped_files().into_iter().map(|(name, text)| compiled(&name, text)).collect()
}

/// The vocabularies for tests, each in the folder with its name.
fn for_tests() -> Vec<VocabularyOfTests> {
    let folders = std::fs::read_dir(root().join("tests/transcripts")).unwrap();
    let files = folders.map(|entry| entry.unwrap().path().join("vocabulary.toml"));
    let mut files: Vec<_> = files.filter(|path| path.exists()).collect();
    files.sort();
    let read = |path: &PathBuf| {
        let folder = path.parent().and_then(Path::file_name).unwrap();
        compiled(folder.to_str().unwrap(), std::fs::read_to_string(path).unwrap())
    };
    files.iter().map(read).collect()
}

/// Compiles a vocabulary. Its name must be that of its file or folder.
fn compiled(name: &str, text: String) -> VocabularyOfTests {
    let compiled = compile(&text).unwrap_or_else(|mistakes| {
        let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        panic!("{name}\n{}", mistakes.join("\n"));
    });
    assert_eq!(name, &*compiled.vocabulary.name, "the file has the name of its vocabulary");
    // Some frontends put tokens into URLs.
    let intended = |warning: &Diagnostic| warning.key.ends_with(".token_query");
    assert!(compiled.warnings.iter().all(intended), "{name}: {:?}", compiled.warnings);
    VocabularyOfTests { name: compiled.vocabulary.name, text }
}

/// Plays all transcripts of these vocabularies, and counts them.
fn play_all(vocabularies: Vec<VocabularyOfTests>) -> usize {
    let (mut failures, mut count) = (Vec::new(), 0);
    for VocabularyOfTests { name, text } in vocabularies {
        let transcripts = transcripts(&name);
        assert!(!transcripts.is_empty(), "{name} has no transcripts");
        count += transcripts.len();
        for (name, transcript) in transcripts {
            let vocabulary =
                transcript.vocabulary(&text, &[]).unwrap_or_else(|mistakes| panic!("{name}: {mistakes:?}"));
            failures.extend(played(&name, transcript, Some(&vocabulary)).err());
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
    count
}

#[test]
fn every_transcript_of_every_shipped_vocabulary_is_repeated() {
    assert!(play_all(shipped()) >= 40, "the folders of transcripts are there");
}

#[test]
fn every_transcript_of_every_vocabulary_for_tests_is_repeated() {
    assert!(play_all(for_tests()) >= 29, "the folders of transcripts are there");
}

#[test]
fn a_transcript_that_is_not_repeated_fails() {
    let head = "# Title\nconnect: alice\nidentity alice: subscribe chat.>\n< {\"type\":\"connected\",\"session\":\"$text\",\
                \"user\":\"alice\",\"node\":\"$text\",\"ping_interval_ms\":25000,\"expires_in_ms\":3600000,\
                \"limits\":\"$any\"}";
    for (conversation, complaint) in [
        (
            "> {\"type\":\"ping\"}",
            "5: after this line the server sent an unexpected message: {\"type\":\"pong\"}",
        ),
        (
            "> {\"type\":\"ping\"}\n> {\"type\":\"ping\"}",
            "6: before this line the server sent an unexpected message",
        ),
        (
            "> {\"type\":\"ping\"}\n< {\"type\":\"ping\"}",
            "6: type: \"pong\" is not \"ping\": expected the message {\"type\":\"ping\"}, and the server sent {\"type\":\"pong\"}",
        ),
        ("< {\"type\":\"ping\"}", "5: expected the message {\"type\":\"ping\"}, and the server sent nothing"),
        (
            "> {\"type\":\"subscribe\",\"channel\":\"chat.a\"}",
            "5: after this line the session has an unexpected output: ! join chat.a",
        ),
        (
            "> {\"type\":\"subscribe\",\"channel\":\"chat.a\"}\n! join chat.b",
            "6: expected the output ! join chat.b, and the session has ! join chat.a",
        ),
        ("! join chat.b", "5: expected the output ! join chat.b, and the session has nothing"),
        ("= joined chat.b", "5: the session has not joined chat.b"),
        ("= replied chat.b 1", "5: no publish or request waits for chat.b"),
    ] {
        let transcript = Transcript::parse(&format!("{head}\n{conversation}")).unwrap();
        let difference = play(&transcript, None, Instant::now()).unwrap_err().to_string();
        assert!(difference.starts_with(complaint), "{conversation}: {difference}");
    }
}

#[test]
fn a_transcript_of_a_path_that_is_not_there_fails() {
    let vocabulary =
        Arc::new(compile("name = \"x\"\n[[path]]\nname = \"x\"\npath = \"/x/{y}\"").unwrap().vocabulary);
    for (path, complaint) in
        [("/z", "2: the vocabulary has no path for \"/z\""), ("/x/%00", "2: \"/x/%00\" has a value")]
    {
        let transcript = Transcript::parse(&format!("# Title\npath: {path}\n")).unwrap();
        let difference = play(&transcript, Some(&vocabulary), Instant::now()).unwrap_err().to_string();
        assert!(difference.starts_with(&complaint.replacen('2', "1", 1)), "{path}: {difference}");
    }
}
