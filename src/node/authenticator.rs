//! `CurrentAuthenticator`: the authenticator that all threads use. It can be replaced while the node runs.

use std::sync::Arc;

use tokio::sync::watch;

use crate::auth::Authenticator;

/// The authenticator of the node. Only handshakes, HTTP calls and `auth` messages read it, so the short lock inside
/// `watch` is not on the delivery path.
#[derive(Debug)]
pub struct CurrentAuthenticator(watch::Sender<Arc<Authenticator>>);

impl CurrentAuthenticator {
    pub fn new(authenticator: Authenticator) -> Self {
        Self(watch::Sender::new(Arc::new(authenticator)))
    }

    /// The current authenticator.
    pub fn get(&self) -> Arc<Authenticator> {
        Arc::clone(&self.0.borrow())
    }

    /// Tells about each replacement.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Authenticator>> {
        self.0.subscribe()
    }

    /// Replaces the authenticator. Decisions in progress finish with the old one.
    pub fn replace(&self, authenticator: Authenticator) {
        self.0.send_replace(Arc::new(authenticator));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::auth::AuthConfig;

    fn authenticator(max_token_bytes: usize) -> Authenticator {
        Authenticator::new(AuthConfig { max_token_bytes, ..AuthConfig::default() }, Vec::new()).unwrap()
    }

    #[test]
    fn a_decision_in_progress_keeps_its_authenticator_and_the_next_one_uses_the_new_one() {
        let current = CurrentAuthenticator::new(authenticator(1));
        let held = current.get();
        assert!(Arc::ptr_eq(&held, &current.get()));
        current.replace(authenticator(2));
        assert!(!Arc::ptr_eq(&held, &current.get()));
        assert!(Arc::ptr_eq(&current.get(), &current.get()));
    }
}
