//! `NewEvent`: one thing that happens to a connection, or to a request that is refused, as operators see it.

use std::time::Instant;

use crate::node::audit::event::AuditKind;

/// The longest text of an event, in bytes.
const MAX_TEXT: usize = 255;

/// The number of a session on its shard: the lower 32 bits. Of the sessions that a ring of events knows, no two have the
/// same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionNumber(pub u32);

impl SessionNumber {
    /// Of events that belong to no session.
    pub const NONE: Self = Self(u32::MAX);
}

/// What has happened. The names are those of the audit feed, which does not have all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// A connection has started.
    Connected,
    /// A credential in a message is accepted.
    Authenticated,
    Subscribed,
    Unsubscribed,
    /// A message of the client goes to NATS. Whether that succeeds is not known yet.
    Published,
    Requested,
    /// A credential in a message, an operation or a message was refused.
    Refused,
    /// A handshake or a call was refused.
    RequestRefused,
    /// Publications are missing.
    Gap,
    /// The client's socket takes bytes again, after it has taken none for a second or more.
    Resumed,
    /// The client sends commands faster than its rate allows, so they wait.
    RateLimited,
    /// A backend, an operator or a revocation has changed the session.
    Changed,
    /// The close frame is on its way.
    Closing,
    Disconnected,
    /// Further events of this minute are only counted.
    Omitted,
}

/// Why, in the stable words of the log. The program has all of these words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventCause {
    /// What was refused.
    pub operation: Option<&'static str>,
    /// The error code.
    pub code: Option<&'static str>,
    /// The code, or a more exact reason.
    pub reason: Option<&'static str>,
    /// The configuration key of the limit that was exceeded.
    pub limit: Option<&'static str>,
}

/// An event to keep. Texts are cut after 255 bytes; an empty one means that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEvent<'e> {
    pub kind: EventKind,
    pub cause: EventCause,
    /// The close code or the HTTP status; 0 if there is none.
    pub status: u16,
    /// See [`EventKind::amount_name`].
    pub amount: u64,
    /// Who it is; in a refused request only who the credential claims.
    pub user: &'e str,
    /// The channel; for [`EventKind::has_endpoint`], the endpoint.
    pub channel: &'e str,
    /// The address of the client.
    pub address: &'e str,
}

/// An event that is kept.
#[derive(Clone, Copy, Debug)]
pub struct StoredEvent<'r> {
    /// When the first of the equal events was noted.
    pub at: Instant,
    pub session: SessionNumber,
    /// How many equal events it is.
    pub count: u32,
    /// What it is, as it was noted. `amount` is the sum of all.
    pub event: NewEvent<'r>,
}

impl EventKind {
    pub const ALL: [Self; 15] = [
        Self::Connected,
        Self::Authenticated,
        Self::Subscribed,
        Self::Unsubscribed,
        Self::Published,
        Self::Requested,
        Self::Refused,
        Self::RequestRefused,
        Self::Gap,
        Self::Resumed,
        Self::RateLimited,
        Self::Changed,
        Self::Closing,
        Self::Disconnected,
        Self::Omitted,
    ];

    /// The member `event`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Authenticated => "authenticated",
            Self::Subscribed => "subscribed",
            Self::Unsubscribed => "unsubscribed",
            Self::Published => "published",
            Self::Requested => "requested",
            Self::Refused | Self::RequestRefused => "refused",
            Self::Gap => "gap",
            Self::Resumed => "resumed",
            Self::RateLimited => "rate_limited",
            Self::Changed => "changed",
            Self::Closing => "closing",
            Self::Disconnected => "disconnected",
            Self::Omitted => "omitted",
        }
    }

    /// Whether an event has the endpoint, and no channel.
    pub fn has_endpoint(self) -> bool {
        matches!(self, Self::Connected | Self::RequestRefused | Self::Disconnected)
    }

    /// The member for the amount: `bytes` of the payloads, publications that are `missing`, or `duration_ms`.
    pub fn amount_name(self) -> Option<&'static str> {
        match self {
            Self::Published | Self::Requested => Some("bytes"),
            Self::Gap => Some("missing"),
            Self::Resumed | Self::Disconnected => Some("duration_ms"),
            Self::Connected
            | Self::Authenticated
            | Self::Subscribed
            | Self::Unsubscribed
            | Self::Refused
            | Self::RequestRefused
            | Self::RateLimited
            | Self::Changed
            | Self::Closing
            | Self::Omitted => None,
        }
    }

    /// Whether it is kept however many events the connection has: there is one of each.
    pub(super) fn is_exempt(self) -> bool {
        matches!(self, Self::Connected | Self::Closing | Self::Disconnected)
    }
}

impl From<AuditKind> for EventKind {
    fn from(kind: AuditKind) -> Self {
        match kind {
            AuditKind::Connected => Self::Connected,
            AuditKind::Authenticated => Self::Authenticated,
            AuditKind::Subscribed => Self::Subscribed,
            AuditKind::Unsubscribed => Self::Unsubscribed,
            AuditKind::Published => Self::Published,
            AuditKind::Requested => Self::Requested,
            AuditKind::Refused => Self::Refused,
            AuditKind::Changed => Self::Changed,
            AuditKind::Disconnected => Self::Disconnected,
        }
    }
}

impl<'e> NewEvent<'e> {
    /// An event of which only the kind is known.
    pub fn new(kind: EventKind) -> Self {
        Self { kind, cause: EventCause::default(), status: 0, amount: 0, user: "", channel: "", address: "" }
    }

    /// The event with its texts as they are kept.
    pub(super) fn cut(&self) -> Self {
        let cut = |text: &'e str| &text[..text.floor_char_boundary(MAX_TEXT)];
        Self { user: cut(self.user), channel: cut(self.channel), address: cut(self.address), ..*self }
    }
}
