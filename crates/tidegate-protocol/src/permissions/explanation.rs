//! Which rule of which role a decision is based on, for operators.

use crate::permissions::Decision;
use crate::permissions::Denial;
use crate::permissions::Operation;
use crate::permissions::Role;
use crate::subject::Pattern;
use crate::template::PlaceholderValue;
use crate::template::Template;
use crate::template::TemplateError;

/// A rule of a role, with the patterns that it has for one client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenderedRule<'r> {
    pub role: &'r str,
    pub effect: Effect,
    /// As it is configured: `user.{sub}.>`.
    pub template: &'r Template,
    /// Several if a claim is a list, and none if the list is empty.
    pub patterns: Vec<Pattern>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    Allow,
    Deny,
}

impl Role {
    /// The rules of an operation, first those that allow. It fails where [`Role::fill`] does.
    pub fn rules<'v>(
        &self,
        operation: Operation,
        lookup: impl Fn(&str) -> Option<PlaceholderValue<'v>>,
    ) -> Result<Vec<RenderedRule<'_>>, TemplateError> {
        let rules = match operation {
            Operation::Subscribe => &self.subscribe,
            Operation::Publish => &self.publish,
            Operation::Request => &self.request,
        };
        let allow = rules.allow.iter().map(|template| (Effect::Allow, template));
        let all = allow.chain(rules.deny.iter().map(|template| (Effect::Deny, template)));
        let rendered = all.map(|(effect, template)| {
            Ok(RenderedRule { role: &self.name, effect, template, patterns: template.fill_each(&lookup)? })
        });
        rendered.collect()
    }
}

impl Decision {
    /// The rule among these that it is based on. `None` if it is based on no rule: nothing allows it, or no role could.
    pub fn rule<'a, 'r>(&self, rules: &'a [RenderedRule<'r>]) -> Option<&'a RenderedRule<'r>> {
        let (by, effect) = match self {
            Self::Allowed { by } => (by, Effect::Allow),
            Self::Denied(Denial::Denied { by }) => (by, Effect::Deny),
            Self::Denied(
                Denial::System { .. } | Denial::SystemWildcard | Denial::NotLiteral | Denial::NotAllowed,
            ) => return None,
        };
        rules.iter().find(|rule| rule.effect == effect && rule.patterns.contains(by))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::permissions::Permissions;
    use crate::permissions::RuleTemplates;

    fn role(name: &str, allow: &[&str], deny: &[&str]) -> Role {
        let templates = |texts: &[&str]| texts.iter().map(|text| Template::parse(text).unwrap()).collect();
        let subscribe = RuleTemplates { allow: templates(allow), deny: templates(deny) };
        Role { name: name.to_owned(), subscribe, ..Role::default() }
    }

    /// The role and the template that decide about a subscription of a client with these roles.
    fn decided(roles: &[Role], requested: &str) -> Option<(String, String)> {
        let value = |placeholder: &str| match placeholder {
            "sub" => Some(PlaceholderValue::One(Cow::Borrowed("alice"))),
            "teams" => Some(PlaceholderValue::Each(vec![Cow::Borrowed("red"), Cow::Borrowed("blue")])),
            _ => None,
        };
        let (mut permissions, mut rules) = (Permissions::default(), Vec::new());
        for role in roles {
            permissions.merge(role.fill(value).unwrap());
            rules.extend(role.rules(Operation::Subscribe, value).unwrap());
        }
        let decision = permissions.decide(Operation::Subscribe, &Pattern::parse(requested).unwrap());
        let rule = decision.rule(&rules)?;
        assert_eq!(decision.is_allowed(), rule.effect == Effect::Allow);
        Some((rule.role.to_owned(), rule.template.as_str().to_owned()))
    }

    #[test]
    fn the_rule_is_found_with_its_role_and_as_it_is_configured() {
        let roles = [
            role("user", &["prices.>", "user.{sub}.>"], &["prices.secret"]),
            role("team", &["team.{teams}.*", "prices.secret"], &[]),
        ];
        for (requested, role, template) in [
            ("prices.AAPL", "user", "prices.>"),
            ("user.alice.orders", "user", "user.{sub}.>"),
            ("team.blue.news", "team", "team.{teams}.*"),
            // Denied, although the other role allows it.
            ("prices.secret", "user", "prices.secret"),
        ] {
            assert_eq!(
                decided(&roles, requested),
                Some((role.to_owned(), template.to_owned())),
                "{requested}"
            );
        }
        for requested in ["user.bob.orders", "team.green.news", ">", "$JS.x"] {
            assert_eq!(decided(&roles, requested), None, "{requested}");
        }
    }
}
