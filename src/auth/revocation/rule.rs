//! `RevocationRule`: what is taken away from a target, and for how long.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use tidegate_protocol::permissions::Permissions;
use tidegate_protocol::subject::Pattern;

/// What is taken away. In JSON, times are whole seconds since 1970, and patterns are lists of text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RevocationRule {
    /// Only tokens that were issued before this time (`iat`), and those that do not say when. `None`: all, and API keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_before: Option<u64>,
    /// The rule ends at this time: no token that it concerns lives longer. `None`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// The patterns that the user may not use any more. Only for permissions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<DeniedPattern>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<DeniedPattern>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<DeniedPattern>,
}

/// A subject or a pattern that is denied.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeniedPattern(pub Pattern);

impl TryFrom<String> for DeniedPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Pattern::parse(&text)
            .map(Self)
            .map_err(|error| format!("\"{text}\" is no subject or pattern: {error}"))
    }
}

impl From<DeniedPattern> for String {
    fn from(denied: DeniedPattern) -> Self {
        denied.0.as_str().to_owned()
    }
}

impl RevocationRule {
    /// Whether the rule has ended.
    pub fn has_ended(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now.as_secs() >= until)
    }

    /// Whether the rule revokes a credential. `issued` is the token's `iat`.
    pub fn revokes(&self, is_token: bool, issued: Option<Duration>) -> bool {
        match self.issued_before {
            None => true,
            Some(before) => is_token && issued.is_none_or(|issued| issued.as_secs() < before),
        }
    }

    /// Takes away what both rules take away, for as long as one of them does.
    pub fn merge(&mut self, other: &Self) {
        self.issued_before = self.issued_before.zip(other.issued_before).map(|(one, other)| one.max(other));
        self.until = self.until.zip(other.until).map(|(one, other)| one.max(other));
        for (own, more) in [
            (&mut self.subscribe, &other.subscribe),
            (&mut self.publish, &other.publish),
            (&mut self.request, &other.request),
        ] {
            let new: Vec<_> = more.iter().filter(|denied| !own.contains(denied)).cloned().collect();
            own.extend(new);
        }
    }

    /// Whether the rule withdraws permissions.
    pub fn denies(&self) -> bool {
        !(self.subscribe.is_empty() && self.publish.is_empty() && self.request.is_empty())
    }

    /// Adds the denied patterns. Returns whether one of them is new.
    pub fn narrow(&self, permissions: &mut Permissions) -> bool {
        let mut has_new = false;
        for (rules, denied) in [
            (&mut permissions.subscribe, &self.subscribe),
            (&mut permissions.publish, &self.publish),
            (&mut permissions.request, &self.request),
        ] {
            for DeniedPattern(pattern) in denied {
                if !rules.deny.contains(pattern) {
                    rules.deny.push(pattern.clone());
                    has_new = true;
                }
            }
        }
        has_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> RevocationRule {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_rule_without_a_time_revokes_everything_and_one_with_a_time_older_tokens() {
        let (all, old) = (rule("{}"), rule(r#"{"issued_before":1000}"#));
        let at = |seconds: u64| Some(Duration::from_millis(seconds * 1000 + 999));
        for (is_token, issued, expected) in [
            (true, at(999), true),
            (true, at(1000), false),
            (true, at(1001), false),
            (true, None, true),
            (false, None, false),
        ] {
            assert_eq!(old.revokes(is_token, issued), expected, "{is_token} {issued:?}");
            assert!(all.revokes(is_token, issued));
        }
    }

    #[test]
    fn a_rule_ends_at_its_time_or_never() {
        let second = Duration::from_secs;
        assert!(!rule("{}").has_ended(second(u64::MAX)));
        let rule = rule(r#"{"until":1000}"#);
        assert_eq!((rule.has_ended(second(999)), rule.has_ended(second(1000))), (false, true));
    }

    #[test]
    fn a_merged_rule_takes_away_what_both_do() {
        for (one, other, merged) in [
            ("{}", r#"{"issued_before":5,"until":9}"#, "{}"),
            (
                r#"{"issued_before":5,"until":9}"#,
                r#"{"issued_before":7,"until":8}"#,
                r#"{"issued_before":7,"until":9}"#,
            ),
            (
                r#"{"subscribe":["a.*"]}"#,
                r#"{"subscribe":["a.*","b"],"publish":["c"]}"#,
                r#"{"subscribe":["a.*","b"],"publish":["c"]}"#,
            ),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                let mut first = rule(one);
                first.merge(&rule(other));
                assert_eq!(serde_json::to_string(&first).unwrap(), merged);
            }
        }
    }

    #[test]
    fn withdrawn_patterns_are_denied_once() {
        let mut permissions = Permissions::default();
        let rule = rule(r#"{"subscribe":["prices.gold.*"],"request":["orders"]}"#);
        assert!(rule.denies() && rule.narrow(&mut permissions));
        assert!(!rule.narrow(&mut permissions), "a second time");
        let denied = |rules: &[Pattern]| rules.iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(denied(&permissions.subscribe.deny), ["prices.gold.*"]);
        assert_eq!(
            (permissions.publish.deny.len(), denied(&permissions.request.deny)),
            (0, vec!["orders".to_owned()])
        );
    }

    #[test]
    fn wrong_rules_are_refused_with_the_reason() {
        for (json, problem) in [
            (r#"{"subscribe":["a..b"]}"#, "\"a..b\" is no subject or pattern"),
            (r#"{"issued":5}"#, "unknown field `issued`"),
            (r#"{"until":-1}"#, "invalid value"),
            ("{", "EOF"),
        ] {
            let error = serde_json::from_str::<RevocationRule>(json).unwrap_err().to_string();
            assert!(error.contains(problem), "{json}: {error}");
        }
    }
}
