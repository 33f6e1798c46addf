//! Changes over the admin listener: who may make them, and what they do.

use serde_json::Value;
use serde_json::json;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::edge::token_with;
use crate::support::raw::Answer;
use crate::support::raw::ask;

const JSON: &str = "Content-Type: application/json\r\n";

/// A node with an admin listener, and the role `operator` with `control`.
async fn edge() -> TestEdge {
    TestEdge::with(|config| {
        config.admin.listen = Some("127.0.0.1:0".parse().unwrap());
        let mut operator = role("operator", &[], &[], &[]);
        operator.control = true;
        config.roles.push(operator);
    })
    .await
}

async fn post(edge: &TestEdge, path: &str, headers: &str, body: &str) -> Answer {
    let address = edge.app.admin_address.as_ref().unwrap().to_string();
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\n\r\n");
    ask(&address, format!("{head}{body}")).await
}

fn bearer(role: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token_with(&json!({ "sub": "ops", "role": role })))
}

async fn is_open(client: &mut Client) {
    assert_eq!(client.so_far().await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_operator_ends_sessions_and_subscriptions_and_revokes() {
    let edge = edge().await;
    let (mut alice, mut bob) = (edge.client("alice").await, edge.client("bob").await);
    let mut carol = edge.client("carol").await;
    alice.subscribe("chat.a").await;
    let headers = format!("{}{JSON}", bearer("operator"));
    let one = json!({ "sessions": 1, "nodes": 1, "missing_nodes": 0 });
    let answer = post(&edge, "/users/alice/unsubscribe", &headers, r#"{"channels":["chat.>"]}"#).await;
    assert_eq!((answer.status, answer.json()), (200, one.clone()), "{answer:?}");
    assert_eq!(alice.expect("unsubscribed").await["channel"], "chat.a");
    let answer = post(&edge, "/users/alice/disconnect", &headers, "{}").await;
    assert_eq!((answer.status, answer.json()), (200, one), "{answer:?}");
    assert_eq!(alice.until_closed().await.1, Some(4511));
    let answer = post(&edge, "/revoke", &headers, r#"{"user":"bob"}"#).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "connections": 1, "nodes": 1 })), "{answer:?}");
    assert_eq!(bob.until_closed().await.1, Some(4505));
    is_open(&mut carol).await;
    let answer = post(&edge, "/revoke", &headers, r#"{"usr":"carol"}"#).await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad_request")), "{answer:?}");
}

#[tokio::test]
async fn adm_02_no_page_and_no_one_without_control_changes_anything() {
    let edge = edge().await;
    let mut alice = edge.client("alice").await;
    let (operator, own) = (bearer("operator"), edge.app.admin_address.as_ref().unwrap());
    for (headers, status, code) in [
        (JSON.to_owned(), 401, "unauthorized"),
        (format!("Authorization: Bearer a.b.c\r\n{JSON}"), 401, "invalid_token"),
        (format!("{}{JSON}", bearer("user")), 403, "forbidden"),
        (format!("Authorization: Bearer {}\r\n{JSON}", token("alice")), 403, "forbidden"),
        (format!("{operator}{JSON}Origin: https://evil.example\r\n"), 403, "origin_not_allowed"),
        (format!("{operator}{JSON}Origin: null\r\n"), 403, "origin_not_allowed"),
        (operator.clone(), 415, "bad_content_type"),
        (format!("{operator}Content-Type: text/plain\r\n"), 415, "bad_content_type"),
    ] {
        for path in ["/users/alice/disconnect", "/revoke"] {
            let answer = post(&edge, path, &headers, r#"{"user":"alice"}"#).await;
            assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{headers}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    let address = own.to_string();
    let get = ask(&address, format!("GET /revoke HTTP/1.1\r\nHost: {address}\r\n{operator}\r\n")).await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")), "{get:?}");
    is_open(&mut alice).await;
    let headers = format!("{operator}{JSON}Origin: http://{own}\r\n");
    assert_eq!(post(&edge, "/users/alice/disconnect", &headers, "{}").await.status, 200);
    assert_eq!(alice.until_closed().await.1, Some(4511));
}
