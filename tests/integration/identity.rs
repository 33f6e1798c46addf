//! Identities from tokens of other systems: without a role, with refresh tokens under the same key.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use serde_json::json;
use tidegate::auth::jwt;
use tidegate::config::Config;
use tidegate::config::endpoint::EndpointConfig;
use tidegate::config::endpoint::VocabularyFile;
use tidegate::config::secret::Secret;
use tidegate_vocabulary::compile::compile;

use crate::support::client::Client;
use crate::support::edge::SECRET;
use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::token_with;
use crate::support::raw::Answer;
use crate::support::raw::ask;
use crate::support::raw::handshake;

/// A token as hoardrun issues it, with these changes: it has no role.
fn roleless(changes: &Value) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let mut claims = json!({
        "sub": "alice", "email": "alice@example.com", "iat": now, "exp": now + 1800.0, "token_type": "access"
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    jwt::mint_hs256(&Secret::new(SECRET), Some("test"), &claims).unwrap()
}

fn with_token_type(config: &mut Config) {
    config.auth.token_types = vec!["access".to_owned()];
    config.auth.token_type_claim = "token_type".to_owned();
}

async fn handshake_with(edge: &TestEdge, path: &str, token: &str) -> Answer {
    ask(&edge.address(), handshake(path, &format!("Authorization: Bearer {token}\r\n"))).await
}

#[tokio::test]
async fn tokens_without_a_role_have_the_default_role_and_refresh_tokens_are_refused() {
    let edge = TestEdge::with(|config| {
        with_token_type(config);
        config.auth.default_role = "user".to_owned();
    })
    .await;
    let mut alice = Client::connect(&edge.address(), &roleless(&json!({}))).await;
    alice.subscribe("user.alice.notifications").await;
    let refresh = roleless(&json!({ "token_type": "refresh" }));
    let answer = handshake_with(&edge, "/ws", &refresh).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("invalid_token")));
    for role in [Value::Null, json!([]), json!(""), json!(7), json!("unknown")] {
        let answer = handshake_with(&edge, "/ws", &roleless(&json!({ "role": role }))).await;
        assert_eq!(answer.status, 401, "{role}");
    }
    // A refresh token does not extend a session either.
    alice.send(&json!({ "type": "auth", "token": refresh })).await;
    assert_eq!(alice.expect("error").await["code"], "unauthorized");
}

const TWO_PATHS: &str = r#"
name = "two-paths"
[[path]]
name = "news"
path = "/news"
[[path]]
name = "chat"
path = "/chat"
[[receive]]
when = { join = true }
do = "subscribe"
channel = "news.{msg.join}"
[[deliver]]
pattern = "news.*"
send = "{data}"
"#;

#[tokio::test]
async fn a_path_of_a_vocabulary_has_its_own_default_role() {
    let edge = TestEdge::with(|config| {
        with_token_type(config);
        config.roles.push(role("reader", &["news.*"], &[], &[]));
        let file = Some(VocabularyFile(Arc::new(compile(TWO_PATHS).unwrap().vocabulary)));
        let (path, vocabulary) = (String::new(), "two-paths".to_owned());
        let mut endpoint = EndpointConfig { path, vocabulary, file, ..EndpointConfig::default() };
        endpoint.access.path_roles = vec![("news".to_owned(), "reader".to_owned())];
        config.endpoints = vec![endpoint];
    })
    .await;
    let token = roleless(&json!({}));
    for _ in 0..2 {
        assert_eq!(handshake_with(&edge, "/news", &token).await.status, 101);
        let answer = handshake_with(&edge, "/chat", &token).await;
        assert_eq!(
            answer.status, 401,
            "the other path has no default role, and the cache does not mix them up"
        );
        assert!(answer.body.contains("the token has no role"), "{answer:?}");
    }
    let with_role = token_with(&json!({ "token_type": "access" }));
    assert_eq!(handshake_with(&edge, "/chat", &with_role).await.status, 101);
}
