//! `RevocationTarget`: whom a revocation concerns, and the key under which nodes keep it in NATS.

use std::fmt;

use tidegate_protocol::user_token;

use crate::config::auth::issuer::IssuerConfig;

/// Whom a revocation concerns.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RevocationTarget {
    pub kind: TargetKind,
    /// The issuer (`iss`) of the credentials. `None`: any issuer, and none.
    pub issuer: Option<Box<str>>,
}

/// What is named.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TargetKind {
    /// The token with this `jti`.
    Token(Box<str>),
    /// The credentials of this user.
    User(Box<str>),
    /// The tokens of all users.
    Everyone,
    /// Permissions of this user; the credentials stay valid.
    Permissions(Box<str>),
}

impl RevocationTarget {
    /// Adds the prefix of the target's issuer to the name of its user, if the name has none yet. The error says that the
    /// configuration has no such issuer.
    pub fn complete<'i>(
        &mut self,
        issuers: impl Iterator<Item = &'i IssuerConfig> + Clone,
    ) -> Result<(), String> {
        let Some(name) = self.issuer.as_deref() else { return Ok(()) };
        let Some(IssuerConfig { user_prefix, .. }) = issuers.clone().find(|known| known.issuer == name)
        else {
            let known: Vec<_> = issuers.map(|known| &*known.issuer).filter(|name| !name.is_empty()).collect();
            // Without a configured issuer, tokens of any issuer are accepted.
            return match known[..] {
                [] => Ok(()),
                [..] => {
                    Err(format!("there is no issuer \"{name}\": the configuration has {}", known.join(", ")))
                }
            };
        };
        if let TargetKind::User(user) | TargetKind::Permissions(user) = &mut self.kind
            && !user.starts_with(user_prefix.as_str())
        {
            *user = format!("{user_prefix}{user}").into();
        }
        Ok(())
    }

    /// The key in the bucket `tidegate_revoked`: `token.<jti>`, `user.<user>`, `everyone` or `permissions.<user>`, with the
    /// issuer before the name if there is one. Different targets have different keys.
    pub fn key(&self) -> String {
        let (kind, name) = match &self.kind {
            TargetKind::Token(id) => ("token", Some(id)),
            TargetKind::User(user) => ("user", Some(user)),
            TargetKind::Everyone => ("everyone", None),
            TargetKind::Permissions(user) => ("permissions", Some(user)),
        };
        let tokens =
            [self.issuer.as_ref(), name].into_iter().flatten().map(|text| user_token::escape(text, is_plain));
        tokens.fold(kind.to_owned(), |key, token| key + "." + &token)
    }

    /// The target with this key; `None` if it is the key of none.
    pub fn from_key(key: &str) -> Option<Self> {
        let tokens: Vec<&str> = key.split('.').collect();
        let (kind, issuer, name) = match tokens.as_slice() {
            ["everyone"] => ("everyone", None, None),
            ["everyone", issuer] => ("everyone", Some(*issuer), None),
            [kind, name] => (*kind, None, Some(*name)),
            [kind, issuer, name] => (*kind, Some(*issuer), Some(*name)),
            _ => return None,
        };
        let name = name.map(decode);
        let issuer = match issuer {
            Some(issuer) => Some(decode(issuer)?),
            None => None,
        };
        let kind = match (kind, name) {
            ("everyone", None) => TargetKind::Everyone,
            ("token", Some(name)) => TargetKind::Token(name?),
            ("user", Some(name)) => TargetKind::User(name?),
            ("permissions", Some(name)) => TargetKind::Permissions(name?),
            _ => return None,
        };
        Some(Self { kind, issuer })
    }
}

impl fmt::Display for RevocationTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.key())
    }
}

fn decode(token: &str) -> Option<Box<str>> {
    user_token::unescape(token, is_plain).filter(|text| !text.is_empty()).map(Into::into)
}

/// What is not escaped in a token of a key. NATS allows only these characters in the keys of a bucket, and `=`, `/` and
/// `.`.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::auth::AuthConfig;

    fn target(kind: TargetKind, issuer: Option<&str>) -> RevocationTarget {
        RevocationTarget { kind, issuer: issuer.map(Into::into) }
    }

    #[test]
    fn each_target_has_its_key() {
        for (key, expected) in [
            ("token.f00d-1", target(TargetKind::Token("f00d-1".into()), None)),
            ("user.alice", target(TargetKind::User("alice".into()), None)),
            ("user.ann=40example=2Ecom", target(TargetKind::User("ann@example.com".into()), None)),
            ("user.https=3A=2F=2Fid.alice", target(TargetKind::User("alice".into()), Some("https://id"))),
            ("everyone", target(TargetKind::Everyone, None)),
            ("everyone.https=3A=2F=2Fid", target(TargetKind::Everyone, Some("https://id"))),
            ("permissions.alice", target(TargetKind::Permissions("alice".into()), None)),
        ] {
            assert_eq!(expected.key(), key);
            assert_eq!(RevocationTarget::from_key(key), Some(expected));
        }
    }

    #[test]
    fn other_keys_are_no_targets() {
        for key in [
            "",
            "token",
            "user",
            "user.",
            "user..alice",
            "user.a.b.c",
            "users.alice",
            "user.a=2",
            "user.a=2e",
            "user.a=zz",
            "user.=FF",
            "user.a@b",
            "user.=61",
            "everyone.a.b",
            "permissions",
            "user.é",
        ] {
            assert_eq!(RevocationTarget::from_key(key), None, "{key:?}");
        }
    }

    #[test]
    fn rev_01_the_prefix_of_the_issuer_is_added_once() {
        let issuers = [("https://jobs", "job:"), ("https://people", "")];
        let [any] = AuthConfig::default().all_issuers().try_into().unwrap();
        let issuers = issuers.map(|(issuer, user_prefix)| IssuerConfig {
            issuer: issuer.to_owned(),
            user_prefix: user_prefix.to_owned(),
            ..any.clone()
        });
        let complete = |kind, issuer, issuers: &[IssuerConfig]| {
            let mut target = target(kind, issuer);
            target.complete(issuers.iter()).map(|()| target.key())
        };
        let user = |name: &str| TargetKind::User(name.into());
        for (kind, issuer, expected) in [
            (user("nightly"), Some("https://jobs"), "user.https=3A=2F=2Fjobs.job=3Anightly"),
            (user("job:nightly"), Some("https://jobs"), "user.https=3A=2F=2Fjobs.job=3Anightly"),
            (
                TargetKind::Permissions("nightly".into()),
                Some("https://jobs"),
                "permissions.https=3A=2F=2Fjobs.job=3Anightly",
            ),
            (TargetKind::Token("f00d".into()), Some("https://jobs"), "token.https=3A=2F=2Fjobs.f00d"),
            (user("ann"), Some("https://people"), "user.https=3A=2F=2Fpeople.ann"),
            (user("ann"), None, "user.ann"),
        ] {
            assert_eq!(complete(kind, issuer, &issuers).as_deref(), Ok(expected));
        }
        let error = complete(user("ann"), Some("https://other"), &issuers).unwrap_err();
        assert!(error.ends_with("the configuration has https://jobs, https://people"), "{error}");
        assert!(complete(user("ann"), Some("https://other"), &[any]).is_ok(), "any issuer is accepted");
    }

    proptest! {
        #[test]
        fn keys_are_valid_and_lead_back_to_their_targets(kind in 0..4_usize, name in ".{1,20}", issuer in proptest::option::of(".{1,20}")) {
            let name: Box<str> = name.into();
            let kind = [TargetKind::Token(name.clone()), TargetKind::User(name.clone()), TargetKind::Everyone, TargetKind::Permissions(name)][kind].clone();
            let target = RevocationTarget { kind, issuer: issuer.map(Into::into) };
            let key = target.key();
            prop_assert!(key.bytes().all(|byte| is_plain(byte) || matches!(byte, b'=' | b'.')));
            prop_assert_eq!(RevocationTarget::from_key(&key), Some(target));
        }

        #[test]
        fn any_key_has_at_most_one_target(key in "[a-z=.0-9A-F]{0,30}") {
            if let Some(target) = RevocationTarget::from_key(&key) {
                prop_assert_eq!(target.key(), key);
            }
        }
    }
}
