//! Last values: of each key of a feed the newest publication, as many as fit.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::protocol::publication::Publication;

/// The newest publication of each key. When there are too many, the one that was updated least lately goes.
#[derive(Debug)]
pub struct LastValues {
    max_values: usize,
    max_bytes: usize,
    bytes: usize,
    updates: u64,
    /// The publications, by when they came.
    by_update: BTreeMap<u64, (Instant, Publication)>,
    by_key: HashMap<Arc<str>, u64>,
}

impl LastValues {
    /// Room for so many values and bytes; one value is kept even if it is larger.
    pub fn new(max_values: usize, max_bytes: usize) -> Self {
        Self {
            max_values,
            max_bytes,
            bytes: 0,
            updates: 0,
            by_update: BTreeMap::new(),
            by_key: HashMap::new(),
        }
    }

    /// Keeps a copy of the publication in place of the last one of its key.
    pub fn put(&mut self, publication: &Publication, now: Instant) {
        let kept = Publication { payload: publication.payload.detached(), ..publication.clone() };
        self.updates += 1;
        if let Some(older) = self.by_key.insert(Arc::clone(&kept.key), self.updates) {
            self.forget(older);
        }
        self.bytes += size(&kept);
        self.by_update.insert(self.updates, (now, kept));
        while self.by_update.len() > 1
            && (self.bytes > self.max_bytes || self.by_update.len() > self.max_values)
        {
            let Some((&oldest, (_, publication))) = self.by_update.first_key_value() else {
                break;
            };
            self.by_key.remove(&publication.key);
            self.forget(oldest);
        }
    }

    /// Those that are not older than `max_age`, the oldest first.
    pub fn fresh(&self, max_age: Option<Duration>, now: Instant) -> impl Iterator<Item = &Publication> {
        let fresh = move |came: &Instant| {
            max_age.is_none_or(|max_age| now.saturating_duration_since(*came) < max_age)
        };
        self.by_update.values().filter(move |(came, _)| fresh(came)).map(|(_, publication)| publication)
    }

    fn forget(&mut self, update: u64) {
        if let Some((_, publication)) = self.by_update.remove(&update) {
            self.bytes -= size(&publication);
        }
    }
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
    use crate::protocol::payload::Payload;

    fn publication(key: &str, text: &'static str) -> Publication {
        Publication {
            subject: key.into(),
            payload: Payload::Text(Bytes::from_static(text.as_bytes())),
            headers: Vec::new(),
            key: key.into(),
            time: SystemTime::UNIX_EPOCH,
        }
    }

    fn texts(values: &LastValues, max_age: Option<Duration>, now: Instant) -> Vec<String> {
        let text =
            |publication: &Publication| String::from_utf8_lossy(publication.payload.bytes()).into_owned();
        values.fresh(max_age, now).map(text).collect()
    }

    #[test]
    fn the_newest_of_each_key_is_kept_while_there_is_room() {
        let now = Instant::now();
        let mut values = LastValues::new(2, 1000);
        values.put(&publication("a", "1"), now);
        values.put(&publication("b", "2"), now);
        values.put(&publication("a", "3"), now);
        assert_eq!(texts(&values, None, now), ["2", "3"]);
        values.put(&publication("c", "4"), now);
        assert_eq!(texts(&values, None, now), ["3", "4"], "b was updated least lately");
        assert_eq!(values.by_key.len(), 2);
    }

    #[test]
    fn bytes_are_bounded_but_one_value_is_always_kept() {
        let now = Instant::now();
        let mut values = LastValues::new(10, 12);
        values.put(&publication("a", "12345"), now);
        values.put(&publication("b", "12345"), now);
        assert_eq!(texts(&values, None, now), ["12345"]);
        values.put(&publication("c", "a value larger than the bound"), now);
        assert_eq!(texts(&values, None, now), ["a value larger than the bound"]);
        values.put(&publication("c", "x"), now);
        assert_eq!(values.bytes, 3);
    }

    #[test]
    fn old_values_are_not_shown() {
        let start = Instant::now();
        let mut values = LastValues::new(10, 1000);
        values.put(&publication("a", "1"), start);
        values.put(&publication("b", "2"), start + Duration::from_secs(5));
        assert_eq!(texts(&values, Some(Duration::from_secs(3)), start + Duration::from_secs(6)), ["2"]);
    }
}
