//! `Claims`: the claims of a verified token, parsed strictly: right types, no duplicate names, limited depth.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error as _;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Value;
use tidegate_protocol::template::PlaceholderValue;
use tidegate_protocol::template::is_token_value;

use crate::auth::error::AuthError;
use crate::auth::user::User;
use crate::auth::user::UserEncoding;
use crate::config::auth::AuthConfig;

/// Claims of OAuth 2 with a list in one string.
const SCOPE_CLAIMS: [&str; 2] = ["scope", "scp"];

/// The largest whole number that is the same in JavaScript: 2^53.
const MAX_SAFE_INTEGER: u64 = 1 << 53;

#[derive(Debug, Default)]
pub struct Claims(Map<String, Value>);

/// For jsonwebtoken. [`Claims::parse`] has better errors.
impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NoDuplicates::deserialize(deserializer)?.0 {
            Value::Object(object) => Ok(Self(object)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(D::Error::custom("not an object"))
            }
        }
    }
}

impl Claims {
    pub fn parse(json: &[u8]) -> Result<Self, AuthError> {
        parse_object(json).map(Self).map_err(|how| AuthError::Unreadable { part: "claims", how })
    }

    /// When the token is valid; an error if that is not now. `nbf` and `iat` have a leeway for clocks that differ. `exp`
    /// has none: a session whose token has expired would be closed at once.
    pub fn check_times(&self, config: &AuthConfig, now: SystemTime) -> Result<ValidityPeriod, AuthError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let latest = now.saturating_add(config.leeway);
        let until = self.time("exp")?.ok_or_else(|| missing("exp"))?;
        let issued = self.time("iat")?;
        if now >= until {
            return Err(AuthError::Expired);
        }
        let valid = self.time("nbf")?;
        if valid.is_some_and(|valid| valid > latest) {
            return Err(AuthError::NotYetValid);
        }
        if issued.is_some_and(|issued| issued > latest) {
            return Err(AuthError::IssuedInFuture);
        }
        if !config.max_token_lifetime.is_zero() {
            let issued = issued.ok_or_else(|| missing("iat"))?;
            if until.saturating_sub(issued) > config.max_token_lifetime {
                return Err(AuthError::LivesTooLong);
            }
        }
        let from = valid.max(issued).unwrap_or_default().saturating_sub(config.leeway);
        Ok(ValidityPeriod { from, until, issued })
    }

    /// The token's `iss`, which is one string.
    pub fn issuer(&self) -> Result<Option<&str>, AuthError> {
        self.0.get("iss").map(|value| value.as_str().ok_or_else(|| bad("iss"))).transpose()
    }

    /// Returns the token's `iss`, which must equal `required` unless that is empty.
    pub fn check_issuer(&self, required: &str) -> Result<Option<&str>, AuthError> {
        let Some(issuer) = self.issuer()? else {
            return if required.is_empty() { Ok(None) } else { Err(missing("iss")) };
        };
        if !required.is_empty() && issuer != required {
            return Err(AuthError::WrongIssuer);
        }
        Ok(Some(issuer))
    }

    /// RFC 7519 §4.1.3: a token with an `aud` that does not name the recipient is rejected. So if `required` is empty, any
    /// token with an `aud` is.
    pub fn check_audience(&self, required: &str) -> Result<(), AuthError> {
        let audiences = match self.0.get("aud") {
            None if required.is_empty() => return Ok(()),
            None => return Err(missing("aud")),
            Some(value) => strings(value).ok_or_else(|| bad("aud"))?,
        };
        if required.is_empty() || !audiences.contains(&required) {
            return Err(AuthError::WrongAudience);
        }
        Ok(())
    }

    pub fn subject(&self) -> Result<&str, AuthError> {
        let value = self.0.get("sub").ok_or_else(|| missing("sub"))?;
        let subject = value.as_str().ok_or_else(|| bad("sub"))?;
        if !is_token_value(subject) {
            return Err(AuthError::BadSubject);
        }
        Ok(subject)
    }

    /// The user in this claim: a text, or a whole number that JavaScript can hold. An e-mail address must be verified.
    pub fn user(&self, claim: &str) -> Result<User, AuthError> {
        let name = match self.named(claim).ok_or_else(|| missing(claim))? {
            Value::String(text) => text.clone(),
            Value::Number(number) => match number.as_i64() {
                Some(whole) if whole.unsigned_abs() <= MAX_SAFE_INTEGER => whole.to_string(),
                Some(_) | None => return Err(AuthError::BadUserClaim { claim: claim.to_owned() }),
            },
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err(bad(claim)),
        };
        let is_email = claim.rsplit(['.', '/']).next() == Some("email");
        if is_email && self.named(&format!("{claim}_verified")) != Some(&Value::Bool(true)) {
            return Err(AuthError::UnverifiedEmail { claim: claim.to_owned() });
        }
        User::new(&name, UserEncoding::Encoded)
            .ok_or_else(|| AuthError::BadUserClaim { claim: claim.to_owned() })
    }

    /// The value of the claim with exactly this name, or else at this path.
    fn named(&self, claim: &str) -> Option<&Value> {
        self.0.get(claim).or_else(|| self.at(claim))
    }

    /// The token's `jti`; `None` if it is not a string, since only revocations use it.
    pub fn id(&self) -> Option<&str> {
        self.0.get("jti")?.as_str()
    }

    /// The claims with these names, as a JSON object; `None` if the token has none of them.
    pub fn select(&self, names: &[Box<str>]) -> Option<String> {
        let selected = names.iter().filter_map(|name| Some((name.to_string(), self.0.get(&**name)?.clone())));
        let selected: Map<String, Value> = selected.collect();
        (!selected.is_empty()).then(|| Value::Object(selected).to_string())
    }

    /// The role names in this claim: one string, or a list of strings. Empty if the claim is absent. Only the string of
    /// `scope` or `scp` is a list itself, separated by spaces (RFC 8693 §4.2); all others are never split.
    pub fn roles(&self, claim: &str) -> Result<Vec<&str>, AuthError> {
        match self.at(claim) {
            None => Ok(Vec::new()),
            Some(Value::String(scopes)) if SCOPE_CLAIMS.contains(&claim) => {
                Ok(scopes.split(' ').filter(|scope| !scope.is_empty()).collect())
            }
            Some(value) => strings(value).ok_or_else(|| bad(claim)),
        }
    }

    /// Whether the token does not have this claim at all. A claim that is `null`, or a path through a value that is not
    /// an object, is not absent.
    pub fn lacks(&self, claim: &str) -> bool {
        if self.0.contains_key(claim) {
            return false;
        }
        if claim.contains("://") {
            return true;
        }
        let (mut object, mut names) = (&self.0, claim.split('.'));
        loop {
            object = match names.next().map(|name| object.get(name)) {
                Some(None) => return true,
                Some(Some(Value::Object(inner))) => inner,
                Some(Some(_)) | None => return false,
            };
        }
    }

    /// The type of token that this claim names must be one of `accepted`.
    pub fn check_type(&self, claim: &str, accepted: &[String]) -> Result<(), AuthError> {
        match self.at(claim) {
            Some(Value::String(found)) if accepted.contains(found) => Ok(()),
            Some(_) | None => Err(AuthError::WrongTokenType { name: claim.to_owned() }),
        }
    }

    /// The value of a template's placeholder: `{org.id}` and `{claims.org.id}` are the same claim. `None` if the token
    /// does not have it. Only a string, an integer, or a list of these is usable.
    pub fn placeholder(&self, placeholder: &str) -> Option<PlaceholderValue<'_>> {
        let claim = placeholder.strip_prefix("claims.").unwrap_or(placeholder);
        let value = match self.at(claim) {
            None if self.lacks(claim) => return None,
            None => None,
            Some(Value::Array(items)) => {
                items.iter().map(scalar).collect::<Option<_>>().map(PlaceholderValue::Each)
            }
            Some(
                one @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)),
            ) => scalar(one).map(PlaceholderValue::One),
        };
        Some(value.unwrap_or(PlaceholderValue::Unusable))
    }

    /// The value of a claim. Dots separate nested names, except in names with `://`: identity providers prefix their own
    /// claims with a URL, which has dots.
    fn at(&self, claim: &str) -> Option<&Value> {
        if claim.contains("://") {
            return self.0.get(claim);
        }
        let mut path = claim.split('.');
        let first = self.0.get(path.next()?)?;
        path.try_fold(first, |value, name| value.as_object()?.get(name))
    }

    fn time(&self, claim: &'static str) -> Result<Option<Duration>, AuthError> {
        match self.0.get(claim) {
            None => Ok(None),
            Some(value) => numeric_date(value).map(Some).map_err(|wrong| match wrong {
                DateError::Milliseconds => AuthError::Milliseconds { claim },
                DateError::Other => bad(claim),
            }),
        }
    }
}

/// When a token is valid. Times are since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValidityPeriod {
    /// The later of `nbf` and `iat`, minus the leeway.
    pub from: Duration,
    /// Its `exp`.
    pub until: Duration,
    /// Its `iat`.
    pub issued: Option<Duration>,
}

impl ValidityPeriod {
    /// The end as a `SystemTime`.
    pub fn expires(&self) -> Result<SystemTime, AuthError> {
        UNIX_EPOCH.checked_add(self.until).ok_or_else(|| bad("exp"))
    }
}

/// Parses a JSON object without duplicate names at any depth. `serde_json` limits the depth. The error is the reason,
/// without any text of the object.
pub(crate) fn parse_object(json: &[u8]) -> Result<Map<String, Value>, &'static str> {
    match serde_json::from_slice(json) {
        Ok(NoDuplicates(Value::Object(object))) => Ok(object),
        Ok(NoDuplicates(
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_),
        )) => Err("are JSON, but not an object"),
        Err(error) => {
            let words = error.to_string();
            let is = |part: &str| words.contains(part);
            Err(if is(DUPLICATE_NAME) {
                "contain a duplicate name"
            } else if is("surrogate") || is("hex escape") {
                "hold half a character (a lone surrogate such as \\ud83d); cut strings between whole characters"
            } else if is("recursion limit") {
                "are nested too deeply"
            } else {
                "are not JSON"
            })
        }
    }
}

const DUPLICATE_NAME: &str = "duplicate name";

fn missing(claim: &str) -> AuthError {
    AuthError::MissingClaim { claim: claim.to_owned() }
}

fn bad(claim: &str) -> AuthError {
    AuthError::BadClaim { claim: claim.to_owned() }
}

/// A string, or an integer as text.
fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) if !number.is_f64() => Some(Cow::Owned(number.to_string())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// One string, or a list of strings only.
fn strings(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// Why a value is not a valid date.
enum DateError {
    /// It is in milliseconds, as `Date.now()` is.
    Milliseconds,
    Other,
}

/// RFC 7519 §2: a `NumericDate` is in seconds since 1970, and may have a fraction. Dates after the year 9999 are invalid
/// here, so that sums cannot overflow.
fn numeric_date(value: &Value) -> Result<Duration, DateError> {
    const END_OF_9999: Duration = Duration::from_secs(253_402_300_799);
    let number = value.as_number().ok_or(DateError::Other)?;
    let date = match number.as_u64() {
        Some(seconds) => Duration::from_secs(seconds),
        None => {
            let seconds = number.as_f64().ok_or(DateError::Other)?;
            Duration::try_from_secs_f64(seconds).map_err(|_| DateError::Other)?
        }
    };
    if date <= END_OF_9999 {
        Ok(date)
    } else if date / 1000 <= END_OF_9999 {
        Err(DateError::Milliseconds)
    } else {
        Err(DateError::Other)
    }
}

/// RFC 7519 §4: claim names must be unique. `serde_json` keeps the last of two equal names and other parsers the first,
/// so such a token would be ambiguous.
struct NoDuplicates(Value);

impl<'de> Deserialize<'de> for NoDuplicates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON without duplicate names")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(NoDuplicates(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, NoDuplicates(value))) = entries.next_entry::<String, NoDuplicates>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom(DUPLICATE_NAME));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests;
