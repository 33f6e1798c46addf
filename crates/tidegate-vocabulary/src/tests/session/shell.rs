//! The shell of transcripts, for tests that drive a session step by step. Its errors fail the test.

use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Session;

use crate::transcript::ShellInput;
use crate::transcript::Transcript;
use crate::transcript::shell;
use crate::transcript::shell::ShellOutput;

/// A session and its driver.
pub(super) struct Shell(shell::Shell);

impl Shell {
    /// A session with this head of a transcript. Its greeting is discarded.
    pub(super) fn of(head: &str) -> Self {
        let transcript = Transcript::parse(&format!("# Head\n{head}")).unwrap();
        let mut shell = shell::Shell::start(&transcript, None, Instant::now()).unwrap();
        shell.take_output().unwrap();
        Self(shell)
    }

    /// The client sends a text message.
    pub(super) fn send(&mut self, text: &str) -> ShellOutput {
        self.send_message(ClientMessage::Text(text.to_owned()))
    }

    pub(super) fn send_message(&mut self, message: ClientMessage) -> ShellOutput {
        self.handle_input(Input::Received(message))
    }

    pub(super) fn handle_input(&mut self, input: Input) -> ShellOutput {
        self.0.handle_input(input).unwrap()
    }

    pub(super) fn handle_shell_input(&mut self, answer: &ShellInput) -> ShellOutput {
        self.0.handle_shell_input(answer).unwrap()
    }

    pub(super) fn elapse(&mut self, time: Duration) -> ShellOutput {
        self.0.elapse(time).unwrap()
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.0.subscriptions()
    }

    pub(super) fn session(&self) -> &Session {
        &self.0.session
    }
}
