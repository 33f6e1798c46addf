//! `Identity`: who is connected, until when, and with which permissions.

use std::sync::Arc;
use std::time::SystemTime;

use crate::permissions::Permissions;

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Identity {
    pub user: Arc<str>,
    /// The roles that were asked for and exist, in the order in which they were named.
    pub roles: Arc<[Arc<str>]>,
    /// Shared by all who have a role without placeholders.
    pub permissions: Arc<Permissions>,
    pub issuer: Option<Arc<str>>,
    /// What else the token says, as a JSON object, where a vocabulary speaks of it.
    pub claims: Option<Arc<str>>,
    /// When the session must end; `None`: never.
    pub expires: Option<SystemTime>,
    /// Whether no one proved to be anyone. A token's user may have any name, "anonymous" included.
    pub anonymous: bool,
}
