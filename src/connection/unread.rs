//! What a connection has read and its session cannot take yet: a client that is faster than it may be is read later, and
//! nothing that it has sent is refused for that.

use std::rc::Rc;
use std::time::Instant;

use crate::connection::Connection;
use crate::protocol::session::Readiness;

/// Bytes that wait for the session: at most what one read takes.
#[derive(Debug)]
pub(super) struct Unread {
    bytes: Box<[u8]>,
    readiness: Readiness,
}

impl Connection {
    /// Whether the session takes nothing now; then these bytes are held. Those of a session that ends are forgotten.
    pub(super) fn holds(&self, bytes: &[u8], now: Instant) -> bool {
        let readiness = self.session.borrow().readiness(now);
        let bytes = match readiness {
            Readiness::Now => return false,
            Readiness::At(_) | Readiness::AfterAnswer => bytes.into(),
            Readiness::Never => Box::default(),
        };
        self.unread.set(Some(Box::new(Unread { bytes, readiness })));
        self.unscheduled.set(true);
        true
    }

    /// Whether bytes are held, so that nothing is to be read.
    pub(super) fn is_holding(&self) -> bool {
        let unread = self.unread.take();
        let is_holding = unread.is_some();
        self.unread.set(unread);
        is_holding
    }

    /// When held bytes may be taken, if the clock decides that.
    pub(super) fn reads_on_at(&self) -> Option<Instant> {
        let unread = self.unread.take();
        let at = unread.as_ref().and_then(|unread| match unread.readiness {
            Readiness::At(at) => Some(at),
            Readiness::Now | Readiness::AfterAnswer | Readiness::Never => None,
        });
        self.unread.set(unread);
        at
    }

    /// Gives the session what is held, as far as it takes it now. When all is taken the socket is read again.
    pub(super) fn read_on(self: &Rc<Self>, now: Instant) {
        let Some(mut unread) = self.unread.take() else {
            return;
        };
        if unread.readiness == Readiness::Never || self.session.borrow().readiness(now) != Readiness::Now {
            return self.unread.set(Some(unread));
        }
        self.take(&mut unread.bytes, now);
        if !self.is_holding()
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }
}
