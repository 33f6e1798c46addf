//! Dialect: how the messages of one frontend are read and written. Sessions, hubs and lanes know dialects by these traits
//! alone; `native` is one of them, and each vocabulary another.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use crate::client_message::ClientMessage;
use crate::disconnect::Disconnect;
use crate::echo::Echo;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::frame::Format;
use crate::frame::Frame;
use crate::identity::Identity;
use crate::message::Command;
use crate::message::Push;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::message::SubscribeRequest;
use crate::message::Variables;
use crate::publication::Publication;
use crate::subject::Pattern;
use crate::subscription_context::SubscriptionContext;

/// A session, as far as its dialect may speak of it.
#[derive(Clone, Copy)]
pub struct SessionScope<'s> {
    /// The session's id.
    pub session: &'s str,
    /// The node's name.
    pub node: &'s str,
    /// Who it is, if that is known.
    pub identity: Option<&'s Identity>,
    /// What rules have set.
    pub variables: Option<&'s Variables>,
    /// The time of day.
    pub now: SystemTime,
}

impl Default for SessionScope<'_> {
    fn default() -> Self {
        Self { session: "", node: "", identity: None, variables: None, now: SystemTime::UNIX_EPOCH }
    }
}

/// Why a client's message is no command, and which request it was, as far as that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What was asked, as far as the answer needs it.
    pub asked: Option<RequestContext>,
    /// What is wrong with it.
    pub refusal: ClientError,
}

/// What a publication becomes.
#[derive(Debug)]
pub enum Rendered {
    /// A message.
    Frame(Frame),
    /// Nothing: the dialect has no words for it.
    Nothing,
    /// It cannot be put into the dialect's words.
    Unrenderable,
}

/// What a session has to know of its dialect next to the messages themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialectTraits {
    /// Whether a session has to show a credential, and is greeted and pinged.
    pub has_sessions: bool,
    /// Whether a newer credential is answered like the first one.
    pub greets_again: bool,
    /// Whether the answer to a subscribe contains the last values. Otherwise each is a separate message.
    pub answers_with_snapshot: bool,
    /// How often clients are pinged, if the dialect says so.
    pub ping_interval: Option<Duration>,
    /// Whether what the client sends goes back.
    pub echo: Option<Echo>,
}

/// The language of one client: how its messages are read, and what it is told in. It never changes.
pub trait Dialect: Debug + Send + Sync {
    /// The name in logs.
    fn name(&self) -> &str;

    /// Its number on this node: 0 for the native protocol; those of files count from 1, in the order of their endpoints.
    fn number(&self) -> u16;

    /// What a session has to know of it.
    fn traits(&self) -> DialectTraits;

    /// What publications of a channel are rendered for.
    fn format(&self, pattern: &Pattern) -> Format;

    /// Reads a client's message.
    fn decode(&self, scope: SessionScope<'_>, message: &ClientMessage) -> Result<Command, DecodeError>;

    /// Writes the answer to a command, if there are words for it.
    fn reply(&self, scope: SessionScope<'_>, reply: &Reply) -> Option<Frame>;

    /// Writes what the server says unasked of the session, if there are words for it.
    fn push(&self, scope: SessionScope<'_>, push: &Push) -> Option<Frame>;

    /// Writes what the server says unasked of a channel, if there are words for it.
    fn channel_push(&self, push: &Push, subscription_context: Option<&SubscriptionContext>) -> Option<Frame>;

    /// What a subscription agrees on, if there is anything.
    fn subscription_context(
        &self,
        _: SessionScope<'_>,
        _: &Pattern,
        _: u16,
        _: &SubscribeRequest,
    ) -> Option<SubscriptionContext> {
        None
    }

    /// The credential that a message brings next to what it asks.
    fn credential(&self, _: &ClientMessage) -> Option<String> {
        None
    }

    /// Who a client without a credential says that it is, where the endpoint trusts that.
    fn claimed_user(&self, _: SessionScope<'_>, _: &ClientMessage) -> Option<String> {
        None
    }

    /// Whether somebody may be where the client came in.
    fn permits(&self, _: SessionScope<'_>) -> bool {
        true
    }

    /// What is done for a client as soon as it is known who it is.
    fn on_connect(&self, _: SessionScope<'_>) -> Vec<Result<Command, DecodeError>> {
        Vec::new()
    }

    /// The close code of an error that is not said but ends the session.
    fn closing(&self, _: ErrorCode) -> Option<u16> {
        None
    }

    /// The close code of an end.
    fn close_code(&self, disconnect: Disconnect) -> u16 {
        disconnect.code()
    }

    /// What logs and statistics call a session, if the dialect has a name for it.
    fn label(&self, _: SessionScope<'_>) -> Option<String> {
        None
    }

    /// What statistics call the way by which the client came in, if there are statistics.
    fn entry(&self) -> Option<&str> {
        None
    }

    /// What statistics call a channel, if they do.
    fn item(&self, _: &Pattern) -> Option<String> {
        None
    }
}

/// How publications are rendered for the clients of one dialect.
pub trait Render: Debug + Send + Sync {
    /// Writes a publication as a message of `channel`, for the route and the body that `format` names. It is deflated
    /// later, if it is.
    fn publication(&self, format: Format, channel: &Arc<str>, publication: &Publication) -> Rendered;
}
