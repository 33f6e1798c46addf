//! `User`: the name of a user, and its token in subjects.

use std::sync::Arc;

use tidegate_protocol::template::is_token_value;
use tidegate_protocol::user_token;

/// How the names of users become tokens of subjects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserEncoding {
    /// A name is its own token. Other names are refused.
    Verbatim,
    /// With `auth.user_claim`: all characters that a token cannot have are encoded, and `=`.
    Encoded,
}

/// A user whose name can be used in subjects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub name: Arc<str>,
    /// The token of the user, if it is not the name.
    pub encoded: Option<Arc<str>>,
}

impl User {
    /// `None` if the name has no token, or could be mistaken for something else: control characters, quotation marks
    /// and backslashes are never part of a name, because names are shown in messages and logs.
    pub fn new(name: &str, encoding: UserEncoding) -> Option<Self> {
        match encoding {
            UserEncoding::Verbatim => {
                is_token_value(name).then(|| Self { name: Arc::from(name), encoded: None })
            }
            UserEncoding::Encoded => {
                if name.contains(|c: char| c.is_control() || matches!(c, '"' | '\\')) {
                    return None;
                }
                let token = user_token::encode(name)?;
                let encoded = (token != name).then(|| Arc::from(token));
                Some(Self { name: Arc::from(name), encoded })
            }
        }
    }

    /// The token in subjects.
    pub fn token(&self) -> &str {
        self.encoded.as_deref().unwrap_or(&self.name)
    }
}
