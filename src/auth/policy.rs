//! `Policy`: who comes in at one endpoint, with a credential and without.

use std::sync::Arc;
use std::time::SystemTime;

use tidegate_protocol::identity::Identity;
use tidegate_protocol::template::is_token_value;

use crate::auth::Accepts;
use crate::auth::Authenticator;
use crate::auth::error::AuthError;
use crate::auth::setup_error::AuthSetupError;
use crate::auth::setup_error::wrong_role;
use crate::config::endpoint::access::AccessConfig;
use crate::config::endpoint::access::IdentityHint;
use crate::config::endpoint::access::TrustClientIdentityConfig;

/// Made once for each endpoint, and shared by all who come to it.
#[derive(Debug)]
pub struct Policy {
    /// What logs call the endpoint.
    pub endpoint: Box<str>,
    sockets: Accepts,
    anonymous: Option<Arc<Identity>>,
    anonymous_http: Option<Arc<Identity>>,
    trust_client_identity: Option<TrustClientIdentityConfig>,
}

/// How somebody talks to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    Socket,
    Http,
}

impl Policy {
    /// The same at an endpoint that logs call so.
    pub fn at(self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.into(), ..self }
    }

    /// What is taken for a credential.
    pub fn accepts(&self, via: Via) -> Accepts {
        match via {
            Via::Socket => self.sockets,
            Via::Http => Accepts::TokensAndApiKeys,
        }
    }

    /// Who comes without a credential; `None` if one is required.
    pub fn anonymous(&self, via: Via) -> Option<Arc<Identity>> {
        match via {
            Via::Socket => self.anonymous.clone(),
            Via::Http => self.anonymous_http.clone(),
        }
    }

    /// Where clients without a credential name themselves, if the endpoint trusts that.
    pub fn identity_hint(&self, via: Via) -> Option<&IdentityHint> {
        let trusted = self.trust_client_identity.as_ref()?;
        match via {
            Via::Socket => Some(&trusted.user),
            Via::Http => trusted.http_user.as_ref(),
        }
    }
}

impl Authenticator {
    /// The policy of an endpoint, which `key` names in messages: `endpoint[0]`.
    pub fn policy(&self, access: &AccessConfig, key: &str) -> Result<Policy, AuthSetupError> {
        let anonymous =
            |role: &Option<String>, name: &str, default: &Option<Arc<Identity>>| match role.as_deref() {
                None => Ok(default.clone()),
                Some("") => Ok(None),
                Some(role) => {
                    let identity = self.roles.anonymous(role).map(Arc::new).map(Some);
                    identity.map_err(|problem| wrong_role(&format!("{key}.{name}"), role, problem))
                }
            };
        let sockets = anonymous(&access.anonymous_role, "anonymous_role", &self.anonymous)?;
        let trusted = access.trust_client_identity.as_ref().map(|trusted| {
            // Any name shows whether the role can be filled.
            match self.roles.user(&trusted.role, "user") {
                Ok(_) => Ok(trusted.clone()),
                Err(problem) => {
                    Err(wrong_role(&format!("{key}.trust_client_identity.role"), &trusted.role, problem))
                }
            }
        });
        Ok(Policy {
            endpoint: key.into(),
            sockets: if access.api_keys { Accepts::TokensAndApiKeys } else { Accepts::Tokens },
            anonymous_http: anonymous(&access.anonymous_http_role, "anonymous_http_role", &sockets)?,
            anonymous: sockets,
            trust_client_identity: trusted.transpose()?,
        })
    }

    /// Who comes to an endpoint with this credential, at the time `now`.
    pub fn admit(
        &self,
        policy: &Policy,
        via: Via,
        credential: &str,
        now: SystemTime,
    ) -> Result<Arc<Identity>, AuthError> {
        self.identify(credential, policy.accepts(via), now)
    }

    /// The identity of a user that a client names, at an endpoint that trusts it. The limits for each user count it
    /// like any other, and a token that the client sends later must be of the same user.
    pub fn trust_client_identity(&self, policy: &Policy, user: &str) -> Result<Arc<Identity>, AuthError> {
        let trusted = policy.trust_client_identity.as_ref().ok_or(AuthError::IdentityNotTrusted)?;
        if !is_token_value(user) {
            return Err(AuthError::BadUser);
        }
        let identity = self.roles.user(&trusted.role, user).map_err(|_| AuthError::IdentityNotTrusted)?;
        Ok(Arc::new(Identity { issuer: self.user_issuer(), ..identity }))
    }
}

#[cfg(test)]
mod tests;
