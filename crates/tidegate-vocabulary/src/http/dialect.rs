//! A route as a dialect: the body of the request is its only message, and every reply is the response.

use std::rc::Rc;

use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::DecodeError;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::DialectTraits;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::message::Command;
use tidegate_protocol::message::OriginalMessage;
use tidegate_protocol::message::Push;
use tidegate_protocol::message::Reply;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subscription_context::SubscriptionContext;

use crate::http::HttpOutcome;
use crate::http::RouteDialect;
use crate::http::answer::HttpAnswer;
use crate::inbound;
use crate::model::HttpAction;
use crate::outbound::message_scope;

impl Dialect for RouteDialect {
    fn name(&self) -> &str {
        self.binding.name()
    }

    fn number(&self) -> VocabularyId {
        self.binding.number()
    }

    fn traits(&self) -> DialectTraits {
        self.binding.traits()
    }

    fn format(&self, pattern: &Pattern) -> Format {
        self.binding.format(pattern)
    }

    fn decode(&self, scope: SessionScope<'_>, event: &ClientMessage) -> Result<Command, DecodeError> {
        let body = if let ClientMessage::Text(body) = event { body.as_str() } else { "" };
        let original = Rc::new(OriginalMessage { text: body.into(), ..OriginalMessage::default() });
        let request_context = RequestContext::Message(Rc::clone(&original));
        let known = message_scope(&self.binding, without_session(scope), Some(&original));
        let command = match self.route().map(|route| &route.action) {
            Some(HttpAction::Rule(act)) => inbound::command_for(act, "", known, request_context.clone()),
            Some(HttpAction::Last { .. }) => Ok(Command::LastValues {
                request_context: Some(request_context.clone()),
                channels: self.channels.clone(),
            }),
            Some(HttpAction::Stats) => {
                Ok(Command::Statistics { request_context: Some(request_context.clone()) })
            }
            // A `receive` route uses the dialect of the path, and the others need no session.
            Some(HttpAction::Receive | HttpAction::Health | HttpAction::Console) | None => {
                Ok(Command::Acknowledge { request_context: Some(request_context.clone()) })
            }
        };
        command.map_err(|error| DecodeError { request_context: Some(request_context), error })
    }

    fn reply(&self, scope: SessionScope<'_>, reply: &Reply) -> Option<Frame> {
        let (request_context, outcome) = match reply {
            Reply::Published { request_context }
            | Reply::Acknowledged { request_context }
            | Reply::Pong { request_context } => (request_context, HttpOutcome::default()),
            Reply::Replied { request_context, data } => {
                (request_context, HttpOutcome { reply: Some(data), ..HttpOutcome::default() })
            }
            Reply::LastValues { request_context, values } => {
                (request_context, HttpOutcome { values: Some(values), ..HttpOutcome::default() })
            }
            Reply::Statistics { request_context, json } => {
                (request_context, HttpOutcome { stats: Some(json), ..HttpOutcome::default() })
            }
            Reply::Error { error, .. } | Reply::Delayed { error, .. } => {
                return Some(HttpAnswer::Refused(error.clone()).to_frame());
            }
            Reply::Connected(_) | Reply::Subscribed { .. } | Reply::Unsubscribed { .. } => return None,
        };
        Some(self.answer(without_session(scope), request_context.as_ref(), outcome))
    }

    fn push(&self, _: SessionScope<'_>, _: &Push) -> Option<Frame> {
        None
    }

    fn channel_push(&self, _: &Push, _: Option<&SubscriptionContext>) -> Option<Frame> {
        None
    }
}

/// Hides the session id and the node name: a session that lives for one request has no name that a caller could use.
fn without_session(scope: SessionScope<'_>) -> SessionScope<'_> {
    SessionScope { session: "", node: "", ..scope }
}
