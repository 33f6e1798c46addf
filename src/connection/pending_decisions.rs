//! `PendingDecisions`: the questions to services for which connections of a shard wait. A question that its client needs no
//! more is let go, so that its turn is free.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tidegate_protocol::session::subscription::SubscriptionId;
use tokio::task::AbortHandle;

use crate::hub::subscriber::ConnectionId;

/// The tasks that wait for answers.
#[derive(Debug, Default)]
pub(super) struct PendingDecisions(RefCell<BTreeMap<(ConnectionId, DecisionAbout), AbortHandle>>);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DecisionAbout {
    /// The credential of its message.
    Credential,
    Subscription(SubscriptionId),
}

impl PendingDecisions {
    pub(crate) fn begin(&self, connection: ConnectionId, about: DecisionAbout, task: AbortHandle) {
        self.0.borrow_mut().insert((connection, about), task);
    }

    /// The answer is there.
    pub(crate) fn end(&self, connection: ConnectionId, about: DecisionAbout) {
        self.0.borrow_mut().remove(&(connection, about));
    }

    /// The client has left the channel.
    pub(crate) fn let_go(&self, connection: ConnectionId, subscription: SubscriptionId) {
        let task = self.0.borrow_mut().remove(&(connection, DecisionAbout::Subscription(subscription)));
        task.into_iter().for_each(|task| task.abort());
    }

    /// The connection ends.
    pub(crate) fn let_go_all(&self, connection: ConnectionId) {
        let mut tasks = self.0.borrow_mut();
        let of_connection = |tasks: &BTreeMap<(ConnectionId, DecisionAbout), AbortHandle>| {
            let (first, last) =
                (DecisionAbout::Credential, DecisionAbout::Subscription(SubscriptionId(u32::MAX)));
            tasks.range((connection, first)..=(connection, last)).next().map(|(key, _)| *key)
        };
        while let Some(key) = of_connection(&tasks) {
            tasks.remove(&key).into_iter().for_each(|task| task.abort());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn only_the_questions_that_no_one_needs_are_let_go() {
        let (pending, first, second) = (PendingDecisions::default(), ConnectionId(1), ConnectionId(2));
        let channel = |number| DecisionAbout::Subscription(SubscriptionId(number));
        // Each task holds one until it is dropped.
        let alive = Rc::new(());
        let tasks = LocalSet::new();
        let begin = |connection, about| {
            let held = Rc::clone(&alive);
            let task = tasks.spawn_local(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
            pending.begin(connection, about, task.abort_handle());
        };
        for connection in [first, second] {
            begin(connection, DecisionAbout::Credential);
            (0..3).for_each(|number| begin(connection, channel(number)));
        }
        let left = async |number: usize| {
            tasks.run_until(tokio::task::yield_now()).await;
            assert_eq!(Rc::strong_count(&alive) - 1, number);
        };
        pending.end(first, channel(0));
        pending.let_go(first, SubscriptionId(0));
        left(8).await;
        pending.let_go(first, SubscriptionId(1));
        left(7).await;
        pending.let_go_all(first);
        left(5).await;
        pending.let_go_all(first);
        pending.let_go(second, SubscriptionId(2));
        left(4).await;
    }
}
