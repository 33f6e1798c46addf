//! The neutral messages between a session and a vocabulary. None of them is serialisable: only vocabularies are.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;

use crate::protocol::disconnect::Disconnect;
use crate::protocol::error::Refusal;
use crate::protocol::frame::Frame;
use crate::protocol::payload::Payload;

/// What a client calls its request: JSON text, echoed as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub Box<str>);

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A credential for a session that has none, or a newer one.
    Auth { token: String },
    /// Listen to channels; each is answered on its own.
    Subscribe { id: Option<RequestId>, channels: Vec<String>, max_rate: Option<Duration> },
    /// Stop listening.
    Unsubscribe { id: Option<RequestId>, channels: Vec<String> },
    /// Put a message on a subject.
    Publish { id: Option<RequestId>, channel: String, data: Bytes, headers: Vec<(String, String)> },
    /// Put a message on a subject and wait for one answer.
    Request { id: Option<RequestId>, channel: String, data: Bytes, timeout: Option<Duration> },
    /// Are you there?
    Ping { id: Option<RequestId> },
    /// I am here.
    Pong,
    /// The same message back, as it came.
    #[cfg(feature = "test-hooks")]
    Echo(Frame),
}

/// What answers a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The session has an identity (again).
    Connected(Connected),
    /// The channel is live; the last values stand in `snapshot`, encoded as messages of the channel.
    Subscribed { id: Option<RequestId>, channel: Arc<str>, snapshot: Vec<Frame> },
    /// The channel is left, because the client asked for it.
    Unsubscribed { id: Option<RequestId>, channel: Arc<str> },
    /// The message is with NATS.
    Published { id: Option<RequestId> },
    /// The answer of whoever serves the subject.
    Replied { id: Option<RequestId>, data: Payload },
    /// The command was refused; nothing was done.
    Error { id: Option<RequestId>, channel: Option<String>, refusal: Refusal },
    /// I am here.
    Pong { id: Option<RequestId> },
}

/// Who the session is, and by which figures it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The session's own id, unique in the cluster.
    pub session: Arc<str>,
    /// The user that the credential names.
    pub user: Arc<str>,
    /// The node's name.
    pub node: Arc<str>,
    /// How often the server pings.
    pub ping_interval: Duration,
    /// How long the credential lasts from now on.
    pub expires_in: Option<Duration>,
    /// Largest message that a client may send, in bytes.
    pub max_message: usize,
    /// How many channels a session may have.
    pub max_subscriptions: usize,
}

/// What the server says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// Are you there?
    Ping,
    /// Publications that the session should have had and did not.
    Gap { channel: Arc<str>, cause: GapCause, dropped: Option<u64> },
    /// Nothing has come on this channel since then.
    Stale { channel: Arc<str>, since: SystemTime },
    /// The channel has ended, and not because the client asked for it.
    Unsubscribed { channel: Arc<str>, refusal: Refusal },
    /// The credential runs out.
    Expiring { within: Duration },
    /// The session ends now.
    Close { disconnect: Disconnect, retry_after: Option<Duration> },
}

/// Why there is a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapCause {
    /// The client was slower than the stream, and its outbox full.
    Slow,
    /// What waited for the client grew older than `max_age_ms`.
    Expired,
    /// The connection between this node and NATS was lost for a while.
    Nats,
    /// A message came from NATS whose subject, or a header that clients are shown, cannot be read.
    Malformed,
    /// The thread that serves this session could not take what was published.
    Overflow,
    /// A fault of ours while a publication was encoded.
    Internal,
}

impl GapCause {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Expired => "expired",
            Self::Nats => "nats",
            Self::Malformed => "malformed",
            Self::Overflow => "overflow",
            Self::Internal => "internal",
        }
    }
}
