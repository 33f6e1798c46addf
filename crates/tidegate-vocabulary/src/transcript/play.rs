//! Plays a transcript on a session without sockets, and reports the first difference.

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
use crate::transcript::shell::Shell;
use crate::transcript::shell::ShellOutput;

/// A transcript that the session reproduced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// The messages that the client received.
    pub received: Vec<String>,
    /// How many messages the client sent.
    pub sent: usize,
    /// How many HTTP requests were skipped. Only real sockets can play them.
    pub calls: usize,
}

/// Where a session differs from its transcript.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{line}: {deviation}")]
pub struct Difference {
    pub line: usize,
    pub deviation: Deviation,
}

/// The expected and the actual behaviour.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Deviation {
    #[error("expected the message {expected}, and the server sent nothing")]
    NoMessage { expected: Expected },
    #[error("{difference}: expected the message {expected}, and the server sent {message}")]
    Message { difference: String, expected: Expected, message: String },
    #[error("expected the output ! {expected}, and the session has {}", output.as_deref().map_or_else(|| "nothing".to_owned(), |output| format!("! {output}")))]
    Output { expected: String, output: Option<String> },
    #[error("{place} this line the server sent an unexpected message: {message}")]
    UnexpectedMessage { place: StepPlace, message: String },
    #[error("{place} this line the session has an unexpected output: ! {output}")]
    UnexpectedOutput { place: StepPlace, output: String },
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Where output that the transcript does not have appeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepPlace {
    /// Before this line.
    Before,
    /// After this line, the last one.
    After,
}

impl std::fmt::Display for StepPlace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

/// Plays a transcript, in a vocabulary or in the native protocol. `now` is the time at its start.
pub fn play(
    transcript: &Transcript,
    vocabulary: Option<&Arc<CompiledVocabulary>>,
    now: Instant,
) -> Result<Played, Difference> {
    let first = transcript.steps.first().map_or(1, |step| step.line);
    let at = |line| move |fault: Fault| Difference { line, deviation: fault.into() };
    let mut shell = Shell::start(transcript, vocabulary, now).map_err(at(first))?;
    let mut pending = PendingOutput::default();
    let output = shell.take_output().map_err(at(first))?;
    pending.take(output);
    let mut is_called = false;
    for step in &transcript.steps {
        // Real sockets play HTTP requests.
        is_called |= matches!(step.action, Action::HttpRequest(_));
        if is_called {
            pending.played.calls += usize::from(matches!(step.action, Action::HttpRequest(_)));
            is_called = !matches!(step.action, Action::HttpResponse { .. });
            continue;
        }
        let deviates = |deviation| Difference { line: step.line, deviation };
        let output = match &step.action {
            Action::Server(expected) => {
                pending.check_message(expected).map_err(deviates)?;
                continue;
            }
            Action::Output(words) => {
                if !(transcript.settings.hold && words.starts_with("live ")) {
                    pending.check_output(words).map_err(deviates)?;
                }
                continue;
            }
            Action::HttpRequest(_) | Action::HttpResponse { .. } => continue,
            action @ (Action::Client(_) | Action::Input(_) | Action::Publication(_) | Action::After(_)) => {
                pending.check_nothing(StepPlace::Before).map_err(deviates)?;
                pending.played.sent += usize::from(matches!(action, Action::Client(_)));
                act(&mut shell, action)
            }
        };
        pending.take(output.map_err(at(step.line))?);
    }
    let last = transcript.steps.last().map_or(1, |step| step.line);
    pending.check_nothing(StepPlace::After).map_err(|deviation| Difference { line: last, deviation })?;
    Ok(pending.played)
}

fn act(shell: &mut Shell, action: &Action) -> Result<ShellOutput, Fault> {
    match action {
        Action::Client(event) => shell.handle_input(Input::Received(event.clone())),
        Action::Input(input) => shell.handle_shell_input(input),
        Action::Publication(published) => shell.publish(published),
        Action::After(time) => shell.elapse(*time),
        Action::Server(_) | Action::Output(_) | Action::HttpRequest(_) | Action::HttpResponse { .. } => {
            Ok(ShellOutput::default())
        }
    }
}

/// Outputs of the session that the transcript has not reached yet.
#[derive(Default)]
struct PendingOutput {
    outputs: VecDeque<String>,
    messages: VecDeque<String>,
    played: Played,
}

impl PendingOutput {
    fn take(&mut self, output: ShellOutput) {
        self.played.received.extend(output.messages.iter().cloned());
        self.outputs.extend(output.outputs);
        self.messages.extend(output.messages);
    }

    fn check_message(&mut self, expected: &Expected) -> Result<(), Deviation> {
        let Some(message) = self.messages.pop_front() else {
            return Err(Deviation::NoMessage { expected: expected.clone() });
        };
        expected.check(message.as_bytes()).map_err(|difference| {
            let difference = difference.trim_start_matches('.').to_owned();
            Deviation::Message { difference, expected: expected.clone(), message }
        })
    }

    fn check_output(&mut self, expected: &str) -> Result<(), Deviation> {
        let output = self.outputs.pop_front();
        if output.as_deref() == Some(expected) {
            return Ok(());
        }
        Err(Deviation::Output { expected: expected.to_owned(), output })
    }

    fn check_nothing(&self, place: StepPlace) -> Result<(), Deviation> {
        if let Some(message) = self.messages.front() {
            return Err(Deviation::UnexpectedMessage { place, message: message.clone() });
        }
        if let Some(output) = self.outputs.front() {
            return Err(Deviation::UnexpectedOutput { place, output: output.clone() });
        }
        Ok(())
    }
}
