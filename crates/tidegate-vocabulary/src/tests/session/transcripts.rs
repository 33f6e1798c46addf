//! Every transcript, with subscriptions that go live and with subscriptions that stay held.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tidegate_document::diagnostic::Diagnostic;

use crate::compile::compile;
use crate::model::CompiledVocabulary;
use crate::transcript::Transcript;
use crate::transcript::play::Difference;
use crate::transcript::play::Played;
use crate::transcript::play::play;

/// A transcript as it is repeated with subscriptions that go live; held ones must show the same.
pub(super) fn played(
    name: &str,
    mut transcript: Transcript,
    described: Option<&Arc<CompiledVocabulary>>,
) -> Result<Played, String> {
    let now = Instant::now();
    let failed = |difference: Difference| format!("{name}:{difference}");
    let live = play(&transcript, described, now).map_err(failed)?;
    transcript.settings.hold = true;
    let held = play(&transcript, described, now).map_err(|error| failed(error) + " (held)")?;
    assert_eq!(live, held, "{name}: a held subscription shows something else than a live one");
    Ok(live)
}

fn transcripts(vocabulary: &str) -> Vec<(String, Transcript)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts").join(vocabulary);
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
fn every_transcript_is_repeated_and_nobody_can_tell_live_from_held() {
    let transcripts = transcripts("native");
    assert!(transcripts.len() >= 12, "the folder of transcripts is there");
    for (name, transcript) in transcripts {
        let played = played(&name, transcript, None).unwrap();
        assert!(!played.seen.is_empty(), "{name}: the server never says anything");
    }
}

/// The vocabularies that are shipped, compiled.
fn shipped() -> Vec<Arc<CompiledVocabulary>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vocabularies");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.retain(|path| !path.to_string_lossy().ends_with(".config.toml"));
    files.sort();
    let described = files.into_iter().map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        let compiled = compile(&text).unwrap_or_else(|mistakes| {
            let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            panic!("{}\n{}", path.display(), mistakes.join("\n"));
        });
        // Tokens in URLs are as some documents have it.
        let meant = |warning: &Diagnostic| warning.key.ends_with(".token_query");
        assert!(compiled.warnings.iter().all(meant), "{}: {:?}", path.display(), compiled.warnings);
        Arc::new(compiled.described)
    });
    described.collect()
}

#[test]
fn every_transcript_of_every_shipped_vocabulary_is_repeated() {
    let shipped = shipped();
    assert!(shipped.len() >= 7, "the folder of vocabularies is there");
    let mut failures = Vec::new();
    for described in shipped {
        let transcripts = transcripts(&described.name);
        assert!(!transcripts.is_empty(), "{} has no transcripts", described.name);
        for (name, transcript) in transcripts {
            failures.extend(played(&name, transcript, Some(&described)).err());
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
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
    let described =
        Arc::new(compile("name = \"x\"\n[[path]]\nname = \"x\"\npath = \"/x/{y}\"").unwrap().described);
    for (path, complaint) in
        [("/z", "2: the vocabulary has no path for \"/z\""), ("/x/%00", "2: \"/x/%00\" has a value")]
    {
        let transcript = Transcript::parse(&format!("# Title\npath: {path}\n")).unwrap();
        let difference = play(&transcript, Some(&described), Instant::now()).unwrap_err().to_string();
        assert!(difference.starts_with(&complaint.replacen('2', "1", 1)), "{path}: {difference}");
    }
}
