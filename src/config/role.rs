//! `[[role]]`: what clients of a role may subscribe to, publish and request.

use tidegate_document::diagnostic::ValueError;
use tidegate_document::quote::quoted;
use tidegate_document::suggest;
use tidegate_document::suggest::did_you_mean;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;
use tidegate_protocol::permissions::StatsAccess;
use tidegate_protocol::permissions::is_user;
use tidegate_protocol::permissions::system_root;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::template::Template;

use crate::config::table::ConfigTable;

const STATS: [(&str, StatsAccess); 3] =
    [("none", StatsAccess::None), ("counts", StatsAccess::Counts), ("all", StatsAccess::All)];

/// The subscriptions of the default roles. Users see prices and what is for them; administrators also `admin.*`.
/// Names of prices may have one dot: `prices.BRK.B`.
const DEFAULT_ROLES: [(&str, &[&str]); 2] = [
    ("user", &["prices.*", "prices.*.*", "user.{sub}.>"]),
    ("admin", &["prices.*", "prices.*.*", "user.{sub}.>", "admin.*"]),
];

/// The roles of a configuration that lists none.
pub(super) fn defaults() -> Vec<Role> {
    let templates = |texts: &[&str]| texts.iter().filter_map(|text| Template::parse(text).ok()).collect();
    let roles = DEFAULT_ROLES.into_iter().map(|(name, allow)| Role {
        name: name.to_owned(),
        subscribe: RuleTemplates { allow: templates(allow), deny: Vec::new() },
        ..Role::default()
    });
    roles.collect()
}

/// Reads all roles; without any, returns the default ones.
pub(super) fn read(root: &ConfigTable<'_>) -> Vec<Role> {
    let Some(roles) = root.tables("role", role) else { return defaults() };
    let names = roles.iter().map(|(path, role)| (path.as_str(), role.name.as_str()));
    root.reject_duplicates(names, "name", "merge them into one [[role]]");
    roles.into_iter().map(|(_, role)| role).collect()
}

/// The placeholders of a role that can be filled where a client gets it without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fillable {
    Nothing,
    /// `{sub}`, the user.
    User,
}

/// Checks the name of a role that clients get without a credential: it must exist, all its placeholders must be `fillable`,
/// and it may not be for operators.
pub(super) fn named(text: &str, roles: &[Role], fillable: Fillable) -> Result<String, ValueError> {
    let role = find(text, roles)?;
    if role.admin {
        let message = "may use the admin listener, and everyone would get it without a credential";
        return Err(ValueError::new(message, "name a role without admin = true"));
    }
    if role.control {
        let message = "may end sessions of users, and everyone would get it without a credential";
        return Err(ValueError::new(message, "name a role without control = true"));
    }
    check_fillable(role, fillable)
}

/// Checks the name of the role of an API key: it must exist, and have no placeholder but the user.
pub(super) fn of_api_key(text: &str, roles: &[Role]) -> Result<String, ValueError> {
    check_fillable(find(text, roles)?, Fillable::User)
}

/// The name of the role, if all its placeholders are `fillable`.
fn check_fillable(role: &Role, fillable: Fillable) -> Result<String, ValueError> {
    let can_fill = |placeholder: &str| fillable == Fillable::User && is_user(placeholder);
    match role.required_placeholders().find(|placeholder| !can_fill(placeholder)) {
        None => Ok(role.name.clone()),
        Some(placeholder) => {
            let message = format!("has the placeholder {{{placeholder}}}, which only a token can fill");
            let help = match fillable {
                Fillable::Nothing => "name a role without placeholders",
                Fillable::User => "name a role without placeholders other than {sub}, which is the user",
            };
            Err(ValueError::new(message, help))
        }
    }
}

/// Checks the name of a role that tokens get without a role claim. It may not be a role for administrators: a mistake
/// of the issuer would then give it to everyone. Empty text is no role.
pub(super) fn default_role(text: &str, roles: &[Role]) -> Result<String, ValueError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let role = find(text, roles)?;
    let help = "name a role that every user may have; tokens of administrators must have a role claim";
    if role.stats != StatsAccess::None {
        return Err(ValueError::new(
            "may read statistics, and every token without a role would get it",
            help,
        ));
    }
    if role.admin {
        return Err(ValueError::new(
            "may use the admin listener, and every token without a role would get it",
            help,
        ));
    }
    if role.control {
        return Err(ValueError::new(
            "may end sessions of users, and every token without a role would get it",
            help,
        ));
    }
    let allowed = [&role.subscribe, &role.publish, &role.request].into_iter().flat_map(|rules| &rules.allow);
    let is_admin = |template: &&Template| {
        let reached = template.covering_pattern();
        Pattern::parse(ADMIN).is_ok_and(|admin| admin.overlaps(&reached))
    };
    match allowed.into_iter().find(is_admin) {
        None => Ok(text.to_owned()),
        Some(template) => {
            let message = format!(
                "allows {}, which reaches {ADMIN}, and every token without a role would get it",
                quoted(template.as_str())
            );
            Err(ValueError::new(message, help))
        }
    }
}

/// What only administrators may use.
const ADMIN: &str = "admin.>";

fn find<'r>(name: &str, roles: &'r [Role]) -> Result<&'r Role, ValueError> {
    roles.iter().find(|role| role.name == name).ok_or_else(|| {
        let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
        let help = format!("{}write the name of a [[role]]", did_you_mean(name, &names));
        ValueError::new("is not the name of a role", help)
    })
}

fn role(table: &ConfigTable<'_>) -> Option<Role> {
    let name =
        table.required("name", "name the role as in the tokens' role claim, such as name = \"user\"", name);
    let subscribe = table.section("subscribe", |table| rules(table, "subscribe to"));
    let publish = table.section("publish", |table| rules(table, "publish on"));
    let request = table.section("request", |table| rules(table, "send requests on"));
    let stats = table.choice("stats", StatsAccess::None, &STATS);
    let admin = table.boolean("admin", false);
    let control = table.boolean("control", false);
    Some(Role { name: name?, subscribe, publish, request, stats, admin, control })
}

/// `verb` is what the rules allow, for messages.
fn rules(table: &ConfigTable<'_>, verb: &str) -> RuleTemplates {
    let allow = table.list("allow", allowed).unwrap_or_default();
    for template in &allow {
        if let Some(message) = open_first_token(template, verb) {
            table.warning("allow", message);
        }
    }
    let deny = table.list("deny", template).unwrap_or_default();
    let is_denied = |allowed: &Template| {
        deny.iter().any(|denied| denied.covering_pattern().covers(&allowed.covering_pattern()))
    };
    if let Some(allowed) = allow.iter().find(|allowed| is_denied(allowed)) {
        let message =
            format!("{} is allowed but completely denied, so it has no effect", quoted(allowed.as_str()));
        table.warning("deny", message);
    }
    RuleTemplates { allow, deny }
}

/// A warning about a pattern whose first token the client can choose.
fn open_first_token(template: &Template, verb: &str) -> Option<String> {
    let shown = quoted(template.as_str());
    let widest = template.covering_pattern();
    let first = widest.tokens().next()?;
    if template.as_str().starts_with(first) {
        // The wildcard is in the template itself, not from a placeholder.
        return matches!(first, "*" | ">").then(|| {
            format!(
                "{shown}: clients with this role may {verb} nearly every subject, including those of other users and \
                 services; name the first token, such as \"prices.>\""
            )
        });
    }
    let placeholder = template.placeholders().next().filter(|placeholder| {
        let rest = template.as_str().strip_prefix('{').and_then(|text| text.strip_prefix(placeholder));
        rest.is_some_and(|rest| rest.starts_with(['}', '|']))
    })?;
    Some(format!(
        "{shown}: the first token is the client's {placeholder}, so a client whose {placeholder} is \"prices\" may \
         {verb} prices.…; put a fixed token before it, such as \"user.{{{placeholder}}}.>\""
    ))
}

fn allowed(text: &str) -> Result<Template, ValueError> {
    if text.split('.').next().and_then(system_root).is_some() {
        let help = "remove it: subjects whose first token starts with $ or _INBOX, or is _live, tidegate, _R_ or \
                    _GR_, belong to NATS and Tidegate, and clients can never use them";
        return Err(ValueError::new("is a subject of NATS or Tidegate", help));
    }
    template(text)
}

fn template(text: &str) -> Result<Template, ValueError> {
    let help = "separate tokens with dots; `*` matches one token, `>` at the end matches all remaining tokens, and \
                {claim} is replaced with a claim of the client's token, such as in \"user.{sub}.>\"";
    if text.contains("${") || text.contains("{{") {
        let message = "has a placeholder in the syntax of another language";
        return Err(ValueError::new(message, "write {sub} for the claim sub, such as \"user.{sub}.>\""));
    }
    let template = Template::parse(text);
    let template = template.map_err(|error| ValueError::new(format!("is not a template: {error}"), help))?;
    let misspelt =
        template.placeholders().find_map(|placeholder| Some((placeholder, misspelt(placeholder)?)));
    if let Some((placeholder, intended)) = misspelt {
        let message = format!(
            "has the placeholder {{{placeholder}}}; tokens without that claim would be rejected with 401"
        );
        let help = format!(
            "did you mean {{{intended}}}? If the claim has that name, write {{claims.{placeholder}}}"
        );
        return Err(ValueError::new(message, help));
    }
    Ok(template)
}

/// The standard claim that a placeholder was probably meant to be. `{claims.x}` is never taken for a misspelling.
fn misspelt(placeholder: &str) -> Option<&'static str> {
    if is_user(placeholder) || placeholder.contains('.') {
        None
    } else {
        suggest::closest_word(placeholder, &["sub"])
    }
}

fn name(text: &str) -> Result<String, ValueError> {
    let valid =
        !text.is_empty() && text.trim() == text && text.len() <= 128 && !text.chars().any(char::is_control);
    let help = "write the name as in the role claim of your tokens: at most 128 bytes, no blanks at the start or \
                the end";
    if valid { Ok(text.to_owned()) } else { Err(ValueError::new("is not a valid name for a role", help)) }
}
