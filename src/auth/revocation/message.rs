//! `RevocationMessage`: a revocation as an operator publishes it, on the subject `tidegate.revoke`.

use serde::Deserialize;
use serde::Serialize;

use crate::auth::revocation::rule::RevocationRule;
use crate::auth::revocation::target::RevocationTarget;
use crate::auth::revocation::target::TargetKind;

/// The subject of revocations. Only operators may publish there.
pub const SUBJECT: &str = "tidegate.revoke";

/// One revocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RevocationMessage {
    pub target: RevocationTarget,
    pub rule: RevocationRule,
}

/// The fields of the JSON object.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Box<str>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    everyone: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    /// Which permissions to withdraw, in place of the credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    deny: Option<RevocationRule>,
}

impl RevocationMessage {
    /// Reads a message. The error says what is wrong and how to mend it.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let fields: Fields =
            serde_json::from_slice(json).map_err(|error| format!("the message is not valid: {error}"))?;
        let Fields { token, user, everyone, issuer, issued_before, until, deny } = fields;
        for (name, value) in [("token", &token), ("user", &user), ("issuer", &issuer)] {
            if value.as_deref() == Some("") {
                return Err(format!("\"{name}\" is empty: leave it out, or name one"));
            }
        }
        let (kind, rule) = match (token, user, everyone, deny) {
            (Some(token), None, false, None) => (TargetKind::Token(token), None),
            (None, Some(user), false, None) => (TargetKind::User(user), None),
            (None, None, true, None) if issued_before.is_some() => (TargetKind::Everyone, None),
            (None, None, true, None) => {
                return Err("\"everyone\" needs \"issued_before\", a time in seconds since 1970".to_owned());
            }
            (None, Some(user), false, Some(deny)) => (TargetKind::Permissions(user), Some(deny)),
            (_, _, _, Some(_)) => {
                return Err("\"deny\" needs \"user\", and neither \"token\" nor \"everyone\"".to_owned());
            }
            _ => return Err("name one of \"token\" (its jti), \"user\", or \"everyone\": true".to_owned()),
        };
        let mut rule = match rule {
            None => RevocationRule::default(),
            Some(rule)
                if rule.issued_before.is_some()
                    || rule.until.is_some()
                    || rule.all_until.is_some()
                    || issued_before.is_some() =>
            {
                return Err("\"deny\" takes only \"subscribe\", \"publish\" and \"request\": move \"until\" out of it, and remove \"issued_before\"".to_owned());
            }
            Some(rule) if rule.denies() => rule,
            Some(_) => {
                return Err(
                    "\"deny\" names no pattern: list some in \"subscribe\", \"publish\" or \"request\""
                        .to_owned(),
                );
            }
        };
        (rule.issued_before, rule.until) = (issued_before, until);
        rule.check_times()?;
        rule.check_size()?;
        Ok(Self { target: RevocationTarget { kind, issuer }, rule })
    }

    /// The message as JSON.
    pub fn to_json(&self) -> String {
        let RevocationRule { issued_before, until, .. } = self.rule;
        let issuer = self.target.issuer.clone();
        let mut fields = Fields { issuer, issued_before, until, ..Fields::default() };
        match &self.target.kind {
            TargetKind::Token(id) => fields.token = Some(id.clone()),
            TargetKind::User(user) => fields.user = Some(user.clone()),
            TargetKind::Everyone => fields.everyone = true,
            TargetKind::Permissions(user) => {
                fields.user = Some(user.clone());
                fields.deny = Some(RevocationRule { issued_before: None, until: None, ..self.rule.clone() });
            }
        }
        serde_json::to_string(&fields).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_target_and_leads_back_to_its_json() {
        for (json, key) in [
            (r#"{"token":"f00d"}"#, "token.f00d"),
            (r#"{"token":"f00d","issuer":"id","until":9}"#, "token.id.f00d"),
            (r#"{"user":"alice"}"#, "user.alice"),
            (r#"{"user":"ann@example.com","issued_before":5}"#, "user.ann=40example=2Ecom"),
            (r#"{"everyone":true,"issued_before":5}"#, "everyone"),
            (r#"{"user":"alice","deny":{"subscribe":["prices.>"]}}"#, "permissions.alice"),
        ] {
            let message = RevocationMessage::parse(json.as_bytes()).unwrap();
            assert_eq!(message.target.key(), key);
            assert_eq!(message.to_json(), json);
        }
    }

    #[test]
    fn rev_01_a_wrong_message_is_refused_with_the_fix() {
        for (json, problem) in [
            ("", "not valid"),
            ("{}", "name one of"),
            (r#"{"user":"a","token":"b"}"#, "name one of"),
            (r#"{"user":""}"#, "\"user\" is empty"),
            (r#"{"user":"a","issuer":""}"#, "\"issuer\" is empty"),
            (r#"{"user":7}"#, "not valid"),
            (r#"{"usr":"a"}"#, "unknown field `usr`"),
            (r#"{"everyone":true}"#, "needs \"issued_before\""),
            (r#"{"everyone":true,"issued_before":1796083200000}"#, "write 1796083200"),
            (r#"{"user":"a","until":1796083200000}"#, "write 1796083200"),
            (r#"{"everyone":true,"issued_before":5,"deny":{"subscribe":["a"]}}"#, "\"deny\" needs \"user\""),
            (r#"{"user":"a","deny":{}}"#, "names no pattern"),
            (r#"{"user":"a","deny":{"until":5,"subscribe":["a"]}}"#, "move \"until\" out of it"),
            (r#"{"user":"a","issued_before":5,"deny":{"subscribe":["a"]}}"#, "remove \"issued_before\""),
            (r#"{"user":"a","deny":{"subscribe":["a..b"]}}"#, "no subject or pattern"),
        ] {
            let error = RevocationMessage::parse(json.as_bytes()).unwrap_err();
            assert!(error.contains(problem), "{json}: {error}");
        }
    }
}
