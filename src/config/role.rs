//! `[[role]]`: what clients of a role may subscribe to, publish and request.

use tidegate_document::diagnostic::Wrong;
use tidegate_document::quote::quoted;
use tidegate_document::suggest;
use tidegate_document::suggest::did_you_mean;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;
use tidegate_protocol::permissions::StatsAccess;
use tidegate_protocol::permissions::is_user;
use tidegate_protocol::permissions::system_root;
use tidegate_protocol::template::Template;

use crate::config::table::ConfigTable;

const STATS: [(&str, StatsAccess); 3] =
    [("none", StatsAccess::None), ("counts", StatsAccess::Counts), ("all", StatsAccess::All)];

pub(super) fn read(root: &ConfigTable<'_>) -> Vec<Role> {
    let roles = root.tables("role", role).unwrap_or_default();
    let names = roles.iter().map(|(path, role)| (path.as_str(), role.name.as_str()));
    root.refuse_twins(names, "name", "write the rules of one role under one [[role]]");
    roles.into_iter().map(|(_, role)| role).collect()
}

/// What is known of whoever is given a role without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    WithNothing,
    WithTheUser,
}

/// A role that a key of the configuration names, and that what is known there can fill.
pub(super) fn named(text: &str, roles: &[Role], filled: Filled) -> Result<String, Wrong> {
    let Some(role) = roles.iter().find(|role| role.name == text) else {
        let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
        let cure = format!("{}name a [[role]] of the file", did_you_mean(text, &names));
        return Err(Wrong::new("is not the name of a role", cure));
    };
    let is_known = |placeholder: &str| filled == Filled::WithTheUser && is_user(placeholder);
    match role.placeholders().find(|placeholder| !is_known(placeholder)) {
        None => Ok(text.to_owned()),
        Some(placeholder) => {
            let problem = format!("has the placeholder {{{placeholder}}}, which only a token can fill");
            let cure = match filled {
                Filled::WithNothing => "name a role without placeholders",
                Filled::WithTheUser => "name a role without placeholders other than {sub}, which is the user",
            };
            Err(Wrong::new(problem, cure))
        }
    }
}

fn role(table: &ConfigTable<'_>) -> Option<Role> {
    let name = table.required("name", "name the role as tokens do, such as name = \"user\"", name);
    let subscribe = table.section("subscribe", |table| rules(table, "hear"));
    let publish = table.section("publish", |table| rules(table, "publish on"));
    let request = table.section("request", |table| rules(table, "ask services on"));
    let stats = table.choice("stats", StatsAccess::None, &STATS);
    Some(Role { name: name?, subscribe, publish, request, stats })
}

/// `may` says what they allow.
fn rules(table: &ConfigTable<'_>, may: &str) -> RuleTemplates {
    let allow = table.list("allow", allowed).unwrap_or_default();
    for template in &allow {
        if let Some(text) = opening(template, may) {
            table.warning("allow", text);
        }
    }
    let deny = table.list("deny", template).unwrap_or_default();
    let is_denied = |allowed: &Template| {
        deny.iter().any(|denied| denied.covering_pattern().covers(&allowed.covering_pattern()))
    };
    if let Some(allowed) = allow.iter().find(|allowed| is_denied(allowed)) {
        let text =
            format!("{} is denied as a whole, so allowing it is for nothing", quoted(allowed.as_str()));
        table.warning("deny", text);
    }
    RuleTemplates { allow, deny }
}

/// What is open where the first token is anybody's choice.
fn opening(template: &Template, may: &str) -> Option<String> {
    let shown = quoted(template.as_str());
    let widest = template.covering_pattern();
    let first = widest.tokens().next()?;
    if template.as_str().starts_with(first) {
        // No placeholder made this wildcard.
        return matches!(first, "*" | ">").then(|| {
            format!(
                "{shown}: clients of this role may {may} nearly every subject there is, those of other users and services \
                 too; name the first token, as in \"prices.>\""
            )
        });
    }
    let placeholder = template
        .placeholders()
        .next()
        .filter(|placeholder| template.as_str().starts_with(&format!("{{{placeholder}}}")))?;
    Some(format!(
        "{shown}: the first token is the client's {placeholder}, so one whose {placeholder} is \"prices\" may {may} prices.…; put a word \
         before it, as in \"user.{{{placeholder}}}.>\""
    ))
}

fn allowed(text: &str) -> Result<Template, Wrong> {
    if text.split('.').next().and_then(system_root).is_some() {
        let cure = "remove it: what starts with $, _INBOX, _live or tidegate belongs to NATS and Tidegate, and is \
                    never open to clients";
        return Err(Wrong::new("is in the system's own part of the subjects", cure));
    }
    template(text)
}

fn template(text: &str) -> Result<Template, Wrong> {
    let cure = "write tokens with dots between them, `*` for any one token, `>` at the end for any rest, and {claim} \
                for a value of the token, such as \"user.{sub}.>\"";
    if text.contains("${") || text.contains("{{") {
        let problem = "has a placeholder that is written as elsewhere";
        return Err(Wrong::new(problem, "write {sub} for the claim sub, such as \"user.{sub}.>\""));
    }
    let template = Template::parse(text);
    let template = template.map_err(|error| Wrong::new(format!("is not a template: {error}"), cure))?;
    let misspelt =
        template.placeholders().find_map(|placeholder| Some((placeholder, misspelt(placeholder)?)));
    if let Some((placeholder, meant)) = misspelt {
        let problem = format!(
            "has the placeholder {{{placeholder}}}, and a token without that claim would be refused with 401"
        );
        let cure =
            format!("did you mean {{{meant}}}? If the claim has that name, write {{claims.{placeholder}}}");
        return Err(Wrong::new(problem, cure));
    }
    Ok(template)
}

/// The claim of every token that a placeholder was probably meant to be. One that is written `claims.x` is what was meant.
fn misspelt(placeholder: &str) -> Option<&'static str> {
    if is_user(placeholder) || placeholder.contains('.') {
        None
    } else {
        suggest::closest_word(placeholder, &["sub"])
    }
}

fn name(text: &str) -> Result<String, Wrong> {
    let fine =
        !text.is_empty() && text.trim() == text && text.len() <= 128 && !text.chars().any(char::is_control);
    let cure =
        "write at most 128 bytes, without blanks around them, exactly as in the role claim of your tokens";
    if fine { Ok(text.to_owned()) } else { Err(Wrong::new("is not a name for a role", cure)) }
}
