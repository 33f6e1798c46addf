//! Permissions: what nats-server says that its user may do.

use serde_json::Value;
use tidegate_protocol::subject::Pattern;

/// Where a server tells who one is, and what one may do.
pub(super) const USER_INFO: &str = "$SYS.REQ.USER.INFO";

/// What the user may do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UserInfo {
    pub(super) publish: Rules,
    pub(super) subscribe: Rules,
}

/// Without an `allow`, all that is not denied is allowed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
}

/// How much of a pattern is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Granted {
    Wholly,
    InPart {
        /// What is not, in words.
        but: String,
    },
    Not,
}

impl UserInfo {
    /// Reads the answer to `$SYS.REQ.USER.INFO`.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(json).ok()?;
        let data = value.get("data")?.as_object()?;
        let permissions = data.get("permissions");
        let rules = |of: &str| {
            let of = permissions.and_then(|permissions| permissions.get(of));
            let list = |name: &str| {
                let listed = of.and_then(|of| of.get(name)).and_then(Value::as_array).map(Vec::as_slice);
                // A queue may be behind a subject.
                let subjects = listed.unwrap_or_default().iter().filter_map(Value::as_str);
                let subjects = subjects.filter_map(|text| text.split_whitespace().next());
                subjects.filter_map(|text| Pattern::parse(text).ok()).collect()
            };
            Rules { allow: list("allow"), deny: list("deny") }
        };
        Some(Self { publish: rules("publish"), subscribe: rules("subscribe") })
    }
}

impl Rules {
    /// How much of a pattern they allow.
    pub(super) fn grants(&self, pattern: &Pattern) -> Granted {
        if self.deny.iter().any(|denied| denied.covers(pattern)) {
            return Granted::Not;
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|allowed| allowed.covers(pattern)) {
            let part = self.allow.iter().find(|allowed| allowed.overlaps(pattern));
            return part.map_or(Granted::Not, |part| Granted::InPart {
                but: format!("what of it is not in {part}"),
            });
        }
        let denied = self.deny.iter().find(|denied| denied.overlaps(pattern));
        denied.map_or(Granted::Wholly, |denied| Granted::InPart { but: denied.to_string() })
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
        let info = UserInfo::read(info).unwrap();
        let grants = |rules: &Rules, pattern: &str| rules.grants(&Pattern::parse(pattern).unwrap());
        let in_part = |but: &str| Granted::InPart { but: but.to_owned() };
        assert_eq!(grants(&info.publish, "chat.*"), Granted::Wholly);
        assert_eq!(grants(&info.publish, "chat.>"), in_part("what of it is not in chat.*"));
        assert_eq!(grants(&info.publish, "news"), Granted::Not);
        assert_eq!(grants(&info.subscribe, "user.*"), Granted::Wholly);
        assert_eq!(grants(&info.subscribe, "prices.*"), in_part("prices.secret"));
        assert_eq!(grants(&info.subscribe, "prices.secret"), Granted::Not);
        let free = UserInfo::read(br#"{"data":{"user":"a"}}"#).unwrap();
        assert_eq!(grants(&free.publish, ">"), Granted::Wholly);
        assert_eq!(UserInfo::read(br#"{"error":{"code":503}}"#), None);
        assert_eq!(UserInfo::read(b"no"), None);
    }
}
