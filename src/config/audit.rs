//! `[audit]`: the feed of what happens to clients, on a NATS subject.

use tidegate_document::diagnostic::ValueError;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;
use tidegate_protocol::permissions::system_root;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;
use tidegate_protocol::template::Template;

use crate::config::table::ConfigTable;

/// What subjects of Tidegate the feed may have: clients can never use them.
const OWN: &str = "tidegate.audit";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditConfig {
    /// Where the feed is published; `None` for no feed.
    pub subject: Option<Subject>,
}

impl AuditConfig {
    pub(super) fn read(table: &ConfigTable<'_>) -> Self {
        Self { subject: table.optional("subject", subject).flatten() }
    }
}

/// `None` for an empty text.
fn subject(text: &str) -> Result<Option<Subject>, ValueError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let help = format!("write one subject without wildcards, such as \"{OWN}\"");
    let subject = Subject::parse(text)
        .map_err(|error| ValueError::new(format!("is not a subject: {error}"), help.clone()))?;
    let is_own = text == OWN || text.strip_prefix(OWN).is_some_and(|rest| rest.starts_with('.'));
    if !is_own && subject.tokens().next().and_then(system_root).is_some() {
        return Err(ValueError::new("is a subject of NATS or Tidegate", help));
    }
    Ok(Some(subject))
}

/// The roles whose clients could write into the feed, or could read it without a rule that names it: for each, what is
/// wrong.
pub(super) fn open_to<'r>(subject: &'r Subject, roles: &'r [Role]) -> impl Iterator<Item = String> + 'r {
    // Permissions protect the subjects of Tidegate.
    let is_protected = subject.tokens().next().and_then(system_root).is_some();
    roles.iter().filter(move |_| !is_protected).filter_map(move |role| {
        let feed = Pattern::parse(subject.as_str()).ok()?;
        let reaches = |rules: &'r RuleTemplates| {
            let is_denied =
                rules.deny.iter().any(|deny| deny.is_static() && deny.covering_pattern().covers(&feed));
            let mut allowing = rules.allow.iter().filter(|allow| allow.covering_pattern().overlaps(&feed));
            allowing.next().filter(|_| !is_denied).map(Template::as_str)
        };
        let names_it = role.subscribe.allow.iter().any(|allow| allow.as_str() == subject.as_str());
        let written =
            reaches(&role.publish).or_else(|| reaches(&role.request)).map(|rule| (rule, "write into"));
        let read = reaches(&role.subscribe).filter(|_| !names_it).map(|rule| (rule, "read"));
        let (rule, may) = written.or(read)?;
        Some(format!(
            "clients with the role \"{}\" could {may} the audit feed, because of its rule {rule}",
            role.name
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&str], deny: &[&str]) -> RuleTemplates {
        let parsed = |texts: &[&str]| texts.iter().map(|text| Template::parse(text).unwrap()).collect();
        RuleTemplates { allow: parsed(allow), deny: parsed(deny) }
    }

    fn is_open(subject: &str, role: Role) -> bool {
        open_to(&Subject::parse(subject).unwrap(), &[role]).next().is_some()
    }

    #[test]
    fn a_role_reads_the_feed_only_if_a_rule_names_it() {
        for (allow, deny, expected) in [
            (&[][..], &[][..], false),
            (&["prices.>"], &[], false),
            (&[">"], &[], true),
            (&[">"], &["audit.>"], false),
            (&[">"], &["audit.{sub}"], true),
            (&["audit.*"], &[], true),
            (&["{sub}.feed"], &[], true),
            (&["audit.*", "audit.feed"], &[], false),
            (&["audit.feed"], &[], false),
        ] {
            let role = Role { subscribe: rules(allow, deny), ..Role::default() };
            assert_eq!(is_open("audit.feed", role), expected, "{allow:?} {deny:?}");
        }
    }

    #[test]
    fn no_role_writes_into_the_feed() {
        for allow in ["audit.feed", "audit.*", ">"] {
            assert!(
                is_open("audit.feed", Role { publish: rules(&[allow], &[]), ..Role::default() }),
                "{allow}"
            );
            assert!(
                is_open("audit.feed", Role { request: rules(&[allow], &[]), ..Role::default() }),
                "{allow}"
            );
        }
        let all = Role { publish: rules(&[">"], &[]), subscribe: rules(&[">"], &[]), ..Role::default() };
        assert!(!is_open("tidegate.audit", all), "clients never reach it");
    }

    #[test]
    fn the_subject_is_one_and_belongs_to_no_one_else() {
        assert_eq!(subject(" ").unwrap(), None);
        for accepted in ["tidegate.audit", "tidegate.audit.eu", "audit.feed"] {
            assert_eq!(subject(accepted).unwrap().unwrap().as_str(), accepted);
        }
        for refused in
            ["tidegate.revoke", "tidegate.auditor", "$SYS.audit", "_INBOX.a", "audit.*", "a b", "a..b"]
        {
            assert!(subject(refused).is_err(), "{refused}");
        }
    }
}
