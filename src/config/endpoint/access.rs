//! Who comes in at an endpoint without a token: keys, those who say nothing, and those who are believed. Every switch
//! that opens something is said aloud.

use std::fmt;

use tidegate_document::diagnostic::Wrong;
use tidegate_document::quote::quoted;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;

use crate::config::role;
use crate::config::role::Filled;
use crate::config::table::ConfigTable;

/// Who comes in without a token. The default is as `[auth]` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// Whether sockets may come with an API key. HTTP calls always may.
    pub api_keys: bool,
    /// The role of clients without a credential. `None`: `auth.anonymous_role`; empty: a credential is required.
    pub anonymous_role: Option<String>,
    /// The same for HTTP calls. `None`: as for sockets.
    pub http_role: Option<String>,
    /// Whose word is taken for who they are.
    pub believe: Option<BelieveConfig>,
}

/// Clients without a credential are whoever they say they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BelieveConfig {
    pub user: IdentityHint,
    /// The same in HTTP calls, if they are believed too: never a message.
    pub call: Option<IdentityHint>,
    pub role: String,
}

/// Where a client says who it is: `path.user_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHint {
    pub place: HintSource,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintSource {
    /// A part of the endpoint's path.
    Path,
    /// A parameter behind it.
    Query,
    /// A member of a message; the name may be a path into it.
    Message,
}

impl fmt::Display for IdentityHint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = PLACES.iter().find(|(_, place)| *place == self.place).map_or("", |(word, _)| word);
        write!(formatter, "{place}.{}", self.name)
    }
}

const PLACES: [(&str, HintSource); 3] =
    [("path", HintSource::Path), ("query", HintSource::Query), ("msg", HintSource::Message)];

pub(super) fn read(table: &ConfigTable<'_>, roles: &[Role]) -> AccessConfig {
    let without_holes = |text: &str| match text {
        "" => Ok(String::new()),
        text => role::named(text, roles, Filled::WithNothing),
    };
    let access = AccessConfig {
        api_keys: table.boolean("api_keys", false),
        anonymous_role: table.optional("anonymous_role", without_holes),
        http_role: table.optional("http_role", without_holes),
        believe: table.section("believe", |table| believe(table, roles)),
    };
    access.say_what_opens(table, roles);
    access
}

impl AccessConfig {
    fn say_what_opens(&self, table: &ConfigTable<'_>, roles: &[Role]) {
        if self.api_keys {
            table.warning("api_keys", "API keys do not expire");
        }
        let openings = [
            ("anonymous_role", "clients", &self.anonymous_role),
            ("http_role", "HTTP calls", &self.http_role),
        ];
        for (key, who, role) in openings {
            if let Some(text) = role.as_ref().and_then(|role| opening(who, role, roles)) {
                table.warning(key, text);
            }
        }
        if let Some(BelieveConfig { user, call, role }) = &self.believe {
            let calls = call.as_ref().map_or_else(String::new, |call| format!(" (in HTTP calls `{call}`)"));
            let text = format!(
                "whoever connects without a credential is taken for the user that `{user}`{calls} names, with the role \
                 {}: anybody can read anybody's channels. Keep it to a closed network.",
                quoted(role)
            );
            table.warning("believe", text);
        }
    }
}

/// What those without a credential may do who have this role, if that is anything.
pub(in crate::config) fn opening(who: &str, role: &str, roles: &[Role]) -> Option<String> {
    let may = allowed(roles.iter().find(|known| known.name == role)?);
    (!may.is_empty()).then(|| format!("{who} without a credential may {may}"))
}

/// What a role allows, in words.
fn allowed(role: &Role) -> String {
    let rules =
        [("subscribe to", &role.subscribe), ("publish on", &role.publish), ("request", &role.request)];
    let said = |(verb, rules): (&str, &RuleTemplates)| {
        let allowed: Vec<&str> = rules.allow.iter().map(|template| template.as_str()).collect();
        (!allowed.is_empty()).then(|| format!("{verb} {}", allowed.join(", ")))
    };
    rules.into_iter().filter_map(said).collect::<Vec<_>>().join("; ")
}

/// Nothing where both keys are absent or empty.
fn believe(table: &ConfigTable<'_>, roles: &[Role]) -> Option<BelieveConfig> {
    let (user, call, role) = (table.given("user"), table.given("call"), table.given("role"));
    let (user, role) = match (user, role) {
        (None, None) => return None,
        (Some(user), Some(role)) => (user, role),
        (Some(_), None) => {
            table.mistake("role", "is missing or empty", "name the [[role]] of those who are believed");
            return None;
        }
        (None, Some(_)) => {
            table.mistake("user", "is missing or empty", NAME_A_PLACE);
            return None;
        }
    };
    let user = claimed(&user.value).map_err(|wrong| table.refuse_found(&user, wrong)).ok();
    let named = role::named(&role.value, roles, Filled::WithTheUser).map_err(|Wrong { message, help }| {
        let message = format!("{} {message}", quoted(&role.value));
        table.refuse_found(&role, Wrong { message, help });
    });
    let call = call.map(|call| {
        let of_calls = claimed(&call.value).and_then(|claimed| match claimed.place {
            HintSource::Path | HintSource::Query => Ok(claimed),
            HintSource::Message => Err(Wrong::new("is no place in an HTTP call", "write \"query.user_id\"")),
        });
        of_calls.map_err(|wrong| table.refuse_found(&call, wrong))
    });
    Some(BelieveConfig { user: user?, call: call.transpose().ok()?, role: named.ok()? })
}

const NAME_A_PLACE: &str =
    "say where clients name themselves: \"path.user_id\", \"query.user_id\" or \"msg.user_id\"";

fn claimed(text: &str) -> Result<IdentityHint, Wrong> {
    let wrong =
        || Wrong::new(format!("{} is no place where a client can name itself", quoted(text)), NAME_A_PLACE);
    let (word, name) = text.split_once('.').ok_or_else(wrong)?;
    let (_, place) = PLACES.into_iter().find(|(known, _)| *known == word).ok_or_else(wrong)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_name = |name: &str| (1..=64).contains(&name.len()) && name.chars().all(legal);
    let fine = match place {
        HintSource::Path | HintSource::Query => is_name(name),
        HintSource::Message => name.split('.').all(is_name),
    };
    if fine { Ok(IdentityHint { place, name: name.to_owned() }) } else { Err(wrong()) }
}
