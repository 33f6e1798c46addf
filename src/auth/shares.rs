//! `Shares`: how many questions of one user, or of one address, are at a service at a time, so that none takes the turns of
//! the others.
#![expect(
    clippy::disallowed_types,
    reason = "one short lock for each question that is asked; nothing is awaited under it"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// The most bytes of questions of one asker that wait for their turn.
const MAX_WAITING_BYTES: usize = 2 * 1024 * 1024;

/// Whose questions count together: those of all sockets and calls of a user, or of an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Asker {
    /// The hash of a user who has proven who it is.
    User(u64),
    /// The hash of an address, for clients and credentials from there that have proven nothing.
    Address(u64),
}

/// How long a question waits for a turn of its asker. That is not the time of the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShareWait {
    /// As long as the client wants the answer: a socket may have other work meanwhile.
    Unlimited,
    /// As long as the service may take for its answer.
    Limited,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AskedBy {
    pub asker: Asker,
    pub wait: ShareWait,
}

/// The askers that have questions, and their turns.
#[derive(Debug)]
pub(super) struct Shares {
    /// The most questions of one asker at a time.
    most: usize,
    askers: Mutex<HashMap<Asker, AskerTurns>>,
}

#[derive(Debug)]
struct AskerTurns {
    /// Questions that have a turn, or wait for it.
    questions: usize,
    /// The bytes of those that wait.
    waiting_bytes: usize,
    turns: Arc<Semaphore>,
}

/// The asker has too many questions that wait.
#[derive(Debug)]
pub(super) struct ShareFull;

impl Shares {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, askers: Mutex::default() }
    }

    /// Waits until the asker may ask a question of this size, in bytes. The turn ends when the result is dropped.
    pub(crate) async fn turn(&self, asker: Asker, bytes: usize) -> Result<ShareTurn<'_>, ShareFull> {
        let (turns, mut turn) = {
            let mut askers = self.askers();
            let new = || {
                let turns = Arc::new(Semaphore::new(self.most));
                AskerTurns { questions: 0, waiting_bytes: 0, turns }
            };
            let known = askers.entry(asker).or_insert_with(new);
            // An asker without questions has room for any.
            if known.questions > 0 && known.waiting_bytes + bytes > MAX_WAITING_BYTES {
                return Err(ShareFull);
            }
            known.questions += 1;
            known.waiting_bytes += bytes;
            let turn = ShareTurn { shares: self, asker, waiting_bytes: bytes, permit: None };
            (Arc::clone(&known.turns), turn)
        };
        // The semaphore is never closed.
        turn.permit = turns.acquire_owned().await.ok();
        turn.end_wait();
        Ok(turn)
    }

    /// The askers that have questions.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.askers().len()
    }

    /// A poisoned lock is used as it is: no code under it can panic halfway through a change.
    fn askers(&self) -> MutexGuard<'_, HashMap<Asker, AskerTurns>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of one question among those of its asker.
#[derive(Debug)]
pub(super) struct ShareTurn<'s> {
    shares: &'s Shares,
    asker: Asker,
    /// The bytes that it counts while it waits.
    waiting_bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl ShareTurn<'_> {
    fn end_wait(&mut self) {
        let bytes = std::mem::take(&mut self.waiting_bytes);
        if let Some(asker) = self.shares.askers().get_mut(&self.asker) {
            asker.waiting_bytes -= bytes;
        }
    }
}

impl Drop for ShareTurn<'_> {
    fn drop(&mut self) {
        self.permit = None;
        let mut askers = self.shares.askers();
        if let Some(asker) = askers.get_mut(&self.asker) {
            asker.waiting_bytes -= self.waiting_bytes;
            asker.questions -= 1;
            if asker.questions == 0 {
                askers.remove(&self.asker);
            }
        }
    }
}
