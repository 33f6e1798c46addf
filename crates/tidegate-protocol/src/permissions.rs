//! `Permissions`: what a client may subscribe to, publish and request, and why; and the roles that they are made from.

pub mod explanation;

use thiserror::Error;

use crate::subject::Pattern;
use crate::template::PlaceholderValue;
use crate::template::Template;
use crate::template::TemplateError;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Subscribe,
    Publish,
    Request,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    pub allow: Vec<Pattern>,
    pub deny: Vec<Pattern>,
}

/// The default allows nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permissions {
    pub subscribe: Rules,
    pub publish: Rules,
    pub request: Rules,
    pub stats: StatsAccess,
    /// Whether the client may use the admin listener.
    pub admin: bool,
    /// Whether the client may end sessions and subscriptions of users.
    pub control: bool,
}

/// Which statistics a client may see, the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum StatsAccess {
    #[default]
    None,
    /// Counts, without names of users or channels.
    Counts,
    /// Everything: who is connected, and their channels.
    All,
}

impl Permissions {
    /// Decides whether all subjects that `requested` matches may be used.
    ///
    /// System subjects come first, then deny patterns, then allow patterns. A single allow pattern must cover all of
    /// `requested`.
    pub fn decide(&self, operation: Operation, requested: &Pattern) -> Decision {
        if let Some(denial) = system_space(requested) {
            return Decision::Denied(denial);
        }
        if needs_literal(operation) && !requested.is_literal() {
            return Decision::Denied(Denial::NotLiteral);
        }
        let rules = match operation {
            Operation::Subscribe => &self.subscribe,
            Operation::Publish => &self.publish,
            Operation::Request => &self.request,
        };
        if let Some(by) = rules.deny.iter().find(|denied| denied.overlaps(requested)) {
            return Decision::Denied(Denial::Denied { by: by.clone() });
        }
        match rules.allow.iter().find(|allowed| allowed.covers(requested)) {
            Some(by) => Decision::Allowed { by: by.clone() },
            None => Decision::Denied(Denial::NotAllowed),
        }
    }

    /// Adds the rules of another role. Allow and deny patterns add up, and deny wins; for statistics, the role that
    /// may see more wins.
    pub fn merge(&mut self, other: Self) {
        self.subscribe.merge(other.subscribe);
        self.publish.merge(other.publish);
        self.request.merge(other.request);
        self.stats = self.stats.max(other.stats);
        self.admin |= other.admin;
        self.control |= other.control;
    }
}

impl Rules {
    fn merge(&mut self, other: Self) {
        self.allow.extend(other.allow);
        self.deny.extend(other.deny);
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// `by` is the first allow pattern that covers what was asked for.
    Allowed {
        by: Pattern,
    },
    Denied(Denial),
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        match self {
            Self::Allowed { .. } => true,
            Self::Denied(_) => false,
        }
    }
}

/// Clients get the messages of `System`, `SystemWildcard` and `NotLiteral`. Those of the others name rules, and are for
/// operators only.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum Denial {
    #[error("subjects under \"{root}\" belong to NATS and Tidegate; no role can reach them")]
    System { root: &'static str },
    #[error(
        "a pattern that begins with a wildcard also reaches subjects of NATS and Tidegate, such as \"$JS\" and \
         \"_INBOX\"; name the first token, as in \"prices.>\""
    )]
    SystemWildcard,
    #[error("publish and request need one literal subject; replace \"*\" and \">\" with names")]
    NotLiteral,
    #[error("no single allow pattern of the client's roles covers it")]
    NotAllowed,
    #[error("it overlaps \"{by}\", which is denied")]
    Denied { by: Pattern },
}

/// Rules whose patterns have placeholders for claims.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RuleTemplates {
    pub allow: Vec<Template>,
    pub deny: Vec<Template>,
}

impl RuleTemplates {
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.allow.iter().chain(&self.deny)
    }

    fn fill<'v>(
        &self,
        lookup: &impl Fn(&str) -> Option<PlaceholderValue<'v>>,
    ) -> Result<Rules, TemplateError> {
        let filled = |templates: &[Template]| -> Result<Vec<Pattern>, TemplateError> {
            let mut patterns = Vec::with_capacity(templates.len());
            for template in templates {
                patterns.extend(template.fill_each(lookup)?);
            }
            Ok(patterns)
        };
        Ok(Rules { allow: filled(&self.allow)?, deny: filled(&self.deny)? })
    }
}

/// A role that tokens may claim, with its rules.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Role {
    pub name: String,
    pub subscribe: RuleTemplates,
    pub publish: RuleTemplates,
    pub request: RuleTemplates,
    pub stats: StatsAccess,
    /// Whether clients with this role may use the admin listener.
    pub admin: bool,
    /// Whether clients with this role may end sessions and subscriptions of users.
    pub control: bool,
}

impl Role {
    /// The permissions of one client. If one placeholder has no value, all of it fails, because the rule that would be
    /// missing may be a deny rule. An empty list is a value: it makes no pattern.
    pub fn fill<'v>(
        &self,
        lookup: impl Fn(&str) -> Option<PlaceholderValue<'v>>,
    ) -> Result<Permissions, TemplateError> {
        Ok(Permissions {
            subscribe: self.subscribe.fill(&lookup)?,
            publish: self.publish.fill(&lookup)?,
            request: self.request.fill(&lookup)?,
            stats: self.stats,
            admin: self.admin,
            control: self.control,
        })
    }

    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.templates().flat_map(Template::placeholders)
    }

    /// The placeholders that have no default, so that each client must have a value for them.
    pub fn required_placeholders(&self) -> impl Iterator<Item = &str> {
        self.templates().flat_map(Template::required_placeholders)
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        let rules = [&self.subscribe, &self.publish, &self.request];
        rules.into_iter().flat_map(RuleTemplates::templates)
    }
}

/// Whether a placeholder is the user name. All clients except anonymous ones have it.
pub fn is_user(placeholder: &str) -> bool {
    placeholder.strip_prefix("claims.").unwrap_or(placeholder) == "sub"
}

/// First tokens that no client may use, like all others that begin with `$` or `_INBOX`.
const SYSTEM_ROOTS: [&str; 13] = [
    "$SYS",
    "$JS",
    "$KV",
    "$O",
    "$SRV",
    "$MQTT",
    "$G",
    "_INBOX",
    "_INBOX_tidegate",
    "_live",
    "tidegate",
    "_R_",
    "_GR_",
];

fn system_space(requested: &Pattern) -> Option<Denial> {
    let first = requested.tokens().next()?;
    if first == "*" || first == ">" {
        return Some(Denial::SystemWildcard);
    }
    system_root(first).map(|root| Denial::System { root })
}

/// The system root that a first token belongs to, if any.
pub fn system_root(first: &str) -> Option<&'static str> {
    let root = SYSTEM_ROOTS.into_iter().find(|root| *root == first);
    root.or_else(|| ["$", "_INBOX"].into_iter().find(|prefix| first.starts_with(prefix)))
}

fn needs_literal(operation: Operation) -> bool {
    match operation {
        Operation::Subscribe => false,
        Operation::Publish | Operation::Request => true,
    }
}

#[cfg(test)]
mod tests;
