//! A claim as people write it, `NAME=VALUE`, and its place among the claims of a token.

use serde_json::Value;
use serde_json::json;

/// More parts than any claim has: each makes one more object in another.
const MAX_PARTS: usize = 16;

/// `NAME=VALUE`, where VALUE is JSON, or else a text. NAME may be a path with dots.
pub fn parse(text: &str) -> Result<(String, Value), String> {
    let (name, value) =
        text.split_once('=').ok_or("write it as NAME=VALUE, for example team=blue or 'ids=[1,2]'")?;
    if name.split('.').any(str::is_empty) {
        return Err("the name of the claim is empty".to_owned());
    }
    if name.split('.').count() > MAX_PARTS {
        return Err(format!("the name of the claim has more than {MAX_PARTS} parts: use fewer dots"));
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

/// Sets a claim, which may be a path with dots.
pub fn set(claims: &mut Value, claim: &str, value: Value) {
    let names: Vec<&str> = if claim.contains("://") { vec![claim] } else { claim.split('.').collect() };
    let place = names.into_iter().fold(claims, |claims, name| {
        if !claims.is_object() {
            *claims = json!({});
        }
        &mut claims[name]
    });
    *place = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_claims_are_json_or_text() {
        for (text, name, value) in [
            ("team=blue", "team", json!("blue")),
            ("ids=[1,2]", "ids", json!([1, 2])),
            ("n=7", "n", json!(7)),
            ("n=\"7\"", "n", json!("7")),
            ("org.id=a=b", "org.id", json!("a=b")),
            ("empty=", "empty", json!("")),
        ] {
            assert_eq!(parse(text), Ok((name.to_owned(), value)), "{text}");
        }
        assert!(parse("team").is_err() && parse("=x").is_err() && parse("a..b=x").is_err());
        assert!(parse(&format!("a{}=x", ".b".repeat(MAX_PARTS - 1))).is_ok());
        assert!(parse(&format!("a{}=x", ".b".repeat(MAX_PARTS))).is_err());
    }

    #[test]
    fn a_claim_is_set_at_its_path() {
        let mut claims = json!({ "sub": "alice", "org": 1 });
        set(&mut claims, "org.id", json!(7));
        set(&mut claims, "https://a.example/x", json!("y"));
        assert_eq!(claims, json!({ "sub": "alice", "org": { "id": 7 }, "https://a.example/x": "y" }));
    }
}
