//! Reads that must finish before the feeds of a subscription open. The lane continues meanwhile; a finished read is one
//! more event of its loop.

use std::collections::HashMap;
use std::hash::Hash;
use std::task::Context;
use std::task::Poll;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;

/// The pending reads of a lane, at most one for each subscription. The results of cancelled reads are dropped.
pub(super) struct PendingReads<K> {
    reads: FuturesUnordered<LocalBoxFuture<'static, (K, u64)>>,
    /// The number of the read that each subscription waits for. Earlier reads belong to a lost connection.
    wanted: HashMap<K, u64>,
    started: u64,
}

impl<K: Copy + Eq + Hash + 'static> PendingReads<K> {
    pub(super) fn new() -> Self {
        Self { reads: FuturesUnordered::new(), wanted: HashMap::new(), started: 0 }
    }

    /// Starts a read for this subscription, and cancels an earlier one.
    pub(super) fn start(&mut self, key: K, read: impl Future<Output = ()> + 'static) {
        self.started += 1;
        let number = self.started;
        self.wanted.insert(key, number);
        self.reads.push(read.map(move |()| (key, number)).boxed_local());
    }

    /// Ready when a read has finished: returns its subscription. If there is no read, nothing wakes the task: poll again
    /// after [`PendingReads::start`].
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<K> {
        loop {
            match self.reads.poll_next_unpin(context) {
                Poll::Ready(Some((key, number))) if self.wanted.get(&key) == Some(&number) => {
                    self.wanted.remove(&key);
                    return Poll::Ready(key);
                }
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Cancels the read of this subscription.
    pub(super) fn cancel(&mut self, key: K) {
        self.wanted.remove(&key);
    }

    /// Cancels all reads.
    pub(super) fn cancel_all(&mut self) {
        self.wanted.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::oneshot;

    use super::*;

    fn next(reads: &mut PendingReads<u32>) -> Option<u32> {
        poll_fn(|context| reads.poll_next(context)).now_or_never()
    }

    fn begin(reads: &mut PendingReads<u32>, key: u32) -> oneshot::Sender<()> {
        let (end, ended) = oneshot::channel::<()>();
        reads.start(key, async { ended.await.unwrap_or_default() });
        end
    }

    #[tokio::test]
    async fn reads_return_as_they_finish_and_only_the_last_of_a_subscription_counts() {
        let mut reads = PendingReads::new();
        assert_eq!(next(&mut reads), None, "nothing to wait for");
        let (one, two) = (begin(&mut reads, 1), begin(&mut reads, 2));
        assert_eq!(next(&mut reads), None);
        two.send(()).unwrap();
        assert_eq!(next(&mut reads), Some(2));
        let again = begin(&mut reads, 1);
        one.send(()).unwrap();
        assert_eq!(next(&mut reads), None, "it was for a link that is lost");
        again.send(()).unwrap();
        assert_eq!(next(&mut reads), Some(1));
        for cancel in [|reads: &mut PendingReads<u32>| reads.cancel(3), PendingReads::cancel_all] {
            let cancelled = begin(&mut reads, 3);
            cancel(&mut reads);
            cancelled.send(()).unwrap();
            assert_eq!(next(&mut reads), None);
        }
        assert!(reads.reads.is_empty(), "nothing is kept of them");
    }
}
