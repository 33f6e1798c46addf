//! Which pages may connect, and what they may do with cookies.

use super::*;

const COOKIE: &str =
    "[http]\nallowed_origins = [\"https://app.example.com\"]\n[auth]\ncookie = \"session\"\n";

#[test]
fn cors_01_every_page_and_a_cookie_exclude_each_other() {
    let open = "[[endpoint]]\npath = \"/open\"\nallowed_origins = [\"*\"]\n";
    let error = error_in(&format!("{COOKIE}{open}"));
    assert_eq!(error.key, "endpoint[0].allowed_origins");
    assert!(error.help.contains("cookie = false"), "{error}");
    let without = load_file(&format!("{COOKIE}{open}cookie = false\n")).unwrap();
    let warned: Vec<_> = without.warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert!(warned.contains(&"endpoint[0].allowed_origins"), "{warned:?}");
    let listed = "[[endpoint]]\npath = \"/ws\"\nallowed_origins = [\"https://other.example.com\"]\n";
    assert!(load_file(&format!("{COOKIE}{listed}")).is_ok());
}

#[test]
fn origins_are_normalised_and_may_be_in_a_variable() {
    let text = "[http]\npublic_url = \"HTTPS://Edge.example.com/\"\n";
    let origins = ("TIDEGATE_HTTP__ALLOWED_ORIGINS", "https://APP.example.com:443, http://localhost:3000");
    let http = load_all(text, &[origins], &[]).unwrap().config.http;
    assert_eq!(http.public_url.unwrap().as_str(), "https://edge.example.com");
    let listed: Vec<_> = http.allowed_origins.iter().map(|origin| origin.as_str()).collect();
    assert_eq!(listed, ["https://app.example.com", "http://localhost:3000"]);
    assert!(!http.allows_loopback_origins);
}
