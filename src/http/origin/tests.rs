//! Tests of which pages an endpoint lets in.

use warp::http::HeaderName;

use super::*;

fn origin(text: &str) -> WebOrigin {
    WebOrigin::parse(text).unwrap()
}

fn policy(allowed: &[&str]) -> OriginPolicy {
    let http = HttpConfig {
        allowed_origins: allowed.iter().map(|text| origin(text)).collect(),
        ..HttpConfig::default()
    };
    OriginPolicy::new(&http, &EndpointConfig::default(), "")
}

fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &[u8])| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.iter().map(line) {
        headers.append(name, value);
    }
    headers
}

fn from(text: &str) -> HeaderMap {
    headers(&[("origin", text.as_bytes())])
}

fn detail(policy: &OriginPolicy, headers: &HeaderMap) -> String {
    let problem = policy.decide(headers).unwrap_err();
    assert_eq!((problem.status.as_u16(), problem.code), (403, "origin_not_allowed"));
    problem.detail
}

#[test]
fn org_02_only_the_same_scheme_host_and_port_are_allowed() {
    let policy = policy(&["https://app.example.com", "http://localhost:3000"]);
    for allowed in [
        "https://app.example.com",
        "HTTPS://APP.EXAMPLE.COM",
        "https://app.example.com:443",
        "http://localhost:3000",
    ] {
        assert!(policy.decide(&from(allowed)).is_ok(), "{allowed}");
    }
    for refused in [
        "https://app.example.com.evil.io",
        "https://evilapp.example.com",
        "https://evil.app.example.com",
        "https://example.com",
        "https://app.example.co",
        "https://app.example.com:8443",
        "http://app.example.com",
        "https://xn--pp-7cd.example.com",
        "https://app.ex\u{430}mple.com",
        "https://app.example.com.",
        "https://app.example.com/",
        "https://app.example.com@evil.io",
        "https://app.example.com https://evil.io",
        "http://localhost:3001",
        "http://localhost",
        "http://127.0.0.1:3000",
        "null",
        "NULL",
        "file://",
        "*",
        "",
    ] {
        detail(&policy, &from(refused));
    }
    detail(&policy, &from(&format!("https://{}", "a".repeat(8192))));
    detail(&policy, &headers(&[("origin", b"https://app.example.com\xff")]));
    for second in ["https://app.example.com", "https://evil.io"] {
        let twice = headers(&[("origin", b"https://app.example.com"), ("origin", second.as_bytes())]);
        assert!(detail(&policy, &twice).contains("occurs twice"), "{second}");
    }
}

#[test]
fn org_02_an_empty_list_refuses_every_page_and_the_error_says_what_to_do() {
    let detail = detail(&policy(&[]), &from("https://EVIL.example"));
    for part in ["https://evil.example", "http.allowed_origins", "http.public_url"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    assert_eq!(policy(&[]).decide(&HeaderMap::new()).unwrap().origin, RequestOrigin::Absent);
}

#[test]
fn a_malformed_origin_is_shown_escaped_and_cut() {
    let shown = detail(&policy(&[]), &headers(&[("origin", b"\xe2\x80\xa8\xff\"\tx")]));
    assert!(shown.is_ascii() && !shown.contains(char::is_control), "{shown}");
    let long = detail(&policy(&[]), &from(&"x".repeat(8192)));
    assert!(long.len() < 400 && long.contains("..."), "{long}");
}

#[test]
fn the_own_pages_and_those_of_an_endpoint_are_allowed() {
    let mut http = HttpConfig {
        public_url: Some(origin("https://edge.example.com")),
        allowed_origins: vec![origin("https://app.example.com")],
        ..HttpConfig::default()
    };
    let allows = |http: &HttpConfig, endpoint: Option<AllowedOrigins>, text: &str| {
        let endpoint = EndpointConfig { allowed_origins: endpoint, ..EndpointConfig::default() };
        OriginPolicy::new(http, &endpoint, "").decide(&from(text)).is_ok()
    };
    let listed = |text: &str| Some(AllowedOrigins::Listed(vec![origin(text)]));
    assert!(allows(&http, None, "https://edge.example.com"));
    assert!(allows(&http, None, "https://app.example.com"));
    assert!(allows(&http, listed("https://other.example.com"), "https://edge.example.com"));
    assert!(allows(&http, listed("https://other.example.com"), "https://other.example.com"));
    assert!(
        !allows(&http, listed("https://other.example.com"), "https://app.example.com"),
        "the list is replaced"
    );
    assert!(allows(&http, Some(AllowedOrigins::Any), "https://anyone.example"));
    assert!(!allows(&http, Some(AllowedOrigins::Any), "null"));
    assert!(!allows(&http, None, "http://localhost:3000"));
    http.allows_loopback_origins = true;
    assert!(allows(&http, None, "http://localhost:3000"));
    assert!(!allows(&http, None, "http://evil.localhost:3000"));
}

#[test]
fn org_03_a_cookie_needs_an_allowed_page() {
    let policy = policy(&["https://app.example.com"]);
    let check = |lines: &[(&'static str, &[u8])]| {
        let headers = headers(lines);
        policy
            .decide(&headers)
            .unwrap()
            .check_cookie()
            .map_err(|problem| (problem.status.as_u16(), problem.reason))
    };
    let page = ("origin", &b"https://app.example.com"[..]);
    let site = |site: &'static str| ("sec-fetch-site", site.as_bytes());
    assert_eq!(check(&[page]), Ok(()));
    assert_eq!(check(&[page, site("same-site")]), Ok(()));
    assert_eq!(check(&[page, site("same-origin")]), Ok(()));
    assert_eq!(check(&[site("same-origin")]), Ok(()));
    for site in [&[][..], &[site("same-site")], &[site("none")], &[site("Same-Origin")], &[site("")]] {
        assert_eq!(check(site), Err((403, "cookie_without_origin")), "{site:?}");
    }
    for lines in [
        &[page, site("cross-site")][..],
        &[site("cross-site")],
        &[site("same-origin"), site("cross-site")],
        &[site("same-origin"), site("same-origin")],
    ] {
        assert_eq!(check(lines), Err((403, "cross_site_cookie")), "{lines:?}");
    }
}
