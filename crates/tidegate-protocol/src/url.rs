//! Decodes parts of URLs (RFC 3986 §2.1). Invalid escapes and invalid UTF-8 are rejected, never repaired: otherwise
//! two parsers of one URL could see different texts.

use percent_encoding::percent_decode_str;

/// Decodes a part of a URL. `None` if it is invalid.
pub fn decode(part: &str) -> Option<String> {
    // RFC 3986 §2.1: an escape is `%` and two hexadecimal digits.
    let digits = |at: usize| part.as_bytes().get(at + 1..at + 3);
    // `percent_decode_str` would keep invalid escapes unchanged.
    let is_escape = |at: usize| digits(at).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !part.match_indices('%').all(|(at, _)| is_escape(at)) {
        return None;
    }
    percent_decode_str(part).decode_utf8().ok().map(String::from)
}

/// The first value of a query parameter; `+` means a blank. Invalid pairs are skipped.
pub fn query_value(query: &str, name: &str) -> Option<String> {
    query_values(query, name).next()
}

/// All values of a query parameter, decoded as by [`query_value`].
pub fn query_values(query: &str, name: &str) -> impl Iterator<Item = String> {
    values_where(query, move |key| key == name)
}

/// All values of a query parameter and of the same name with `[]`, in order, decoded as by [`query_value`].
pub fn query_list(query: &str, name: &str) -> impl Iterator<Item = String> {
    values_where(query, move |key| key.strip_suffix("[]").unwrap_or(key) == name)
}

fn values_where(query: &str, is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
    query_pairs(query).filter_map(move |(key, value)| if is_wanted(&key) { value } else { None })
}

/// The names of a query's parameters and their values, decoded; a value is `None` if it is invalid. Pairs with invalid
/// names are skipped.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, Option<String>)> {
    let decode = |text: &str| decode(&text.replace('+', " "));
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(key)?, decode(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3986 §2.1: an escape is `%` and two hexadecimal digits.
    #[test]
    fn escapes_are_decoded_once_and_invalid_ones_are_rejected() {
        for (part, text) in [
            ("", ""),
            ("plain", "plain"),
            ("a+b", "a+b"),
            ("%2B%20%2f%2F", "+ //"),
            ("%25", "%"),
            ("%2541", "%41"),
            ("%C3%A9", "é"),
            ("é", "é"),
            ("%00", "\0"),
            ("%F0%9F%8C%8A", "🌊"),
            ("%EF%BF%BD", "\u{fffd}"),
        ] {
            assert_eq!(decode(part).as_deref(), Some(text), "{part}");
        }
        for part in [
            "%", "%%", "%4", "a%", "a%4", "%zz", "%4z", "%z4", "%+4", "%-4", "% 4", "%%41", "%é", "%4é",
            "%u0041",
        ] {
            assert_eq!(decode(part), None, "{part} has an invalid escape");
        }
        for part in ["%FF", "%C3", "%A9", "%C3a", "a%C3", "%C0%AF", "%ED%A0%80", "%F4%90%80%80", "é%FF"] {
            assert_eq!(decode(part), None, "{part} is not UTF-8");
        }
    }

    #[test]
    fn a_query_yields_the_first_valid_value() {
        for (query, value) in [
            ("a=1", Some("1")),
            ("b=2&a=1", Some("1")),
            ("a=1&a=2", Some("1")),
            ("a", Some("")),
            ("a=", Some("")),
            ("a=&a=2", Some("")),
            ("a=b=c", Some("b=c")),
            ("a=x+y%2Bz", Some("x y+z")),
            ("%61=1", Some("1")),
            ("&&a=1&", Some("1")),
            ("=0&a=1", Some("1")),
            // Invalid pairs are skipped.
            ("a=%zz&a=2", Some("2")),
            ("a=%FF&a=2", Some("2")),
            ("%zz=1&%=1&a=2", Some("2")),
            ("a=%zz", None),
            ("a=%", None),
            ("%FF=1", None),
            ("a+=1", None),
            ("A=1", None),
            ("aa=1", None),
            ("a%3D1", None),
            ("a;a=1", None),
            ("", None),
            ("&", None),
        ] {
            assert_eq!(query_value(query, "a").as_deref(), value, "{query}");
        }
        assert_eq!(query_value("a+b=1", "a b").as_deref(), Some("1"));
        assert_eq!(query_value("a=1&=2", "").as_deref(), Some("2"), "a name may be empty");
    }
}
