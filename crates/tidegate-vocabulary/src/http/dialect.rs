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
        let question = Rc::new(OriginalMessage { text: body.into(), ..OriginalMessage::default() });
        let asked = RequestContext::Message(Rc::clone(&question));
        let known = message_scope(&self.binding, without_session(scope), Some(&question));
        let command = match self.route().map(|route| &route.action) {
            Some(HttpAction::Rule(act)) => inbound::command_for(act, "", known, asked.clone()),
            Some(HttpAction::Last { .. }) => {
                Ok(Command::LastValues { asked: Some(asked.clone()), channels: self.channels.clone() })
            }
            Some(HttpAction::Stats) => Ok(Command::Statistics { asked: Some(asked.clone()) }),
            // A `receive` route uses the dialect of the path, and the others need no session.
            Some(HttpAction::Receive | HttpAction::Health | HttpAction::Console) | None => {
                Ok(Command::Acknowledge { asked: Some(asked.clone()) })
            }
        };
        command.map_err(|refusal| DecodeError { asked: Some(asked), refusal })
    }

    fn reply(&self, scope: SessionScope<'_>, reply: &Reply) -> Option<Frame> {
        let (asked, outcome) = match reply {
            Reply::Published { asked } | Reply::Acknowledged { asked } | Reply::Pong { asked } => {
                (asked, HttpOutcome::default())
            }
            Reply::Replied { asked, data } => {
                (asked, HttpOutcome { reply: Some(data), ..HttpOutcome::default() })
            }
            Reply::LastValues { asked, values } => {
                (asked, HttpOutcome { values: Some(values), ..HttpOutcome::default() })
            }
            Reply::Statistics { asked, json } => {
                (asked, HttpOutcome { stats: Some(json), ..HttpOutcome::default() })
            }
            Reply::Error { refusal, .. } | Reply::Delayed { refusal, .. } => {
                return Some(HttpAnswer::Refused(refusal.clone()).to_frame());
            }
            Reply::Connected(_) | Reply::Subscribed { .. } | Reply::Unsubscribed { .. } => return None,
        };
        Some(self.answer(without_session(scope), asked.as_ref(), outcome).to_frame())
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
