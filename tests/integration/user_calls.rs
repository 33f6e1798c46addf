//! `POST /v1/users/{user}/disconnect` and `.../unsubscribe`: they reach the sessions of a user on all nodes, and only
//! backends may use them.

use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::edge::token_with;
use crate::support::raw::Answer;
use crate::support::raw::ask;

/// A node with the role `backend`, which may change users.
async fn edge() -> TestEdge {
    TestEdge::with(|config: &mut Config| {
        let mut backend = role("backend", &[], &[], &[]);
        backend.control = true;
        config.roles.push(backend);
    })
    .await
}

async fn call(address: &str, path: &str, token: &str, body: &str) -> Answer {
    let (length, json) = (body.len(), "Content-Type: application/json");
    let head =
        format!("POST /v1/users/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{json}\r\n");
    ask(address, format!("{head}Content-Length: {length}\r\n\r\n{body}")).await
}

/// The answer to a call of the backend.
async fn changed(address: &str, path: &str, body: &Value) -> Value {
    let backend = token_with(&json!({ "sub": "shop", "role": "backend" }));
    let answer = call(address, path, &backend, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn is_open(client: &mut Client) {
    assert_eq!(client.so_far().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_name_that_no_user_can_have_is_a_mistake() {
    let edge = edge().await;
    let backend = token_with(&json!({ "sub": "shop", "role": "backend" }));
    for (path, body) in
        [("a%20b/disconnect", "{}"), ("a.b/disconnect", ""), ("*/unsubscribe", r#"{"channels":["a"]}"#)]
    {
        let answer = call(&edge.address(), path, &backend, body).await;
        let problem = answer.json();
        assert_eq!((answer.status, &problem["code"]), (400, &json!("bad_user")), "{path}: {answer:?}");
        assert!(problem["detail"].as_str().unwrap().contains("letters, digits"), "{problem}");
    }
}

#[tokio::test]
async fn a_backend_ends_the_sessions_of_a_user_on_all_nodes() {
    let edge = edge().await;
    let second = edge.another_node().await;
    let (one, two) = (edge.address(), second.address.to_string());
    let mut gone = Vec::new();
    for address in [&one, &one, &two] {
        gone.push(Client::connect(address, &token("alice")).await);
    }
    let mut bob = Client::connect(&two, &token("bob")).await;
    // The nodes subscribe to changes when they start. Before that, one of them is not there for the other.
    let answer = crate::support::within("both nodes", async {
        loop {
            let answer = changed(&one, "carol/disconnect", &json!({})).await;
            if answer["nodes"] == 2 {
                return answer;
            }
        }
    })
    .await;
    assert_eq!(answer, json!({ "sessions": 0, "nodes": 2, "missing_nodes": 0 }));
    let answer = changed(&one, "alice/disconnect", &json!({ "issuer": "https://elsewhere" })).await;
    assert_eq!(answer, json!({ "sessions": 0, "nodes": 2, "missing_nodes": 0 }));
    let answer = changed(&one, "alice/disconnect", &json!({})).await;
    assert_eq!(answer, json!({ "sessions": 3, "nodes": 2, "missing_nodes": 0 }));
    for client in &mut gone {
        let close = json!({ "type": "close", "code": 4511, "reason": "disconnected" });
        assert_eq!(client.until_closed().await, (vec![close], Some(4511)));
    }
    is_open(&mut bob).await;
    // The credential stays valid.
    Client::connect(&one, &token("alice")).await;
}

#[tokio::test]
async fn a_backend_ends_subscriptions_that_its_patterns_cover() {
    let edge = edge().await;
    let (mut alice, mut bob) = (edge.client("alice").await, edge.client("bob").await);
    for channel in ["chat.a", "chat.b", "chat.room.*", "prices.AAPL"] {
        alice.subscribe(channel).await;
        bob.subscribe(channel).await;
    }
    let body = json!({ "channels": ["chat.a", "chat.room.>", "unknown"] });
    let answer = changed(&edge.address(), "alice/unsubscribe", &body).await;
    assert_eq!(answer, json!({ "sessions": 1, "nodes": 1, "missing_nodes": 0 }));
    for channel in ["chat.a", "chat.room.*"] {
        let reason = "a backend has ended this subscription";
        let expected =
            json!({ "type": "unsubscribed", "channel": channel, "code": "forbidden", "reason": reason });
        assert_eq!(alice.expect("unsubscribed").await, expected);
    }
    edge.publish("chat.a", "1").await;
    edge.publish("chat.b", "2").await;
    assert_eq!(alice.expect("message").await["data"], 2);
    assert_eq!(bob.expect("message").await["data"], 1);
}

#[tokio::test]
async fn acl_01_only_roles_with_control_may_change_users() {
    let mut edge = edge().await;
    let mut alice = edge.client("alice").await;
    let address = edge.address();
    let backend = token_with(&json!({ "sub": "shop", "role": "backend" }));
    for (path, token, body, status, code) in [
        ("alice/disconnect", &token("alice"), "{}", 403, "forbidden"),
        ("alice/disconnect", &token_with(&json!({ "role": "admin" })), "{}", 403, "forbidden"),
        ("alice/disconnect", &"a.b.c".to_owned(), "{}", 401, "invalid_token"),
        ("alice/unsubscribe", &backend, "{}", 400, "bad_request"),
        ("alice/restart", &backend, "{}", 404, "not_found"),
    ] {
        let answer = call(&address, path, token, body).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{path} {answer:?}");
    }
    // Clients cannot reach the subject over which nodes talk.
    let forged = json!({ "user": "alice", "issuer": null, "channels": null });
    alice.send(&json!({ "type": "publish", "id": 1, "channel": "tidegate.users", "data": forged })).await;
    assert_eq!(alice.expect("error").await["code"], "forbidden");
    is_open(&mut alice).await;
    edge.lose_nats().await;
    let answer = call(&address, "alice/disconnect", &backend, "{}").await;
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("unavailable")), "{answer:?}");
    is_open(&mut alice).await;
}
