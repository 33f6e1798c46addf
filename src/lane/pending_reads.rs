//! Waits: what has to be read from elsewhere before the feeds of a subscription open. The lane goes on meanwhile; what was
//! read comes back into its loop, as one more event of that subscription.

use std::collections::HashMap;
use std::hash::Hash;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;

/// What a lane waits for, at most one thing for each subscription. What is read and wanted no more is forgotten.
pub(super) struct Waits<K> {
    reads: FuturesUnordered<LocalBoxFuture<'static, (K, u64)>>,
    /// The number of the read that each subscription waits for: an earlier one was for a link that is lost.
    wanted: HashMap<K, u64>,
    begun: u64,
}

impl<K: Copy + Eq + Hash + 'static> Waits<K> {
    /// Waits for nothing.
    pub(super) fn new() -> Self {
        Self { reads: FuturesUnordered::new(), wanted: HashMap::new(), begun: 0 }
    }

    /// Begins to wait for a read of this subscription, in place of an earlier one.
    pub(super) fn begin(&mut self, key: K, read: impl Future<Output = ()> + 'static) {
        self.begun += 1;
        let number = self.begun;
        self.wanted.insert(key, number);
        self.reads.push(read.map(move |()| (key, number)).boxed_local());
    }

    /// The subscription whose read has ended. Never, while there is nothing to wait for.
    pub(super) async fn next(&mut self) -> K {
        loop {
            let Some((key, number)) = self.reads.next().await else { std::future::pending().await };
            if self.wanted.get(&key) == Some(&number) {
                self.wanted.remove(&key);
                return key;
            }
        }
    }

    /// Nothing is wanted for this subscription any more.
    pub(super) fn forget(&mut self, key: K) {
        self.wanted.remove(&key);
    }

    /// Nothing is wanted any more.
    pub(super) fn forget_all(&mut self) {
        self.wanted.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn begin(waits: &mut Waits<u32>, key: u32) -> oneshot::Sender<()> {
        let (end, ended) = oneshot::channel::<()>();
        waits.begin(key, async { ended.await.unwrap_or_default() });
        end
    }

    #[tokio::test]
    async fn reads_come_back_as_they_end_and_only_the_last_one_of_a_subscription_counts() {
        let mut waits = Waits::new();
        assert_eq!(waits.next().now_or_never(), None, "nothing to wait for");
        let (one, two) = (begin(&mut waits, 1), begin(&mut waits, 2));
        assert_eq!(waits.next().now_or_never(), None);
        two.send(()).unwrap();
        assert_eq!(waits.next().now_or_never(), Some(2));
        let again = begin(&mut waits, 1);
        one.send(()).unwrap();
        assert_eq!(waits.next().now_or_never(), None, "it was for a link that is lost");
        again.send(()).unwrap();
        assert_eq!(waits.next().now_or_never(), Some(1));
        for forget in [|waits: &mut Waits<u32>| waits.forget(3), Waits::forget_all] {
            let forgotten = begin(&mut waits, 3);
            forget(&mut waits);
            forgotten.send(()).unwrap();
            assert_eq!(waits.next().now_or_never(), None);
        }
        assert!(waits.reads.is_empty(), "nothing is kept of them");
    }
}
