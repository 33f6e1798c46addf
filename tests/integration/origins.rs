//! Which pages may talk to a node: the header `Origin` on every route, cookies and CORS.

use tidegate::config::Config;
use tidegate::config::allowed_origins::AllowedOrigins;
use tidegate::config::origin::WebOrigin;
use tidegate::node::refusals::Refused;

use crate::support::browser;
use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw::Answer;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::vocabularies::stage::Stage;

const APP: &str = "https://app.example.com";
const EVIL: &str = "https://evil.example";
const COOKIE: &str = "__Host-session";

fn origin(text: &str) -> WebOrigin {
    WebOrigin::parse(text).unwrap()
}

/// Pages of `APP` may connect, also with a cookie.
fn with_cookie(config: &mut Config) {
    config.http.allowed_origins = vec![origin(APP)];
    config.auth.cookie = COOKIE.to_owned();
}

/// A line with the cookie of a user.
fn cookie(user: &str) -> String {
    format!("Cookie: theme=dark; {COOKIE}={}\r\n", token(user))
}

async fn connect(edge: &TestEdge, headers: &str) -> Answer {
    ask(&edge.address(), handshake("/ws", headers)).await
}

async fn request(edge: &TestEdge, line: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let request =
        format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    ask(&edge.address(), request).await
}

fn is_refused_page(answer: &Answer) {
    assert_eq!((answer.status, &answer.json()["code"]), (403, &"origin_not_allowed".into()), "{answer:?}");
    assert_eq!(answer.header("set-cookie"), None, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), None, "{answer:?}");
}

/// The second handshake has a header that hyper parses; the first takes the fast path.
const PARSERS: [&str; 2] = ["", "Content-Length: 0\r\n"];

#[tokio::test]
async fn org_01_a_foreign_page_is_rejected_before_any_credential_is_read() {
    let edge = TestEdge::with(with_cookie).await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    for parser in PARSERS {
        for credential in [&cookie("alice"), &bearer, "", "Authorization: nonsense\r\n"] {
            let answer = connect(&edge, &format!("{parser}Origin: {EVIL}\r\n{credential}")).await;
            is_refused_page(&answer);
            assert!(answer.json()["detail"].as_str().unwrap().contains(EVIL), "{answer:?}");
        }
    }
    assert_eq!(edge.app.node.authenticator().cached_tokens(), 0, "the verifier was called");
    for (at, parser) in PARSERS.iter().enumerate() {
        let own = cookie(&format!("user-{at}"));
        let answer = connect(&edge, &format!("{parser}Origin: {APP}\r\n{own}")).await;
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(edge.app.node.authenticator().cached_tokens(), at + 1);
    }
}

#[tokio::test]
async fn org_01_without_configuration_no_page_may_connect_and_programs_may() {
    let edge = TestEdge::start().await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    assert_eq!(connect(&edge, &bearer).await.status, 101);
    // The node's own address is in `Host`, which an attacker's name can point to.
    for page in ["http://localhost", "http://127.0.0.1", EVIL, "null"] {
        is_refused_page(&connect(&edge, &format!("Origin: {page}\r\n{bearer}")).await);
    }
}

#[tokio::test]
async fn org_02_look_alikes_are_rejected_on_both_paths() {
    let edge = TestEdge::with(with_cookie).await;
    for parser in PARSERS {
        for page in [
            "https://app.example.com.evil.io",
            "https://evilapp.example.com",
            "https://app.example.com:8443",
            "http://app.example.com",
            "https://app.example.com.",
            "https://app.ex\u{430}mple.com",
            "null",
            "file://",
            "",
            &format!("https://{}", "a".repeat(8192)),
        ] {
            is_refused_page(&connect(&edge, &format!("{parser}Origin: {page}\r\n")).await);
        }
        is_refused_page(&connect(&edge, &format!("{parser}Origin: {APP}\r\nOrigin: {APP}\r\n")).await);
        for page in [APP, "HTTPS://APP.EXAMPLE.COM", "https://app.example.com:443"] {
            assert_eq!(connect(&edge, &format!("{parser}Origin: {page}\r\n")).await.status, 101, "{page}");
        }
    }
}

#[tokio::test]
async fn org_03_without_an_origin_a_cookie_does_not_count_and_other_credentials_do() {
    let edge = TestEdge::with(with_cookie).await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    assert_eq!(connect(&edge, &bearer).await.status, 101);
    assert_eq!(connect(&edge, "").await.status, 101, "the credential comes in the first message");
    is_refused_page(&connect(&edge, &cookie("alice")).await);
    let from = |site: &str| format!("Sec-Fetch-Site: {site}\r\n{}", cookie("alice"));
    is_refused_page(&connect(&edge, &from("same-site")).await);
    is_refused_page(&connect(&edge, &from("none")).await);
    is_refused_page(&connect(&edge, &format!("Origin: {APP}\r\n{}", from("cross-site"))).await);
    assert_eq!(connect(&edge, &from("same-origin")).await.status, 101);
    // With another credential, the cookie is not read.
    let mut client = Client::open_with(
        &edge.address(),
        "/ws",
        &[
            ("authorization", &format!("Bearer {}", token("bob"))),
            ("cookie", &format!("{COOKIE}={}", token("alice"))),
        ],
    )
    .await;
    assert_eq!(client.expect("connected").await["user"], "bob");
}

#[tokio::test]
async fn a_cookie_must_occur_once_and_hold_a_valid_token() {
    let edge = TestEdge::with(with_cookie).await;
    let page = format!("Origin: {APP}\r\n");
    let two = format!("{page}Cookie: {COOKIE}={}; {COOKIE}={}\r\n", token("alice"), token("bob"));
    let answer = connect(&edge, &two).await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &"bad_credential".into()));
    for (value, reason) in [("a.b.c", 401), (&"a".repeat(8193), 401), ("\"quoted\"", 401)] {
        assert_eq!(connect(&edge, &format!("{page}Cookie: {COOKIE}={value}\r\n")).await.status, reason);
    }
    let mut client = Client::open_with(
        &edge.address(),
        "/ws",
        &[("origin", APP), ("cookie", &format!("{COOKIE}={}", token("carol")))],
    )
    .await;
    assert_eq!(client.expect("connected").await["user"], "carol");
}

/// A node with HTTP calls and a test page, besides a socket: hoardrun.
async fn hoardrun(change: impl FnOnce(&mut Config)) -> Stage {
    Stage::changed("hoardrun", |config| {
        with_cookie(config);
        config.http.console = true;
        change(config);
    })
    .await
}

#[tokio::test]
async fn org_04_every_route_decides_alike() {
    let native = TestEdge::with(with_cookie).await;
    let stage = hoardrun(|_| {}).await;
    let calls = [
        (&native, "GET /sse?channel=prices.AAPL"),
        (&native, "POST /v1/ticket"),
        (&stage.edge, "POST /v1/ticket"),
        (&stage.edge, "GET /ws/stats"),
        (&stage.edge, "POST /ws/broadcast/notification"),
    ];
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    for (edge, call) in calls {
        for page in [EVIL, "null", "https://app.example.com.evil.io"] {
            for credential in [&bearer, &cookie("alice")] {
                let answer = request(edge, call, &format!("Origin: {page}\r\n{credential}"), "").await;
                is_refused_page(&answer);
                assert_eq!(answer.header("vary"), Some("origin"), "{answer:?}");
            }
        }
        let json = "Content-Type: application/json\r\n";
        for site in [format!("Sec-Fetch-Site: cross-site\r\nOrigin: {APP}\r\n"), String::new()] {
            let answer = request(edge, call, &format!("{site}{json}{}", cookie("alice")), "").await;
            assert_eq!(
                (answer.status, &answer.json()["code"]),
                (403, &"origin_not_allowed".into()),
                "{call}"
            );
        }
    }
    is_refused_page(&request(&stage.edge, "GET /ws/test", &format!("Origin: {EVIL}\r\n"), "").await);
    is_refused_page(&request(&stage.edge, "GET /console/hoardrun", &format!("Origin: {EVIL}\r\n"), "").await);
    is_refused_page(
        &ask(&stage.edge.address(), handshake("/ws/notifications", &format!("Origin: {EVIL}\r\n"))).await,
    );
}

#[tokio::test]
async fn cors_01_only_allowed_pages_may_read_answers() {
    let stage = hoardrun(|_| {}).await;
    let call = "GET /ws/stats";
    let answer = request(&stage.edge, call, &format!("Origin: {APP}\r\n"), "").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some(APP), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"), "{answer:?}");
    assert_eq!(answer.header("vary"), Some("origin"), "{answer:?}");
    let answer = request(&stage.edge, call, "", "").await;
    assert_eq!(answer.header("access-control-allow-origin"), None, "{answer:?}");
    assert_eq!(answer.header("vary"), Some("origin"), "{answer:?}");
    for (edge, path) in [(&stage.edge, "/ws/broadcast/notification"), (&stage.edge, "/v1/ticket")] {
        let preflight = |page: &str| {
            format!(
                "Origin: {page}\r\nAccess-Control-Request-Method: POST\r\n\
                 Access-Control-Request-Headers: authorization\r\n"
            )
        };
        let answer = request(edge, &format!("OPTIONS {path}"), &preflight(APP), "").await;
        assert_eq!(answer.status, 204, "{answer:?}");
        let allowed = answer.header("access-control-allow-headers").unwrap();
        for name in ["authorization", "content-type", "last-event-id", "x-request-id"] {
            assert!(allowed.contains(name), "{name}: {allowed}");
        }
        assert!(answer.header("access-control-allow-methods").unwrap().contains("POST"));
        assert_eq!(answer.header("access-control-max-age"), Some("600"));
        assert_eq!(answer.header("access-control-allow-origin"), Some(APP));
        for page in [EVIL, "null"] {
            is_refused_page(&request(edge, &format!("OPTIONS {path}"), &preflight(page), "").await);
        }
    }
}

/// A vocabulary with an HTTP route that reads the request header `X-Api-Version`.
const READS_A_HEADER: &str = r#"
    name = "reads-a-header"
    [[path]]
    name = "orders"
    path = "/orders-socket"
    [[http]]
    method = "POST"
    path = "/orders"
    do = "publish"
    subject = "orders.new"
    data = { version = "{header.x-api-version}" }
    send = { done = true }
"#;

#[tokio::test]
async fn cors_01_pages_may_send_the_headers_that_a_vocabulary_reads() {
    let stage = Stage::start("reads-a-header", READS_A_HEADER, |config| {
        config.endpoints[0].allowed_origins = Some(AllowedOrigins::Any);
    })
    .await;
    let preflight = format!("Origin: {APP}\r\nAccess-Control-Request-Method: POST\r\n");
    let answer = request(&stage.edge, "OPTIONS /orders", &preflight, "").await;
    let allowed = answer.header("access-control-allow-headers").unwrap();
    assert!(allowed.starts_with("authorization, ") && allowed.ends_with(", x-api-version"), "{allowed}");
    assert!(allowed.contains("traceparent, tracestate"), "{allowed}");
}

#[tokio::test]
async fn cors_01_an_endpoint_for_every_page_never_takes_a_cookie() {
    let stage = hoardrun(|config| {
        config.endpoints[0].allowed_origins = Some(AllowedOrigins::Any);
        config.endpoints[0].cookie = false;
    })
    .await;
    let page = format!("Origin: {EVIL}\r\nContent-Type: application/json\r\n");
    let call = "POST /ws/broadcast/notification";
    let answer = request(&stage.edge, call, &format!("{page}{}", cookie("alice")), "{}").await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-credentials"), None, "{answer:?}");
    is_refused_page(&request(&stage.edge, call, "Origin: null\r\n", "{}").await);
}

#[tokio::test]
async fn adm_02_a_call_with_a_cookie_must_be_one_that_no_form_can_send() {
    let stage = hoardrun(|_| {}).await;
    let call = "POST /v1/ticket";
    let page = format!("Origin: {APP}\r\n{}", cookie("alice"));
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=application/json\r\n",
    ] {
        let answer = request(&stage.edge, call, &format!("{kind}{page}"), "{}").await;
        assert_eq!((answer.status, &answer.json()["code"]), (415, &"bad_content_type".into()), "{kind}");
    }
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    let answer = request(&stage.edge, call, &format!("{json}{page}"), "{}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    is_refused_page(&request(&stage.edge, call, &format!("{json}{}", cookie("alice")), "{}").await);
    // With a header that no form can set, the media type does not matter.
    let bearer = format!("Authorization: Bearer {}\r\n", token("alice"));
    assert_eq!(request(&stage.edge, call, &bearer, "").await.status, 200);
}

#[tokio::test]
async fn a_rejected_page_is_logged_with_its_reason() {
    let nats = NatsServer::start().await;
    let node = Process::serve(&nats.node_url(), "http.allowed_origins = [\"https://app.example.com\"]").await;
    let answer = ask(&node.address, handshake("/ws", &format!("Origin: {EVIL}\r\n"))).await;
    let line = node.logged("handshake rejected", |line| line["reason"] == "origin_not_allowed").await;
    assert_eq!((&line["status"], &line["code"]), (&403.into(), &"origin_not_allowed".into()));
    assert_eq!(line["request"].as_str(), answer.header("x-request-id"));
}

#[tokio::test]
async fn org_01_in_a_browser_a_foreign_page_cannot_use_the_cookie() {
    let nats = NatsServer::start().await;
    browser::check("origins.mjs", [env!("CARGO_BIN_EXE_tidegate"), &nats.node_url()]).await;
}

#[tokio::test]
async fn ex_01_the_pages_of_an_origin_have_the_limit_and_not_one_more() {
    const PARTNER: &str = "https://partner.example.com";
    let edge = TestEdge::with(|config| {
        config.http.allowed_origins = vec![origin(APP), origin(PARTNER)];
        config.limits.connections_per_origin = 2;
    })
    .await;
    let authorization = format!("Bearer {}", token("alice"));
    let open = async |origin: &str| {
        let headers = [("authorization", authorization.as_str()), ("origin", origin)];
        Client::open_with(&edge.address(), "/ws", &headers).await
    };
    let (first, _second) = (open(PARTNER).await, open(PARTNER).await);
    for parser in PARSERS {
        let refused =
            connect(&edge, &format!("Origin: {PARTNER}\r\nAuthorization: {authorization}\r\n{parser}")).await;
        assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("limit_exceeded")));
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
    }
    assert_eq!(edge.app.node.refusals.of(Refused::OriginConnections), 2);
    // A refused credential takes no place, and other pages and programs are not affected.
    let stolen = connect(&edge, &format!("Origin: {APP}\r\nAuthorization: Bearer x\r\n")).await;
    assert_eq!(stolen.status, 401);
    let _others = (open(APP).await, Client::connect(&edge.address(), &token("alice")).await);
    drop(first);
    eventually("a place is free", async || {
        connect(&edge, &format!("Origin: {PARTNER}\r\nAuthorization: {authorization}\r\n")).await.status
            == 101
    })
    .await;
}
