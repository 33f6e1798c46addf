//! Error responses explain how to fix the request. These tests do exactly what the texts explain.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::edge::TestEdge;
use crate::support::edge::token_with;
use crate::support::raw::Answer;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::vocabularies::stage::Stage;

/// Shipped vocabularies with a path that needs a credential in the handshake, and the path.
const PLACES: [(&str, &str); 3] =
    [("financegpt", "/ws/alice"), ("financegpt-mcp", "/"), ("hoardrun", "/ws/notifications")];

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

/// The text between two others.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(between, _)| between)
}

/// RFC 6750 §3.1: the challenge for a request without a credential has no error.
#[tokio::test]
async fn the_hints_for_a_missing_credential_work() {
    let alice = token_with(&serde_json::json!({ "sub": "alice", "role": "user", "accounts": [] }));
    let encoded = URL_SAFE_NO_PAD.encode(&alice);
    let mut queries = 0;
    for (vocabulary, path) in PLACES {
        let stage = Stage::shipped(vocabulary).await;
        let address = stage.edge.address();
        let refused = ask(&address, handshake(path, "")).await;
        assert_eq!(refused.status, 401, "{vocabulary}: {refused:?}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{vocabulary}: {refused:?}");
        let hint = detail(&refused);
        let header = between(&hint, "`", "`").unwrap().replace("<token>", &alice);
        assert_eq!(ask(&address, handshake(path, &format!("{header}\r\n"))).await.status, 101, "{hint}");
        let offered =
            between(&hint, "[\"", "\"]").unwrap().replace("\", \"", ", ").replace("<token>", &encoded);
        let offer = format!("Sec-WebSocket-Protocol: {offered}\r\n");
        assert_eq!(ask(&address, handshake(path, &offer)).await.status, 101, "{hint}");
        if let Some(parameter) = between(&hint, "`?", "`") {
            let target = format!("{path}?{}", parameter.replace("<token>", &alice));
            assert_eq!(ask(&address, handshake(&target, "")).await.status, 101, "{hint}");
            queries += 1;
        }
    }
    assert!(queries > 0, "some accept a token in the query");
}

#[tokio::test]
async fn the_hints_for_wrong_subprotocols_work() {
    let alice = token_with(&serde_json::json!({ "sub": "alice", "role": "user" }));
    let item = format!("base64url.bearer.{}", URL_SAFE_NO_PAD.encode(&alice));
    let (edge, stage) = (TestEdge::start().await, Stage::shipped("hoardrun").await);
    for (address, path) in [(edge.address(), "/ws"), (stage.edge.address(), "/ws/notifications")] {
        let offer = |names: &str| handshake(path, &format!("Sec-WebSocket-Protocol: {names}\r\n"));
        let alone = ask(&address, offer(&item)).await;
        assert_eq!(alone.status, 400, "{alone:?}");
        let hint = detail(&alone);
        let name = between(&hint, "\"", "\"").unwrap();
        assert_eq!(ask(&address, offer(&format!("{name}, {item}"))).await.status, 101, "{hint}");
        let unknown = ask(&address, offer(&format!("chat, {item}"))).await;
        assert_eq!(unknown.status, 400, "{unknown:?}");
        let hint = detail(&unknown);
        let names =
            between(&hint, "offer ", ", or none").unwrap_or_else(|| hint.split_once("offer ").unwrap().1);
        for name in names.split(" or ") {
            assert_eq!(ask(&address, offer(&format!("{name}, {item}"))).await.status, 101, "{hint}");
        }
    }
}

#[tokio::test]
async fn the_hints_for_a_missing_upgrade_work() {
    let edge = TestEdge::start().await;
    let plain = |lines: &str| format!("GET /ws HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    let refused = ask(&edge.address(), plain("")).await;
    assert_eq!(refused.status, 426);
    let hint = detail(&refused);
    let mut lines: String = hint.split('`').skip(1).step_by(2).map(|line| format!("{line}\r\n")).collect();
    let next = ask(&edge.address(), plain(&lines)).await;
    assert_eq!(next.status, 400, "{hint}");
    let name = between(&detail(&next), "`", "`").unwrap().to_owned();
    lines += &format!("{name}: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    assert_eq!(ask(&edge.address(), plain(&lines)).await.status, 101, "{hint}");
}

#[tokio::test]
async fn the_hints_for_a_call_without_a_credential_work() {
    let stage = Stage::changed("sentio", |config| {
        config.endpoints[0].access.anonymous_role = Some(String::new());
        config.endpoints[0].access.anonymous_http_role = Some(String::new());
    })
    .await;
    let alice = token_with(&serde_json::json!({ "sub": "alice", "role": "user" }));
    let call = |lines: &str| {
        format!("GET /api/v1/dashboard/market-data?symbols=A HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
    };
    let refused = ask(&stage.edge.address(), call("")).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    let hint = detail(&refused);
    let header = between(&hint, "`", "`").unwrap();
    let header = header.replace("<token or API key>", &alice);
    assert_eq!(ask(&stage.edge.address(), call(&format!("{header}\r\n"))).await.status, 200, "{hint}");
}
