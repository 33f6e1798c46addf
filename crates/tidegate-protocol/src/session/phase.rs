//! Phase: how far a session has come: without an identity, with one, ending, over.

use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use crate::client_message::ClientMessage;
use crate::identity::Identity;
use crate::message::Push;
use crate::message::RequestContext;
use crate::session::now::Now;

/// A verified identity, and its end on the session's own clock.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// When the credential ends.
    pub expires: Option<Instant>,
}

impl Verified {
    /// An identity whose credential ends at a time of day, as it is at this moment.
    pub fn at(identity: Arc<Identity>, now: Now) -> Self {
        let left = |end: SystemTime| end.duration_since(now.wall).unwrap_or_default();
        let expires = identity.expires.and_then(|end| now.instant.checked_add(left(end)));
        Self { identity, expires }
    }
}

/// What waits for a credential to be verified.
pub(super) enum Pending {
    /// The command that brought it.
    Command(Option<RequestContext>),
    /// A message that brought it next to what it asks.
    Message(ClientMessage),
}

pub(super) enum Phase {
    /// Without an identity, until the deadline.
    Waiting { until: Instant },
    /// With one.
    Open(Verified),
    /// Over as soon as what was published is confirmed; nothing is heard any more.
    Ending(Box<Ending>),
    /// Over; nothing is heard or said any more.
    Closed,
}

/// How a session ends when what it has published is confirmed.
#[derive(Debug)]
pub(super) struct Ending {
    /// When it ends in any case.
    pub(super) until: Instant,
    pub(super) close: Close,
}

#[derive(Debug)]
pub(super) struct Close {
    pub(super) code: u16,
    pub(super) reason: Box<str>,
    pub(super) push: Option<Push>,
}
