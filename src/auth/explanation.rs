//! `Explanation`: whether a client may use a subject, and which rule of which role decides.

use std::sync::Arc;

use serde_json::Value;
use serde_json::json;
use thiserror::Error;
use tidegate_document::quote::plain;
use tidegate_document::suggest::did_you_mean;
use tidegate_protocol::class::Class;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Decision;
use tidegate_protocol::permissions::Denial;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::permissions::Permissions;
use tidegate_protocol::permissions::explanation::RenderedRule;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::template::PlaceholderValue;
use tidegate_protocol::template::TemplateError;

use crate::auth::Authenticator;
use crate::auth::claim_argument;
use crate::auth::claims::Claims;
use crate::auth::error::AuthError;
use crate::auth::roles::placeholder_value;
use crate::auth::unverified_token::UnverifiedToken;
use crate::auth::user::User;

/// Who a client is: what its roles are filled with.
#[derive(Debug)]
pub struct ExplainedClient {
    /// `None`: an anonymous client, which has no value for any placeholder.
    pub user: Option<User>,
    pub roles: Vec<Arc<str>>,
    claims: Claims,
}

/// A decision about a subject, and the rules that it is based on.
#[derive(Debug)]
pub struct Explanation<'r> {
    pub decision: Decision,
    /// All rules of the client's roles for the operation. Of each role, those that allow come first.
    pub rules: Vec<RenderedRule<'r>>,
}

/// Why there is no explanation.
#[derive(Debug, Error)]
pub enum ExplanationError {
    #[error("no node accepts the user {0}: see docs/TOKENS.md")]
    BadUser(String),
    #[error("there is no role {role}: {hint}the configuration has {known}")]
    UnknownRole { role: String, hint: String, known: String },
    #[error("role {role}: {problem}")]
    Template { role: Arc<str>, problem: TemplateError },
    #[error("{0}")]
    BadClaims(AuthError),
}

impl ExplainedClient {
    /// The client with this identity. `credential` is its token or API key, which has been verified; `None` if it has
    /// none.
    pub fn of_identity(identity: &Identity, credential: Option<&str>) -> Result<Self, ExplanationError> {
        // An API key has no claims.
        let claims = credential.and_then(UnverifiedToken::read).map(|token| token.claims).unwrap_or_default();
        let user = User { name: Arc::clone(&identity.user), encoded: identity.encoded_user.clone() };
        Ok(Self {
            user: (!identity.anonymous).then_some(user),
            roles: identity.roles.to_vec(),
            claims: read_claims(&Value::Object(claims))?,
        })
    }

    fn value(&self, placeholder: &str) -> Option<PlaceholderValue<'_>> {
        placeholder_value(placeholder, &self.claims, self.user.as_ref()?)
    }
}

impl Explanation<'_> {
    /// The rule that decides. `None`: no rule allows it, or a rule of no role does.
    pub fn rule(&self) -> Option<&RenderedRule<'_>> {
        self.decision.rule(&self.rules)
    }

    /// Whether the roles allow it, and a revocation has withdrawn it.
    pub fn is_withdrawn(&self) -> bool {
        matches!(self.decision, Decision::Denied(Denial::Denied { .. })) && self.rule().is_none()
    }
}

impl Authenticator {
    /// A client without a credential, with these roles and claims. Roles that are repeated count once.
    pub fn named_client(
        &self,
        user: &str,
        roles: &[String],
        claims: &[(String, Value)],
    ) -> Result<ExplainedClient, ExplanationError> {
        let named = User::new(user, self.issuers.encoding());
        let named = named.ok_or_else(|| ExplanationError::BadUser(plain(user)))?;
        let mut known_roles: Vec<Arc<str>> = Vec::new();
        for name in roles {
            let Some(role) = self.roles.get(name) else {
                let mut known: Vec<&str> = self.roles.names().collect();
                known.sort_unstable();
                let hint = did_you_mean(name, &known);
                return Err(ExplanationError::UnknownRole {
                    role: plain(name),
                    hint,
                    known: known.join(", "),
                });
            };
            if !known_roles.iter().any(|earlier| **earlier == *role.name) {
                known_roles.push(role.name.as_str().into());
            }
        }
        let mut all = json!({ "sub": user });
        for (name, value) in claims {
            claim_argument::set(&mut all, name, value.clone());
        }
        Ok(ExplainedClient { user: Some(named), roles: known_roles, claims: read_claims(&all)? })
    }

    /// The identity of a client that [`Authenticator::named_client`] has returned. It has no token, like that of an API key.
    pub fn identity_of(&self, client: &ExplainedClient) -> Result<Identity, ExplanationError> {
        let mut permissions = Permissions::default();
        for name in &client.roles {
            let Some(role) = self.roles.get(name) else { continue };
            let filled = role.fill(|placeholder| client.value(placeholder));
            permissions.merge(filled.map_err(|problem| template_error(name, problem))?);
        }
        let user = client.user.as_ref();
        Ok(Identity {
            user: user.map_or_else(Arc::default, |user| Arc::clone(&user.name)),
            encoded_user: user.and_then(|user| user.encoded.clone()),
            roles: client.roles.as_slice().into(),
            permissions: Arc::new(permissions),
            issuer: user.and_then(|user| self.issuers.name_of_user(&user.name)).map(Arc::clone),
            anonymous: user.is_none(),
            ..Identity::default()
        })
    }

    /// Whether a client with these permissions may use all subjects that `requested` matches. The permissions are those of
    /// its identity: what its roles allow, less what revocations have withdrawn.
    pub fn explain(
        &self,
        client: &ExplainedClient,
        permissions: &Permissions,
        operation: Operation,
        requested: &Pattern,
    ) -> Result<Explanation<'_>, ExplanationError> {
        let mut rules = Vec::new();
        for name in &client.roles {
            let Some(role) = self.roles.get(name) else { continue };
            let rendered = role.rules(operation, |placeholder| client.value(placeholder));
            rules.extend(rendered.map_err(|problem| template_error(name, problem))?);
        }
        Ok(Explanation { decision: permissions.decide(operation, requested), rules })
    }
}

/// The class of all subjects that `requested` matches. `None`: they have the defaults.
pub fn class_of<'c>(classes: &'c [Class], requested: &Pattern) -> Option<&'c Class> {
    classes.iter().find(|class| class.pattern.covers(requested))
}

fn template_error(role: &Arc<str>, problem: TemplateError) -> ExplanationError {
    ExplanationError::Template { role: Arc::clone(role), problem }
}

fn read_claims(claims: &Value) -> Result<Claims, ExplanationError> {
    Claims::parse(claims.to_string().as_bytes()).map_err(ExplanationError::BadClaims)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use tidegate_protocol::permissions::Role;
    use tidegate_protocol::permissions::RuleTemplates;
    use tidegate_protocol::template::Template;

    use super::*;
    use crate::auth::revocation::message::RevocationMessage;
    use crate::auth::revocation::table::RevocationEffect;
    use crate::auth::revocation::table::RevocationTable;
    use crate::config::auth::AuthConfig;

    fn authenticator() -> Authenticator {
        let templates = |texts: &[&str]| texts.iter().map(|text| Template::parse(text).unwrap()).collect();
        let role = |name: &str, allow: &[&str], deny: &[&str]| Role {
            name: name.to_owned(),
            subscribe: RuleTemplates { allow: templates(allow), deny: templates(deny) },
            ..Role::default()
        };
        let roles = vec![
            role("user", &["user.{sub}.>", "prices.>"], &["prices.secret"]),
            role("team", &["team.{org.team}.>"], &[]),
        ];
        Authenticator::new(AuthConfig::default(), roles).unwrap()
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn a_named_client_has_what_a_token_with_its_claims_would_have() {
        let authenticator = authenticator();
        let roles = ["user", "team", "user"].map(str::to_owned);
        let claims = [("org.team".to_owned(), json!(["red", "blue"]))];
        let client = authenticator.named_client("alice", &roles, &claims).unwrap();
        let permissions = authenticator.identity_of(&client).unwrap().permissions;
        for (subject, allowed, template) in [
            ("user.alice.orders", true, Some("user.{sub}.>")),
            ("team.blue.news", true, Some("team.{org.team}.>")),
            ("prices.secret", false, Some("prices.secret")),
            ("user.bob.orders", false, None),
        ] {
            let explanation =
                authenticator.explain(&client, &permissions, Operation::Subscribe, &pattern(subject));
            let explanation = explanation.unwrap();
            assert_eq!(explanation.decision.is_allowed(), allowed, "{subject}");
            assert_eq!(explanation.rule().map(|rule| rule.template.as_str()), template, "{subject}");
            assert_eq!(explanation.rules.len(), 4, "repeated roles count once");
            assert!(!explanation.is_withdrawn());
        }
    }

    #[test]
    fn a_permission_that_a_revocation_has_withdrawn_is_told_from_a_rule() {
        let authenticator = authenticator();
        let client = authenticator.named_client("alice", &["user".to_owned()], &[]).unwrap();
        let mut table = RevocationTable::default();
        let RevocationMessage { target, rule } =
            RevocationMessage::parse(br#"{"user":"alice","deny":{"subscribe":["prices.gold"]}}"#).unwrap();
        table.put(target, rule);
        let identity = authenticator.identity_of(&client).unwrap();
        let RevocationEffect::Narrowed(narrowed) = table.check(&identity, UNIX_EPOCH) else {
            panic!("nothing was withdrawn")
        };
        let withdrawn = |subject: &str| {
            let subject = pattern(subject);
            let explanation =
                authenticator.explain(&client, &narrowed.permissions, Operation::Subscribe, &subject);
            let explanation = explanation.unwrap();
            (explanation.decision.is_allowed(), explanation.is_withdrawn())
        };
        assert_eq!(withdrawn("prices.gold"), (false, true));
        assert_eq!(withdrawn("prices.secret"), (false, false));
        assert_eq!(withdrawn("prices.oil"), (true, false));
    }

    #[test]
    fn names_that_do_not_exist_and_claims_that_are_missing_are_errors() {
        let authenticator = authenticator();
        let error = |user: &str, role: &str| {
            let client = authenticator.named_client(user, &[role.to_owned()], &[]);
            client.and_then(|client| authenticator.identity_of(&client)).unwrap_err().to_string()
        };
        assert_eq!(
            error("alice", "usr"),
            "there is no role usr: did you mean \"user\"? the configuration has team, user"
        );
        assert!(error("a b", "user").starts_with("no node accepts the user "));
        assert!(error("alice", "team").starts_with("role team: "));
    }
}
