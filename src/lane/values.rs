//! The last values of a feed: the newest publication of each key, as many as fit.

#[cfg(test)]
use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::publication::Publication;
use tidegate_protocol::subject::Pattern;

use crate::lane::keys_by_subject::KeysBySubject;

/// How many last values to keep for one feed.
#[derive(Clone, Copy, Debug)]
pub struct ValueLimits {
    pub count: u32,
    /// In bytes; one value is always kept, however large.
    pub bytes: u32,
}

/// The newest publication of each key. When there are too many, the least recently updated key is removed.
///
/// Most feeds have one subject and so one key, and there may be very many of them: they need no tables.
#[derive(Debug)]
pub struct LastValues {
    limits: ValueLimits,
    kept: Option<Box<Kept>>,
}

/// A publication, and when it arrived.
pub type KeptValue = (Instant, Publication);

#[derive(Debug)]
enum Kept {
    One(KeptValue),
    Many(Many),
}

#[derive(Debug, Default)]
struct Many {
    bytes: usize,
    updates: u64,
    /// The publications, in the order in which they arrived.
    by_update: BTreeMap<u64, KeptValue>,
    by_key: HashMap<Arc<str>, u64>,
    /// Only once the values of a single subject have been wanted.
    by_subject: Option<Box<KeysBySubject>>,
    /// The highest sequence in its stream of a value for which there was no room.
    evicted_up_to: u64,
    /// How many values have been looked at: tests bound it.
    #[cfg(test)]
    visited: Cell<usize>,
}

impl LastValues {
    pub fn new(limits: ValueLimits) -> Self {
        Self { limits, kept: None }
    }

    /// Keeps the publication, with a copy of its payload, in place of the last one of its key.
    pub fn put(&mut self, publication: Publication, now: Instant) {
        self.put_value((now, Publication { payload: publication.payload.detached(), ..publication }));
    }

    /// Adds the values whose keys it does not have, as if they had arrived before all that it has. Its values are never
    /// replaced, whichever are newer.
    pub fn put_older(&mut self, older: Vec<KeptValue>) {
        let own: Vec<KeptValue> = self.iter().cloned().collect();
        self.clear();
        older.into_iter().chain(own).for_each(|value| self.put_value(value));
    }

    fn put_value(&mut self, value: KeptValue) {
        let Some(kept) = &mut self.kept else {
            self.kept = Some(Box::new(Kept::One(value)));
            return;
        };
        if let Kept::One(one) = &mut **kept {
            if one.1.key == value.1.key {
                *one = value;
                return;
            }
            let mut many = Many::default();
            many.put(one.clone(), self.limits);
            **kept = Kept::Many(many);
        }
        if let Kept::Many(many) = &mut **kept {
            many.put(value, self.limits);
        }
    }

    /// Forgets all values: publications may have been missed, so any of them may be outdated.
    pub fn clear(&mut self) {
        self.kept = None;
    }

    /// Forgets the values of one subject.
    pub fn forget(&mut self, subject: &str) {
        match self.kept.as_deref_mut() {
            Some(Kept::One((_, publication))) if *publication.subject == *subject => self.kept = None,
            Some(Kept::Many(many)) => {
                many.forget_all_of(subject);
                if many.by_update.is_empty() {
                    self.kept = None;
                }
            }
            Some(Kept::One(_)) | None => {}
        }
    }

    /// All values, the oldest first.
    fn iter(&self) -> impl Iterator<Item = &KeptValue> {
        let (one, many) = match self.kept.as_deref() {
            None => (None, None),
            Some(Kept::One(value)) => (Some(value), None),
            Some(Kept::Many(many)) => (None, Some(many.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The values on the subjects that a pattern matches, the oldest first. A wildcard costs a look at all values, a
    /// literal pattern only at its own; the first one makes the index for this.
    pub fn of(&mut self, pattern: &Pattern) -> Vec<&KeptValue> {
        match self.kept.as_deref_mut() {
            None => Vec::new(),
            Some(Kept::One(value)) => {
                if pattern.matches(&value.1.subject) {
                    vec![value]
                } else {
                    Vec::new()
                }
            }
            Some(Kept::Many(many)) => many.of(pattern),
        }
    }

    /// The highest sequence in its stream of a value for which there was no room; 0 if there was room for all.
    pub fn evicted_up_to(&self) -> u64 {
        match self.kept.as_deref() {
            Some(Kept::Many(many)) => many.evicted_up_to,
            Some(Kept::One(_)) | None => 0,
        }
    }

    /// The values that are younger than `max_age`, the oldest first, each with the time when it arrived.
    pub fn fresh(&self, max_age: Option<Duration>, now: Instant) -> impl Iterator<Item = &KeptValue> {
        fresh(self.iter(), max_age, now)
    }

    /// How many values have been looked at since there have been several.
    #[cfg(test)]
    pub fn visited(&self) -> usize {
        match self.kept.as_deref() {
            Some(Kept::Many(many)) => many.visited.get(),
            Some(Kept::One(_)) | None => 0,
        }
    }
}

/// Those of the values that are younger than `max_age`.
pub fn fresh<'a>(
    values: impl IntoIterator<Item = &'a KeptValue>,
    max_age: Option<Duration>,
    now: Instant,
) -> impl Iterator<Item = &'a KeptValue> {
    let is_fresh = move |arrived: Instant| {
        max_age.is_none_or(|max_age| now.saturating_duration_since(arrived) < max_age)
    };
    values.into_iter().filter(move |(arrived, _)| is_fresh(*arrived))
}

impl Many {
    fn put(&mut self, value: KeptValue, limits: ValueLimits) {
        let (max_values, max_bytes) = (to_usize(limits.count), to_usize(limits.bytes));
        self.updates += 1;
        let older = self.by_key.insert(Arc::clone(&value.1.key), self.updates);
        let replaced = older.and_then(|older| self.take(older));
        if let Some(by_subject) = &mut self.by_subject
            && replaced.as_ref().is_none_or(|replaced| replaced.subject != value.1.subject)
        {
            replaced.iter().for_each(|replaced| by_subject.remove(&replaced.subject, &replaced.key));
            by_subject.insert(&value.1.subject, &value.1.key);
        }
        self.bytes += size(&value.1);
        self.by_update.insert(self.updates, value);
        while self.by_update.len() > 1 && (self.bytes > max_bytes || self.by_update.len() > max_values) {
            let Some((&oldest, (_, evicted))) = self.by_update.first_key_value() else {
                break;
            };
            self.evicted_up_to = self.evicted_up_to.max(evicted.seq);
            self.forget(oldest);
        }
    }

    /// All values, the oldest first.
    fn iter(&self) -> impl Iterator<Item = &KeptValue> {
        self.by_update.values().inspect(|_| self.visit())
    }

    /// See [`LastValues::of`].
    fn of(&mut self, pattern: &Pattern) -> Vec<&KeptValue> {
        if !pattern.is_literal() {
            return self.iter().filter(|(_, publication)| pattern.matches(&publication.subject)).collect();
        }
        let updates = self.updates_of(pattern.as_str());
        updates.iter().filter_map(|update| self.by_update.get(update)).collect()
    }

    fn forget_all_of(&mut self, subject: &str) {
        for update in self.updates_of(subject) {
            self.forget(update);
        }
    }

    /// The updates that brought the values of one subject, the oldest first.
    fn updates_of(&mut self, subject: &str) -> Vec<u64> {
        let by_subject = self.by_subject.take().unwrap_or_else(|| self.indexed());
        let is_of_subject = |update: &u64| {
            self.visit();
            self.by_update.get(update).is_some_and(|(_, publication)| *publication.subject == *subject)
        };
        let found = by_subject.of(subject).filter_map(|key| self.by_key.get(key).copied());
        let mut updates: Vec<u64> = found.filter(is_of_subject).collect();
        updates.sort_unstable();
        self.by_subject = Some(by_subject);
        updates
    }

    /// The index of all values. It shares the texts of the keys with `by_key`.
    fn indexed(&self) -> Box<KeysBySubject> {
        let mut by_subject = Box::<KeysBySubject>::default();
        for (key, update) in &self.by_key {
            self.visit();
            if let Some((_, publication)) = self.by_update.get(update) {
                by_subject.insert(&publication.subject, key);
            }
        }
        by_subject
    }

    fn forget(&mut self, update: u64) {
        if let Some(publication) = self.take(update) {
            self.by_key.remove(&publication.key);
            if let Some(by_subject) = &mut self.by_subject {
                by_subject.remove(&publication.subject, &publication.key);
            }
        }
    }

    /// Removes a publication, but neither its key nor its subject.
    fn take(&mut self, update: u64) -> Option<Publication> {
        let (_, publication) = self.by_update.remove(&update)?;
        self.bytes -= size(&publication);
        Some(publication)
    }

    fn visit(&self) {
        #[cfg(test)]
        self.visited.set(self.visited.get() + 1);
    }
}

fn to_usize(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn size(publication: &Publication) -> usize {
    let texts = publication.subject.len() + publication.key.len() + publication.headers.size();
    publication.payload.bytes().len() + texts
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use tidegate_protocol::headers::PublicationHeaders;
    use tidegate_protocol::payload::Payload;

    fn publication(key: &str, text: &'static str) -> Publication {
        keyed(key, key, text)
    }

    fn keyed(subject: &str, key: &str, text: &'static str) -> Publication {
        Publication {
            subject: subject.into(),
            payload: Payload::Text(Bytes::from_static(text.as_bytes())),
            headers: PublicationHeaders::default(),
            key: key.into(),
            time: SystemTime::UNIX_EPOCH,
            seq: 0,
        }
    }

    fn with_room(count: u32, bytes: u32) -> LastValues {
        LastValues::new(ValueLimits { count, bytes })
    }

    fn many(values: &LastValues) -> &Many {
        let Some(Kept::Many(many)) = values.kept.as_deref() else { panic!("there are no tables") };
        many
    }

    fn texts(values: &LastValues, max_age: Option<Duration>, now: Instant) -> Vec<String> {
        let text =
            |publication: &Publication| String::from_utf8_lossy(publication.payload.bytes()).into_owned();
        values.fresh(max_age, now).map(|(_, publication)| text(publication)).collect()
    }

    #[test]
    fn the_newest_of_each_key_is_kept_while_there_is_room() {
        let now = Instant::now();
        let mut values = with_room(2, 1000);
        values.put(publication("a", "1"), now);
        values.put(publication("b", "2"), now);
        values.put(publication("a", "3"), now);
        assert_eq!(texts(&values, None, now), ["2", "3"]);
        values.put(publication("c", "4"), now);
        assert_eq!(texts(&values, None, now), ["3", "4"], "b was updated least lately");
        assert_eq!(many(&values).by_key.len(), 2);
    }

    #[test]
    fn a_single_key_needs_no_tables() {
        let now = Instant::now();
        let mut values = with_room(1, 3);
        assert_eq!(texts(&values, None, now), [""; 0]);
        for text in ["1", "22", "a value larger than the bound"] {
            values.put(publication("a", text), now);
            assert_eq!(texts(&values, None, now), [text]);
        }
        assert!(matches!(values.kept.as_deref(), Some(Kept::One(_))));
        values.put(publication("b", "1"), now);
        assert_eq!(texts(&values, None, now), ["1"], "there is room for one");
    }

    #[test]
    fn bytes_are_bounded_but_one_value_is_always_kept() {
        let now = Instant::now();
        let mut values = with_room(10, 12);
        values.put(publication("a", "12345"), now);
        values.put(publication("b", "12345"), now);
        assert_eq!(texts(&values, None, now), ["12345"]);
        values.put(publication("c", "a value larger than the bound"), now);
        assert_eq!(texts(&values, None, now), ["a value larger than the bound"]);
        values.put(publication("c", "x"), now);
        assert_eq!(many(&values).bytes, 3);
    }

    #[test]
    fn values_are_forgotten_by_their_subject_or_all_at_once() {
        let now = Instant::now();
        let mut values = with_room(10, 1000);
        values.put(publication("a", "1"), now);
        values.forget("b");
        assert_eq!(texts(&values, None, now), ["1"]);
        values.put(publication("b", "2"), now);
        values.put(publication("c", "3"), now);
        values.forget("b");
        assert_eq!(texts(&values, None, now), ["1", "3"]);
        assert_eq!((many(&values).by_key.len(), many(&values).bytes), (2, 6));
        values.put(publication("b", "4"), now);
        assert_eq!(texts(&values, None, now), ["1", "3", "4"]);
        values.clear();
        assert_eq!(texts(&values, None, now), [""; 0]);
        values.put(publication("b", "5"), now);
        values.forget("b");
        assert_eq!(texts(&values, None, now), [""; 0]);
    }

    #[test]
    fn old_values_are_not_shown() {
        let start = Instant::now();
        let mut values = with_room(10, 1000);
        values.put(publication("a", "1"), start);
        values.put(publication("b", "2"), start + Duration::from_secs(5));
        assert_eq!(texts(&values, Some(Duration::from_secs(3)), start + Duration::from_secs(6)), ["2"]);
    }

    #[test]
    fn added_values_never_replace_its_own() {
        let now = Instant::now();
        let mut values = with_room(3, 1000);
        values.put_older(Vec::new());
        values.put(publication("b", "new"), now);
        let older = ["a", "b", "c", "d"].map(|key| (now, publication(key, "old")));
        values.put_older(older.into());
        assert_eq!(texts(&values, None, now), ["old", "old", "new"], "a has no room");
        let keys: Vec<_> = values.iter().map(|(_, publication)| publication.key.to_string()).collect();
        assert_eq!(keys, ["c", "d", "b"]);
    }

    /// A hundred subjects, each with a value whose key is the subject and two with other keys.
    fn a_hundred_subjects() -> LastValues {
        let (now, mut values) = (Instant::now(), with_room(1000, 1_000_000));
        for subject in (0..100).map(|number| format!("s.{number}")) {
            values.put(publication(&subject, "1"), now);
            values.put(keyed(&subject, &format!("{subject} a"), "1"), now);
            values.put(keyed(&subject, &format!("{subject} b"), "1"), now);
        }
        values
    }

    #[test]
    fn the_values_of_one_subject_cost_no_look_at_those_of_others() {
        let mut values = a_hundred_subjects();
        values.of(&pattern("s.1"));
        let start = values.visited();
        assert_eq!(start, 300 + 3, "the index is made once");
        assert_eq!((values.of(&pattern("s.7")).len(), values.of(&pattern("t")).len()), (3, 0));
        assert_eq!(values.visited() - start, 3);
        values.forget("s.8");
        assert_eq!((values.visited() - start, many(&values).by_key.len()), (6, 297));
        assert_eq!(values.of(&pattern("s.*")).len(), 297);
        assert_eq!(values.visited() - start, 6 + 297, "a wildcard looks at all");
    }

    #[test]
    fn feeds_have_an_index_by_subject_only_once_they_need_it_and_only_of_other_keys() {
        let (now, mut values) = (Instant::now(), a_hundred_subjects());
        assert!(many(&values).by_subject.is_none());
        assert_eq!(values.of(&pattern(">")).len(), 300);
        assert!(many(&values).by_subject.is_none(), "a wildcard looks at all");
        values.forget("s.8");
        let entries = |values: &LastValues| many(values).by_subject.as_ref().map(|index| index.len());
        assert_eq!(entries(&values), Some(198));
        values.put(publication("t", "1"), now);
        assert_eq!(entries(&values), Some(198));
        (0..100).for_each(|number| values.forget(&format!("s.{number}")));
        assert_eq!(entries(&values), Some(0));
        values.forget("t");
        assert!(values.kept.is_none());
        assert!(size_of::<Many>() <= size_of::<KeptValue>(), "a feed with one key would grow");
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    proptest! {
        #[test]
        fn a_literal_pattern_finds_what_a_scan_would_find(
            count in 1..8_u32,
            steps in vec((0..10_u8, select(&["a", "b", "c"][..]), select(&["a", "b", "a x", "x", "y"][..])), 0..60),
        ) {
            let (now, mut values) = (Instant::now(), with_room(count, 60));
            for (step, subject, key) in steps {
                match step {
                    0 => values.forget(subject),
                    1 => values.put_older(vec![(now, keyed(subject, key, "old"))]),
                    2 => values.put(keyed(subject, key, "a value that needs room"), now),
                    3 => values.put(publication(subject, "1"), now),
                    _ => values.put(keyed(subject, key, "1"), now),
                }
                for subject in ["a", "b", "c"] {
                    let scan = values.iter().filter(|(_, publication)| *publication.subject == *subject);
                    let scan: Vec<_> = scan.map(|(_, publication)| publication.key.clone()).collect();
                    let found = values.of(&pattern(subject));
                    let found: Vec<_> = found.iter().map(|(_, publication)| publication.key.clone()).collect();
                    prop_assert_eq!(found, scan);
                }
                if let Some(Kept::Many(many)) = values.kept.as_deref() {
                    let others = values.iter().filter(|(_, publication)| publication.key != publication.subject);
                    let entries = many.by_subject.as_ref().map(|index| index.len());
                    prop_assert_eq!(entries, Some(others.count()), "nothing else is in the index");
                }
            }
        }
    }
}
