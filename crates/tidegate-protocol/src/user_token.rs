//! User tokens: a user name of any characters as one token of a subject, and back.
//!
//! Letters, digits and `_-@:` stay as they are. Every other byte of the name becomes `=` and two hexadecimal digits in
//! upper case, and so does `=` itself. Different names always have different tokens.

use std::fmt::Write as _;

use crate::template::is_token_value;

/// The token of a user; `None` if the name is empty or its token has more than 128 bytes.
pub fn encode(user: &str) -> Option<String> {
    let token = escape(user, is_plain);
    is_token_value(&token).then_some(token)
}

/// The user with this token; `None` if [`encode`] returns it for no name.
pub fn decode(token: &str) -> Option<String> {
    unescape(token, is_plain).filter(|user| encode(user).is_some())
}

/// Writes each byte that is not plain as `=` and two hexadecimal digits in upper case. `=` itself must not be plain: then
/// different texts have different results. Plain bytes must be ASCII.
pub fn escape(text: &str, is_plain: impl Fn(u8) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "={byte:02X}");
        }
    }
    escaped
}

/// The text for which [`escape`] returns this; `None` if there is none.
pub fn unescape(escaped: &str, is_plain: impl Fn(u8) -> bool) -> Option<String> {
    let mut parts = escaped.split('=');
    let mut text = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, plain) = part.split_at_checked(2)?;
        text.push(u8::from_str_radix(digits, 16).ok()?);
        text.extend(plain.bytes());
    }
    // There is only one way to write each text.
    String::from_utf8(text).ok().filter(|text| escape(text, is_plain) == escaped)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-@:".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::subject::Pattern;
    use crate::template::Template;

    #[test]
    fn names_become_tokens_and_back() {
        for (user, token) in [
            ("alice", "alice"),
            ("Ann-7_x@a:b", "Ann-7_x@a:b"),
            ("ann@example.com", "ann@example=2Ecom"),
            ("a=2Eb", "a=3D2Eb"),
            ("a.b", "a=2Eb"),
            ("a=b", "a=3Db"),
            ("*", "=2A"),
            (">", "=3E"),
            ("a b|c", "a=20b=7Cc"),
            ("\u{e9}\u{ff0a}", "=C3=A9=EF=BC=8A"),
            ("-5", "-5"),
            ("\r\n\0", "=0D=0A=00"),
        ] {
            assert_eq!(encode(user).as_deref(), Some(token), "{user}");
            assert_eq!(decode(token).as_deref(), Some(user), "{token}");
        }
    }

    #[test]
    fn sub_01_a_name_without_a_token_is_refused_and_no_other_text_is_a_token() {
        assert_eq!(encode(""), None);
        assert!(encode(&"a".repeat(128)).is_some() && encode(&"a".repeat(129)).is_none());
        assert!(encode(&".".repeat(42)).is_some() && encode(&".".repeat(43)).is_none());
        for token in
            ["", "a.b", "a=2eb", "a=", "a=2", "a=2G", "=+E", "=FF", "=41", "a=3d", "a b", "\u{e9}", "=\u{e9}"]
        {
            assert_eq!(decode(token), None, "{token}");
        }
    }

    proptest! {
        #[test]
        fn sub_01_every_name_has_its_own_token(names in proptest::array::uniform2(".{0,30}|[a.=2E]{0,6}")) {
            let tokens = names.each_ref().map(|name| encode(name));
            for (name, token) in names.iter().zip(&tokens) {
                let Some(token) = token else { continue };
                prop_assert_eq!(decode(token), Some(name.clone()));
                prop_assert!(is_token_value(token));
                let subject = Template::parse("user.{sub}.x").unwrap().fill(|_| Some(token.into())).unwrap();
                prop_assert_eq!(subject.tokens().count(), 3);
                prop_assert!(subject.is_literal() && Pattern::parse(token).is_ok());
            }
            if names[0] != names[1] && tokens[0].is_some() {
                prop_assert_ne!(&tokens[0], &tokens[1]);
            }
        }

        #[test]
        fn only_what_was_encoded_is_decoded(text in ".{0,20}|[a=2E]{0,8}") {
            if let Some(user) = decode(&text) {
                prop_assert_eq!(encode(&user), Some(text));
            }
        }
    }
}
