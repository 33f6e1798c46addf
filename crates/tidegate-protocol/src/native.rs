//! The native protocol, as specified in `docs/PROTOCOL.md`.

pub mod decode;
pub mod encode;
pub mod publish_call;

use crate::client_message::ClientMessage;
use crate::dialect::DecodeError;
use crate::dialect::Dialect;
use crate::dialect::DialectTraits;
use crate::dialect::Render;
use crate::dialect::Rendered;
use crate::dialect::SessionScope;
use crate::frame::Encoding;
use crate::frame::Format;
use crate::frame::Frame;
use crate::frame::RouteId;
use crate::frame::VocabularyId;
use crate::message::Command;
use crate::message::JoinMode;
use crate::message::Pairs;
use crate::message::Push;
use crate::message::Reply;
use crate::message::SubscribeRequest;
use crate::publication::Publication;
use crate::scratch::Scratch;
use crate::subject::Pattern;
use crate::subscription_context::SubscriptionContext;

/// The dialect of the native protocol.
#[derive(Clone, Copy, Debug)]
pub struct Native;

/// Its WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "tidegate.v1.json";

impl Native {
    /// The format of all its publications.
    pub(crate) const FORMAT: Format =
        Format { vocabulary: VocabularyId::NATIVE, route: RouteId(0), encoding: Encoding::JSON };
}

impl Dialect for Native {
    fn name(&self) -> &str {
        "native"
    }

    fn number(&self) -> VocabularyId {
        Self::FORMAT.vocabulary
    }

    fn traits(&self) -> DialectTraits {
        DialectTraits {
            has_sessions: true,
            confirms_new_credential: true,
            answers_with_snapshot: true,
            ping_interval: None,
            echo: None,
        }
    }

    fn format(&self, _: &Pattern) -> Format {
        Self::FORMAT
    }

    fn decode(&self, _: SessionScope<'_>, message: &ClientMessage) -> Result<Command, DecodeError> {
        decode::command(message)
    }

    /// Joins the channels that the service has named with the identity.
    fn on_connect(&self, scope: SessionScope<'_>) -> Vec<Result<Command, DecodeError>> {
        let named = scope.identity.and_then(|identity| identity.channels.as_deref());
        let Some(named) = named else { return Vec::new() };
        let wanted = SubscribeRequest {
            channels: named.iter().map(|channel| Ok(channel.to_string())).collect(),
            elements: Vec::new(),
            max_rate: None,
            group: Box::default(),
            joining: JoinMode::Add,
            kept: Pairs::default(),
            since: None,
        };
        vec![Ok(Command::Subscribe { request_context: None, wanted })]
    }

    fn reply(&self, _: SessionScope<'_>, reply: &Reply) -> Option<Frame> {
        encode::reply(reply)
    }

    fn push(&self, _: SessionScope<'_>, push: &Push) -> Option<Frame> {
        Some(encode::push(push))
    }

    fn channel_push(&self, push: &Push, _: Option<&SubscriptionContext>) -> Option<Frame> {
        Some(encode::push(push))
    }
}

impl Render for Native {
    fn dialect_name(&self) -> &str {
        self.name()
    }

    fn publication(
        &self,
        _: Format,
        channel: &str,
        publication: &Publication,
        scratch: &mut Scratch,
    ) -> Rendered {
        Rendered::Frame(encode::publication(scratch, channel, publication))
    }
}
