//! `RevocationRule`: what is taken away from a target, and for how long.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use tidegate_protocol::permissions::Permissions;
use tidegate_protocol::subject::Pattern;

use crate::auth::revocation::target::TargetKind;

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
    /// All credentials until this time, also later ones. Only in addition to `issued_before`, which holds for longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_until: Option<u64>,
    /// The patterns that the user may not use any more. Only for permissions, and at most [`MAX_PATTERNS`] together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<DeniedPattern>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<DeniedPattern>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<DeniedPattern>,
}

/// The most patterns of one rule. Each handshake of the user is checked against all of them.
pub const MAX_PATTERNS: usize = 1000;

/// The year 5138 in seconds, and 1973 in milliseconds.
const FIRST_OF_MILLISECONDS: u64 = 100_000_000_000;

/// A time that never comes.
const NEVER: u64 = u64::MAX;

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
    pub fn revokes(&self, is_token: bool, issued: Option<Duration>, now: Duration) -> bool {
        match self.issued_before {
            None => true,
            Some(_) if self.all_until.is_some_and(|until| now.as_secs() < until) => true,
            Some(before) => is_token && issued.is_none_or(|issued| issued.as_secs() < before),
        }
    }

    /// Takes away what each of the rules takes away, for as long as it does.
    pub fn merge(&mut self, other: &Self) {
        let all_until = self.revokes_all_until().max(other.revokes_all_until());
        let older = match (self.revokes_older(), other.revokes_older()) {
            (Some((before, until)), Some((also, longer))) => Some((before.max(also), until.max(longer))),
            (one, other) => one.or(other),
        };
        (self.issued_before, self.until, self.all_until) = match older {
            Some((before, until)) if until > all_until => {
                (Some(before), unless_never(until), Some(all_until).filter(|until| *until > 0))
            }
            Some(_) | None => (None, unless_never(all_until), None),
        };
        for (own, more) in [
            (&mut self.subscribe, &other.subscribe),
            (&mut self.publish, &other.publish),
            (&mut self.request, &other.request),
        ] {
            let mut known: HashSet<Pattern> = own.iter().map(|denied| denied.0.clone()).collect();
            own.extend(more.iter().filter(|denied| known.insert(denied.0.clone())).cloned());
        }
    }

    /// Until when it revokes all credentials, also later ones. 0: it does not.
    fn revokes_all_until(&self) -> u64 {
        match self.issued_before {
            None => self.until.unwrap_or(NEVER),
            Some(_) => self.all_until.unwrap_or(0),
        }
    }

    /// Which credentials it revokes by their age, and until when.
    fn revokes_older(&self) -> Option<(u64, u64)> {
        Some((self.issued_before?, self.until.unwrap_or(NEVER)))
    }

    /// The rule that takes away everything of a target.
    pub fn everything_of(kind: &TargetKind) -> Self {
        match kind {
            TargetKind::Token(_) | TargetKind::User(_) | TargetKind::Everyone => Self::default(),
            TargetKind::Permissions(_) => {
                let all: Vec<_> = Pattern::parse(">").ok().map(DeniedPattern).into_iter().collect();
                Self { subscribe: all.clone(), publish: all.clone(), request: all, ..Self::default() }
            }
        }
    }

    /// Refuses a rule with a time in milliseconds: it would revoke tokens for thousands of years.
    pub fn check_times(&self) -> Result<(), String> {
        for (name, time) in [("issued_before", self.issued_before), ("until", self.until)] {
            if let Some(time) = time.filter(|time| *time >= FIRST_OF_MILLISECONDS) {
                return Err(format!(
                    "\"{name}\" is {time}, which is no time in seconds since 1970 (a NumericDate of RFC 7519): if it is in \
                     milliseconds, write {}",
                    time / 1000
                ));
            }
        }
        Ok(())
    }

    /// Refuses a rule with too many patterns.
    pub fn check_size(&self) -> Result<(), String> {
        let patterns = self.subscribe.len() + self.publish.len() + self.request.len();
        if patterns <= MAX_PATTERNS {
            return Ok(());
        }
        Err(format!(
            "the user would have {patterns} denied patterns, and may have {MAX_PATTERNS}: deny wider patterns, or revoke \
             the user"
        ))
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
            let known: HashSet<Pattern> = rules.deny.iter().cloned().collect();
            let new = denied.iter().filter(|denied| !known.contains(&denied.0));
            let before = rules.deny.len();
            rules.deny.extend(new.map(|denied| denied.0.clone()));
            has_new |= rules.deny.len() > before;
        }
        has_new
    }
}

fn unless_never(time: u64) -> Option<u64> {
    Some(time).filter(|time| *time != NEVER)
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
            let now = Duration::from_secs(5000);
            assert_eq!(old.revokes(is_token, issued, now), expected, "{is_token} {issued:?}");
            assert!(all.revokes(is_token, issued, now));
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
            // Locked out for a while, and older tokens for longer or not.
            (r#"{"until":5}"#, r#"{"issued_before":3}"#, r#"{"issued_before":3,"all_until":5}"#),
            (
                r#"{"until":5}"#,
                r#"{"issued_before":3,"until":9}"#,
                r#"{"issued_before":3,"until":9,"all_until":5}"#,
            ),
            (r#"{"until":9}"#, r#"{"issued_before":3,"until":5}"#, r#"{"until":9}"#),
            (
                r#"{"until":7}"#,
                r#"{"issued_before":3,"all_until":5}"#,
                r#"{"issued_before":3,"all_until":7}"#,
            ),
            ("{}", r#"{"issued_before":3,"all_until":5}"#, "{}"),
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
    fn rev_01_a_short_lock_out_and_the_revocation_of_older_tokens_stay_two() {
        let mut both = rule(r#"{"until":1005}"#);
        both.merge(&rule(r#"{"issued_before":1001}"#));
        let second = Duration::from_secs;
        for (issued, now, expected) in [(2000, 1004, true), (2000, 1005, false), (1000, 9000, true)] {
            assert_eq!(both.revokes(true, Some(second(issued)), second(now)), expected, "{issued} at {now}");
        }
        assert!(!both.has_ended(second(9000)));
    }

    #[test]
    fn rev_01_a_time_in_milliseconds_is_refused_with_the_seconds() {
        for name in ["issued_before", "until"] {
            let at = |time: u64| rule(&format!(r#"{{"{name}":{time}}}"#)).check_times();
            assert_eq!((at(1_796_083_200), at(FIRST_OF_MILLISECONDS - 1)), (Ok(()), Ok(())));
            let error = at(1_796_083_200_500).unwrap_err();
            assert!(error.starts_with(&format!("\"{name}\" is 1796083200500")), "{error}");
            assert!(error.ends_with("write 1796083200"), "{error}");
            assert!(at(FIRST_OF_MILLISECONDS).is_err());
        }
    }

    #[test]
    fn rev_02_a_rule_has_a_limited_number_of_patterns() {
        let of = |count: usize| RevocationRule {
            subscribe: (0..count)
                .map(|number| DeniedPattern(Pattern::parse(&format!("a.{number}")).unwrap()))
                .collect(),
            ..RevocationRule::default()
        };
        assert_eq!(of(MAX_PATTERNS).check_size(), Ok(()));
        assert!(
            of(MAX_PATTERNS + 1)
                .check_size()
                .unwrap_err()
                .contains("1001 denied patterns, and may have 1000")
        );
        let mut merged = of(10);
        merged.merge(&of(11));
        assert_eq!(merged, of(11));
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
