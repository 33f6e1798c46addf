//! `Audit`: the queues of the audit feed, one for each shard. Whatever happens to clients is recorded here if
//! `audit.subject` is set, and one task publishes it on NATS: `shard/audit.rs`.
//!
//! The queues are bounded in number and in bytes. What finds no room is lost, and counted: the feed says so at that place.

pub mod event;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tidegate_protocol::subject::Subject;
use tokio::sync::mpsc;

use crate::node::audit::event::AuditEvent;
use crate::node::shared_counter::SharedCounter;

/// The most events that wait in one queue.
pub const QUEUE_EVENTS: usize = 16 * 1024;
/// The most bytes that wait in one queue.
pub const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// Records what happens to clients.
#[derive(Debug)]
pub struct Audit {
    subject: Subject,
    queues: Box<[AuditQueue]>,
    /// Events that NATS has confirmed.
    pub published: SharedCounter,
    /// Events that were lost.
    pub lost: SharedCounter,
}

/// One queue.
#[derive(Debug)]
struct AuditQueue {
    sender: mpsc::Sender<QueuedEvent>,
    level: Arc<QueueLevel>,
}

/// What waits in a queue, and what has found no room in it.
#[derive(Debug, Default)]
struct QueueLevel {
    bytes: AtomicUsize,
    /// Since the last event that found room.
    lost: AtomicU64,
}

/// An event as JSON, without the members that the publisher adds.
#[derive(Debug)]
struct QueuedEvent {
    json: Vec<u8>,
    /// How many were lost before it.
    lost_before: u64,
}

/// The other ends of all queues.
#[derive(Debug)]
pub struct AuditReceiver(Vec<(mpsc::Receiver<QueuedEvent>, Arc<QueueLevel>)>);

/// What the publisher takes from a queue.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// An event, as a JSON object.
    Event(Vec<u8>),
    /// So many events were lost here.
    Lost(u64),
}

impl Audit {
    /// Creates the queues of so many shards.
    pub fn new(subject: Subject, shards: usize) -> (Self, AuditReceiver) {
        Self::with_room(subject, shards, QUEUE_EVENTS)
    }

    fn with_room(subject: Subject, shards: usize, events: usize) -> (Self, AuditReceiver) {
        let (queues, receivers) = (0..shards)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(events);
                let level = Arc::new(QueueLevel::default());
                (AuditQueue { sender, level: Arc::clone(&level) }, (receiver, level))
            })
            .unzip();
        let (published, lost) = (SharedCounter::default(), SharedCounter::default());
        let queues: Vec<_> = queues;
        (Self { subject, queues: queues.into(), published, lost }, AuditReceiver(receivers))
    }

    /// Where the feed is published.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Records an event in the queue of a shard, and makes it only if the queue has room: anyone can cause it. Never waits.
    pub fn record_with<'e>(&self, shard: usize, event: impl FnOnce() -> AuditEvent<'e>) {
        let Some(AuditQueue { sender, level }) = self.queues.get(shard) else { return };
        if sender.capacity() > 0 && level.bytes.load(Ordering::Relaxed) < QUEUE_BYTES {
            self.record(shard, &event());
        } else {
            self.lose(level);
        }
    }

    /// Records an event in the queue of a shard. Never waits.
    pub fn record(&self, shard: usize, event: &AuditEvent<'_>) {
        let Some(AuditQueue { sender, level }) = self.queues.get(shard) else { return };
        let json = event.to_json();
        let size = json.len();
        let has_room = level.bytes.fetch_add(size, Ordering::Relaxed) + size <= QUEUE_BYTES;
        if has_room && let Ok(place) = sender.try_reserve() {
            place.send(QueuedEvent { json, lost_before: level.lost.swap(0, Ordering::Relaxed) });
        } else {
            level.bytes.fetch_sub(size, Ordering::Relaxed);
            self.lose(level);
        }
    }

    fn lose(&self, level: &QueueLevel) {
        level.lost.fetch_add(1, Ordering::Relaxed);
        self.lost.count();
    }
}

impl AuditReceiver {
    /// Waits for events, and moves at most about `most` of them to `taken`, those of each queue in order. Returns false if
    /// there will be no more.
    pub async fn take(&mut self, most: usize, taken: &mut Vec<Taken>) -> bool {
        let most_of_each = most.div_ceil(self.0.len().max(1));
        // Otherwise tokio says after 128 events that a queue is empty, and the first queue has all turns.
        tokio::task::coop::unconstrained(std::future::poll_fn(|context| {
            let mut open = false;
            for (receiver, level) in &mut self.0 {
                let mut left = most_of_each;
                while left > 0 {
                    match receiver.poll_recv(context) {
                        std::task::Poll::Ready(Some(QueuedEvent { json, lost_before })) => {
                            level.bytes.fetch_sub(json.len(), Ordering::Relaxed);
                            taken.extend((lost_before > 0).then_some(Taken::Lost(lost_before)));
                            taken.push(Taken::Event(json));
                            left -= 1;
                            open = true;
                        }
                        std::task::Poll::Ready(None) => break,
                        std::task::Poll::Pending => {
                            open = true;
                            // Nothing follows for now, so the loss is announced at once.
                            let lost = level.lost.swap(0, Ordering::Relaxed);
                            taken.extend((lost > 0).then_some(Taken::Lost(lost)));
                            break;
                        }
                    }
                }
            }
            match (taken.is_empty(), open) {
                (false, _) => std::task::Poll::Ready(true),
                (true, false) => std::task::Poll::Ready(false),
                (true, true) => std::task::Poll::Pending,
            }
        }))
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::audit::event::AuditKind;

    fn event(channel: &str) -> AuditEvent<'_> {
        AuditEvent { channel: Some(channel), ..AuditEvent::new(AuditKind::Published) }
    }

    fn said(taken: &[Taken]) -> Vec<String> {
        let said = |taken: &Taken| match taken {
            Taken::Event(json) => {
                serde_json::from_slice::<serde_json::Value>(json).unwrap()["channel"].to_string()
            }
            Taken::Lost(lost) => format!("lost {lost}"),
        };
        taken.iter().map(said).collect()
    }

    #[tokio::test]
    async fn what_finds_no_room_is_announced_at_its_place() {
        let subject = Subject::parse("tidegate.audit").unwrap();
        let (audit, mut receiver) = Audit::with_room(subject, 2, 2);
        for channel in ["a", "b", "c", "d"] {
            audit.record(0, &event(channel));
        }
        audit.record(1, &event("e"));
        let mut taken = Vec::new();
        assert!(receiver.take(2, &mut taken).await);
        assert_eq!(said(&taken), [r#""a""#, r#""e""#]);
        audit.record(0, &event("f"));
        audit.record(0, &event("g"));
        taken.clear();
        assert!(receiver.take(100, &mut taken).await);
        assert_eq!(said(&taken), [r#""b""#, "lost 2", r#""f""#, "lost 1"]);
        assert_eq!(audit.lost.get(), 3);
        let large = "x".repeat(1000);
        audit.record(0, &event(&large));
        taken.clear();
        assert!(receiver.take(100, &mut taken).await);
        assert!(said(&taken)[0].len() < 600, "texts are cut");
        drop(audit);
        assert!(!receiver.take(100, &mut taken).await || !taken.is_empty());
    }

    #[tokio::test]
    async fn an_event_that_finds_no_room_is_not_made() {
        let (audit, mut receiver) = Audit::with_room(Subject::parse("tidegate.audit").unwrap(), 1, 2);
        let mut made = 0;
        for _ in 0..5 {
            audit.record_with(0, || {
                made += 1;
                event("a")
            });
        }
        assert_eq!((made, audit.lost.get()), (2, 3));
        let mut taken = Vec::new();
        assert!(receiver.take(100, &mut taken).await);
        assert_eq!(said(&taken), [r#""a""#, r#""a""#, "lost 3"]);
    }

    #[tokio::test]
    async fn a_queue_is_bounded_in_bytes() {
        let (audit, mut receiver) = Audit::new(Subject::parse("tidegate.audit").unwrap(), 1);
        let detail = "x".repeat(400);
        let event = AuditEvent { detail: Some(&detail), ..event(&detail) };
        let events = 4 * QUEUE_BYTES / 800;
        (0..events).for_each(|_| audit.record(0, &event));
        let mut taken = Vec::new();
        while taken.iter().all(|taken| matches!(taken, Taken::Event(_))) {
            assert!(receiver.take(100, &mut taken).await);
        }
        let size = |taken: &Taken| if let Taken::Event(json) = taken { json.len() } else { 0 };
        assert!(taken.iter().map(size).sum::<usize>() <= QUEUE_BYTES);
        assert!(taken.len() <= QUEUE_EVENTS + 1);
        let lost =
            taken.iter().find_map(|taken| if let Taken::Lost(lost) = taken { Some(*lost) } else { None });
        assert_eq!(lost, Some(audit.lost.get()));
    }
}
