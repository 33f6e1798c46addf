//! `Bell`: lets a task poll its rare sources of events only after one of them has called.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Wake;
use std::task::Waker;

/// Each poll of a channel, a timer or a notification costs, even if it finds nothing. A task that is mostly woken by one
/// busy source gives this waker to the others, and so knows without a poll whether one of them has called.
#[derive(Debug)]
pub(super) struct Bell {
    ringer: Arc<Ringer>,
    /// Rings, for the rare sources.
    waker: Waker,
}

#[derive(Debug)]
struct Ringer {
    has_rung: AtomicBool,
    task: Waker,
}

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Bell {
    /// A bell that has rung: no source knows the waker yet.
    pub(super) fn new() -> Self {
        Self::of(Waker::noop().clone())
    }

    fn of(task: Waker) -> Self {
        let ringer = Arc::new(Ringer { has_rung: AtomicBool::new(true), task });
        Self { waker: Waker::from(Arc::clone(&ringer)), ringer }
    }

    /// Rings for a source that cannot: it has something new, but has not been polled with it. Call this from the task
    /// itself, before it waits.
    pub(super) fn ring(&self) {
        self.ringer.has_rung.store(true, Ordering::Release);
    }

    /// Whether the rare sources are polled next time.
    pub(super) fn has_rung(&self) -> bool {
        self.ringer.has_rung.load(Ordering::Acquire)
    }

    /// Polls the rare sources if the bell has rung. `poll` must poll all of them. If it is ready, they are polled again
    /// next time, because they may have more.
    pub(super) fn poll_if_rung<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !self.ringer.task.will_wake(context.waker()) {
            *self = Self::of(context.waker().clone());
        }
        if !self.has_rung() {
            return Poll::Pending;
        }
        // Before the poll: what rings during the poll must count for the next one.
        self.ringer.has_rung.swap(false, Ordering::AcqRel);
        let outcome = poll(&mut Context::from_waker(&self.waker));
        if outcome.is_ready() {
            self.ring();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::mpsc;

    use super::*;

    /// Counts how often a task was woken.
    #[derive(Debug, Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Wakes {
        fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    /// A bell with one rare source, and how often that was polled.
    struct Rare {
        bell: Bell,
        source: mpsc::Receiver<u32>,
        polls: usize,
    }

    impl Rare {
        fn new() -> (mpsc::Sender<u32>, Self) {
            let (sender, source) = mpsc::channel(2);
            (sender, Self { bell: Bell::new(), source, polls: 0 })
        }

        fn poll(&mut self, task: &Arc<Wakes>) -> Poll<Option<u32>> {
            let waker = Waker::from(Arc::clone(task));
            self.bell.poll_if_rung(&mut Context::from_waker(&waker), |context| {
                self.polls += 1;
                self.source.poll_recv(context)
            })
        }
    }

    #[test]
    fn a_source_is_polled_only_after_it_has_called_and_until_it_has_nothing_left() {
        let (task, (sender, mut rare)) = (Arc::default(), Rare::new());
        for _ in 0..5 {
            assert!(rare.poll(&task).is_pending());
        }
        assert_eq!((rare.polls, task.count()), (1, 0), "once, to leave the waker");
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        assert_eq!(task.count(), 1, "the source wakes the task");
        assert_eq!(rare.poll(&task), Poll::Ready(Some(1)));
        assert_eq!(rare.poll(&task), Poll::Ready(Some(2)), "without another call");
        assert!(rare.poll(&task).is_pending());
        assert!(rare.poll(&task).is_pending());
        assert_eq!(rare.polls, 4);
        drop(sender);
        assert_eq!(rare.poll(&task), Poll::Ready(None));
    }

    #[test]
    fn a_source_that_calls_while_it_is_polled_is_polled_again() {
        let (task, mut bell): (Arc<Wakes>, _) = (Arc::default(), Bell::new());
        let waker = Waker::from(Arc::clone(&task));
        let mut context = Context::from_waker(&waker);
        let yields = bell.poll_if_rung(&mut context, |context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(yields.is_pending());
        assert_eq!(task.count(), 1);
        assert!(bell.poll_if_rung(&mut context, |_| Poll::Ready(())).is_ready());
    }

    #[test]
    fn a_bell_that_the_task_rings_itself_polls_the_sources_without_a_wake() {
        let (task, (_sender, mut rare)) = (Arc::default(), Rare::new());
        assert!(rare.poll(&task).is_pending());
        rare.bell.ring();
        assert!(rare.poll(&task).is_pending());
        assert_eq!((rare.polls, task.count()), (2, 0));
    }

    #[test]
    fn a_source_wakes_the_task_that_polled_last() {
        let (first, second, (sender, mut rare)) = (Arc::default(), Arc::default(), Rare::new());
        assert!(rare.poll(&first).is_pending());
        assert!(rare.poll(&second).is_pending());
        assert_eq!(rare.polls, 2);
        sender.try_send(1).unwrap();
        assert_eq!((first.count(), second.count()), (0, 1));
        assert_eq!(rare.poll(&second), Poll::Ready(Some(1)));
    }

    #[test]
    fn nothing_that_another_thread_sends_is_missed() {
        const COUNT: u32 = 100_000;
        let (sender, mut source) = mpsc::channel(4);
        let receive = async {
            let mut bell = Bell::new();
            for number in 0..COUNT {
                let next =
                    poll_fn(|context| bell.poll_if_rung(context, |context| source.poll_recv(context))).await;
                assert_eq!(next, Some(number));
            }
        };
        let sent = std::thread::scope(|scope| {
            let sending = scope.spawn(move || (0..COUNT).try_for_each(|number| sender.blocking_send(number)));
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(receive);
            sending.join().unwrap()
        });
        assert_eq!(sent, Ok(()));
    }
}
