//! `StorageAnswers`: what JetStream has said about which subjects a stream stores. Each answer is used for a moment.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::Semaphore;

/// How long an answer is used.
const FRESH: Duration = Duration::from_secs(2);
/// The most answers that are kept.
const MAX_ANSWERS: usize = 4096;
/// Questions to NATS at a time. Others wait.
const CONCURRENT_QUESTIONS: usize = 16;
/// Who keeps what is published on a subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// A stream stores it, and acknowledges that.
    Stream,
    /// No stream stores it, as far as this node's NATS user may know.
    None,
}

/// The questions of one connection.
#[derive(Debug)]
pub(super) struct StorageQuestions {
    pub(super) answers: RefCell<StorageAnswers>,
    /// Turns of the questions to NATS.
    pub(super) turns: Semaphore,
}

impl Default for StorageQuestions {
    fn default() -> Self {
        Self { answers: RefCell::default(), turns: Semaphore::new(CONCURRENT_QUESTIONS) }
    }
}

/// The latest answers, by subject.
#[derive(Debug, Default)]
pub(super) struct StorageAnswers(HashMap<Box<str>, (Instant, Storage)>);

impl StorageAnswers {
    pub(super) fn get(&self, subject: &str, now: Instant) -> Option<Storage> {
        let (at, storage) = self.0.get(subject)?;
        is_fresh(*at, now).then_some(*storage)
    }

    /// Keeps an answer. If there are too many, old ones go first, and then all.
    pub(super) fn put(&mut self, subject: &str, storage: Storage, now: Instant) {
        if self.0.len() >= MAX_ANSWERS {
            self.0.retain(|_, (at, _)| is_fresh(*at, now));
        }
        if self.0.len() >= MAX_ANSWERS {
            self.0.clear();
        }
        self.0.insert(subject.into(), (now, storage));
    }

    pub(super) fn remove(&mut self, subject: &str) {
        self.0.remove(subject);
    }
}

fn is_fresh(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < FRESH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_used_for_a_moment() {
        let (mut answers, start) = (StorageAnswers::default(), Instant::now());
        answers.put("a", Storage::Stream, start);
        let last = start + FRESH - Duration::from_nanos(1);
        assert_eq!((answers.get("a", last), answers.get("b", last)), (Some(Storage::Stream), None));
        assert_eq!(answers.get("a", start + FRESH), None);
        answers.put("a", Storage::None, start + FRESH);
        assert_eq!(answers.get("a", start + FRESH), Some(Storage::None));
    }

    #[test]
    fn the_number_of_answers_is_bounded() {
        let (mut answers, start) = (StorageAnswers::default(), Instant::now());
        let fill = |answers: &mut StorageAnswers, count: usize, now| {
            (0..count).for_each(|number| answers.put(&format!("{now:?}.{number}"), Storage::None, now));
        };
        fill(&mut answers, MAX_ANSWERS / 2, start);
        let later = start + FRESH;
        fill(&mut answers, MAX_ANSWERS / 2 + 1, later);
        assert_eq!(answers.0.len(), MAX_ANSWERS / 2 + 1, "old ones have gone first");
        fill(&mut answers, MAX_ANSWERS + 1, later + Duration::from_nanos(1));
        assert!(answers.0.len() <= MAX_ANSWERS);
    }
}
