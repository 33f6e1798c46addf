//! `[[role]]`: what clients of a role may subscribe to, publish and request.

use crate::config::mistake::Wrong;
use crate::config::table::Table;
use crate::protocol::permissions::Role;
use crate::protocol::permissions::RuleTemplates;
use crate::protocol::permissions::StatsAccess;
use crate::protocol::permissions::is_user;
use crate::protocol::permissions::system_root;
use crate::protocol::suggest::did_you_mean;
use crate::protocol::template::Template;

const STATS: [(&str, StatsAccess); 3] =
    [("none", StatsAccess::None), ("counts", StatsAccess::Counts), ("all", StatsAccess::All)];

pub(super) fn read(root: &Table<'_>) -> Vec<Role> {
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
    let is_known = |hole: &str| filled == Filled::WithTheUser && is_user(hole);
    match role.holes().find(|hole| !is_known(hole)) {
        None => Ok(text.to_owned()),
        Some(hole) => {
            let problem = format!("has the hole {{{hole}}}, which only a token can fill");
            let cure = match filled {
                Filled::WithNothing => "name a role without holes",
                Filled::WithTheUser => "name a role without holes other than {sub}, which is the user",
            };
            Err(Wrong::new(problem, cure))
        }
    }
}

fn role(table: &Table<'_>) -> Option<Role> {
    let name = table.required("name", "name the role as tokens do, such as name = \"user\"", name);
    let subscribe = table.section("subscribe", rules);
    let publish = table.section("publish", rules);
    let request = table.section("request", rules);
    let stats = table.choice("stats", StatsAccess::None, &STATS);
    Some(Role { name: name?, subscribe, publish, request, stats })
}

fn rules(table: &Table<'_>) -> RuleTemplates {
    RuleTemplates {
        allow: table.list("allow", allowed).unwrap_or_default(),
        deny: table.list("deny", template).unwrap_or_default(),
    }
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
    Template::parse(text).map_err(|error| Wrong::new(format!("is not a template: {error}"), cure))
}

fn name(text: &str) -> Result<String, Wrong> {
    let fine =
        !text.is_empty() && text.trim() == text && text.len() <= 128 && !text.chars().any(char::is_control);
    let cure =
        "write at most 128 bytes, without blanks around them, exactly as in the role claim of your tokens";
    if fine { Ok(text.to_owned()) } else { Err(Wrong::new("is not a name for a role", cure)) }
}
