//! Dialects: how the messages of a frontend are decoded and encoded. Sessions, hubs and lanes use only these traits.
//! The native protocol is one dialect, and each vocabulary another.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use crate::client_message::ClientMessage;
use crate::disconnect::Disconnect;
use crate::echo::Echo;
use crate::elements::CollectedMessage;
use crate::elements::Element;
use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::frame::Format;
use crate::frame::Frame;
use crate::frame::RouteId;
use crate::frame::VocabularyId;
use crate::identity::Identity;
use crate::message::Command;
use crate::message::Push;
use crate::message::Reply;
use crate::message::RequestContext;
use crate::message::SubscribeRequest;
use crate::message::Variables;
use crate::publication::Publication;
use crate::scratch::Scratch;
use crate::session::subscription::Subscriptions;
use crate::subject::Pattern;
use crate::subscription_context::SubscriptionContext;

/// What a dialect may read from a session.
#[derive(Clone, Copy)]
pub struct SessionScope<'s> {
    pub session: &'s str,
    /// The name of the node.
    pub node: &'s str,
    /// The identity, once known.
    pub identity: Option<&'s Identity>,
    /// The variables that the vocabulary's rules have set.
    pub variables: Option<&'s Variables>,
    /// Its subscriptions, if there is a session.
    pub subscriptions: Option<&'s Subscriptions>,
    /// The time of day.
    pub now: SystemTime,
}

impl Default for SessionScope<'_> {
    fn default() -> Self {
        let now = SystemTime::UNIX_EPOCH;
        Self { session: "", node: "", identity: None, variables: None, subscriptions: None, now }
    }
}

/// Why a message from a client could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The context for the reply, if enough of the message could be read.
    pub request_context: Option<RequestContext>,
    pub error: ClientError,
}

/// The result of rendering a publication.
#[derive(Debug)]
pub enum Rendered {
    /// A message.
    Frame(Frame),
    /// Elements, which are delivered by their channels: none for an empty list. `is_complete` is false if the dialect
    /// cannot render some of them.
    Elements { list: Vec<Arc<Element>>, is_complete: bool },
    /// Nothing: the dialect has no message for it.
    Nothing,
    /// The dialect has a message for it, but cannot render this publication.
    Unrenderable,
    /// The same, because it has too many elements, or too large ones.
    TooManyElements,
}

/// Properties of a dialect that change what its sessions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialectTraits {
    /// Whether sessions need a credential, get a greeting and are pinged.
    pub has_sessions: bool,
    /// Whether a newer credential is confirmed with [`Reply::Connected`] like the first one.
    pub confirms_new_credential: bool,
    /// Whether the reply to a subscribe contains the last values. Otherwise each is a separate message.
    pub answers_with_snapshot: bool,
    /// How often clients are pinged, if the dialect decides it.
    pub ping_interval: Option<Duration>,
    /// Whether the client gets its own messages back.
    pub echo: Option<Echo>,
}

/// The language of one client: it decodes the client's messages and encodes the server's. It is immutable.
pub trait Dialect: Debug + Send + Sync {
    /// The name for logs.
    fn name(&self) -> &str;

    /// The dialect's number on this node: 0 for the native protocol; vocabularies count from 1, in the order of their
    /// endpoints.
    fn number(&self) -> VocabularyId;

    fn traits(&self) -> DialectTraits;

    /// The format in which publications of this channel are rendered.
    fn format(&self, pattern: &Pattern) -> Format;

    /// Decodes a message from the client.
    fn decode(&self, scope: SessionScope<'_>, message: &ClientMessage) -> Result<Command, DecodeError>;

    /// Encodes the reply to a command, if the dialect has a message for it.
    fn reply(&self, scope: SessionScope<'_>, reply: &Reply) -> Option<Frame>;

    /// Encodes a push about the session, if the dialect has a message for it.
    fn push(&self, scope: SessionScope<'_>, push: &Push) -> Option<Frame>;

    /// Encodes a push about a channel, if the dialect has a message for it.
    fn channel_push(&self, push: &Push, subscription_context: Option<&SubscriptionContext>) -> Option<Frame>;

    /// Encodes elements of a collection, if the dialect has one.
    fn collected(&self, _: &CollectedMessage<'_>, _: Option<&SubscriptionContext>) -> Option<Frame> {
        None
    }

    /// What the dialect keeps for a subscription, if anything.
    fn subscription_context(
        &self,
        _: SessionScope<'_>,
        _: &Pattern,
        _: RouteId,
        _: &SubscribeRequest,
    ) -> Option<SubscriptionContext> {
        None
    }

    /// The credential that a message carries along with its command.
    fn credential(&self, _: &ClientMessage) -> Option<String> {
        None
    }

    /// The user that a client without a credential claims to be, if the endpoint trusts that.
    fn trusted_user(&self, _: SessionScope<'_>, _: &ClientMessage) -> Option<String> {
        None
    }

    /// Whether this identity may use the path on which the client connected.
    fn permits(&self, _: SessionScope<'_>) -> bool {
        true
    }

    /// The commands that run as soon as the client has an identity.
    fn on_connect(&self, _: SessionScope<'_>) -> Vec<Result<Command, DecodeError>> {
        Vec::new()
    }

    /// The close code for an error that closes the session instead of being sent.
    fn error_close_code(&self, _: ErrorCode) -> Option<u16> {
        None
    }

    /// The close code for the end of a session.
    fn close_code(&self, disconnect: Disconnect) -> u16 {
        disconnect.code()
    }

    /// The name of a session in logs and statistics, if the dialect defines one.
    fn label(&self, _: SessionScope<'_>) -> Option<String> {
        None
    }

    /// The name of the client's path in statistics, if the dialect has statistics.
    fn path_name(&self) -> Option<&str> {
        None
    }

    /// The name of a channel in statistics, if it is shown there.
    fn stats_item(&self, _: &Pattern) -> Option<String> {
        None
    }
}

/// Renders publications for the clients of one dialect.
pub trait Render: Debug + Send + Sync {
    /// The dialect's name, for logs.
    fn dialect_name(&self) -> &str;

    /// Encodes a publication as a message of `channel`, for the route and the body of `format`. Compression comes
    /// later.
    fn publication(
        &self,
        format: Format,
        channel: &str,
        publication: &Publication,
        scratch: &mut Scratch,
    ) -> Rendered;
}
