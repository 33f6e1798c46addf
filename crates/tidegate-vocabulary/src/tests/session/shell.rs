//! The shell of transcripts, for tests that drive a session step by step. Its errors fail the test.

use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Session;

use crate::transcript::Answer;
use crate::transcript::Transcript;
use crate::transcript::shell;
use crate::transcript::shell::Heard;

/// A session and its driver.
pub(super) struct Shell(shell::Shell);

impl Shell {
    /// A session with this head of a transcript. Its greeting is discarded.
    pub(super) fn of(head: &str) -> Self {
        let transcript = Transcript::parse(&format!("# Head\n{head}")).unwrap();
        let mut shell = shell::Shell::start(&transcript, None, Instant::now()).unwrap();
        shell.heard().unwrap();
        Self(shell)
    }

    /// The client sends a text message.
    pub(super) fn send(&mut self, text: &str) -> Heard {
        self.send_message(ClientMessage::Text(text.to_owned()))
    }

    pub(super) fn send_message(&mut self, message: ClientMessage) -> Heard {
        self.tell(Input::Received(message))
    }

    pub(super) fn tell(&mut self, input: Input) -> Heard {
        self.0.tell(input).unwrap()
    }

    pub(super) fn answer(&mut self, answer: &Answer) -> Heard {
        self.0.answer(answer).unwrap()
    }

    pub(super) fn elapse(&mut self, time: Duration) -> Heard {
        self.0.elapse(time).unwrap()
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.0.subscriptions()
    }

    pub(super) fn session(&self) -> &Session {
        &self.0.session
    }
}
