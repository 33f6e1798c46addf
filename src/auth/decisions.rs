//! `Decisions`: what services on NATS have decided for this node: who a client is, or whether it may subscribe. Equal
//! questions share one answer, which is kept for as long as the service says, and at most for a minute.
#![expect(
    clippy::disallowed_types,
    reason = "one short lock for each question and each answer; nothing is awaited under it"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::future::Shared;
use futures_util::future::WeakShared;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::auth::shares::AskedBy;
use crate::auth::shares::ShareWait;
use crate::auth::shares::Shares;

/// The most answers that are kept, and the most bytes of them.
const MAX_KEPT: usize = 16_384;
const MAX_KEPT_BYTES: usize = 8 * 1024 * 1024;
/// The most bytes of questions that wait for their turn or for an answer.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;
/// The shortest time between two searches for answers that are too old.
const SWEEP: Duration = Duration::from_secs(1);
/// What an answer or a question takes besides its own bytes.
const OVERHEAD: usize = 256;

/// A question, as it is sent to the service. Equal questions have equal bytes.
#[derive(Clone, Debug)]
pub struct ServiceQuestion {
    digest: Digest,
    json: Bytes,
}

type Digest = [u8; digest::SHA256_OUTPUT_LEN];

impl ServiceQuestion {
    /// The question that this JSON asks of the service at `subject`.
    pub fn new(subject: &str, json: Vec<u8>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        // A subject has no blanks, so no subject and question together look like others.
        context.update(subject.as_bytes());
        context.update(b" ");
        context.update(&json);
        let mut digest = Digest::default();
        digest.copy_from_slice(context.finish().as_ref());
        Self { digest, json: json.into() }
    }

    /// The JSON to send.
    pub fn json(&self) -> &Bytes {
        &self.json
    }
}

/// An answer of a service.
#[derive(Clone, Debug)]
pub struct Answer<A> {
    pub value: A,
    /// How long equal questions get the same answer. Zero: only those that are asked meanwhile.
    pub keep: Duration,
    /// The bytes that the value takes, about.
    pub bytes: usize,
}

/// Why there is no answer. None of it says anything about the client.
#[derive(Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undecided {
    #[error("too many questions wait for it")]
    Busy,
    /// The service is not to blame.
    #[error("too many questions of the same client wait for it")]
    ClientBusy,
    #[error("no service subscribes to its subject")]
    NoService,
    #[error("it has not answered in time")]
    Timeout,
    #[error("NATS is away")]
    Away,
    #[error("its answer cannot be used: the log of this node says why")]
    BadAnswer,
}

impl Undecided {
    /// The reason for metrics and logs: a stable word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Busy => "service_busy",
            Self::ClientBusy => "client_busy",
            Self::NoService => "service_absent",
            Self::Timeout => "service_timeout",
            Self::Away => "service_away",
            Self::BadAnswer => "service_bad_answer",
        }
    }
}

/// The answers of one kind of question. All threads of a node share them.
pub struct Decisions<A> {
    limit: Duration,
    shares: Shares,
    at_service: Semaphore,
    memory: Mutex<Memory<A>>,
}

/// A question that is being asked, by everyone who waits for its answer.
type Asking<A> = BoxFuture<'static, Result<A, Undecided>>;

struct Memory<A> {
    asking: HashMap<Digest, (u64, WeakShared<Asking<A>>)>,
    waiting_bytes: usize,
    kept: HashMap<Digest, KeptAnswer<A>>,
    kept_bytes: usize,
    asked: u64,
    /// Answers of questions before this number are not kept.
    valid_from: u64,
    swept: Option<Instant>,
}

struct KeptAnswer<A> {
    value: A,
    until: Instant,
    bytes: usize,
}

impl<A: Clone + Send + Sync + 'static> Decisions<A> {
    /// A question waits for `limit` at most, from its turn on. The service has at most `in_flight` of them at a time, and at
    /// most `share` of one asker.
    pub fn new(limit: Duration, in_flight: usize, share: usize) -> Self {
        let memory = Memory {
            asking: HashMap::new(),
            waiting_bytes: 0,
            kept: HashMap::new(),
            kept_bytes: 0,
            asked: 0,
            valid_from: 0,
            swept: None,
        };
        Self {
            limit,
            shares: Shares::new(share),
            at_service: Semaphore::new(in_flight),
            memory: Mutex::new(memory),
        }
    }

    /// How long a question waits for its answer.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// The answer to a question: the one that is kept, or that of an equal question that is being asked, or else what
    /// `ask` returns. If the asker has as many questions there as it may, this one waits: for as long as `wait` says.
    pub async fn decide<F>(
        self: &Arc<Self>,
        question: &ServiceQuestion,
        asked_by: AskedBy,
        ask: impl FnOnce() -> F,
    ) -> Result<A, Undecided>
    where
        F: Future<Output = Result<Answer<A>, Undecided>> + Send + 'static,
    {
        // An answer that is there, or on its way, takes no turn.
        let (kept, asking) = {
            let memory = self.memory();
            (memory.kept(question), memory.asking(question))
        };
        match (kept, asking) {
            (Some(kept), _) => return Ok(kept),
            (None, Some(asking)) => return asking.await,
            (None, None) => {}
        }
        let waiting = self.wait_for_turn(question)?;
        let AskedBy { asker, wait } = asked_by;
        let turn = self.shares.turn(asker, question.json.len() + OVERHEAD);
        let turn = match wait {
            ShareWait::Unlimited => Ok(turn.await),
            ShareWait::Limited => timeout(self.limit, turn).await,
        };
        let Ok(Ok(_turn)) = turn else { return Err(Undecided::ClientBusy) };
        drop(waiting);
        self.ask_once(question, ask).await
    }

    /// Counts the bytes of a question that waits for its turn, until the guard is dropped.
    fn wait_for_turn(self: &Arc<Self>, question: &ServiceQuestion) -> Result<TurnWait<A>, Undecided> {
        let bytes = question.json.len() + OVERHEAD;
        let mut memory = self.memory();
        if memory.waiting_bytes + bytes > MAX_WAITING_BYTES {
            return Err(Undecided::Busy);
        }
        memory.waiting_bytes += bytes;
        Ok(TurnWait { decisions: Arc::clone(self), bytes })
    }

    async fn ask_once<F>(
        self: &Arc<Self>,
        question: &ServiceQuestion,
        ask: impl FnOnce() -> F,
    ) -> Result<A, Undecided>
    where
        F: Future<Output = Result<Answer<A>, Undecided>> + Send + 'static,
    {
        match self.find_or_begin(question, ask) {
            FoundDecision::Kept(value) => Ok(value),
            FoundDecision::Asking(asking) => asking.await,
            FoundDecision::NoRoom => Err(Undecided::Busy),
        }
    }

    fn find_or_begin<F>(
        self: &Arc<Self>,
        question: &ServiceQuestion,
        ask: impl FnOnce() -> F,
    ) -> FoundDecision<A>
    where
        F: Future<Output = Result<Answer<A>, Undecided>> + Send + 'static,
    {
        let mut memory = self.memory();
        if let Some(kept) = memory.kept(question) {
            return FoundDecision::Kept(kept);
        }
        if let Some(asking) = memory.asking(question) {
            return FoundDecision::Asking(asking);
        }
        let bytes = question.json.len() + OVERHEAD;
        if memory.waiting_bytes + bytes > MAX_WAITING_BYTES {
            return FoundDecision::NoRoom;
        }
        memory.waiting_bytes += bytes;
        memory.asked += 1;
        let number = memory.asked;
        let place = WaitingPlace { decisions: Arc::clone(self), digest: question.digest, number, bytes };
        let ask = ask();
        let asking = async move {
            let turn = async {
                let _turn = place.decisions.at_service.acquire().await;
                ask.await
            };
            let result = timeout(place.decisions.limit, turn).await.unwrap_or(Err(Undecided::Timeout));
            result.map(|answer| place.keep(answer, Instant::now()))
        };
        let asking = asking.boxed().shared();
        if let Some(weak) = asking.downgrade() {
            memory.asking.insert(question.digest, (number, weak));
        }
        FoundDecision::Asking(asking)
    }

    /// Forgets all answers. A question that is being asked keeps its answer for those who wait for it already.
    pub fn forget_all(&self) {
        let mut memory = self.memory();
        memory.kept = HashMap::new();
        memory.kept_bytes = 0;
        memory.asking = HashMap::new();
        memory.valid_from = memory.asked + 1;
    }

    /// The answers that are kept.
    pub fn len(&self) -> usize {
        self.memory().kept.len()
    }

    /// Whether no answer is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<A> Decisions<A> {
    /// A poisoned lock is used as it is: no code under it can panic halfway through a change.
    fn memory(&self) -> MutexGuard<'_, Memory<A>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum FoundDecision<A: Clone> {
    Kept(A),
    Asking(Shared<Asking<A>>),
    NoRoom,
}

impl<A: Clone> Memory<A> {
    /// The equal question that is being asked.
    fn asking(&self, question: &ServiceQuestion) -> Option<Shared<Asking<A>>> {
        self.asking.get(&question.digest)?.1.upgrade()
    }

    /// The answer that is kept.
    fn kept(&self, question: &ServiceQuestion) -> Option<A> {
        let kept = self.kept.get(&question.digest).filter(|kept| Instant::now() < kept.until);
        kept.map(|kept| kept.value.clone())
    }

    fn keep(&mut self, digest: Digest, number: u64, answer: &Answer<A>, now: Instant) {
        if answer.keep.is_zero() || number < self.valid_from {
            return;
        }
        let bytes = answer.bytes + OVERHEAD;
        let is_full =
            |memory: &Self| memory.kept.len() >= MAX_KEPT || memory.kept_bytes + bytes > MAX_KEPT_BYTES;
        if is_full(self) && self.swept.is_none_or(|swept| now >= swept + SWEEP) {
            self.kept.retain(|_, kept| now < kept.until);
            self.kept_bytes = self.kept.values().map(|kept| kept.bytes).sum();
            self.swept = Some(now);
        }
        if is_full(self) {
            // Those who ask again get new answers. None may stay for as long as others fill the room.
            (self.kept, self.kept_bytes) = (HashMap::new(), 0);
        }
        if bytes <= MAX_KEPT_BYTES {
            let kept = KeptAnswer { value: answer.value.clone(), until: now + answer.keep, bytes };
            let earlier = self.kept.insert(digest, kept);
            self.kept_bytes += bytes;
            self.kept_bytes -= earlier.map_or(0, |earlier| earlier.bytes);
        }
    }
}

/// The bytes of a question that waits for its turn.
struct TurnWait<A> {
    decisions: Arc<Decisions<A>>,
    bytes: usize,
}

impl<A> Drop for TurnWait<A> {
    fn drop(&mut self) {
        self.decisions.memory().waiting_bytes -= self.bytes;
    }
}

/// The place of a question among those that wait. It is free when the question has its answer, or when no one waits for
/// it any more.
struct WaitingPlace<A> {
    decisions: Arc<Decisions<A>>,
    digest: Digest,
    number: u64,
    bytes: usize,
}

impl<A: Clone> WaitingPlace<A> {
    fn keep(&self, answer: Answer<A>, now: Instant) -> A {
        self.decisions.memory().keep(self.digest, self.number, &answer, now);
        answer.value
    }
}

impl<A> Drop for WaitingPlace<A> {
    fn drop(&mut self) {
        let mut memory = self.decisions.memory();
        memory.waiting_bytes -= self.bytes;
        if memory.asking.get(&self.digest).is_some_and(|(number, _)| *number == self.number) {
            memory.asking.remove(&self.digest);
        }
    }
}

impl<A> std::fmt::Debug for Decisions<A> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decisions").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
