//! Play: one transcript on the pure session, and where it goes another way than it is written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use tidegate_protocol::session::Input;

use crate::model::CompiledVocabulary;
use crate::transcript::Action;
use crate::transcript::Expected;
use crate::transcript::Transcript;
use crate::transcript::shell::Fault;
use crate::transcript::shell::Heard;
use crate::transcript::shell::Shell;

/// A transcript that was repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// All messages that the client has seen.
    pub seen: Vec<String>,
    /// How many it has said itself.
    pub said: usize,
    /// How many HTTP calls were passed over: they are not the session's affair.
    pub calls: usize,
}

/// Where a transcript was not repeated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{line}: {deviation}")]
pub struct Difference {
    /// The line of the transcript.
    pub line: usize,
    /// What was expected there, and what came.
    pub deviation: Deviation,
}

/// What was expected, and what came.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Deviation {
    #[error("the server was to say {expected}, and says nothing")]
    Silent { expected: Expected },
    #[error("{difference}: the server was to say {expected}, and says {said}")]
    Said { difference: String, expected: Expected, said: String },
    #[error("the session was to ask ! {expected} and asks {}", asked.as_deref().map_or_else(|| "nothing".to_owned(), |asked| format!("! {asked}")))]
    Asked { expected: String, asked: Option<String> },
    #[error("{place} this nothing was to be said, and the server says {said}")]
    Unexpected { place: StepPlace, said: String },
    #[error("{place} this nothing was to be asked, and the session asks ! {asked}")]
    Unasked { place: StepPlace, asked: String },
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Where in relation to a line something is that is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepPlace {
    /// The transcript goes on there.
    Before,
    /// It was the last line.
    Behind,
}

impl std::fmt::Display for StepPlace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Before => "before",
            Self::Behind => "behind",
        })
    }
}

/// Plays a transcript, in a vocabulary or else in the native one. `now` is where its time begins.
pub fn play(
    transcript: &Transcript,
    described: Option<&Arc<CompiledVocabulary>>,
    now: Instant,
) -> Result<Played, Difference> {
    let first = transcript.steps.first().map_or(1, |step| step.line);
    let at = |line| move |fault: Fault| Difference { line, deviation: fault.into() };
    let mut shell = Shell::start(transcript, described, now).map_err(at(first))?;
    let mut stage = Stage::default();
    let heard = shell.heard().map_err(at(first))?;
    stage.take(heard);
    let mut is_called = false;
    for step in &transcript.steps {
        // What is called next to the conversation is left to real sockets.
        is_called |= matches!(step.action, Action::Call(_));
        if is_called {
            stage.played.calls += usize::from(matches!(step.action, Action::Call(_)));
            is_called = !matches!(step.action, Action::Called { .. });
            continue;
        }
        let deviates = |deviation| Difference { line: step.line, deviation };
        let heard = match &step.action {
            Action::Server(expected) => {
                stage.check_message(expected).map_err(deviates)?;
                continue;
            }
            Action::Asked(words) => {
                if !(transcript.settings.hold && words.starts_with("live ")) {
                    stage.check_asked(words).map_err(deviates)?;
                }
                continue;
            }
            Action::Call(_) | Action::Called { .. } => continue,
            action @ (Action::Client(_) | Action::Answer(_) | Action::Publication(_) | Action::After(_)) => {
                stage.check_nothing(StepPlace::Before).map_err(deviates)?;
                stage.played.said += usize::from(matches!(action, Action::Client(_)));
                act(&mut shell, action)
            }
        };
        stage.take(heard.map_err(at(step.line))?);
    }
    let last = transcript.steps.last().map_or(1, |step| step.line);
    stage.check_nothing(StepPlace::Behind).map_err(|deviation| Difference { line: last, deviation })?;
    Ok(stage.played)
}

fn act(shell: &mut Shell, action: &Action) -> Result<Heard, Fault> {
    match action {
        Action::Client(event) => shell.tell(Input::Received(event.clone())),
        Action::Answer(answer) => shell.answer(answer),
        Action::Publication(published) => shell.publish(published),
        Action::After(time) => shell.elapse(*time),
        Action::Server(_) | Action::Asked(_) | Action::Call(_) | Action::Called { .. } => {
            Ok(Heard::default())
        }
    }
}

/// What the session has said and asked and the transcript has not come to yet.
#[derive(Default)]
struct Stage {
    asked: VecDeque<String>,
    messages: VecDeque<String>,
    played: Played,
}

impl Stage {
    fn take(&mut self, heard: Heard) {
        self.played.seen.extend(heard.messages.iter().cloned());
        self.asked.extend(heard.asked);
        self.messages.extend(heard.messages);
    }

    fn check_message(&mut self, expected: &Expected) -> Result<(), Deviation> {
        let Some(said) = self.messages.pop_front() else {
            return Err(Deviation::Silent { expected: expected.clone() });
        };
        expected.check(said.as_bytes()).map_err(|difference| {
            let difference = difference.trim_start_matches('.').to_owned();
            Deviation::Said { difference, expected: expected.clone(), said }
        })
    }

    fn check_asked(&mut self, expected: &str) -> Result<(), Deviation> {
        let asked = self.asked.pop_front();
        if asked.as_deref() == Some(expected) {
            return Ok(());
        }
        Err(Deviation::Asked { expected: expected.to_owned(), asked })
    }

    fn check_nothing(&self, place: StepPlace) -> Result<(), Deviation> {
        if let Some(said) = self.messages.front() {
            return Err(Deviation::Unexpected { place, said: said.clone() });
        }
        if let Some(asked) = self.asked.front() {
            return Err(Deviation::Unasked { place, asked: asked.clone() });
        }
        Ok(())
    }
}
