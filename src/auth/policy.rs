//! `Policy`: which clients one endpoint accepts, with a credential and without.

use std::sync::Arc;
use std::time::SystemTime;

use tidegate_protocol::identity::Identity;

use crate::auth::AcceptedCredentials;
use crate::auth::Authenticator;
use crate::auth::Unidentified;
use crate::auth::error::AuthError;
use crate::auth::setup_error::AuthSetupError;
use crate::auth::setup_error::wrong_role;
use crate::auth::user::User;
use crate::config::endpoint::access::AccessConfig;
use crate::config::endpoint::access::IdentityHint;
use crate::config::endpoint::access::TrustClientIdentityConfig;

/// The access rules of one endpoint, shared by all its clients.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The endpoint's name in logs.
    pub endpoint: Box<str>,
    sockets: AcceptedCredentials,
    anonymous: Option<Arc<Identity>>,
    anonymous_http: Option<Arc<Identity>>,
    trust_client_identity: Option<TrustClientIdentityConfig>,
    /// The role of tokens without a role claim, in place of the issuer's.
    default_role: Option<Arc<str>>,
    /// The same at paths of the vocabulary that have their own, by name.
    path_roles: Vec<(Box<str>, Arc<str>)>,
    /// Where a user has one connection, with a name that is the same on all nodes. `None`: users have any number.
    pub one_connection_at: Option<Arc<str>>,
}

/// How a client sends its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    Socket,
    Http,
}

impl Policy {
    /// Sets the endpoint's name in logs.
    pub fn for_endpoint(self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.into(), ..self }
    }

    /// Lets each user have one connection here: `name` is that of the endpoint on all nodes.
    #[must_use]
    pub fn with_one_connection_at(self, name: &str) -> Self {
        Self { one_connection_at: Some(name.into()), ..self }
    }

    /// The policy at the path with this name. A user has one connection at each path.
    #[must_use]
    pub fn at_path(&self, name: &str) -> Self {
        let own = self.path_roles.iter().find(|(path, _)| **path == *name).map(|(_, role)| Arc::clone(role));
        let one_connection_at =
            self.one_connection_at.as_ref().map(|endpoint| format!("{endpoint}/{name}").into());
        let default_role = own.or_else(|| self.default_role.clone());
        Self { default_role, one_connection_at, ..self.clone() }
    }

    /// Which kinds of credentials the endpoint accepts.
    pub fn accepts(&self, via: Via) -> AcceptedCredentials {
        match via {
            Via::Socket => self.sockets,
            Via::Http => AcceptedCredentials::TokensAndApiKeys,
        }
    }

    /// The identity of clients without a credential; `None` if one is required.
    pub fn anonymous(&self, via: Via) -> Option<Arc<Identity>> {
        match via {
            Via::Socket => self.anonymous.clone(),
            Via::Http => self.anonymous_http.clone(),
        }
    }

    /// Where clients without a credential name their user, if the endpoint trusts that.
    pub fn identity_hint(&self, via: Via) -> Option<&IdentityHint> {
        let trusted = self.trust_client_identity.as_ref()?;
        match via {
            Via::Socket => Some(&trusted.user),
            Via::Http => trusted.http_user.as_ref(),
        }
    }
}

impl Authenticator {
    /// The policy of an endpoint. `key` names it in error messages, such as `endpoint[0]`.
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
            // Any name will do to check that the role can be filled.
            let user = User { name: Arc::from("user"), encoded: None };
            match self.roles.user(&trusted.role, &user) {
                Ok(_) => Ok(trusted.clone()),
                Err(problem) => {
                    Err(wrong_role(&format!("{key}.trust_client_identity.role"), &trusted.role, problem))
                }
            }
        });
        let path_role = |(path, role): &(String, String)| {
            let role = self.roles.default_role(&format!("{key}.roles.{path}"), role)?;
            Ok(role.map(|role| (path.as_str().into(), role)))
        };
        let path_roles = access.path_roles.iter().filter_map(|path| path_role(path).transpose());
        Ok(Policy {
            endpoint: key.into(),
            default_role: None,
            path_roles: path_roles.collect::<Result<_, AuthSetupError>>()?,
            sockets: if access.api_keys {
                AcceptedCredentials::TokensAndApiKeys
            } else {
                AcceptedCredentials::Tokens
            },
            anonymous_http: anonymous(&access.anonymous_http_role, "anonymous_http_role", &sockets)?,
            anonymous: sockets,
            trust_client_identity: trusted.transpose()?,
            one_connection_at: None,
        })
    }

    /// The identity of this credential at an endpoint, at the time `now`. It never waits.
    pub fn identify_at(
        &self,
        policy: &Policy,
        via: Via,
        credential: &str,
        now: SystemTime,
    ) -> Result<Arc<Identity>, Unidentified> {
        self.identify_with(credential, policy.accepts(via), policy.default_role.as_deref(), now)
    }

    /// The identity of a client that names this user, at an endpoint that trusts it. It counts like any other user: limits
    /// for each user apply, and a token that is sent later must belong to the same user.
    pub fn trust_client_identity(&self, policy: &Policy, user: &str) -> Result<Arc<Identity>, AuthError> {
        let trusted = policy.trust_client_identity.as_ref().ok_or(AuthError::IdentityNotTrusted)?;
        let issuer = self.issuers.name_of_user(user).cloned();
        let user = User::new(user, self.issuers.encoding()).ok_or(AuthError::BadUser)?;
        let identity = self.roles.user(&trusted.role, &user).map_err(|_| AuthError::IdentityNotTrusted)?;
        Ok(Arc::new(Identity { issuer, ..identity }))
    }
}

#[cfg(test)]
mod tests;
