//! `Events`: what has happened lately to the clients of a shard, and why, so that an operator can ask about one that has
//! gone. A publication that is delivered is no event. Noting an event allocates nothing.

pub mod event;
pub mod report;
mod ring;
mod texts;

use std::cell::Cell;
use std::cell::RefCell;
use std::ops::Range;
use std::time::Instant;

use crate::connection::events::event::EventKind;
use crate::connection::events::event::NewEvent;
use crate::connection::events::event::SessionNumber;
use crate::connection::events::event::StoredEvent;
use crate::connection::events::ring::EventRing;

/// The events that a shard keeps of its connections, and the bytes of their texts: 4 MiB in all.
const CONNECTION_EVENTS: usize = 65_536;
const CONNECTION_TEXT_BYTES: usize = 2 * 1024 * 1024;

/// The events that one shard keeps of the refused requests of all shards, and the bytes of their texts.
const REQUEST_EVENTS: usize = 16_384;
const REQUEST_TEXT_BYTES: usize = 1024 * 1024;

/// The events of one connection in a minute. Further ones are counted in one event, so that a busy client does not
/// overwrite what has happened to all others.
const EVENTS_PER_MINUTE: u16 = 256;

/// The latest events of one kind of clients.
#[derive(Debug)]
pub struct Events {
    ring: RefCell<EventRing>,
    started: Instant,
}

/// What a connection keeps to note its events.
#[derive(Debug)]
pub struct SessionMark {
    /// The number of its session.
    pub number: SessionNumber,
    /// The number of its last event: the lower 32 bits.
    last: Cell<u32>,
    /// The minute of that event since the shard started, modulo 2^16, and how many it had then.
    minute: Cell<u16>,
    in_minute: Cell<u16>,
}

impl Events {
    /// For the connections of a shard.
    pub fn of_connections() -> Self {
        Self::with_room(CONNECTION_EVENTS, CONNECTION_TEXT_BYTES)
    }

    /// For requests that were refused.
    pub fn of_refused_requests() -> Self {
        Self::with_room(REQUEST_EVENTS, REQUEST_TEXT_BYTES)
    }

    fn with_room(events: usize, text_bytes: usize) -> Self {
        Self { ring: RefCell::new(EventRing::new(events, text_bytes)), started: Instant::now() }
    }

    /// Notes an event of a connection.
    pub fn note(&self, mark: &SessionMark, event: &NewEvent<'_>, now: Instant) {
        let mut ring = self.ring.borrow_mut();
        let (session, last) = (mark.number, at_or_before(ring.kept().end, mark.last.get()));
        if ring.merge(last, session, event, now) {
            return;
        }
        let omitted = NewEvent::new(EventKind::Omitted);
        let event = if event.kind.is_exempt() || mark.count(self.minute(now)) { event } else { &omitted };
        if event.kind == EventKind::Omitted && ring.merge(last, session, event, now) {
            return;
        }
        mark.last.set(ring.push(session, event, now) as u32);
    }

    /// Notes an event that belongs to no connection. If it equals one of the two before, both are one: a call may cause two.
    pub fn note_request(&self, event: &NewEvent<'_>, at: Instant) {
        let mut ring = self.ring.borrow_mut();
        let Range { start, end } = ring.kept();
        let mut before = (start.max(end.saturating_sub(2))..end).rev();
        if !before.any(|number| ring.merge(number, SessionNumber::NONE, event, at)) {
            ring.push(SessionNumber::NONE, event, at);
        }
    }

    /// Notes that `count` more requests of an address were not recorded. `last` is the number of the address's event of this kind
    /// before, which may be the same event. Returns the number.
    pub fn note_omitted(&self, address: &str, count: u32, last: Option<u64>, at: Instant) -> u64 {
        let mut ring = self.ring.borrow_mut();
        let event = NewEvent { address, ..NewEvent::new(EventKind::Omitted) };
        let merged = last.filter(|last| ring.merge(*last, SessionNumber::NONE, &event, at));
        let number = merged.unwrap_or_else(|| ring.push(SessionNumber::NONE, &event, at));
        ring.add(number, count.saturating_sub(1), 0);
        number
    }

    /// The numbers of the events that are kept, the oldest first. If the first is not 0, older ones are overwritten.
    pub fn kept(&self) -> Range<u64> {
        self.ring.borrow().kept()
    }

    /// Calls `see` with each event of these numbers that is still kept.
    pub fn each(&self, numbers: Range<u64>, mut see: impl FnMut(u64, StoredEvent<'_>)) {
        let ring = self.ring.borrow();
        numbers
            .filter_map(|number| Some((number, ring.get(number)?)))
            .for_each(|(number, event)| see(number, event));
    }

    fn minute(&self, now: Instant) -> u16 {
        (now.saturating_duration_since(self.started).as_secs() / 60) as u16
    }
}

impl SessionMark {
    /// Of a session that has no event yet.
    pub fn new(number: SessionNumber) -> Self {
        Self { number, last: Cell::default(), minute: Cell::default(), in_minute: Cell::default() }
    }

    /// Counts an event of this minute. Returns false if there are too many.
    fn count(&self, minute: u16) -> bool {
        if self.minute.replace(minute) != minute {
            self.in_minute.set(0);
        }
        let has_room = self.in_minute.get() < EVENTS_PER_MINUTE;
        if has_room {
            self.in_minute.update(|count| count + 1);
        }
        has_room
    }
}

/// The greatest number below `end` with these lower 32 bits.
fn at_or_before(end: u64, low: u32) -> u64 {
    let back = (end as u32).wrapping_sub(low);
    end.saturating_sub(if back == 0 { 1 << 32 } else { back.into() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(events: &Events) -> Vec<(u32, String, u32)> {
        let mut found = Vec::new();
        events.each(events.kept(), |_, stored| {
            let StoredEvent { session, count, event, .. } = stored;
            found.push((session.0, format!("{} {}", event.kind.name(), event.channel), count));
        });
        found
    }

    fn on(channel: &str) -> NewEvent<'_> {
        NewEvent { channel, ..NewEvent::new(EventKind::Published) }
    }

    #[test]
    fn equal_events_of_a_connection_are_one_whatever_others_do_meanwhile() {
        let (events, now) = (Events::of_connections(), Instant::now());
        let marks = [7, 8].map(|number| SessionMark::new(SessionNumber(number)));
        for _ in 0..3 {
            marks.iter().for_each(|mark| events.note(mark, &on("a"), now));
        }
        events.note(&marks[0], &on("b"), now);
        events.note(&marks[0], &on("a"), now);
        let expected =
            [(7, "published a", 3), (8, "published a", 3), (7, "published b", 1), (7, "published a", 1)];
        assert_eq!(of(&events), expected.map(|(session, event, count)| (session, event.to_owned(), count)));
    }

    #[test]
    fn a_busy_connection_does_not_overwrite_the_events_of_others() {
        let (events, mut now) = (Events::of_connections(), Instant::now());
        let [busy, other] = [1, 2].map(|number| SessionMark::new(SessionNumber(number)));
        events.note(&other, &on("other"), now);
        for _ in 0..2 {
            for number in 0..70_000 {
                events.note(&busy, &on(if number % 2 == 0 { "a" } else { "b" }), now);
            }
            now += Duration::from_mins(1);
        }
        events.note(&busy, &NewEvent::new(EventKind::Disconnected), now);
        let found = of(&events);
        assert_eq!(found[0], (2, "published other".to_owned(), 1));
        let omitted = 70_000 - u32::from(EVENTS_PER_MINUTE);
        let of_a_minute = usize::from(EVENTS_PER_MINUTE) + 1;
        assert_eq!(found[of_a_minute], (1, "omitted ".to_owned(), omitted));
        assert_eq!(found[2 * of_a_minute], (1, "omitted ".to_owned(), omitted));
        assert_eq!(found[2 * of_a_minute + 1..], [(1, "disconnected ".to_owned(), 1)]);
    }

    #[test]
    fn requests_are_merged_with_one_of_the_two_before() {
        let (events, now) = (Events::of_refused_requests(), Instant::now());
        for user in ["alice", "alice", "bob", "alice", "carol", "dave", "alice"] {
            let event = NewEvent { user, ..NewEvent::new(EventKind::RequestRefused) };
            events.note_request(&event, now);
        }
        let counts: Vec<_> = of(&events).into_iter().map(|(session, _, count)| (session, count)).collect();
        assert_eq!(counts, [3, 1, 1, 1, 1].map(|count| (u32::MAX, count)));
    }

    #[test]
    fn requests_that_are_left_out_are_one_event_of_their_address_in_a_minute() {
        let (events, now) = (Events::of_refused_requests(), Instant::now());
        let first = events.note_omitted("192.0.2.1", 5, None, now);
        let other = events.note_omitted("192.0.2.2", 7, None, now);
        assert_eq!(events.note_omitted("192.0.2.1", 20, Some(first), now), first);
        let later = events.note_omitted("192.0.2.1", 1, Some(first), now + Duration::from_mins(1));
        assert_eq!((first, other, later), (0, 1, 2));
        let counts: Vec<_> = of(&events).into_iter().map(|(_, _, count)| count).collect();
        assert_eq!(counts, [25, 7, 1]);
    }

    #[test]
    fn the_number_of_the_last_event_is_found_by_its_lower_half() {
        for (end, number) in
            [(1, 0), (5, 4), (5, 0), (1 << 32, (1 << 32) - 1), ((1 << 32) + 5, 6), (3 << 32, (3 << 32) - 7)]
        {
            assert_eq!(at_or_before(end, number as u32), number, "{end}");
        }
        assert_eq!(at_or_before(0, 0), 0);
    }
}
