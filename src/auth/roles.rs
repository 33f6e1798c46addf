//! `Roles`: the permissions of each role. Permissions without placeholders are built once and shared.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Permissions;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::is_user;
use tidegate_protocol::template::PlaceholderValue;
use tidegate_protocol::template::TemplateError;

use crate::auth::claims::Claims;
use crate::auth::error::AuthError;
use crate::auth::setup_error::AuthSetupError;
use crate::auth::setup_error::RoleError;
use crate::auth::setup_error::wrong_role;
use crate::auth::user::User;

const ANONYMOUS_USER: &str = "anonymous";

/// The configured roles by name.
#[derive(Debug)]
pub struct Roles(HashMap<String, ConfiguredRole>);

#[derive(Debug)]
struct ConfiguredRole {
    role: Role,
    names: RoleNames,
    /// The permissions of clients with this role alone; `None` if the role has placeholders.
    shared: Option<Arc<Permissions>>,
}

/// Names of roles, in the order of the token.
pub type RoleNames = Arc<[Arc<str>]>;

impl Roles {
    /// Checks that each role has its own name.
    pub fn new(roles: Vec<Role>) -> Result<Self, AuthSetupError> {
        let mut named = HashMap::new();
        for role in roles {
            if role.name.is_empty() {
                return Err(AuthSetupError::UnnamedRole);
            }
            let shared = role.placeholders().next().is_none().then(|| role.fill(|_| None).ok()).flatten();
            let names = Arc::from([Arc::from(role.name.as_str())]);
            let configured = ConfiguredRole { names, shared: shared.map(Arc::new), role };
            if let Some(earlier) = named.insert(configured.role.name.clone(), configured) {
                return Err(AuthSetupError::DuplicateRole { name: earlier.role.name });
            }
        }
        Ok(Self(named))
    }

    /// The role with this name.
    pub fn get(&self, name: &str) -> Option<&Role> {
        self.0.get(name).map(|configured| &configured.role)
    }

    /// The names of all roles, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The role with this name, for tokens without a role claim; `None` if the name is empty. `key` names the setting.
    pub fn default_role(&self, key: &str, name: &str) -> Result<Option<Arc<str>>, AuthSetupError> {
        match self.0.get(name) {
            Some(configured) => Ok(configured.names.first().map(Arc::clone)),
            None if name.is_empty() => Ok(None),
            None => Err(wrong_role(key, name, RoleError::Unknown)),
        }
    }

    /// The names and permissions of the roles in the claim `at`. A token without that claim has the role `default`.
    pub fn entitlements(
        &self,
        claims: &Claims,
        user: &User,
        at: &str,
        default: Option<&str>,
    ) -> Result<(RoleNames, Arc<Permissions>), AuthError> {
        let named = match default {
            Some(default) if claims.lacks(at) => vec![default],
            Some(_) | None => claims.roles(at)?,
        };
        if named.iter().all(|name| name.is_empty()) {
            return Err(AuthError::MissingRole { claim: at.to_owned() });
        }
        // Names that are not configured are skipped: other programs read the same claim.
        let claimed = Self::distinct(named.into_iter().filter_map(|name| self.0.get(name)));
        if claimed.is_empty() {
            return Err(AuthError::NoRole { claim: at.to_owned() });
        }
        let failed =
            |(role, problem): (&Role, _)| AuthError::RoleTemplate { role: role.name.clone(), problem };
        combined(&claimed, claims, user).map_err(failed)
    }

    /// The names and permissions of the roles with these names, each of which must exist.
    pub fn of_names(
        &self,
        names: &[String],
        claims: &Claims,
        user: &User,
    ) -> Result<(RoleNames, Arc<Permissions>), String> {
        let named = names.iter().map(|name| self.0.get(name)).collect::<Option<Vec<_>>>();
        let named = named.ok_or("one of its `roles` is no configured [[role]]; names are case-sensitive")?;
        let failed = |(role, problem): (&Role, TemplateError)| {
            format!("the placeholders of role \"{}\" cannot be filled from it: {problem}", role.name)
        };
        combined(&Self::distinct(named.into_iter()), claims, user).map_err(failed)
    }

    /// These roles, each once.
    fn distinct<'r>(roles: impl Iterator<Item = &'r ConfiguredRole>) -> Vec<&'r ConfiguredRole> {
        let mut distinct: Vec<&ConfiguredRole> = Vec::new();
        for role in roles {
            if distinct.iter().all(|earlier| earlier.role.name != role.role.name) {
                distinct.push(role);
            }
        }
        distinct
    }

    /// The identity of anonymous clients with this role.
    pub fn anonymous(&self, role: &str) -> Result<Identity, RoleError> {
        let user = Arc::from(ANONYMOUS_USER);
        Ok(Identity { user, anonymous: true, ..self.identity_with(role, |_| None)? })
    }

    /// The identity of a user who has no token, only a name.
    pub fn user(&self, role: &str, user: &User) -> Result<Identity, RoleError> {
        let identity = self.identity_with(role, |placeholder| user_value(placeholder, user))?;
        let User { name, encoded } = user.clone();
        Ok(Identity { user: name, encoded_user: encoded, ..identity })
    }

    /// An identity with this role. `value` fills the role's placeholders.
    fn identity_with<'v>(
        &self,
        role: &str,
        value: impl Fn(&str) -> Option<PlaceholderValue<'v>>,
    ) -> Result<Identity, RoleError> {
        let configured = self.0.get(role).ok_or(RoleError::Unknown)?;
        if let Some(placeholder) =
            configured.role.required_placeholders().find(|placeholder| value(placeholder).is_none())
        {
            return Err(RoleError::Placeholder { placeholder: placeholder.to_owned() });
        }
        let permissions = match &configured.shared {
            Some(shared) => Arc::clone(shared),
            None => Arc::new(configured.role.fill(value).map_err(RoleError::Template)?),
        };
        Ok(Identity { roles: Arc::clone(&configured.names), permissions, ..Identity::default() })
    }
}

/// The names and permissions of several roles together. An error names the role whose placeholders cannot be filled.
fn combined<'r>(
    roles: &[&'r ConfiguredRole],
    claims: &Claims,
    user: &User,
) -> Result<(RoleNames, Arc<Permissions>), (&'r Role, TemplateError)> {
    if let [one] = roles {
        return Ok((Arc::clone(&one.names), one.permissions(claims, user)?));
    }
    let mut permissions = Permissions::default();
    for configured in roles {
        permissions.merge(Arc::unwrap_or_clone(configured.permissions(claims, user)?));
    }
    let names = roles.iter().flat_map(|configured| configured.names.iter().map(Arc::clone));
    Ok((names.collect(), Arc::new(permissions)))
}

impl ConfiguredRole {
    fn permissions(&self, claims: &Claims, user: &User) -> Result<Arc<Permissions>, (&Role, TemplateError)> {
        if let Some(shared) = &self.shared {
            return Ok(Arc::clone(shared));
        }
        let filled = self.role.fill(|placeholder| placeholder_value(placeholder, claims, user));
        filled.map(Arc::new).map_err(|problem| (&self.role, problem))
    }
}

/// What a client has for a placeholder of its roles.
pub fn placeholder_value<'v>(
    placeholder: &str,
    claims: &'v Claims,
    user: &'v User,
) -> Option<PlaceholderValue<'v>> {
    user_value(placeholder, user).or_else(|| claims.placeholder(placeholder))
}

/// The user, if the placeholder is that.
fn user_value<'u>(placeholder: &str, user: &'u User) -> Option<PlaceholderValue<'u>> {
    is_user(placeholder).then(|| PlaceholderValue::One(Cow::Borrowed(user.token())))
}
