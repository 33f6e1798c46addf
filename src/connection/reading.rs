//! Reading: how a connection keeps what its session cannot take yet, and gives it that when it can.

use std::rc::Rc;
use std::time::Instant;

use tidegate_protocol::session::Readiness;

use crate::connection::Connection;
use crate::connection::Stage;
use crate::connection::unread::Stop;
use crate::connection::unread::Unread;

impl Connection {
    /// Whether the session takes no message now, and when it will.
    pub(super) fn stops(&self, taken: usize, now: Instant) -> Option<Stop> {
        let readiness = self.session.borrow().readiness(now);
        (readiness != Readiness::Now).then_some(Stop { taken, readiness })
    }

    /// Keeps what was not taken. Nothing is read until it is.
    pub(super) fn hold(&self, bytes: &[u8], Stop { taken, readiness }: Stop) {
        self.put_back(Unread { bytes: bytes[taken..].into(), taken: 0, readiness });
    }

    /// Whether bytes are held, so that nothing is to be read. A connection that closes reads and forgets.
    pub(super) fn is_holding(&self) -> bool {
        self.peek(|unread| unread.is_some()) && self.stage.get() == Stage::Open
    }

    /// When held bytes may be taken, if the clock decides that.
    pub(super) fn reads_on_at(&self) -> Option<Instant> {
        self.peek(|unread| match unread?.readiness {
            Readiness::At(at) => Some(at),
            Readiness::Now | Readiness::AfterAnswer | Readiness::Never => None,
        })
    }

    fn peek<T>(&self, look: impl FnOnce(Option<&Unread>) -> T) -> T {
        let unread = self.unread.take();
        let seen = look(unread.as_deref());
        self.unread.set(unread);
        seen
    }

    /// Gives the session what is held, as far as it takes it now. When all is taken the socket is read again.
    pub(super) fn read_on(self: &Rc<Self>, now: Instant) {
        let Some(unread) = self.unread.take() else {
            return;
        };
        let Unread { mut bytes, taken, readiness } = *unread;
        if readiness == Readiness::Never || self.stops(taken, now).is_some() {
            return self.put_back(Unread { bytes, taken, readiness });
        }
        match self.take(&mut bytes[taken..], now) {
            Some(stop) => {
                self.put_back(Unread { bytes, taken: taken + stop.taken, readiness: stop.readiness });
            }
            None => {
                if let Some(waker) = self.waker.borrow().as_ref() {
                    waker.wake_by_ref();
                }
            }
        }
    }

    /// What a session that ends has not taken is forgotten; its socket is read no more.
    fn put_back(&self, mut unread: Unread) {
        if unread.readiness == Readiness::Never {
            unread = Unread { bytes: Box::default(), taken: 0, ..unread };
        }
        self.unread.set(Some(Box::new(unread)));
        self.unscheduled.set(true);
    }
}
