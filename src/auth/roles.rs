//! `Roles`: what each role entitles to. What does not depend on who holds it is made once and shared by all.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Permissions;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::is_user;
use tidegate_protocol::template::PlaceholderValue;

use crate::auth::claims::Claims;
use crate::auth::error::AuthError;
use crate::auth::setup_error::AuthSetupError;
use crate::auth::setup_error::RoleError;

const ANONYMOUS_USER: &str = "anonymous";

/// The configured roles by name.
#[derive(Debug)]
pub struct Roles(HashMap<String, KnownNames>);

#[derive(Debug)]
struct KnownNames {
    role: Role,
    names: RoleNames,
    /// What everybody has who has this role and no other; `None` if it has placeholders.
    shared: Option<Arc<Permissions>>,
}

/// Names of roles, in the order in which they were claimed.
pub type RoleNames = Arc<[Arc<str>]>;

impl Roles {
    /// Checks what can be wrong with them.
    pub fn new(roles: Vec<Role>) -> Result<Self, AuthSetupError> {
        let mut named = HashMap::new();
        for role in roles {
            if role.name.is_empty() {
                return Err(AuthSetupError::UnnamedRole);
            }
            let shared = role.placeholders().next().is_none().then(|| role.fill(|_| None).ok()).flatten();
            let names = Arc::from([Arc::from(role.name.as_str())]);
            let known = KnownNames { names, shared: shared.map(Arc::new), role };
            if let Some(earlier) = named.insert(known.role.name.clone(), known) {
                return Err(AuthSetupError::DuplicateRole { name: earlier.role.name });
            }
        }
        Ok(Self(named))
    }

    /// What the roles entitle to that are at the claim `at`.
    pub fn entitlements(
        &self,
        claims: &Claims,
        at: &str,
    ) -> Result<(RoleNames, Arc<Permissions>), AuthError> {
        let named = claims.roles(at)?;
        if named.iter().all(|name| name.is_empty()) {
            return Err(AuthError::MissingRole { claim: at.to_owned() });
        }
        let mut claimed: Vec<&KnownNames> = Vec::new();
        for name in named {
            // A name that is twice, or says nothing here, adds nothing.
            let fresh =
                |known: &&KnownNames| claimed.iter().all(|earlier| earlier.role.name != known.role.name);
            claimed.extend(self.0.get(name).filter(fresh));
        }
        match claimed[..] {
            [] => Err(AuthError::NoRole { claim: at.to_owned() }),
            [one] => Ok((Arc::clone(&one.names), one.permissions(claims)?)),
            [..] => {
                let mut permissions = Permissions::default();
                for known in &claimed {
                    permissions.merge(Arc::unwrap_or_clone(known.permissions(claims)?));
                }
                let names = claimed.iter().flat_map(|known| known.names.iter().map(Arc::clone));
                Ok((names.collect(), Arc::new(permissions)))
            }
        }
    }

    /// Who has a role without having shown anything.
    pub fn anonymous(&self, role: &str) -> Result<Identity, RoleError> {
        let user = Arc::from(ANONYMOUS_USER);
        Ok(Identity { user, anonymous: true, ..self.with_known(role, |_| None)? })
    }

    /// A user of whom no more is known than the name.
    pub fn user(&self, role: &str, user: &str) -> Result<Identity, RoleError> {
        let known =
            |placeholder: &str| is_user(placeholder).then_some(PlaceholderValue::One(Cow::Borrowed(user)));
        Ok(Identity { user: Arc::from(user), ..self.with_known(role, known)? })
    }

    /// Somebody with a role, filled with the few values that are known.
    fn with_known<'v>(
        &self,
        role: &str,
        value: impl Fn(&str) -> Option<PlaceholderValue<'v>>,
    ) -> Result<Identity, RoleError> {
        let known = self.0.get(role).ok_or(RoleError::Unknown)?;
        if let Some(placeholder) = known.role.placeholders().find(|placeholder| value(placeholder).is_none())
        {
            return Err(RoleError::Placeholder { placeholder: placeholder.to_owned() });
        }
        let permissions = match &known.shared {
            Some(shared) => Arc::clone(shared),
            None => Arc::new(known.role.fill(value).map_err(RoleError::Template)?),
        };
        Ok(Identity { roles: Arc::clone(&known.names), permissions, ..Identity::default() })
    }
}

impl KnownNames {
    fn permissions(&self, claims: &Claims) -> Result<Arc<Permissions>, AuthError> {
        if let Some(shared) = &self.shared {
            return Ok(Arc::clone(shared));
        }
        let filled = self.role.fill(|placeholder| claims.placeholder(placeholder));
        let failed = |problem| AuthError::RoleTemplate { role: self.role.name.clone(), problem };
        filled.map(Arc::new).map_err(failed)
    }
}
