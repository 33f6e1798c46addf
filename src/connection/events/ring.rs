//! `EventRing`: the latest events, 32 bytes each. The oldest are overwritten, or go when their texts are overwritten.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::moment::Moment;

use crate::connection::events::event::EventCause;
use crate::connection::events::event::EventKind;
use crate::connection::events::event::NewEvent;
use crate::connection::events::event::SessionNumber;
use crate::connection::events::event::StoredEvent;
use crate::connection::events::texts::TextRing;

/// Equal events of a session that follow each other within this time are one, with their number.
const MERGED_FOR: Duration = Duration::from_mins(1);

/// One event, as it is kept.
#[derive(Clone, Copy, Debug)]
struct RingEntry {
    at: Moment,
    session: SessionNumber,
    count: u32,
    amount: u32,
    text: u32,
    status: u16,
    cause: u16,
    text_lengths: [u8; 3],
    kind: EventKind,
}

const _: () = assert!(size_of::<RingEntry>() <= 32, "an event has at most 32 bytes");

/// The latest events.
#[derive(Debug)]
pub(super) struct EventRing {
    entries: Vec<RingEntry>,
    capacity: usize,
    /// The numbers of the events that are whole.
    kept: Range<u64>,
    texts: TextRing,
    causes: Causes,
}

/// The causes that have occurred. There are as many as the program has combinations of words.
#[derive(Debug, Default)]
struct Causes {
    list: Vec<EventCause>,
    numbers: HashMap<EventCause, u16>,
}

impl EventRing {
    /// A ring of this many events with this many bytes of texts. Memory that has not been used yet is not touched.
    pub(super) fn new(capacity: usize, text_bytes: usize) -> Self {
        let (texts, causes) = (TextRing::new(text_bytes), Causes::default());
        Self { entries: Vec::new(), capacity, kept: 0..0, texts, causes }
    }

    /// The numbers of the events that are whole, from the oldest to the newest. The first event of all has the number 0.
    pub(super) fn kept(&self) -> Range<u64> {
        self.kept.clone()
    }

    /// Keeps an event, and returns its number.
    pub(super) fn push(&mut self, session: SessionNumber, event: &NewEvent<'_>, at: Instant) -> u64 {
        let NewEvent { user, channel, address, .. } = event.cut();
        let texts = [user, channel, address];
        let entry = RingEntry {
            at: at.into(),
            session,
            count: 1,
            amount: saturated(event.amount),
            text: self.texts.push(texts),
            status: event.status,
            cause: self.causes.number(event.cause),
            text_lengths: texts.map(|text| u8::try_from(text.len()).unwrap_or(u8::MAX)),
            kind: event.kind,
        };
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(self.capacity);
        }
        let (number, index) = (self.kept.end, self.index(self.kept.end));
        match self.entries.get_mut(index) {
            Some(oldest) => *oldest = entry,
            None => self.entries.push(entry),
        }
        self.kept.end += 1;
        self.kept.start = self.kept.start.max(self.kept.end.saturating_sub(self.capacity as u64));
        while let Some(oldest) = self.entry(self.kept.start)
            && !self.texts.has(oldest.text)
        {
            self.kept.start += 1;
        }
        number
    }

    /// Adds an event to an earlier one of the session, if that is equal but for its amount, and not older than a minute.
    /// Returns whether it is.
    pub(super) fn merge(
        &mut self,
        number: u64,
        session: SessionNumber,
        event: &NewEvent<'_>,
        at: Instant,
    ) -> bool {
        let Some(known) = self.get(number) else { return false };
        let is_equal = known.session == session
            && known.event == NewEvent { amount: known.event.amount, ..event.cut() }
            && at.saturating_duration_since(known.at) < MERGED_FOR;
        if is_equal {
            self.add(number, 1, event.amount);
        }
        is_equal
    }

    /// Counts further events in one that is kept.
    pub(super) fn add(&mut self, number: u64, count: u32, amount: u64) {
        let index = self.index(number);
        if let Some(entry) = self.entries.get_mut(index) {
            entry.count = entry.count.saturating_add(count);
            entry.amount = entry.amount.saturating_add(saturated(amount));
        }
    }

    /// The event with this number, if it is whole.
    pub(super) fn get(&self, number: u64) -> Option<StoredEvent<'_>> {
        let entry = self.entry(number)?;
        let [user, channel, address] = self.texts.get(entry.text, entry.text_lengths);
        let event = NewEvent {
            kind: entry.kind,
            cause: self.causes.get(entry.cause),
            status: entry.status,
            amount: entry.amount.into(),
            user,
            channel,
            address,
        };
        let RingEntry { at, session, count, .. } = *entry;
        Some(StoredEvent { at: at.into(), session, count, event })
    }

    fn entry(&self, number: u64) -> Option<&RingEntry> {
        if self.kept.contains(&number) { self.entries.get(self.index(number)) } else { None }
    }

    fn index(&self, number: u64) -> usize {
        usize::try_from(number % self.capacity as u64).unwrap_or_default()
    }
}

impl Causes {
    fn number(&mut self, cause: EventCause) -> u16 {
        if let Some(number) = self.numbers.get(&cause) {
            return *number;
        }
        let Ok(number) = u16::try_from(self.list.len()) else { return 0 };
        self.list.push(cause);
        self.numbers.insert(cause, number);
        number
    }

    fn get(&self, number: u16) -> EventCause {
        self.list.get(usize::from(number)).copied().unwrap_or_default()
    }
}

fn saturated(amount: u64) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SessionNumber = SessionNumber(1);

    fn channel(channel: &str) -> NewEvent<'_> {
        NewEvent { channel, amount: 3, ..NewEvent::new(EventKind::Published) }
    }

    fn channels(ring: &EventRing) -> Vec<&str> {
        ring.kept().map(|number| ring.get(number).unwrap().event.channel).collect()
    }

    #[test]
    fn the_oldest_events_are_overwritten() {
        let (mut ring, now) = (EventRing::new(3, 1024), Instant::now());
        for (name, kept) in [("a", 0..1), ("b", 0..2), ("c", 0..3), ("d", 1..4), ("e", 2..5)] {
            ring.push(ONE, &channel(name), now);
            assert_eq!(ring.kept(), kept, "{name}");
        }
        assert_eq!(channels(&ring), ["c", "d", "e"]);
        assert!(ring.get(1).is_none() && ring.get(5).is_none());
    }

    #[test]
    fn an_event_goes_when_its_texts_are_overwritten() {
        let (mut ring, now) = (EventRing::new(100, 16), Instant::now());
        for name in ["first", "second", "third"] {
            ring.push(ONE, &channel(name), now);
        }
        assert_eq!(channels(&ring), ["first", "second", "third"]);
        ring.push(ONE, &channel("x"), now);
        assert_eq!(channels(&ring), ["second", "third", "x"], "there is no room for four");
    }

    #[test]
    fn equal_events_within_a_minute_are_one() {
        let (mut ring, now) = (EventRing::new(100, 1024), Instant::now());
        let number = ring.push(ONE, &channel("a"), now);
        let merges = |ring: &mut EventRing, session, event: &NewEvent<'_>, after| {
            ring.merge(number, session, event, now + Duration::from_secs(after))
        };
        assert!(merges(&mut ring, ONE, &channel("a"), 59));
        assert!(!merges(&mut ring, ONE, &channel("a"), 60), "too late");
        assert!(!merges(&mut ring, ONE, &channel("b"), 0), "another channel");
        assert!(!merges(&mut ring, SessionNumber(2), &channel("a"), 0), "another session");
        let cause = EventCause { reason: Some("other"), ..EventCause::default() };
        assert!(!merges(&mut ring, ONE, &NewEvent { cause, ..channel("a") }, 0), "another cause");
        let merged = ring.get(number).unwrap();
        assert_eq!((merged.count, merged.event.amount, merged.at), (2, 6, now));
        ring.add(number, u32::MAX, u64::MAX);
        let merged = ring.get(number).unwrap();
        assert_eq!((merged.count, merged.event.amount), (u32::MAX, u64::from(u32::MAX)));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let mut ring = EventRing::new(100, 1024);
        let long = "é".repeat(200);
        let event = NewEvent { user: &long, ..channel(&long) };
        let number = ring.push(ONE, &event, Instant::now());
        let kept = ring.get(number).unwrap().event;
        assert_eq!((kept.user.len(), kept.channel.len(), kept.address.len()), (254, 254, 0));
        assert!(ring.merge(number, ONE, &event, Instant::now()), "the same event");
    }
}
