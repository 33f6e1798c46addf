//! `LogContext`: what operators learn of a connection: where the client is, who it is, and how the connection ended.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::moment::Moment;

use crate::connection::client_address::ClientAddress;
use crate::connection::client_name::ClientName;

/// The fields of a connection's log lines. The last line, at its end, has all of them.
pub(super) struct LogContext {
    pub(super) client_address: ClientAddress,
    /// When the client's last message came: in tenths of a second since the start, plus one; 0 if there is none.
    last_message: Cell<u32>,
    pub(super) started: Moment,
    client_name: Cell<Option<Rc<ClientName>>>,
    identity: Cell<Option<Arc<Identity>>>,
    /// `None` until there is something to say.
    end: Cell<Option<Box<LoggedEnd>>>,
}

/// Why a connection ends.
#[derive(Clone, Copy, Default)]
pub(super) struct LoggedEnd {
    /// The close code and its reason.
    pub(super) close: Option<(u16, &'static str)>,
    /// The configuration key of the limit that the client exceeded, if that is the reason.
    pub(super) limit: Option<&'static str>,
}

impl LogContext {
    pub(super) fn new(
        client_address: ClientAddress,
        client_name: Option<Rc<ClientName>>,
        identity: Option<Arc<Identity>>,
        now: Instant,
    ) -> Box<Self> {
        let (client_name, identity) = (Cell::new(client_name), Cell::new(identity));
        let (last_message, started, end) = (Cell::default(), now.into(), Cell::default());
        Box::new(Self { client_address, last_message, started, client_name, identity, end })
    }

    /// The client has sent a message.
    pub(super) fn note_message(&self, now: Instant) {
        let tenths = now.saturating_duration_since(self.started.into()).as_millis() / 100;
        self.last_message.set(u32::try_from(tenths + 1).unwrap_or(u32::MAX));
    }

    /// When the client's last message came, up to a tenth of a second too early.
    pub(super) fn last_message(&self) -> Option<Instant> {
        let tenths = self.last_message.get().checked_sub(1)?;
        Some(Instant::from(self.started) + Duration::from_millis(u64::from(tenths) * 100))
    }

    /// What the client says of itself. `None` if it says nothing, or has ended.
    pub(super) fn client_name(&self) -> Option<Rc<ClientName>> {
        let client_name = self.client_name.take();
        self.client_name.set(client_name.clone());
        client_name
    }

    /// The same at the end of the connection.
    pub(super) fn take_client_name(&self) -> Option<Rc<ClientName>> {
        self.client_name.take()
    }

    /// The client's identity, once it is known.
    pub(super) fn identity(&self) -> Option<Arc<Identity>> {
        let identity = self.identity.take();
        self.identity.set(identity.clone());
        identity
    }

    /// Whether this identity belongs to another user than the session, which then ends.
    pub(super) fn is_another_user(&self, new: &Identity) -> bool {
        self.identity().is_some_and(|current| !current.may_become(new))
    }

    pub(super) fn set_identity(&self, identity: &Arc<Identity>) {
        self.identity.set(Some(Arc::clone(identity)));
    }

    /// Why the connection ends, as far as it is known.
    pub(super) fn end(&self) -> LoggedEnd {
        let end = self.end.take();
        let known = end.as_deref().copied().unwrap_or_default();
        self.end.set(end);
        known
    }

    /// Sets why the connection ends. The first reason stays.
    pub(super) fn set_end(&self, code: u16, reason: &'static str) {
        self.change_end(|end| end.close = end.close.or(Some((code, reason))));
    }

    /// Sets the limit that the client exceeded as the reason why the connection ends. The first reason stays.
    pub(super) fn set_exceeded(&self, reason: Disconnect, limit: &'static str) {
        self.change_end(|end| {
            if end.close.is_none() {
                (end.close, end.limit) = (Some((reason.code(), reason.name())), Some(limit));
            }
        });
    }

    /// Sets the key of the limit that the client exceeded, if that is why the connection ends.
    pub(super) fn set_limit(&self, limit: Option<&'static str>) {
        self.change_end(|end| end.limit = limit);
    }

    fn change_end(&self, change: impl FnOnce(&mut LoggedEnd)) {
        let mut end = self.end.take().unwrap_or_default();
        change(&mut end);
        self.end.set(Some(end));
    }
}

/// A close reason as the log names it. Reasons from a vocabulary's file all become `by_rule`, so that the set of
/// reasons stays small.
pub(super) fn known_reason(reason: &str) -> &'static str {
    let ends = Disconnect::ALL.iter().map(|end| end.name());
    let errors = ErrorCode::ALL.iter().map(|code| code.name());
    ends.chain(errors).find(|name| *name == reason).unwrap_or("by_rule")
}
