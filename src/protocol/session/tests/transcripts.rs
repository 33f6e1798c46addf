//! Every transcript of the native vocabulary, with subscriptions that go live and with subscriptions that stay held.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;

use crate::protocol::session::tests::shell::Heard;
use crate::protocol::session::tests::shell::Shell;
use crate::protocol::session::transcript::Action;
use crate::protocol::session::transcript::Expected;
use crate::protocol::session::transcript::Transcript;
use crate::protocol::vocabulary::compile::compile;
use crate::protocol::vocabulary::described::Described;

/// What the session has said and asked and the transcript has not come to yet.
#[derive(Default)]
struct Pending {
    asked: VecDeque<String>,
    messages: VecDeque<String>,
}

impl Pending {
    fn take(&mut self, heard: Heard, seen: &mut Vec<String>) {
        seen.extend(heard.messages.iter().cloned());
        self.asked.extend(heard.asked);
        self.messages.extend(heard.messages);
    }

    fn check_message(&mut self, expected: &Expected, at: &str) {
        let message = self.messages.pop_front().unwrap_or_else(|| panic!("{at}: the server says nothing"));
        if let Err(difference) = expected.check(message.as_bytes()) {
            panic!("{at}: {difference}; the server says\n< {message}");
        }
    }

    fn check_asked(&mut self, expected: &str, at: &str) {
        let asked = self.asked.pop_front();
        assert_eq!(asked.as_deref(), Some(expected), "{at}: the session asks for something else");
    }

    fn check_nothing(&self, at: &str) {
        assert!(self.messages.is_empty(), "{at}: before this the server says\n< {}", self.messages[0]);
        assert!(self.asked.is_empty(), "{at}: before this the session asks\n! {}", self.asked[0]);
    }
}

/// Plays one transcript and gives back all messages that the client has seen.
fn play(name: &str, transcript: &Transcript, described: Option<&Arc<Described>>) -> Vec<String> {
    let mut shell = Shell::start(transcript, described);
    let mut pending = Pending::default();
    let mut seen = Vec::new();
    pending.take(shell.heard(), &mut seen);
    let mut is_called = false;
    for step in &transcript.steps {
        let at = format!("{name}:{}", step.line);
        // What is called beside the conversation is not the session's affair.
        is_called |= matches!(step.action, Action::Call(_));
        if is_called {
            is_called = !matches!(step.action, Action::Called { .. });
            continue;
        }
        let heard = match &step.action {
            Action::Server(expected) => {
                pending.check_message(expected, &at);
                continue;
            }
            Action::Asked(words) => {
                if !(transcript.settings.hold && words.starts_with("live ")) {
                    pending.check_asked(words, &at);
                }
                continue;
            }
            Action::Call(_) | Action::Called { .. } => continue,
            Action::Client(_) | Action::Answer(_) | Action::Publication(_) | Action::After(_) => {
                pending.check_nothing(&at);
                match &step.action {
                    Action::Client(event) => shell.receive(event.clone()),
                    Action::Answer(answer) => shell.answer(answer),
                    Action::Publication(published) => shell.publish(published),
                    Action::After(time) => shell.elapse(*time),
                    Action::Server(_) | Action::Asked(_) | Action::Call(_) | Action::Called { .. } => {
                        Heard::default()
                    }
                }
            }
        };
        pending.take(heard, &mut seen);
    }
    pending.check_nothing(&format!("{name}: the end"));
    seen
}

fn transcripts(vocabulary: &str) -> Vec<(String, Transcript)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(vocabulary);
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
    for (name, mut transcript) in transcripts {
        let live = play(&name, &transcript, None);
        assert!(!live.is_empty(), "{name}: the server never says anything");
        transcript.settings.hold = true;
        let held = play(&format!("{name} (held)"), &transcript, None);
        assert_eq!(live, held, "{name}: a held subscription shows something else than a live one");
    }
}

/// The vocabularies that are shipped, compiled.
fn shipped() -> Vec<Arc<Described>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vocabularies");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.retain(|path| !path.to_string_lossy().ends_with(".config.toml"));
    files.sort();
    let described = files.into_iter().map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        let described = compile(&text).unwrap_or_else(|mistakes| {
            let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            panic!("{}\n{}", path.display(), mistakes.join("\n"));
        });
        Arc::new(described)
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
        for (name, mut transcript) in transcripts {
            let played = catch_unwind(AssertUnwindSafe(|| {
                let live = play(&name, &transcript, Some(&described));
                transcript.settings.hold = true;
                let held = play(&format!("{name} (held)"), &transcript, Some(&described));
                assert!(live == held, "{name}: a held subscription shows something else than a live one");
            }));
            failures.extend(played.err().map(|error| match error.downcast::<String>() {
                Ok(words) => *words,
                Err(_) => name,
            }));
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
        ("> {\"type\":\"ping\"}", "the end: before this the server says"),
        ("> {\"type\":\"ping\"}\n> {\"type\":\"ping\"}", "6: before this the server says"),
        ("> {\"type\":\"ping\"}\n< {\"type\":\"ping\"}", "6: .type: \"pong\" is not \"ping\""),
        ("< {\"type\":\"ping\"}", "5: the server says nothing"),
        (
            "> {\"type\":\"subscribe\",\"channel\":\"chat.a\"}",
            "the end: before this the session asks\n! join chat.a",
        ),
        (
            "> {\"type\":\"subscribe\",\"channel\":\"chat.a\"}\n! join chat.b",
            "6: the session asks for something else",
        ),
    ] {
        let transcript = Transcript::parse(&format!("{head}\n{conversation}")).unwrap();
        let played = catch_unwind(AssertUnwindSafe(|| play("t", &transcript, None)));
        let complained = *played.unwrap_err().downcast::<String>().unwrap();
        assert!(complained.contains(complaint), "{conversation}: {complained}");
    }
}
