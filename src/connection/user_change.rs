//! `UserChange`: ends the sessions of a user, or some of their subscriptions.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::session::Input;
use tidegate_protocol::subject::Pattern;

use crate::connection::Connection;
use crate::connection::Stage;

/// What a backend or an operator does to the sessions of a user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserChange {
    pub user: Box<str>,
    /// The issuer of the credentials. `None`: any issuer, and none.
    pub issuer: Option<Box<str>>,
    pub action: UserAction,
}

/// What happens to each session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UserAction {
    /// It ends.
    Disconnect,
    /// Its subscriptions to channels that these patterns cover end.
    Unsubscribe(Arc<[Pattern]>),
}

impl UserAction {
    /// Its name in logs, and the last segment of its path.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::Unsubscribe(_) => "unsubscribe",
        }
    }
}

impl Connection {
    /// Changes the session, if it is open and of this user. Returns whether it is.
    pub fn change(self: &Rc<Self>, change: &UserChange, now: Instant) -> bool {
        let UserChange { user, issuer, action } = change;
        if self.stage.get() != Stage::Open {
            return false;
        }
        let is_of_user = self.session.borrow().identity().is_some_and(|identity| {
            *identity.user == **user
                && !identity.anonymous
                && issuer.as_ref().is_none_or(|issuer| identity.issuer.as_deref() == Some(issuer))
        });
        if !is_of_user {
            return false;
        }
        match action {
            UserAction::Disconnect => {
                self.note_changed(action.name());
                self.disconnect(Disconnect::Disconnected, None, now);
            }
            UserAction::Unsubscribe(patterns) => {
                self.note_changed(action.name());
                self.apply(Input::Unsubscribed { patterns: Arc::clone(patterns) }, now);
            }
        }
        self.flush(now);
        true
    }
}
