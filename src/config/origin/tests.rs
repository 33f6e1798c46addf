//! Tests of parsing origins.

use super::*;

fn parsed(text: &str) -> String {
    WebOrigin::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error:?}")).to_string()
}

#[test]
fn org_02_scheme_host_and_port_are_normalised() {
    for (text, normalised) in [
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://APP.EXAMPLE.COM", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("https://app.example.com:8443", "https://app.example.com:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
        ("http://[2001:DB8::1]", "http://[2001:db8::1]"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://a_b.example", "https://a_b.example"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("https://a.example:65535", "https://a.example:65535"),
    ] {
        assert_eq!(parsed(text), normalised);
    }
}

#[test]
fn org_02_texts_that_are_no_origin_are_refused() {
    for (text, error) in [
        ("", OriginError::Empty),
        ("null", OriginError::Null),
        ("NULL", OriginError::Null),
        ("*", OriginError::Wildcard),
        ("https://*.example.com", OriginError::Wildcard),
        ("file://", OriginError::BadScheme),
        ("file:///tmp/page.html", OriginError::BadScheme),
        ("wss://app.example.com", OriginError::BadScheme),
        ("app.example.com", OriginError::NoScheme),
        ("//app.example.com", OriginError::NoScheme),
        ("1https://app.example.com", OriginError::NoScheme),
        ("https:app.example.com", OriginError::NoScheme),
        ("https://", OriginError::BadHost),
        ("https://.", OriginError::BadHost),
        ("https://a..example", OriginError::BadHost),
        ("https://.example", OriginError::BadHost),
        ("https://app.example.com.", OriginError::TrailingDot),
        ("https://app.example.com.:443", OriginError::TrailingDot),
        ("https://app.example.com/", OriginError::TrailingSlash),
        ("https://app.example.com/page", OriginError::Path),
        ("https://app.example.com//", OriginError::Path),
        ("https://app.example.com?a", OriginError::Path),
        ("https://app.example.com#a", OriginError::Path),
        ("https://app.example.com\\", OriginError::Path),
        ("https://user@app.example.com", OriginError::UserInformation),
        ("https://app.ex\u{430}mple.com", OriginError::NotAscii),
        ("https://app.example.com\u{ff0f}", OriginError::NotAscii),
        ("https://app example.com", OriginError::BadHost),
        ("https://app%2eexample.com", OriginError::BadHost),
        ("https://app.example.com\t", OriginError::BadHost),
        ("https://app.example.com\0", OriginError::BadHost),
        (" https://app.example.com", OriginError::NoScheme),
        ("https://a.example https://b.example", OriginError::Path),
        ("https://app.example.com:", OriginError::BadPort),
        ("https://app.example.com:0", OriginError::BadPort),
        ("https://app.example.com:065", OriginError::BadPort),
        ("https://app.example.com:+443", OriginError::BadPort),
        ("https://app.example.com:65536", OriginError::BadPort),
        ("https://app.example.com:443:443", OriginError::BadPort),
        ("http://127.1", OriginError::BadHost),
        ("http://2130706433", OriginError::BadHost),
        ("http://127.0.0.0x1", OriginError::BadHost),
        ("http://[::1", OriginError::BadHost),
        ("http://[::1]x", OriginError::BadHost),
        ("http://[fe80::1%eth0]", OriginError::BadHost),
        ("http://::1", OriginError::BadHost),
    ] {
        assert_eq!(WebOrigin::parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn org_02_the_longest_host_is_parsed_and_one_byte_more_is_not() {
    let labels = [63, 63, 63, 61].map(|length| "a".repeat(length)).join(".");
    assert_eq!(labels.len(), MAX_HOST_BYTES);
    assert_eq!(parsed(&format!("https://{labels}:8443")), format!("https://{labels}:8443"));
    assert_eq!(WebOrigin::parse(&format!("https://{labels}a")), Err(OriginError::BadHost));
    assert_eq!(WebOrigin::parse(&format!("https://{}.example", "a".repeat(64))), Err(OriginError::BadHost));
    assert_eq!(WebOrigin::parse(&format!("https://{}", "a".repeat(8192))), Err(OriginError::TooLong));
}

#[test]
fn only_pages_of_this_machine_are_loopback() {
    let is_loopback = |text: &str| WebOrigin::parse(text).unwrap().is_loopback();
    for text in ["http://localhost", "http://localhost:5173", "https://127.0.0.1:8080", "http://[::1]:3000"] {
        assert!(is_loopback(text), "{text}");
    }
    for text in [
        "http://localhost.example.com",
        "http://localhosts",
        "http://127.0.0.10",
        "http://127.0.0.2",
        "http://evil.localhost",
        "http://[::2]",
        "capacitor://localhost",
    ] {
        assert!(!is_loopback(text), "{text}");
    }
}
