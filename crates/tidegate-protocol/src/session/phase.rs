//! The phases of a session: waiting for an identity, open, ending, closed.

use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use crate::client_message::ClientMessage;
use crate::identity::Identity;
use crate::message::Push;
use crate::message::RequestContext;
use crate::session::now::Now;

/// A verified identity, with its expiry on the monotonic clock.
#[derive(Clone, Debug)]
pub struct Verified {
    pub identity: Arc<Identity>,
    /// When the credential expires.
    pub expires: Option<Instant>,
}

impl Verified {
    /// Converts the identity's expiry from the wall clock to the monotonic clock.
    pub fn at(identity: Arc<Identity>, now: Now) -> Self {
        let left = |end: SystemTime| end.duration_since(now.wall).unwrap_or_default();
        let expires = identity.expires.and_then(|end| now.instant.checked_add(left(end)));
        Self { identity, expires }
    }
}

/// What waits until a credential is verified.
pub(super) enum PendingAuth {
    /// An `auth` command, with the context for its reply.
    Command(Option<RequestContext>),
    /// A message that carried the credential along with its command.
    Message(ClientMessage),
}

pub(super) enum Phase {
    /// Without an identity; closes at the deadline.
    Waiting { until: Instant },
    /// With an identity.
    Open(Verified),
    /// Closes as soon as NATS has confirmed the publishes; ignores all other input.
    Ending(Box<Ending>),
    /// Closed; ignores all input.
    Closed,
}

/// The end of a session that waits for NATS to confirm its publishes.
#[derive(Debug)]
pub(super) struct Ending {
    /// When it closes in any case.
    pub(super) until: Instant,
    pub(super) close: Close,
}

#[derive(Debug)]
pub(super) struct Close {
    pub(super) code: u16,
    pub(super) reason: Box<str>,
    pub(super) push: Option<Push>,
}
