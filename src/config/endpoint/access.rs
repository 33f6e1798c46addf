//! The ways to connect to an endpoint without a token: API keys, anonymous roles, and trusting the client. Each of
//! them causes a warning that says what it allows.

use std::fmt;

use tidegate_document::diagnostic::ValueError;
use tidegate_document::quote::quoted;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;

use crate::config::role;
use crate::config::role::Fillable;
use crate::config::table::ConfigTable;

/// How clients may connect to an endpoint without a token. With the default, `auth.anonymous_role` decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// Whether WebSocket clients may use an API key. HTTP calls always may.
    pub api_keys: bool,
    /// The role of clients without a credential. `None`: `auth.anonymous_role`; empty: a credential is required.
    pub anonymous_role: Option<String>,
    /// The same for HTTP calls. `None`: the role of WebSocket clients.
    pub anonymous_http_role: Option<String>,
    pub trust_client_identity: Option<TrustClientIdentityConfig>,
    /// The roles of tokens without a role claim at paths of the vocabulary, by the name of the path.
    pub path_roles: Vec<(String, String)>,
}

/// `trust_client_identity`: a client without a credential is the user that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustClientIdentityConfig {
    /// Where a WebSocket client names its user.
    pub user: IdentityHint,
    /// Where an HTTP call names its user: never a message. `None`: HTTP calls are not trusted.
    pub http_user: Option<IdentityHint>,
    pub role: String,
}

/// Where a client names its user, such as `path.user_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHint {
    pub source: HintSource,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintSource {
    /// A part of the path.
    Path,
    /// A query parameter.
    Query,
    /// A member of a message. The name may be a path into the message.
    Message,
}

impl fmt::Display for IdentityHint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = SOURCES.iter().find(|(_, source)| *source == self.source).map_or("", |(word, _)| word);
        write!(formatter, "{word}.{}", self.name)
    }
}

const SOURCES: [(&str, HintSource); 3] =
    [("path", HintSource::Path), ("query", HintSource::Query), ("msg", HintSource::Message)];

pub(super) fn read(table: &ConfigTable<'_>, roles: &[Role]) -> AccessConfig {
    let anonymous_role = |text: &str| match text {
        "" => Ok(String::new()),
        text => role::named(text, roles, Fillable::Nothing),
    };
    let access = AccessConfig {
        api_keys: table.boolean("api_keys", false),
        anonymous_role: table.optional("anonymous_role", anonymous_role),
        anonymous_http_role: table.optional("anonymous_http_role", anonymous_role),
        trust_client_identity: table
            .section("trust_client_identity", |table| trust_client_identity(table, roles)),
        path_roles: table.names("roles", |_, text| match text {
            "" => Err(ValueError::new("names no role", "name a [[role]], or remove the path from this list")),
            text => role::default_role(text, roles),
        }),
    };
    access.warn(table, roles);
    access
}

impl AccessConfig {
    fn warn(&self, table: &ConfigTable<'_>, roles: &[Role]) {
        if self.api_keys {
            table.warning("api_keys", "API keys do not expire");
        }
        let roles_without_credential = [
            ("anonymous_role", "clients", &self.anonymous_role),
            ("anonymous_http_role", "HTTP calls", &self.anonymous_http_role),
        ];
        for (key, who, role) in roles_without_credential {
            let message = role.as_ref().and_then(|role| without_credential(who, role, roles));
            if let Some(message) = message {
                table.warning(key, message);
            }
        }
        if let Some(TrustClientIdentityConfig { user, http_user, role }) = &self.trust_client_identity {
            let calls = http_user.as_ref().map(|hint| format!(" (HTTP calls: `{hint}`)")).unwrap_or_default();
            let message = format!(
                "a client without a credential is the user that it names in `{user}`{calls}, with the role {}, so any \
                 client can read any user's channels; use this in closed networks only",
                quoted(role)
            );
            table.warning("trust_client_identity", message);
        }
    }
}

/// A warning that says what clients without a credential may do with this role. `None` if that is nothing.
pub(in crate::config) fn without_credential(who: &str, role: &str, roles: &[Role]) -> Option<String> {
    let allowed = allowed_by(roles.iter().find(|known| known.name == role)?);
    (!allowed.is_empty()).then(|| format!("{who} without a credential may {allowed}"))
}

/// What a role allows: "subscribe to a, b; publish on c".
fn allowed_by(role: &Role) -> String {
    let rules =
        [("subscribe to", &role.subscribe), ("publish on", &role.publish), ("request", &role.request)];
    let clause = |(verb, rules): (&str, &RuleTemplates)| {
        let allowed: Vec<&str> = rules.allow.iter().map(|template| template.as_str()).collect();
        (!allowed.is_empty()).then(|| format!("{verb} {}", allowed.join(", ")))
    };
    rules.into_iter().filter_map(clause).collect::<Vec<_>>().join("; ")
}

/// `None` if `user` and `role` are both absent or empty.
fn trust_client_identity(table: &ConfigTable<'_>, roles: &[Role]) -> Option<TrustClientIdentityConfig> {
    let (user, http_user, role) =
        (table.non_empty("user"), table.non_empty("http_user"), table.non_empty("role"));
    let (user, role) = match (user, role) {
        (None, None) => return None,
        (Some(user), Some(role)) => (user, role),
        (Some(_), None) => {
            table.error("role", "is missing or empty", "name the [[role]] that these clients get");
            return None;
        }
        (None, Some(_)) => {
            table.error("user", "is missing or empty", NAME_A_SOURCE);
            return None;
        }
    };
    let user = identity_hint(&user.value).map_err(|wrong| table.reject(&user, wrong)).ok();
    let named = role::named(&role.value, roles, Fillable::User).map_err(|ValueError { message, help }| {
        let message = format!("{} {message}", quoted(&role.value));
        table.reject(&role, ValueError { message, help });
    });
    let http_user = http_user.map(|http_user| {
        let hint = identity_hint(&http_user.value).and_then(|hint| match hint.source {
            HintSource::Path | HintSource::Query => Ok(hint),
            HintSource::Message => {
                let message = "an HTTP call cannot name its user in a message";
                Err(ValueError::new(
                    message,
                    "write a part of the path or a query parameter, such as \"query.user_id\"",
                ))
            }
        });
        hint.map_err(|wrong| table.reject(&http_user, wrong))
    });
    let http_user = http_user.transpose().ok()?;
    Some(TrustClientIdentityConfig { user: user?, http_user, role: named.ok()? })
}

const NAME_A_SOURCE: &str =
    "write where clients name their user, such as \"path.user_id\", \"query.user_id\" or \"msg.user_id\"";

fn identity_hint(text: &str) -> Result<IdentityHint, ValueError> {
    let wrong = || {
        ValueError::new(
            format!("{} is not a place where a client can name its user", quoted(text)),
            NAME_A_SOURCE,
        )
    };
    let (word, name) = text.split_once('.').ok_or_else(wrong)?;
    let (_, source) = SOURCES.into_iter().find(|(known, _)| *known == word).ok_or_else(wrong)?;
    let is_legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_name = |name: &str| (1..=64).contains(&name.len()) && name.chars().all(is_legal);
    let valid = match source {
        HintSource::Path | HintSource::Query => is_name(name),
        HintSource::Message => name.split('.').all(is_name),
    };
    if valid { Ok(IdentityHint { source, name: name.to_owned() }) } else { Err(wrong()) }
}
