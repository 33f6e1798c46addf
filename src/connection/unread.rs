//! What a connection has read and its session cannot take yet: a client that is faster than it may be is read later, and
//! nothing that it has sent is refused for that.

use std::rc::Rc;
use std::time::Instant;

use crate::connection::Connection;
use crate::connection::Stage;
use crate::protocol::session::Readiness;

/// Bytes that wait for the session: at most what one read takes.
#[derive(Debug)]
pub(super) struct Unread {
    bytes: Box<[u8]>,
    /// How many of them are taken. They are not moved, however few messages are taken at a time.
    taken: usize,
    readiness: Readiness,
}

/// Why not all bytes were taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    /// How many were.
    pub(super) taken: usize,
    /// When the session takes more.
    pub(super) readiness: Readiness,
}

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
