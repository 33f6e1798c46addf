//! A compiled vocabulary as a [`Dialect`].

use std::cell::RefCell;

use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::DecodeError;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::DialectTraits;
use tidegate_protocol::dialect::Render;
use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::elements::CollectedMessage;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::RouteId;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::message::Command;
use tidegate_protocol::message::Push;
use tidegate_protocol::message::Reply;
use tidegate_protocol::message::SubscribeRequest;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subscription_context::SubscriptionContext;

use crate::binding::Binding;
use crate::inbound;
use crate::model::CompiledVocabulary;
use crate::outbound;
use crate::scopes::MessageScope;

impl Dialect for Binding {
    fn name(&self) -> &str {
        &self.vocabulary.name
    }

    fn number(&self) -> VocabularyId {
        self.number
    }

    fn traits(&self) -> DialectTraits {
        DialectTraits {
            has_sessions: true,
            confirms_new_credential: false,
            answers_with_snapshot: false,
            ping_interval: self.vocabulary.heartbeat.every,
            echo: None,
        }
    }

    fn format(&self, pattern: &Pattern) -> Format {
        let route = self.vocabulary.route(self.path, pattern);
        Format { vocabulary: self.number, route: route.into(), encoding: Encoding::JSON }
    }

    fn decode(&self, scope: SessionScope<'_>, message: &ClientMessage) -> Result<Command, DecodeError> {
        inbound::command(self, scope, message)
    }

    fn reply(&self, scope: SessionScope<'_>, reply: &Reply) -> Option<Frame> {
        outbound::reply(self, scope, reply)
    }

    fn push(&self, scope: SessionScope<'_>, push: &Push) -> Option<Frame> {
        outbound::push(self, scope, push)
    }

    fn channel_push(&self, push: &Push, subscription_context: Option<&SubscriptionContext>) -> Option<Frame> {
        outbound::channel_push(self, push, subscription_context)
    }

    fn collected(
        &self,
        message: &CollectedMessage<'_>,
        subscription_context: Option<&SubscriptionContext>,
    ) -> Option<Frame> {
        outbound::collected(self, message, subscription_context)
    }

    fn subscription_context(
        &self,
        scope: SessionScope<'_>,
        pattern: &Pattern,
        route: RouteId,
        wanted: &SubscribeRequest,
    ) -> Option<SubscriptionContext> {
        let subscription_context = self.subscription_context_for(scope, pattern, route, wanted);
        (!subscription_context.is_plain()).then_some(subscription_context)
    }

    fn credential(&self, message: &ClientMessage) -> Option<String> {
        inbound::credential(self, message)
    }

    fn trusted_user(&self, scope: SessionScope<'_>, message: &ClientMessage) -> Option<String> {
        let text = if let ClientMessage::Text(text) = message { Some(text.as_str()) } else { None };
        self.claimed_user_in(scope, text)
    }

    fn permits(&self, scope: SessionScope<'_>) -> bool {
        self.permits_identity(scope)
    }

    fn on_connect(&self, scope: SessionScope<'_>) -> Vec<Result<Command, DecodeError>> {
        inbound::on_connect(self, scope)
    }

    fn error_close_code(&self, code: ErrorCode) -> Option<u16> {
        self.vocabulary.codes.closing.iter().find(|(known, _)| *known == code).map(|(_, close)| *close)
    }

    fn close_code(&self, disconnect: Disconnect) -> u16 {
        outbound::close_code(self, disconnect)
    }

    fn label(&self, scope: SessionScope<'_>) -> Option<String> {
        self.session_label(scope)
    }

    fn path_name(&self) -> Option<&str> {
        Some(&self.path_rule()?.name)
    }

    fn stats_item(&self, channel: &Pattern) -> Option<String> {
        self.vocabulary.item(self.path, channel)
    }
}

impl Render for CompiledVocabulary {
    fn dialect_name(&self) -> &str {
        &self.name
    }

    fn publication(
        &self,
        format: Format,
        _: &str,
        publication: &Publication,
        scratch: &mut Scratch,
    ) -> Rendered {
        self.render(format.route.into(), publication, scratch)
    }
}

impl Binding {
    fn subscription_context_for(
        &self,
        scope: SessionScope<'_>,
        pattern: &Pattern,
        route: RouteId,
        wanted: &SubscribeRequest,
    ) -> SubscriptionContext {
        let known = MessageScope { kept: &wanted.kept, ..MessageScope::of(self, scope) };
        let slots = self.vocabulary.slots.iter().zip(1_u8..);
        let tailored = self.vocabulary.slots_of(route.into(), pattern);
        let takes_elements = self.vocabulary.takes_apart(route.into(), pattern);
        let said =
            |number: &u8| self.vocabulary.is_notice_slot(*number) || tailored.contains(&usize::from(*number));
        SubscriptionContext {
            group: wanted.group.clone(),
            kept: wanted.kept.clone(),
            inserts: slots
                .filter(|(_, n)| said(n))
                .map(|(slot, number)| (number, slot.insert(&known)))
                .collect(),
            is_tailored: !tailored.is_empty() || self.vocabulary.has_fields(pattern) || takes_elements,
            takes_elements,
            filter: RefCell::default(),
        }
    }
}
