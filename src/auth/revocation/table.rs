//! `RevocationTable`: all revocations that a node knows, and what they mean for an identity.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Permissions;

use crate::auth::revocation::rule::RevocationRule;
use crate::auth::revocation::target::RevocationTarget;
use crate::auth::revocation::target::TargetKind;

/// What the revocations mean for an identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RevocationEffect {
    /// Nothing.
    Unchanged,
    /// The same user may do less.
    Narrowed(Arc<Identity>),
    Revoked,
}

/// Revocations by what they name, so that an identity is checked with a few look-ups, however many there are.
#[derive(Debug, Default)]
pub struct RevocationTable {
    tokens: ByName,
    users: ByName,
    permissions: ByName,
    everyone: Vec<IssuerRule>,
}

type ByName = HashMap<Box<str>, Vec<IssuerRule>>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct IssuerRule {
    issuer: Option<Box<str>>,
    rule: RevocationRule,
}

impl IssuerRule {
    fn concerns(&self, identity: &Identity, now: Duration) -> bool {
        let of_issuer =
            self.issuer.as_deref().is_none_or(|issuer| identity.issuer.as_deref() == Some(issuer));
        of_issuer && !self.rule.has_ended(now)
    }
}

impl RevocationTable {
    /// Whether there are no revocations at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of revocations.
    pub fn len(&self) -> usize {
        let by_name = [&self.tokens, &self.users, &self.permissions];
        by_name.iter().flat_map(|names| names.values()).map(Vec::len).sum::<usize>() + self.everyone.len()
    }

    /// The rule of a target.
    pub fn get(&self, target: &RevocationTarget) -> Option<&RevocationRule> {
        let rules = match &target.kind {
            TargetKind::Token(name) => self.tokens.get(name)?,
            TargetKind::User(name) => self.users.get(name)?,
            TargetKind::Permissions(name) => self.permissions.get(name)?,
            TargetKind::Everyone => &self.everyone,
        };
        rules.iter().find(|rule| rule.issuer == target.issuer).map(|rule| &rule.rule)
    }

    /// Sets the rule of a target. Returns whether that changes something.
    pub fn put(&mut self, target: RevocationTarget, rule: RevocationRule) -> bool {
        let RevocationTarget { kind, issuer } = target;
        let rules = match kind {
            TargetKind::Token(name) => self.tokens.entry(name).or_default(),
            TargetKind::User(name) => self.users.entry(name).or_default(),
            TargetKind::Permissions(name) => self.permissions.entry(name).or_default(),
            TargetKind::Everyone => &mut self.everyone,
        };
        match rules.iter_mut().find(|known| known.issuer == issuer) {
            Some(known) if known.rule == rule => false,
            Some(known) => {
                known.rule = rule;
                true
            }
            None => {
                rules.push(IssuerRule { issuer, rule });
                true
            }
        }
    }

    /// Forgets a target. Returns whether it had a rule that has not ended.
    pub fn remove(&mut self, target: &RevocationTarget, now: SystemTime) -> bool {
        let was_in_force = self.get(target).is_some_and(|rule| !rule.has_ended(since_1970(now)));
        self.forget(target);
        was_in_force
    }

    fn forget(&mut self, target: &RevocationTarget) {
        let by_name = match &target.kind {
            TargetKind::Token(name) => (&mut self.tokens, name),
            TargetKind::User(name) => (&mut self.users, name),
            TargetKind::Permissions(name) => (&mut self.permissions, name),
            TargetKind::Everyone => return self.everyone.retain(|rule| rule.issuer != target.issuer),
        };
        let (names, name) = by_name;
        if let Some(rules) = names.get_mut(name) {
            rules.retain(|rule| rule.issuer != target.issuer);
            if rules.is_empty() {
                names.remove(name);
            }
        }
    }

    /// Forgets the rules that have ended.
    pub fn remove_ended(&mut self, now: SystemTime) {
        let now = since_1970(now);
        for names in [&mut self.tokens, &mut self.users, &mut self.permissions] {
            names.retain(|_, rules| {
                rules.retain(|rule| !rule.rule.has_ended(now));
                !rules.is_empty()
            });
        }
        self.everyone.retain(|rule| !rule.rule.has_ended(now));
    }

    /// What the revocations mean for an identity. Clients that have proven no identity are never concerned: they have
    /// nothing to take away.
    pub fn check(&self, identity: &Identity, now: SystemTime) -> RevocationEffect {
        if identity.anonymous {
            return RevocationEffect::Unchanged;
        }
        let now = since_1970(now);
        let token = identity.token_id.as_deref().and_then(|id| self.tokens.get(id));
        let user = self.users.get(&*identity.user);
        let rules = [token, user, Some(&self.everyone)].into_iter().flatten().flatten();
        let issued = identity.issued.map(since_1970);
        let revokes = |rule: &IssuerRule| {
            rule.concerns(identity, now) && rule.rule.revokes(identity.has_token(), issued, now)
        };
        if rules.into_iter().any(revokes) {
            return RevocationEffect::Revoked;
        }
        let Some(denied) = self.permissions.get(&*identity.user) else { return RevocationEffect::Unchanged };
        let mut permissions = Permissions::clone(&identity.permissions);
        let mut has_changed = false;
        for rule in denied.iter().filter(|rule| rule.concerns(identity, now)) {
            has_changed |= rule.rule.narrow(&mut permissions);
        }
        if !has_changed {
            return RevocationEffect::Unchanged;
        }
        RevocationEffect::Narrowed(Arc::new(Identity {
            permissions: Arc::new(permissions),
            ..identity.clone()
        }))
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::permissions::Operation;
    use tidegate_protocol::permissions::Rules;
    use tidegate_protocol::subject::Pattern;

    use super::*;
    use crate::auth::revocation::message::RevocationMessage;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// A user with a token that was issued at 1000.
    fn alice(issuer: Option<&str>) -> Identity {
        let pattern = |text| Pattern::parse(text).unwrap();
        let subscribe = Rules { allow: vec![pattern("prices.>")], deny: Vec::new() };
        Identity {
            user: "alice".into(),
            issuer: issuer.map(Arc::from),
            token_id: Some("f00d".into()),
            issued: Some(at(1000)),
            expires: Some(at(9000)),
            permissions: Arc::new(Permissions { subscribe, ..Permissions::default() }),
            ..Identity::default()
        }
    }

    fn table(messages: &[&str]) -> RevocationTable {
        let mut table = RevocationTable::default();
        for json in messages {
            let RevocationMessage { target, rule } = RevocationMessage::parse(json.as_bytes()).unwrap();
            assert!(table.put(target, rule), "{json}");
        }
        table
    }

    #[test]
    fn rev_01_tokens_are_revoked_by_id_user_or_age_and_of_their_issuer_alone() {
        for (json, own, others) in [
            (r#"{"token":"f00d"}"#, true, true),
            (r#"{"token":"f00d","issuer":"a"}"#, true, false),
            (r#"{"token":"beef"}"#, false, false),
            (r#"{"user":"alice"}"#, true, true),
            (r#"{"user":"alice","issuer":"a"}"#, true, false),
            (r#"{"user":"bob"}"#, false, false),
            (r#"{"user":"alice","issued_before":1001}"#, true, true),
            (r#"{"user":"alice","issued_before":1000}"#, false, false),
            (r#"{"everyone":true,"issued_before":1001}"#, true, true),
            (r#"{"everyone":true,"issued_before":1001,"issuer":"a"}"#, true, false),
            (r#"{"everyone":true,"issued_before":999}"#, false, false),
            (r#"{"user":"alice","until":5000}"#, false, false),
        ] {
            let table = table(&[json]);
            for (issuer, expected) in [(Some("a"), own), (Some("b"), others), (None, others)] {
                let is_revoked = table.check(&alice(issuer), at(5000)) == RevocationEffect::Revoked;
                assert_eq!(is_revoked, expected, "{json} {issuer:?}");
            }
        }
    }

    #[test]
    fn an_api_key_is_revoked_with_its_user_but_not_by_age_and_an_anonymous_client_never() {
        let key = Identity { token_id: None, issued: None, expires: None, ..alice(None) };
        let check = |json, identity: &Identity| table(&[json]).check(identity, at(0));
        assert_eq!(check(r#"{"user":"alice"}"#, &key), RevocationEffect::Revoked);
        assert_eq!(check(r#"{"user":"alice","issued_before":5000}"#, &key), RevocationEffect::Unchanged);
        assert_eq!(check(r#"{"everyone":true,"issued_before":5000}"#, &key), RevocationEffect::Unchanged);
        let guest = Identity { anonymous: true, ..alice(None) };
        assert_eq!(check(r#"{"user":"alice"}"#, &guest), RevocationEffect::Unchanged);
    }

    #[test]
    fn rev_02_withdrawn_permissions_are_denied_and_nothing_else_changes() {
        let table = table(&[
            r#"{"user":"alice","deny":{"subscribe":["prices.gold.>"]}}"#,
            r#"{"user":"alice","issuer":"b","deny":{"subscribe":["prices.oil"]}}"#,
        ]);
        let alice = alice(Some("a"));
        let RevocationEffect::Narrowed(narrowed) = table.check(&alice, at(0)) else {
            panic!("nothing was withdrawn")
        };
        let may = |pattern| {
            narrowed.permissions.decide(Operation::Subscribe, &Pattern::parse(pattern).unwrap()).is_allowed()
        };
        assert_eq!([may("prices.gold.eu"), may("prices.>"), may("prices.oil")], [false, false, true]);
        assert_eq!(Identity { permissions: Arc::clone(&alice.permissions), ..(*narrowed).clone() }, alice);
        assert_eq!(table.check(&narrowed, at(0)), RevocationEffect::Unchanged, "a second time");
    }

    #[test]
    fn rules_replace_each_other_end_and_are_forgotten() {
        let mut table = table(&[
            r#"{"user":"alice","until":10}"#,
            r#"{"token":"f00d"}"#,
            r#"{"everyone":true,"issued_before":5,"until":10}"#,
        ]);
        let RevocationMessage { target, rule } =
            RevocationMessage::parse(br#"{"user":"alice","until":10}"#).unwrap();
        assert!(!table.put(target.clone(), rule.clone()), "the same");
        assert_eq!(table.get(&target), Some(&rule));
        assert!(table.put(target.clone(), RevocationRule { until: Some(20), ..rule }));
        assert_eq!(table.len(), 3);
        table.remove_ended(at(15));
        assert_eq!(table.len(), 2);
        table.remove(&target, at(0));
        assert_eq!(table.check(&alice(None), at(15)), RevocationEffect::Revoked, "by its id");
        table.remove(&RevocationTarget { kind: TargetKind::Token("f00d".into()), issuer: None }, at(0));
        assert!(table.is_empty());
        assert_eq!(table.check(&alice(None), at(15)), RevocationEffect::Unchanged);
    }
}
