//! Vocabulary: the message shapes of one frontend. Nothing else reads or writes client messages.

pub mod decode;
pub mod encode;
pub mod hole;
pub mod json;
pub mod shape;
pub mod writer;

use std::sync::Arc;

use crate::protocol::error::Refusal;
use crate::protocol::frame::Encoding;
use crate::protocol::frame::Format;
use crate::protocol::frame::Frame;
use crate::protocol::message::Command;
use crate::protocol::message::Push;
use crate::protocol::message::Reply;
use crate::protocol::message::RequestId;
use crate::protocol::publication::Publication;
use crate::protocol::websocket::Event;

/// The language that one endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vocabulary {
    /// Tidegate's own protocol, `docs/PROTOCOL.md`.
    Native,
    /// Every message goes back as it came, for conformance tests of the WebSocket itself.
    #[cfg(feature = "test-hooks")]
    Echo,
}

/// Why a client's message is no command, and which request it was, as far as that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// The request's id, when it had one.
    pub id: Option<RequestId>,
    /// What is wrong with it.
    pub refusal: Refusal,
}

impl Vocabulary {
    /// The vocabulary of that name in the configuration.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "native" => Some(Self::Native),
            #[cfg(feature = "test-hooks")]
            "echo" => Some(Self::Echo),
            _ => None,
        }
    }

    /// The name in the configuration and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            #[cfg(feature = "test-hooks")]
            Self::Echo => "echo",
        }
    }

    /// The WebSocket subprotocol that stands for it, when it has one.
    pub fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::Native => Some("tidegate.v1.json"),
            #[cfg(feature = "test-hooks")]
            Self::Echo => None,
        }
    }

    /// Whether a session has to show a credential, and is greeted and pinged.
    pub fn has_sessions(self) -> bool {
        match self {
            Self::Native => true,
            #[cfg(feature = "test-hooks")]
            Self::Echo => false,
        }
    }

    /// What publications are encoded for when a subscription came in by `route`.
    pub fn format(self, route: u16) -> Format {
        let vocabulary = match self {
            Self::Native => 0,
            #[cfg(feature = "test-hooks")]
            Self::Echo => u16::MAX,
        };
        Format { vocabulary, route, encoding: Encoding::JsonText }
    }

    /// Reads a client's message. `event` is a text or binary message; others are no messages.
    pub fn decode(self, event: &Event) -> Result<Command, Undecodable> {
        match self {
            Self::Native => decode::command(event),
            #[cfg(feature = "test-hooks")]
            Self::Echo => Ok(decode::echo(event)),
        }
    }

    /// Writes the answer to a command.
    pub fn reply(self, reply: &Reply) -> Frame {
        encode::reply(reply)
    }

    /// Writes what the server says unasked.
    pub fn push(self, push: &Push) -> Frame {
        encode::push(push)
    }
}

/// Writes a publication for `format`, as a message of `channel`.
pub fn publication(_format: Format, channel: &Arc<str>, publication: &Publication) -> Frame {
    encode::publication(channel, publication)
}
