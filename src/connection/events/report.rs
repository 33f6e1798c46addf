//! What an operator sees of the latest events, and which of them an operator asks for.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tidegate_protocol::session::now::Now;

use crate::config::network::Network;
use crate::connection::events::event::EventCause;
use crate::connection::events::event::EventKind;
use crate::connection::events::event::StoredEvent;

/// An event of a client.
#[derive(Clone, Debug)]
pub struct EventReport {
    /// When the first of equal events happened.
    pub at: SystemTime,
    /// How many equal events it is.
    pub count: u32,
    /// The id of the session, if it is about one.
    pub session: Option<Arc<str>>,
    pub kind: EventKind,
    pub cause: EventCause,
    /// The close code or the HTTP status; 0 if there is none.
    pub status: u16,
    /// See [`EventKind::amount_name`].
    pub amount: u64,
    /// These texts are empty if there is none.
    pub user: Box<str>,
    pub channel: Box<str>,
    pub address: Box<str>,
}

/// What has happened in one session.
#[derive(Clone, Debug, Default)]
pub struct SessionHistory {
    /// The oldest first.
    pub events: Vec<EventReport>,
    /// Whether these are all events of the session.
    pub is_complete: bool,
}

/// Which events to list: those that meet all conditions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventFilter {
    /// The user of the session, or the one whom a refused credential claims.
    pub user: Option<String>,
    /// The client's address is in this network.
    pub address: Option<Network>,
    /// The name of the event.
    pub name: Option<&'static str>,
}

/// The events that a filter selects.
#[derive(Clone, Debug, Default)]
pub struct EventList {
    pub matching: usize,
    /// The newest first.
    pub newest: Vec<EventReport>,
    /// Since when no event is overwritten; `None`: none ever was.
    pub since: Option<SystemTime>,
}

impl EventReport {
    /// An event as it is seen now. `session` is the id of its session.
    pub fn new(stored: &StoredEvent<'_>, session: Option<Arc<str>>, now: Now) -> Self {
        let StoredEvent { at, count, event, .. } = *stored;
        let age = now.instant.saturating_duration_since(at);
        Self {
            at: now.wall.checked_sub(age).unwrap_or(now.wall),
            count,
            session,
            kind: event.kind,
            cause: event.cause,
            status: event.status,
            amount: event.amount,
            user: event.user.into(),
            channel: event.channel.into(),
            address: event.address.into(),
        }
    }
}

impl EventFilter {
    /// Whether the event itself names the user.
    pub fn has_user(&self, stored: &StoredEvent<'_>) -> bool {
        self.user.as_ref().is_some_and(|user| *user == stored.event.user)
    }

    /// Whether the event itself names an address in the network.
    pub fn has_address(&self, stored: &StoredEvent<'_>) -> bool {
        let is_in = |network: &Network| {
            stored.event.address.parse().is_ok_and(|address: IpAddr| network.contains(address))
        };
        !stored.event.address.is_empty() && self.address.as_ref().is_some_and(is_in)
    }
}

impl EventList {
    /// Adds another list, and keeps the `most` newest of both.
    pub fn merge(&mut self, other: Self, most: usize) {
        self.matching += other.matching;
        self.newest.extend(other.newest);
        self.newest.sort_by_key(|event| Reverse(event.at));
        self.newest.truncate(most);
        self.since = self.since.max(other.since);
    }
}
