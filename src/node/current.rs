//! `Current`: what all threads use and a reload replaces, such as the authenticator.

use std::sync::Arc;

use tokio::sync::watch;

/// Something that can be replaced while the node runs. Only handshakes, HTTP calls and control messages read it, so the
/// short lock inside `watch` is not on the delivery path.
#[derive(Debug)]
pub struct Current<T>(watch::Sender<Arc<T>>);

impl<T> Current<T> {
    pub fn new(first: T) -> Self {
        Self(watch::Sender::new(Arc::new(first)))
    }

    /// The current one. It may be replaced at any time: hold the `Arc` if one decision needs several calls.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.borrow())
    }

    /// Tells about each replacement.
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.0.subscribe()
    }

    /// Replaces it. Decisions in progress finish with the old one.
    pub fn replace(&self, next: T) {
        self.0.send_replace(Arc::new(next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_in_progress_keeps_what_it_has_and_the_next_one_uses_the_new_one() {
        let current = Current::new("first");
        let (held, mut changes) = (current.get(), current.subscribe());
        assert!(!changes.has_changed().unwrap());
        current.replace("second");
        assert_eq!((*held, *current.get()), ("first", "second"));
        assert_eq!(**changes.borrow_and_update(), "second");
    }
}
