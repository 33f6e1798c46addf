//! The permissions of a NATS user, as nats-server reports them.

use serde_json::Value;
use tidegate_protocol::subject::Pattern;

/// The subject where a server reports the user of a connection and its permissions.
pub(super) const USER_INFO: &str = "$SYS.REQ.USER.INFO";

/// The permissions of a user.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UserInfo {
    pub(super) publish: SubjectRules,
    pub(super) subscribe: SubjectRules,
}

/// Allow and deny lists. Without an `allow`, everything is allowed that is not denied.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SubjectRules {
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
}

/// How much of a pattern is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Access {
    Full,
    Partial {
        /// The denied part: a pattern or a phrase.
        denied: String,
    },
    Denied,
}

impl UserInfo {
    /// Parses the reply to `$SYS.REQ.USER.INFO`.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(json).ok()?;
        let data = value.get("data")?.as_object()?;
        let permissions = data.get("permissions");
        let rules = |of: &str| {
            let of = permissions.and_then(|permissions| permissions.get(of));
            let list = |name: &str| {
                let listed = of.and_then(|of| of.get(name)).and_then(Value::as_array).map(Vec::as_slice);
                // A queue name may follow the subject.
                let subjects = listed.unwrap_or_default().iter().filter_map(Value::as_str);
                let subjects = subjects.filter_map(|text| text.split_whitespace().next());
                subjects.filter_map(|text| Pattern::parse(text).ok()).collect()
            };
            SubjectRules { allow: list("allow"), deny: list("deny") }
        };
        Some(Self { publish: rules("publish"), subscribe: rules("subscribe") })
    }
}

impl SubjectRules {
    pub(super) fn access_to(&self, pattern: &Pattern) -> Access {
        if self.deny.iter().any(|denied| denied.covers(pattern)) {
            return Access::Denied;
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|allowed| allowed.covers(pattern)) {
            let part = self.allow.iter().find(|allowed| allowed.overlaps(pattern));
            return part.map_or(Access::Denied, |part| Access::Partial {
                denied: format!("everything outside {part}"),
            });
        }
        let denied = self.deny.iter().find(|denied| denied.overlaps(pattern));
        denied.map_or(Access::Full, |denied| Access::Partial { denied: denied.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_of_a_pattern_is_allowed() {
        let info = br#"{"server":{},"data":{"user":"a","permissions":{
            "publish":{"allow":["chat.*","_INBOX.>"]},
            "subscribe":{"allow":["prices.>","user.* q"],"deny":["prices.secret","x y","a..b"]}}}}"#;
        let info = UserInfo::parse(info).unwrap();
        let access = |rules: &SubjectRules, pattern: &str| rules.access_to(&Pattern::parse(pattern).unwrap());
        let partial = |denied: &str| Access::Partial { denied: denied.to_owned() };
        assert_eq!(access(&info.publish, "chat.*"), Access::Full);
        assert_eq!(access(&info.publish, "chat.>"), partial("everything outside chat.*"));
        assert_eq!(access(&info.publish, "news"), Access::Denied);
        assert_eq!(access(&info.subscribe, "user.*"), Access::Full);
        assert_eq!(access(&info.subscribe, "prices.*"), partial("prices.secret"));
        assert_eq!(access(&info.subscribe, "prices.secret"), Access::Denied);
        let free = UserInfo::parse(br#"{"data":{"user":"a"}}"#).unwrap();
        assert_eq!(access(&free.publish, ">"), Access::Full);
        assert_eq!(UserInfo::parse(br#"{"error":{"code":503}}"#), None);
        assert_eq!(UserInfo::parse(b"no"), None);
    }
}
