//! `CurrentAuthenticator`: the authenticator that all threads use, which another one can replace while the node runs.

use std::sync::Arc;

use tokio::sync::watch;

use crate::auth::Authenticator;

/// The authenticator of the node. Only handshakes, HTTP calls and `auth` messages ask for it: no publication passes the
/// short lock inside `watch`.
#[derive(Debug)]
pub struct CurrentAuthenticator(watch::Sender<Arc<Authenticator>>);

impl CurrentAuthenticator {
    /// Begins with this one.
    pub fn new(authenticator: Authenticator) -> Self {
        Self(watch::Sender::new(Arc::new(authenticator)))
    }

    /// The one to use now.
    pub fn get(&self) -> Arc<Authenticator> {
        Arc::clone(&self.0.borrow())
    }

    /// Puts another one in its place. Whoever holds the old one finishes with it.
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
    fn a_decision_under_way_keeps_its_authenticator_and_the_next_one_has_the_new_one() {
        let current = CurrentAuthenticator::new(authenticator(1));
        let held = current.get();
        assert!(Arc::ptr_eq(&held, &current.get()));
        current.replace(authenticator(2));
        assert!(!Arc::ptr_eq(&held, &current.get()));
        assert!(Arc::ptr_eq(&current.get(), &current.get()));
    }
}
