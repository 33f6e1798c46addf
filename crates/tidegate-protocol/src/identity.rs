//! `Identity`: who is connected, until when, and with which permissions.

use std::sync::Arc;
use std::time::SystemTime;

use crate::permissions::Permissions;

/// Fields that are rarely set are thin pointers: a node may have an identity for each socket.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The name of the user, as clients see it.
    pub user: Arc<str>,
    /// The user as a token of subjects, if that is not the name itself.
    pub encoded_user: Option<Arc<str>>,
    /// The requested roles that exist, in the order of the request.
    pub roles: Arc<[Arc<str>]>,
    /// Shared by clients whose roles have no placeholders.
    pub permissions: Arc<Permissions>,
    pub issuer: Option<Arc<str>>,
    /// The other claims of the token, as a JSON object, if a vocabulary uses them.
    pub claims: Option<Arc<String>>,
    /// The channels that a native session joins at its start, if a service has named some.
    pub channels: Option<Arc<Vec<Box<str>>>>,
    /// When the session must end; `None` for never.
    pub expires: Option<SystemTime>,
    /// The id (`jti`) of its token, if it has one.
    pub token_id: Option<Arc<str>>,
    /// When its token was issued (`iat`), if it says so.
    pub issued: Option<SystemTime>,
    /// Whether the client has proven no identity. A token may name any user, even "anonymous".
    pub anonymous: bool,
}

impl Identity {
    /// The user as a token of subjects. Different users have different tokens.
    pub fn user_token(&self) -> &str {
        self.encoded_user.as_deref().unwrap_or(&self.user)
    }

    /// Whether a session with this identity may continue with another one: that of the same user of the same issuer.
    /// An anonymous session may become any user.
    pub fn may_become(&self, new: &Self) -> bool {
        self.anonymous || (self.user == new.user && self.issuer == new.issuer)
    }

    /// Whether it was proven by a token, and not by an API key. Each token expires.
    pub fn has_token(&self) -> bool {
        self.expires.is_some()
    }
}
