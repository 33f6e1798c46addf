//! A model of a JetStream stream with `RePublish` and direct get: limits, replicas that lag behind, and a stream that is
//! replaced.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::lane::stored::messages::LiveMessage;
use crate::lane::stored::messages::StoredMessage;
use crate::lane::stored::reads::Read;
use crate::lane::stored::reads::ReadFrom;
use crate::lane::stored::reads::StreamAnswer;
use crate::lane::stored::reads::StreamQuery;
use crate::lane::stored::reads::StreamState;

/// A publication that the stream has accepted.
pub(in crate::lane::stored) struct Publication {
    pub(in crate::lane::stored) subject: Arc<str>,
    /// Unique over all epochs.
    pub(in crate::lane::stored) number: u64,
    /// Its epoch and its sequence.
    pub(in crate::lane::stored) at: (u64, u64),
}

/// What changes the messages of a stream.
#[derive(Clone)]
enum Change {
    Store { subject: Arc<str>, number: u64 },
    KeepNewest(u64),
}

/// The messages of one replica.
#[derive(Clone, Default)]
struct Messages {
    by_seq: BTreeMap<u64, (Arc<str>, u64)>,
    last_seq: u64,
}

impl Messages {
    fn apply(&mut self, change: &Change, max_per_subject: u64) {
        match change {
            Change::Store { subject, number } => {
                self.last_seq += 1;
                self.by_seq.insert(self.last_seq, (Arc::clone(subject), *number));
                let own = self.by_seq.iter().filter(|(_, (of, _))| of == subject).map(|(seq, _)| *seq);
                let own: Vec<u64> = own.collect();
                let limit = if max_per_subject == 0 { own.len() } else { max_per_subject as usize };
                own[..own.len().saturating_sub(limit)].iter().for_each(|seq| drop(self.by_seq.remove(seq)));
            }
            Change::KeepNewest(keep) => self.by_seq.retain(|seq, _| seq + keep > self.last_seq),
        }
    }
}

/// A replica that has made the first `applied` changes.
#[derive(Clone, Default)]
pub(in crate::lane::stored) struct Replica {
    messages: Messages,
    applied: usize,
}

pub(in crate::lane::stored) struct ModelStream {
    max_per_subject: u64,
    /// Since the stream was created.
    changes: Vec<Change>,
    leader: Messages,
    /// The first is on the leader's server.
    pub(in crate::lane::stored) replicas: Vec<Replica>,
    pub(in crate::lane::stored) epoch: u64,
    /// The copies on their way to the feed.
    pub(in crate::lane::stored) live: VecDeque<LiveMessage<u64>>,
    /// The sequences of the copies that were lost on the connection.
    pub(in crate::lane::stored) lost: Vec<u64>,
    pub(in crate::lane::stored) published: Vec<Publication>,
}

impl ModelStream {
    pub(in crate::lane::stored) fn new(max_per_subject: u64, replicas: usize) -> Self {
        Self {
            max_per_subject,
            changes: Vec::new(),
            leader: Messages::default(),
            replicas: vec![Replica::default(); replicas],
            epoch: 0,
            live: VecDeque::new(),
            lost: Vec::new(),
            published: Vec::new(),
        }
    }

    fn change(&mut self, change: Change) {
        self.leader.apply(&change, self.max_per_subject);
        self.changes.push(change);
        self.catch_up(0);
    }

    pub(in crate::lane::stored) fn publish(&mut self, subject: &Arc<str>, is_sent: bool) {
        let number = self.published.len() as u64 + 1;
        let stored = self.leader.by_seq.iter().rev();
        let previous = stored.filter(|(_, (of, _))| of == subject).map(|(seq, _)| *seq).next().unwrap_or(0);
        self.change(Change::Store { subject: Arc::clone(subject), number });
        let seq = self.leader.last_seq;
        self.published.push(Publication { subject: Arc::clone(subject), number, at: (self.epoch, seq) });
        if is_sent {
            let message = StoredMessage { subject: Arc::clone(subject), seq, content: number };
            self.live.push_back(LiveMessage { message, previous });
        }
    }

    pub(in crate::lane::stored) fn catch_up(&mut self, replica: usize) {
        let Replica { messages, applied } = &mut self.replicas[replica];
        for change in &self.changes[*applied..] {
            messages.apply(change, self.max_per_subject);
        }
        *applied = self.changes.len();
    }

    /// The next copy does not reach the feed. Not if its message is gone: see [`ModelStream::keep_newest`].
    pub(in crate::lane::stored) fn lose_next(&mut self) {
        let messages = &self.leader.by_seq;
        let next = self.live.pop_front_if(|live| messages.contains_key(&live.message.seq));
        self.lost.extend(next.map(|live| live.message.seq));
    }

    /// Discards all but the newest messages. Not while one of them has been lost on a connection that goes on: if it is
    /// the last of its subject, nothing is left that tells of it. And not while a replica lags behind: messages live
    /// longer than that.
    pub(in crate::lane::stored) fn keep_newest(&mut self, keep: u64) {
        let lags = self.replicas.iter().any(|replica| replica.applied < self.changes.len());
        if lags || self.lost.iter().any(|seq| seq + keep <= self.leader.last_seq) {
            return;
        }
        self.change(Change::KeepNewest(keep));
    }

    /// Deletes the stream and creates it again.
    pub(in crate::lane::stored) fn replace(&mut self) {
        self.changes.clear();
        self.leader = Messages::default();
        self.replicas.fill(Replica::default());
        self.epoch += 1;
        self.live.clear();
        self.lost.clear();
    }

    pub(in crate::lane::stored) fn state(&self) -> StreamState {
        let first = self.leader.by_seq.keys().next();
        let first_seq = first.copied().unwrap_or(self.leader.last_seq + 1);
        StreamState { first_seq, last_seq: self.leader.last_seq, max_per_subject: self.max_per_subject }
    }

    /// The newest sequence, as the leader says it.
    pub(in crate::lane::stored) fn newest_seq(&self) -> u64 {
        self.leader.last_seq
    }

    /// Whether the leader has messages of a subject with these sequences.
    pub(in crate::lane::stored) fn has(&self, subject: &str, from: u64, to: u64) -> bool {
        self.leader.by_seq.range(from..=to).any(|(_, (of, _))| **of == *subject)
    }

    /// The number of the newest publication of a subject that is stored.
    pub(in crate::lane::stored) fn newest(&self, subject: &str) -> Option<u64> {
        let newest = self.leader.by_seq.values().rev().find(|(of, _)| **of == *subject);
        newest.map(|(_, number)| *number)
    }

    /// Answers a read of the subjects of the feed, with `batch` messages at most.
    pub(in crate::lane::stored) fn answer(
        &self,
        read: &Read,
        replica: usize,
        batch: usize,
        subjects: &[Arc<str>],
    ) -> StreamAnswer<u64> {
        let messages = match read.source {
            ReadFrom::Leader => &self.leader,
            ReadFrom::AnyReplica => &self.replicas[replica].messages,
        };
        let stored = |from: u64| {
            messages.by_seq.range(from..).map(|(seq, (subject, number))| StoredMessage {
                subject: Arc::clone(subject),
                seq: *seq,
                content: *number,
            })
        };
        match &read.query {
            StreamQuery::Newest { from } => {
                let newest = |subject: &Arc<str>| stored(1).rfind(|one| one.subject == *subject);
                let mut found: Vec<_> = subjects.iter().filter_map(newest).collect();
                found.retain(|message| message.seq >= *from);
                found.sort_by_key(|message| message.seq);
                let up_to = (!found.is_empty()).then_some(messages.last_seq);
                StreamAnswer::Newest { messages: found, up_to }
            }
            StreamQuery::Following { subject, from } => {
                let mut found: Vec<_> = stored(*from).filter(|one| one.subject == *subject).collect();
                let pending = found.len().saturating_sub(batch) as u64;
                found.truncate(batch);
                StreamAnswer::Following { messages: found, pending }
            }
            StreamQuery::State => StreamAnswer::State(self.state()),
        }
    }
}
