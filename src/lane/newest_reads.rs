//! `NewestReads`: feeds of single subjects that need the newest message of their subject. One request reads those of many.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::lane::read_id::ReadId;
use crate::nats::direct_get::ReadMessage;

/// The most subjects of one request; a server answers at most 1,024.
const MAX_SUBJECTS: usize = 1000;
/// The most bytes of their names.
const MAX_SUBJECT_BYTES: usize = 64 * 1024;

/// What one feed needs: the newest message of its subject, if its sequence is at least `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewestRead {
    pub(super) id: ReadId,
    pub(super) subject: Arc<str>,
    pub(super) from: u64,
}

/// By stream: the feeds that wait for a request.
#[derive(Debug, Default)]
pub(super) struct NewestReads(BTreeMap<Arc<str>, VecDeque<NewestRead>>);

impl NewestReads {
    pub(super) fn push(&mut self, stream: &Arc<str>, read: NewestRead) {
        self.0.entry(Arc::clone(stream)).or_default().push_back(read);
    }

    /// Removes and returns what the next request reads: a stream, and feeds that have waited longest for it.
    pub(super) fn next(&mut self) -> Option<(Arc<str>, Vec<NewestRead>)> {
        let mut first = self.0.first_entry()?;
        let (stream, waiting) = (Arc::clone(first.key()), first.get_mut());
        let mut bytes = 0;
        let fits = |read: &&NewestRead| {
            bytes += read.subject.len();
            bytes <= MAX_SUBJECT_BYTES
        };
        let count = waiting.iter().take(MAX_SUBJECTS).take_while(fits).count().max(1);
        let next = waiting.drain(..count.min(waiting.len())).collect();
        if waiting.is_empty() {
            first.remove();
        }
        Some((stream, next))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The feeds of a request that has been sent, and the messages of each page of its answer for them.
#[derive(Debug)]
pub(super) struct NewestOfMany {
    pub(super) stream: Arc<str>,
    waiting: HashMap<Arc<str>, NewestRead>,
}

impl NewestOfMany {
    /// Feeds of different subjects.
    pub(super) fn new(stream: Arc<str>, reads: Vec<NewestRead>) -> Self {
        let waiting = reads.into_iter().map(|read| (Arc::clone(&read.subject), read)).collect();
        Self { stream, waiting }
    }

    /// The subjects of the feeds that wait for their messages, in a fixed order.
    pub(super) fn subjects(&self) -> Vec<&str> {
        let mut subjects: Vec<&str> = self.waiting.keys().map(|subject| &**subject).collect();
        subjects.sort_unstable();
        subjects
    }

    /// The lowest sequence that one of them needs.
    pub(super) fn from(&self) -> u64 {
        self.waiting.values().map(|read| read.from).min().unwrap_or(1)
    }

    /// The feeds that one page answers, each with its message, unless it needs a newer one.
    pub(super) fn answered(&mut self, page: Vec<ReadMessage>) -> Vec<(ReadId, Option<ReadMessage>)> {
        let answer = |message: ReadMessage| {
            let read = self.waiting.remove(&*message.subject)?;
            Some((read.id, Some(message).filter(|message| message.seq >= read.from)))
        };
        page.into_iter().filter_map(answer).collect()
    }

    /// The feeds that wait still, in a fixed order.
    pub(super) fn rest(self) -> Vec<ReadId> {
        let mut rest: Vec<_> = self.waiting.into_values().map(|read| read.id).collect();
        rest.sort_unstable_by_key(|id| id.number);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::source_stream::ReadPurpose;

    fn read(number: u64, subject: &str) -> NewestRead {
        let id = ReadId { feed: 0, purpose: ReadPurpose::Order, number };
        NewestRead { id, subject: subject.into(), from: number }
    }

    #[test]
    fn a_request_has_feeds_of_one_stream_as_many_as_fit() {
        let (mut reads, [one, other]) = (NewestReads::default(), ["A".into(), "B".into()]);
        reads.push(&other, read(0, "x"));
        for number in 0..2500 {
            reads.push(&one, read(number, &format!("s.{number}")));
        }
        let long = "l".repeat(40 * 1024);
        (0..3).for_each(|number| reads.push(&other, read(number, &long)));
        reads.push(&other, read(9, &"l".repeat(70 * 1024)));
        let mut requests = Vec::new();
        while let Some((stream, next)) = reads.next() {
            requests.push((stream.to_string(), next.len()));
        }
        let sizes = [("A", 1000), ("A", 1000), ("A", 500), ("B", 2), ("B", 1), ("B", 1), ("B", 1)];
        assert_eq!(requests, sizes.map(|(stream, count)| (stream.to_owned(), count)));
    }
}
