//! `Stretch`: lets other tasks of the thread run during long work.

/// Steps between two pauses.
pub(super) const STEPS: usize = 256;

/// Counts the steps of long work.
#[derive(Debug, Default)]
pub(super) struct Stretch(usize);

impl Stretch {
    /// Counts one step. After [`STEPS`] of them, lets other tasks run.
    pub(super) async fn step(&mut self) {
        self.steps(1).await;
    }

    /// Counts several steps, which are one piece of work.
    pub(super) async fn steps(&mut self, count: usize) {
        self.0 += count;
        if self.0 >= STEPS {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}
