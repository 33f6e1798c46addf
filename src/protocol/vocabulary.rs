//! Vocabulary: the message shapes of one frontend. Nothing else reads or writes client messages.

pub mod call;
pub mod channel;
pub mod compile;
pub mod decode;
pub mod described;
pub mod encode;
pub mod entered;
pub mod explain;
#[cfg(feature = "test-hooks")]
pub mod fuzz;
pub mod hear;
pub mod hole;
pub mod json;
pub mod known;
pub mod needs;
pub mod outline;
pub mod say;
pub mod shape;
pub mod source;
pub mod statistics;
pub mod writer;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::disconnect::Disconnect;
use crate::protocol::echo::Echo;
use crate::protocol::error::ErrorCode;
use crate::protocol::error::Refusal;
use crate::protocol::frame::Encoding;
use crate::protocol::frame::Format;
use crate::protocol::frame::Frame;
use crate::protocol::message::Asked;
use crate::protocol::message::Command;
use crate::protocol::message::Push;
use crate::protocol::message::Reply;
use crate::protocol::message::Wanted;
use crate::protocol::publication::Publication;
use crate::protocol::session::terms::Terms;
use crate::protocol::subject::Pattern;
use crate::protocol::vocabulary::described::Described;
use crate::protocol::vocabulary::described::Shown;
use crate::protocol::vocabulary::entered::Entered;
use crate::protocol::vocabulary::known::Known;
use crate::protocol::vocabulary::known::Scene;
use crate::protocol::websocket::Event;

/// The language of one client.
#[derive(Clone, Debug)]
pub enum Vocabulary {
    /// Tidegate's own protocol, `docs/PROTOCOL.md`.
    Native,
    /// One that a file describes, entered by one of its paths.
    Described(Arc<Entered>),
    /// Every message goes back as it came, for conformance tests of the WebSocket itself.
    Echo(Echo),
}

/// Why a client's message is no command, and which request it was, as far as that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// What was asked, as far as the answer needs it.
    pub asked: Option<Asked>,
    /// What is wrong with it.
    pub refusal: Refusal,
}

impl Vocabulary {
    /// The vocabulary of that name in the configuration, where it is one of Tidegate's own.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "native" => Some(Self::Native),
            #[cfg(feature = "test-hooks")]
            "echo" => Some(Self::Echo(Echo::Everything)),
            _ => None,
        }
    }

    /// The name in the configuration and in logs.
    pub fn name(&self) -> &str {
        match self {
            Self::Native => "native",
            Self::Described(entered) => &entered.described.name,
            Self::Echo(_) => "echo",
        }
    }

    /// The WebSocket subprotocols that stand for it.
    pub fn subprotocols(&self) -> Vec<&str> {
        match self {
            Self::Native => vec!["tidegate.v1.json"],
            Self::Described(entered) => entered.described.subprotocols.iter().map(|name| &**name).collect(),
            Self::Echo(_) => Vec::new(),
        }
    }

    /// The WebSocket subprotocol of these that stands for it. An error names what may be offered.
    pub fn subprotocol(&self, offered: &[String]) -> Result<Option<&str>, Vec<&str>> {
        let is_required =
            matches!(self, Self::Described(entered) if entered.described.is_subprotocol_required);
        if offered.is_empty() && !is_required {
            return Ok(None);
        }
        if self.echo().is_some() {
            return Ok(None);
        }
        let ours = self.subprotocols();
        let found = offered.iter().find_map(|offered| ours.iter().find(|ours| **ours == *offered));
        found.map(|found| Some(*found)).ok_or(ours)
    }

    /// Whether what a client says goes back.
    pub fn echo(&self) -> Option<Echo> {
        if let Self::Echo(echo) = self { Some(*echo) } else { None }
    }

    /// Whether a session has to show a credential, and is greeted and pinged.
    pub fn has_sessions(&self) -> bool {
        match self {
            Self::Native | Self::Described(_) => true,
            Self::Echo(_) => false,
        }
    }

    /// Whether a newer credential is answered like the first one.
    pub fn greets_again(&self) -> bool {
        !matches!(self, Self::Described(_))
    }

    /// Whether last values stand in the answer to who asked for them; else each is a message of its own.
    pub fn answers_with_snapshot(&self) -> bool {
        !matches!(self, Self::Described(_))
    }

    /// How often clients are pinged, if the vocabulary says so.
    pub fn ping_interval(&self) -> Option<Duration> {
        if let Self::Described(entered) = self { entered.described.heartbeat.every } else { None }
    }

    /// Its number on this node: those of files count from 1, in the order of their endpoints.
    pub fn number(&self) -> u16 {
        match self {
            Self::Native => 0,
            Self::Described(entered) => entered.number,
            Self::Echo(_) => u16::MAX,
        }
    }

    /// What publications of a channel are encoded for.
    pub fn format(&self, pattern: &Pattern) -> Format {
        let route = match self {
            Self::Described(entered) => entered.described.route(entered.path, pattern),
            Self::Native | Self::Echo(_) => 0,
        };
        Format { vocabulary: self.number(), route, encoding: Encoding::JsonText }
    }

    /// What a subscription agrees on, if there is anything.
    pub fn terms(&self, scene: Scene<'_>, pattern: &Pattern, route: u16, wanted: &Wanted) -> Option<Terms> {
        let Self::Described(entered) = self else { return None };
        let terms = entered.terms(scene, pattern, route, wanted);
        (!terms.are_plain()).then_some(terms)
    }

    /// The credential that a message brings beside what it asks.
    pub fn credential(&self, event: &Event) -> Option<String> {
        if let Self::Described(entered) = self { hear::credential(entered, event) } else { None }
    }

    /// Who a client without a credential says that it is, if that is believed here.
    pub fn believed(&self, scene: Scene<'_>, event: Option<&Event>) -> Option<String> {
        let Self::Described(entered) = self else { return None };
        let text =
            event.and_then(|event| if let Event::Text(text) = event { Some(text.as_str()) } else { None });
        entered.believed(scene, text)
    }

    /// Whether somebody may be where the client came in.
    pub fn permits(&self, scene: Scene<'_>) -> bool {
        if let Self::Described(entered) = self { entered.permits(scene) } else { true }
    }

    /// Reads a client's message. `event` is a text or binary message; others are no messages.
    pub fn decode(&self, scene: Scene<'_>, event: &Event) -> Result<Command, Undecodable> {
        match self {
            Self::Native => decode::command(event),
            Self::Described(entered) => hear::command(entered, scene, event),
            Self::Echo(echo) => Ok(decode::echo(*echo, event)),
        }
    }

    /// What is done for a client as soon as it is known who it is.
    pub fn on_connect(&self, scene: Scene<'_>) -> Vec<Result<Command, Undecodable>> {
        if let Self::Described(entered) = self { hear::on_connect(entered, scene) } else { Vec::new() }
    }

    /// The close code of an error that is not said but ends the session.
    pub fn closing(&self, code: ErrorCode) -> Option<u16> {
        if let Self::Described(entered) = self { entered.closing(code) } else { None }
    }

    /// The close code of an end.
    pub fn close_code(&self, disconnect: Disconnect) -> u16 {
        if let Self::Described(entered) = self {
            say::close_code(entered, disconnect)
        } else {
            disconnect.code()
        }
    }

    /// Writes the answer to a command, if there are words for it.
    pub fn reply(&self, scene: Scene<'_>, reply: &Reply) -> Option<Frame> {
        if let Self::Described(entered) = self {
            say::reply(entered, scene, reply)
        } else {
            Some(encode::reply(reply))
        }
    }

    /// Writes what the server says unasked of the session, if there are words for it.
    pub fn push(&self, scene: Scene<'_>, push: &Push) -> Option<Frame> {
        if let Self::Described(entered) = self {
            say::push(entered, scene, push)
        } else {
            Some(encode::push(push))
        }
    }

    /// Writes what the server says unasked of a channel, if there are words for it.
    pub fn of_channel(&self, push: &Push, terms: Option<&Terms>) -> Option<Frame> {
        if let Self::Described(entered) = self {
            say::of_channel(entered, push, terms)
        } else {
            Some(encode::push(push))
        }
    }
}

impl Entered {
    fn terms(&self, scene: Scene<'_>, pattern: &Pattern, route: u16, wanted: &Wanted) -> Terms {
        let known = Known { kept: &wanted.kept, ..Known::of(self, scene) };
        let cuts = self.described.cuts.iter().zip(1_u8..);
        let tailored = self.described.tailors(route, pattern);
        let said =
            |number: &u8| self.described.has_words(*number) || tailored.contains(&usize::from(*number));
        Terms {
            group: wanted.group.clone(),
            kept: wanted.kept.clone(),
            inserts: cuts
                .filter(|(_, n)| said(n))
                .map(|(cut, number)| (number, cut.insert(&known)))
                .collect(),
            is_tailored: !tailored.is_empty() || self.described.has_fields(pattern),
            filter: RefCell::default(),
        }
    }
}

/// The vocabularies of a node that files describe, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Vocabularies(Arc<[Arc<Described>]>);

impl Vocabularies {
    /// These, in the order of the configuration.
    pub fn new(described: Vec<Arc<Described>>) -> Self {
        Self(described.into())
    }

    /// Each with its number.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Arc<Described>)> {
        (1..).zip(self.0.iter())
    }

    /// The one with this number.
    pub fn get(&self, number: u16) -> Option<&Arc<Described>> {
        self.0.get(usize::from(number).checked_sub(1)?)
    }

    /// Writes a publication for `format`, as a message of `channel`.
    pub fn publication(&self, format: Format, channel: &Arc<str>, publication: &Publication) -> Shown {
        match self.get(format.vocabulary) {
            None => Shown::Frame(encode::publication(channel, publication)),
            Some(described) => described.publication(format.route, publication),
        }
    }
}

#[cfg(test)]
mod tests;
