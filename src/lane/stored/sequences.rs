//! `Sequences`: up to where a feed has returned the messages of each of its subjects.

use std::collections::HashMap;
use std::sync::Arc;

use crate::lane::stored::messages::Subjects;

/// The most subjects of one feed whose sequences are known: about 25 MB.
const MAX_SUBJECTS: usize = 250_000;

/// The sequence of the newest message of each subject. Most feeds have one subject, and there may be very many of them.
#[derive(Debug)]
pub(super) struct Sequences {
    subjects: Subjects,
    /// Subjects that are not in the table have nothing new up to this sequence. `None` if that is not known.
    base: Option<u64>,
    by_subject: BySubject,
    /// The highest sequence of all.
    highest: u64,
    /// Up to this sequence of the stream, no message of any subject is missing.
    compared: u64,
}

#[derive(Debug)]
enum BySubject {
    None,
    One(Arc<str>, u64),
    Many(HashMap<Arc<str>, u64>),
}

impl Sequences {
    /// Nothing is known yet.
    pub(super) fn new(subjects: Subjects) -> Self {
        Self { subjects, base: None, by_subject: BySubject::None, highest: 0, compared: 0 }
    }

    /// Forgets everything: the sequences mean other messages now.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.subjects);
    }

    /// Begins after this sequence of the stream.
    pub(super) fn begin(&mut self, base: u64) {
        (self.base, self.highest, self.compared) = (Some(base), base, base);
    }

    /// Begins with the newest messages of all subjects, which are set next. The newest sequence of the stream was this
    /// one; `None` if there are no messages.
    pub(super) fn begin_with_newest(&mut self, newest: Option<u64>) {
        match self.subjects {
            Subjects::One => {
                self.begin(0);
                self.compared = newest.unwrap_or(0);
            }
            Subjects::Many => self.begin(newest.unwrap_or(0)),
        }
    }

    /// What has arrived may not be all, and no one knows what is missing: for each subject, the next message is where
    /// it goes on.
    pub(super) fn lose_track(&mut self) {
        self.base = None;
        self.by_subject = BySubject::None;
        self.compared = self.highest;
    }

    /// Up to where the messages of a subject have been returned. `None`: the next one is accepted, whatever was before
    /// it, unless [`Sequences::was_passed`].
    pub(super) fn of(&self, subject: &str) -> Option<u64> {
        let known = match &self.by_subject {
            BySubject::None => None,
            BySubject::One(one, seq) => (**one == *subject).then_some(*seq),
            BySubject::Many(many) => many.get(subject).copied(),
        };
        known.or(self.base)
    }

    /// Whether messages may be missing that no one knows of.
    pub(super) fn has_lost_track(&self) -> bool {
        self.base.is_none()
    }

    /// Whether a message of an unknown subject is older than those that have been returned.
    pub(super) fn was_passed(&self, seq: u64) -> bool {
        seq <= self.compared
    }

    /// Whether there is no room for another subject.
    pub(super) fn is_full(&self, subject: &str) -> bool {
        matches!(&self.by_subject, BySubject::Many(many) if many.len() >= MAX_SUBJECTS && !many.contains_key(subject))
    }

    pub(super) fn set(&mut self, subject: &Arc<str>, seq: u64) {
        self.highest = self.highest.max(seq);
        match &mut self.by_subject {
            BySubject::None => self.by_subject = BySubject::One(Arc::clone(subject), seq),
            BySubject::One(one, known) if **one == **subject => *known = seq,
            BySubject::One(one, known) => {
                let many = [(Arc::clone(one), *known), (Arc::clone(subject), seq)].into();
                self.by_subject = BySubject::Many(many);
            }
            BySubject::Many(many) => match many.get_mut(subject) {
                Some(known) => *known = seq,
                None => {
                    many.insert(Arc::clone(subject), seq);
                }
            },
        }
    }

    /// The highest sequence. `None` if messages before it may be missing that no one knows of.
    /// `is_complete` says that no subject has older messages that have not been returned.
    pub(super) fn position(&self, is_complete: bool) -> Option<u64> {
        self.base?;
        Some(match self.subjects {
            // Without a message of its own, where the stream was.
            Subjects::One if self.highest == 0 => self.compared,
            Subjects::One => self.highest,
            Subjects::Many if is_complete => self.highest,
            Subjects::Many => self.compared,
        })
    }

    /// Up to this sequence of the stream, nothing is missing.
    pub(super) fn compared_up_to(&self) -> u64 {
        self.compared
    }

    /// Messages behind this sequence may be missing after all.
    pub(super) fn not_compared_behind(&mut self, seq: u64) {
        self.compared = self.compared.min(seq);
    }

    /// Where a comparison with the stream has to begin.
    pub(super) fn oldest_unchecked(&self) -> u64 {
        1 + match self.subjects {
            Subjects::One => self.highest,
            Subjects::Many => self.compared,
        }
    }

    /// The feed has been compared with the stream, whose newest sequence was this one, and nothing is missing.
    pub(super) fn compared(&mut self, newest: Option<u64>) {
        self.compared = self.compared.max(newest.unwrap_or(0));
        let base = match self.subjects {
            Subjects::One => self.highest,
            Subjects::Many => self.compared,
        };
        self.base.get_or_insert(base);
    }
}
