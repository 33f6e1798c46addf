//! Echo: the dialect without words, in which every message goes back as it came.

use crate::protocol::dialect::DecodeError;
use crate::protocol::dialect::Dialect;
use crate::protocol::dialect::DialectTraits;
use crate::protocol::dialect::SessionScope;
use crate::protocol::echo::Echo;
use crate::protocol::frame::Format;
use crate::protocol::frame::Frame;
use crate::protocol::message::Command;
use crate::protocol::message::Push;
use crate::protocol::message::Reply;
use crate::protocol::native::Native;
use crate::protocol::subject::Pattern;
use crate::protocol::terms::Terms;
use crate::protocol::websocket::Event;
use crate::protocol::websocket::Opcode;

impl Dialect for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn number(&self) -> u16 {
        u16::MAX
    }

    fn traits(&self) -> DialectTraits {
        DialectTraits { has_sessions: false, echo: Some(*self), ..Native.traits() }
    }

    fn format(&self, _: &Pattern) -> Format {
        Format { vocabulary: self.number(), ..Native::FORMAT }
    }

    fn decode(&self, _: SessionScope<'_>, event: &Event) -> Result<Command, DecodeError> {
        let (opcode, bytes): (_, &[u8]) = match event {
            Event::Text(text) => (Opcode::Text, text.as_bytes()),
            Event::Binary(bytes) | Event::Ping(bytes) | Event::Pong(bytes) => (Opcode::Binary, bytes),
            Event::Close(_) => (Opcode::Binary, &[]),
        };
        Ok(Command::Echo(*self, Frame::build(opcode, bytes.len(), |out| out.extend_from_slice(bytes))))
    }

    fn reply(&self, scope: SessionScope<'_>, reply: &Reply) -> Option<Frame> {
        Native.reply(scope, reply)
    }

    fn push(&self, scope: SessionScope<'_>, push: &Push) -> Option<Frame> {
        Native.push(scope, push)
    }

    fn channel_push(&self, push: &Push, terms: Option<&Terms>) -> Option<Frame> {
        Native.channel_push(push, terms)
    }
}
