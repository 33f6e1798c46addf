//! Reads the texts of `[auth]` and of its issuers.

use tidegate_document::diagnostic::ValueError;

pub(super) fn without_blanks(text: &str) -> Result<String, ValueError> {
    let help = "remove the blanks: tokens must have exactly this value";
    let wrong = || ValueError::new("has blanks at the start or the end", help);
    if text.trim() == text { Ok(text.to_owned()) } else { Err(wrong()) }
}

pub(super) fn claim(text: &str) -> Result<String, ValueError> {
    let wrong = || {
        ValueError::new(
            "is not the path of a claim",
            "write \"role\", or a path such as \"realm_access.roles\"",
        )
    };
    if text.split('.').all(|name| !name.trim().is_empty()) { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// A claim, or nothing. `help` is for a text that is neither.
pub(super) fn claim_or_none(text: &str, help: &str) -> Result<String, ValueError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    claim(text).map_err(|wrong| ValueError::new(wrong.message, help))
}

pub(super) fn token_type(text: &str) -> Result<String, ValueError> {
    let valid = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    let wrong = || ValueError::new("is not a token type", "copy the `typ` from the header of your tokens");
    if valid { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// RFC 6265 §4.1.1: the name of a cookie is a token (RFC 9110 §5.6.2).
pub(super) fn cookie(text: &str) -> Result<String, ValueError> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let wrong =
        || ValueError::new("is not the name of a cookie", "write a name such as \"__Host-session\", or \"\"");
    if text.chars().all(is_legal) { Ok(text.to_owned()) } else { Err(wrong()) }
}
