//! Changes over the admin listener: who may make them, and what they do.

use futures_util::StreamExt as _;
use serde_json::Value;
use serde_json::json;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::edge::token_with;
use crate::support::raw::Answer;
use crate::support::raw::ask;
use crate::support::within;

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
    let name = &*edge.app.node.name;
    let done = json!({
        "connections": 1, "nodes": 1, "missing_nodes": 0, "refused_nodes": 0,
        "results": [{ "node": name, "connections": 1, "kept_in": "memory" }],
    });
    assert_eq!((answer.status, answer.json()), (200, done), "{answer:?}");
    assert_eq!(bob.until_closed().await.1, Some(4505));
    is_open(&mut carol).await;
    let answer = post(&edge, "/revoke", &headers, r#"{"usr":"carol"}"#).await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad_request")), "{answer:?}");
}

#[tokio::test]
async fn a_revocation_over_http_says_what_each_node_has_done_and_which_are_missing() {
    let edge = edge().await;
    let second = edge.another_node().await;
    let headers = format!("{}{JSON}", bearer("operator"));
    let revoke = async |user: &str| {
        let answer = post(&edge, "/revoke", &headers, &json!({ "user": user }).to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    // The nodes subscribe to revocations when they start. Before that, one of them is not there for the other.
    let both = within("both nodes", async {
        loop {
            let answer = revoke("nobody").await;
            if answer["nodes"] == 2 {
                return answer;
            }
        }
    })
    .await;
    assert_eq!(both["results"].as_array().unwrap().len(), 2, "{both}");
    // Another service that answers, in the words of a node that knows another version of the message.
    let operator = edge.nats.operator().await;
    let mut messages = operator.subscribe("tidegate.revoke").await.unwrap();
    operator.flush().await.unwrap();
    let newer = tokio::spawn(async move {
        let message = messages.next().await.unwrap();
        let refusal = json!({ "id": "x", "node": "newer", "error": "cannot read it" });
        operator.publish(message.reply.unwrap(), refusal.to_string().into()).await.unwrap();
        operator.flush().await.unwrap();
    });
    edge.nats.until_subscribed("operator", "tidegate.revoke").await;
    let mut alice = Client::connect(&second.address.to_string(), &token("alice")).await;
    let answer = revoke("alice").await;
    let counts = |answer: &Value| {
        ["connections", "nodes", "missing_nodes", "refused_nodes"].map(|name| answer[name].as_u64().unwrap())
    };
    assert_eq!(counts(&answer), [1, 2, 0, 1], "{answer}");
    let refusal = json!({ "node": "newer", "error": "cannot read it" });
    assert!(answer["results"].as_array().unwrap().contains(&refusal), "{answer}");
    assert_eq!(alice.until_closed().await.1, Some(4505));
    newer.await.unwrap();
    second.drain().await;
    for _ in 0..2 {
        let answer = revoke("carol").await;
        assert_eq!(counts(&answer), [0, 1, 2, 0], "both are expected for a while: {answer}");
    }
    let answer = post(&edge, "/users/carol/disconnect", &headers, "{}").await;
    assert_eq!(answer.json(), json!({ "sessions": 0, "nodes": 1, "missing_nodes": 2 }), "{answer:?}");
}

#[tokio::test]
async fn a_revocation_over_http_needs_a_known_issuer_and_seconds() {
    let edge = TestEdge::with(|config| {
        config.admin.listen = Some("127.0.0.1:0".parse().unwrap());
        let mut operator = role("operator", &[], &[], &[]);
        operator.control = true;
        config.roles.push(operator);
        let mut people = config.auth.all_issuers().remove(0);
        people.issuer = "https://people".to_owned();
        people.user_prefix = "person:".to_owned();
        config.auth.issuers = vec![people];
    })
    .await;
    let token = token_with(&json!({ "sub": "ops", "role": "operator", "iss": "https://people" }));
    let headers = format!("Authorization: Bearer {token}\r\n{JSON}");
    for (body, problem) in [
        (json!({ "user": "ann", "issuer": "https://other" }), "the configuration has https://people"),
        (json!({ "user": "ann", "issued_before": 1_796_083_200_000_u64 }), "write 1796083200"),
        (json!({ "user": "ann", "until": 1_796_083_200_000_u64 }), "write 1796083200"),
    ] {
        let answer = post(&edge, "/revoke", &headers, &body.to_string()).await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad_request")), "{answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(problem), "{answer:?}");
    }
    let ann = token_with(&json!({ "sub": "ann", "role": "user", "iss": "https://people" }));
    let mut ann = Client::connect(&edge.address(), &ann).await;
    let body = r#"{"user":"ann","issuer":"https://people"}"#;
    assert_eq!(post(&edge, "/revoke", &headers, body).await.json()["connections"], 1);
    assert_eq!(ann.until_closed().await.1, Some(4505));
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
