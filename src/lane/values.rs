//! The last values of a feed: the newest publication of each key, as many as fit.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tidegate_protocol::publication::Publication;

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
}

impl LastValues {
    pub fn new(limits: ValueLimits) -> Self {
        Self { limits, kept: None }
    }

    /// Keeps a copy of the publication, in place of the last one of its key.
    pub fn put(&mut self, publication: &Publication, now: Instant) {
        self.put_value((now, Publication { payload: publication.payload.detached(), ..publication.clone() }));
    }

    /// Adds the values whose keys it does not have, as if they had arrived before all that it has. Its values are never
    /// replaced, whichever are newer.
    pub fn put_older(&mut self, older: &[KeptValue]) {
        let own: Vec<KeptValue> = self.iter().cloned().collect();
        self.clear();
        older.iter().cloned().chain(own).for_each(|value| self.put_value(value));
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
            Some(Kept::Many(many)) => many.forget_all_of(subject),
            Some(Kept::One(_)) | None => {}
        }
    }

    /// All values, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &KeptValue> {
        let (one, many) = match self.kept.as_deref() {
            None => (None, None),
            Some(Kept::One(value)) => (Some(value), None),
            Some(Kept::Many(many)) => (None, Some(many.by_update.values())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The values that are younger than `max_age`, the oldest first, each with the time when it arrived.
    pub fn fresh(&self, max_age: Option<Duration>, now: Instant) -> impl Iterator<Item = &KeptValue> {
        let is_fresh = move |arrived: Instant| {
            max_age.is_none_or(|max_age| now.saturating_duration_since(arrived) < max_age)
        };
        self.iter().filter(move |(arrived, _)| is_fresh(*arrived))
    }
}

impl Many {
    fn put(&mut self, value: KeptValue, limits: ValueLimits) {
        let (max_values, max_bytes) = (to_usize(limits.count), to_usize(limits.bytes));
        self.updates += 1;
        if let Some(older) = self.by_key.insert(Arc::clone(&value.1.key), self.updates) {
            self.forget(older);
        }
        self.bytes += size(&value.1);
        self.by_update.insert(self.updates, value);
        while self.by_update.len() > 1 && (self.bytes > max_bytes || self.by_update.len() > max_values) {
            let Some((&oldest, (_, publication))) = self.by_update.first_key_value() else {
                break;
            };
            self.by_key.remove(&publication.key);
            self.forget(oldest);
        }
    }

    fn forget_all_of(&mut self, subject: &str) {
        let of_subject =
            self.by_update.iter().filter(|(_, (_, publication))| *publication.subject == *subject);
        let updates: Vec<u64> = of_subject.map(|(&update, _)| update).collect();
        for update in updates {
            if let Some((_, publication)) = self.by_update.get(&update) {
                self.by_key.remove(&publication.key);
            }
            self.forget(update);
        }
    }

    fn forget(&mut self, update: u64) {
        if let Some((_, publication)) = self.by_update.remove(&update) {
            self.bytes -= size(&publication);
        }
    }
}

fn to_usize(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn size(publication: &Publication) -> usize {
    let headers: usize = publication.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    publication.payload.bytes().len() + publication.subject.len() + publication.key.len() + headers
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;

    use super::*;
    use tidegate_protocol::payload::Payload;

    fn publication(key: &str, text: &'static str) -> Publication {
        Publication {
            subject: key.into(),
            payload: Payload::Text(Bytes::from_static(text.as_bytes())),
            headers: Vec::new(),
            key: key.into(),
            time: SystemTime::UNIX_EPOCH,
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
        values.put(&publication("a", "1"), now);
        values.put(&publication("b", "2"), now);
        values.put(&publication("a", "3"), now);
        assert_eq!(texts(&values, None, now), ["2", "3"]);
        values.put(&publication("c", "4"), now);
        assert_eq!(texts(&values, None, now), ["3", "4"], "b was updated least lately");
        assert_eq!(many(&values).by_key.len(), 2);
    }

    #[test]
    fn a_single_key_needs_no_tables() {
        let now = Instant::now();
        let mut values = with_room(1, 3);
        assert_eq!(texts(&values, None, now), [""; 0]);
        for text in ["1", "22", "a value larger than the bound"] {
            values.put(&publication("a", text), now);
            assert_eq!(texts(&values, None, now), [text]);
        }
        assert!(matches!(values.kept.as_deref(), Some(Kept::One(_))));
        values.put(&publication("b", "1"), now);
        assert_eq!(texts(&values, None, now), ["1"], "there is room for one");
    }

    #[test]
    fn bytes_are_bounded_but_one_value_is_always_kept() {
        let now = Instant::now();
        let mut values = with_room(10, 12);
        values.put(&publication("a", "12345"), now);
        values.put(&publication("b", "12345"), now);
        assert_eq!(texts(&values, None, now), ["12345"]);
        values.put(&publication("c", "a value larger than the bound"), now);
        assert_eq!(texts(&values, None, now), ["a value larger than the bound"]);
        values.put(&publication("c", "x"), now);
        assert_eq!(many(&values).bytes, 3);
    }

    #[test]
    fn values_are_forgotten_by_their_subject_or_all_at_once() {
        let now = Instant::now();
        let mut values = with_room(10, 1000);
        values.put(&publication("a", "1"), now);
        values.forget("b");
        assert_eq!(texts(&values, None, now), ["1"]);
        values.put(&publication("b", "2"), now);
        values.put(&publication("c", "3"), now);
        values.forget("b");
        assert_eq!(texts(&values, None, now), ["1", "3"]);
        assert_eq!((many(&values).by_key.len(), many(&values).bytes), (2, 6));
        values.put(&publication("b", "4"), now);
        assert_eq!(texts(&values, None, now), ["1", "3", "4"]);
        values.clear();
        assert_eq!(texts(&values, None, now), [""; 0]);
        values.put(&publication("b", "5"), now);
        values.forget("b");
        assert_eq!(texts(&values, None, now), [""; 0]);
    }

    #[test]
    fn old_values_are_not_shown() {
        let start = Instant::now();
        let mut values = with_room(10, 1000);
        values.put(&publication("a", "1"), start);
        values.put(&publication("b", "2"), start + Duration::from_secs(5));
        assert_eq!(texts(&values, Some(Duration::from_secs(3)), start + Duration::from_secs(6)), ["2"]);
    }

    #[test]
    fn added_values_never_replace_its_own() {
        let now = Instant::now();
        let mut values = with_room(3, 1000);
        values.put_older(&[]);
        values.put(&publication("b", "new"), now);
        let older = ["a", "b", "c", "d"].map(|key| (now, publication(key, "old")));
        values.put_older(&older);
        assert_eq!(texts(&values, None, now), ["old", "old", "new"], "a has no room");
        let keys: Vec<_> = values.iter().map(|(_, publication)| publication.key.to_string()).collect();
        assert_eq!(keys, ["c", "d", "b"]);
    }
}
