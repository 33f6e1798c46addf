//! Parts of URLs without their escapes (RFC 3986 §2.1). What is no escape, or no UTF-8 behind it, is refused and never
//! repaired: two readers of one URL must not see two texts.

use percent_encoding::percent_decode_str;

/// A part of a URL, decoded. `None` if it is no text.
pub fn decode(part: &str) -> Option<String> {
    let digits = |at: usize| part.as_bytes().get(at + 1..at + 3);
    // The crate would leave them as they are.
    let is_escape = |at: usize| digits(at).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    if !part.match_indices('%').all(|(at, _)| is_escape(at)) {
        return None;
    }
    percent_decode_str(part).decode_utf8().ok().map(String::from)
}

/// The first value of that name in a query, in which `+` is a blank. A pair that is no text is passed over.
pub fn in_query(query: &str, name: &str) -> Option<String> {
    all_in_query(query, name).next()
}

/// All values of that name in a query, as [`in_query`] reads them.
pub fn all_in_query(query: &str, name: &str) -> impl Iterator<Item = String> {
    let decode = |text: &str| decode(&text.replace('+', " "));
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(key)? == name { decode(value) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_once_and_what_is_none_is_refused() {
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
            assert_eq!(decode(part), None, "{part} has an escape that is none");
        }
        for part in ["%FF", "%C3", "%A9", "%C3a", "a%C3", "%C0%AF", "%ED%A0%80", "%F4%90%80%80", "é%FF"] {
            assert_eq!(decode(part), None, "{part} is no UTF-8");
        }
    }

    #[test]
    fn a_query_gives_the_first_value_that_is_text() {
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
            // What cannot be read is as good as not there.
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
            assert_eq!(in_query(query, "a").as_deref(), value, "{query}");
        }
        assert_eq!(in_query("a+b=1", "a b").as_deref(), Some("1"));
        assert_eq!(in_query("a=1&=2", "").as_deref(), Some("2"), "a name may be empty");
    }
}
