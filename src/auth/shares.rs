//! `Shares`: how many questions of one client are at a service at a time, so that none takes the turns of the others.
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

/// Whose questions count together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Asker {
    /// A connection of a shard. Its session bounds how many of its questions wait.
    Connection { shard: usize, number: usize },
    /// The hash of the caller of an HTTP call.
    Caller(u64),
    /// The hash of an address, for credentials that come from there.
    Address(u64),
}

/// The clients that have questions, and their turns.
#[derive(Debug)]
pub(super) struct Shares {
    /// The most questions of one client at a time.
    most: usize,
    askers: Mutex<HashMap<Asker, AskerTurns>>,
}

#[derive(Debug)]
struct AskerTurns {
    /// Questions that have a turn, or wait for it.
    questions: usize,
    turns: Arc<Semaphore>,
}

impl Shares {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, askers: Mutex::default() }
    }

    /// Waits until the client may ask. Its turn ends when the result is dropped.
    pub(crate) async fn turn(&self, asker: Asker) -> ShareTurn<'_> {
        let turns = {
            let mut askers = self.askers();
            let new = || AskerTurns { questions: 0, turns: Arc::new(Semaphore::new(self.most)) };
            let asker = askers.entry(asker).or_insert_with(new);
            asker.questions += 1;
            Arc::clone(&asker.turns)
        };
        let mut turn = ShareTurn { shares: self, asker, permit: None };
        // The semaphore is never closed.
        turn.permit = turns.acquire_owned().await.ok();
        turn
    }

    /// The clients that have questions.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.askers().len()
    }

    /// A poisoned lock is used as it is: no code under it can panic halfway through a change.
    fn askers(&self) -> MutexGuard<'_, HashMap<Asker, AskerTurns>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of one question among those of its client.
#[derive(Debug)]
pub(super) struct ShareTurn<'s> {
    shares: &'s Shares,
    asker: Asker,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for ShareTurn<'_> {
    fn drop(&mut self) {
        self.permit = None;
        let mut askers = self.shares.askers();
        if let Some(asker) = askers.get_mut(&self.asker) {
            asker.questions -= 1;
            if asker.questions == 0 {
                askers.remove(&self.asker);
            }
        }
    }
}
