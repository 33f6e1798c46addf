//! The echo dialect: it sends back each message unchanged.

use crate::client_message::ClientMessage;
use crate::dialect::DecodeError;
use crate::dialect::Dialect;
use crate::dialect::DialectTraits;
use crate::dialect::SessionScope;
use crate::echo::Echo;
use crate::frame::Format;
use crate::frame::Frame;
use crate::frame::VocabularyId;
use crate::message::Command;
use crate::message::Push;
use crate::message::Reply;
use crate::native::Native;
use crate::subject::Pattern;
use crate::subscription_context::SubscriptionContext;
use crate::websocket::Opcode;

impl Dialect for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn number(&self) -> VocabularyId {
        VocabularyId(u16::MAX)
    }

    fn traits(&self) -> DialectTraits {
        DialectTraits { has_sessions: false, echo: Some(*self), ..Native.traits() }
    }

    fn format(&self, _: &Pattern) -> Format {
        Format { vocabulary: self.number(), ..Native::FORMAT }
    }

    fn decode(&self, _: SessionScope<'_>, message: &ClientMessage) -> Result<Command, DecodeError> {
        let (opcode, bytes): (_, &[u8]) = match message {
            ClientMessage::Text(text) => (Opcode::Text, text.as_bytes()),
            ClientMessage::Binary(bytes) => (Opcode::Binary, bytes),
        };
        Ok(Command::Echo(*self, Frame::build(opcode, bytes.len(), |out| out.extend_from_slice(bytes))))
    }

    fn reply(&self, scope: SessionScope<'_>, reply: &Reply) -> Option<Frame> {
        Native.reply(scope, reply)
    }

    fn push(&self, scope: SessionScope<'_>, push: &Push) -> Option<Frame> {
        Native.push(scope, push)
    }

    fn channel_push(&self, push: &Push, subscription_context: Option<&SubscriptionContext>) -> Option<Frame> {
        Native.channel_push(push, subscription_context)
    }
}
