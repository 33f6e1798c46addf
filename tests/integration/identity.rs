//! Identities: from tokens of other systems, and what the roles of Tidegate's own configurations let them see.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::endpoint::EndpointConfig;
use tidegate::config::endpoint::VocabularyFile;
use tidegate::config::load::load;
use tidegate::config::source::Sources;
use tidegate_vocabulary::compile::compile;

use crate::support::client::Client;
use crate::support::edge::SECRET;
use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::signed;
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
    signed(SECRET, Some("test"), &claims)
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

/// The configurations that Tidegate comes with: the file, none, and the example of README.md.
fn own_configurations() -> [(&'static str, Config); 3] {
    let loaded = |name: &str, text: &str| {
        let file = std::env::temp_dir().join(format!("tidegate-{name}-{}.toml", std::process::id()));
        std::fs::write(&file, text).unwrap();
        let environment = vec![("TIDEGATE_AUTH__HMAC_SECRET".to_owned(), SECRET.to_owned())];
        let sources = Sources { file: Some(file.clone()), environment, ..Sources::default() };
        let config = load(&sources).unwrap().config;
        std::fs::remove_file(file).unwrap();
        config
    };
    let readme = include_str!("../../README.md");
    let (_, example) = readme.split_once("```toml\n[http]").unwrap();
    let example = format!("[http]{}", example.split_once("```").unwrap().0);
    let example = example.replace("[[auth.key]]\nsecret_file = \"token.key\"\n", "");
    [
        ("config.toml", loaded("shipped", include_str!("../../config.toml"))),
        ("no configuration", loaded("none", "")),
        ("README.md", loaded("readme", &example)),
    ]
}

#[tokio::test]
async fn acl_01_with_only_a_secret_users_see_prices_and_their_own_and_administrators_also_admin() {
    for (name, own) in own_configurations() {
        let edge = TestEdge::with(|config| {
            config.auth = own.auth;
            config.roles = own.roles;
            config.classes = own.classes;
        })
        .await;
        let connect = async |role: &str| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            let claims = json!({ "sub": "alice", "role": role, "exp": now + 3600 });
            let token = signed(SECRET, None, &claims);
            Client::connect(&edge.address(), &token).await
        };
        let (mut user, mut admin) = (connect("user").await, connect("admin").await);
        for client in [&mut user, &mut admin] {
            for channel in
                ["prices.AAPL", "prices.BRK.B", "prices.*", "prices.*.*", "user.alice.notifications"]
            {
                client.subscribe(channel).await;
            }
            for channel in ["user.bob.notifications", "user.*.notifications", "admin.>", "prices.>"] {
                client.send(&json!({ "type": "subscribe", "id": channel, "channel": channel })).await;
                assert_eq!(client.expect("error").await["code"], "forbidden", "{name}: {channel}");
            }
        }
        admin.subscribe("admin.users").await;
        user.send(&json!({ "type": "subscribe", "id": 1, "channel": "admin.users" })).await;
        assert_eq!(user.expect("error").await["code"], "forbidden", "{name}");
        edge.publish("admin.users", r#"{"online":42}"#).await;
        assert_eq!(admin.expect("message").await["data"], json!({ "online": 42 }), "{name}");
        edge.publish("user.alice.notifications", r#"{"title":"hi"}"#).await;
        for client in [&mut user, &mut admin] {
            assert_eq!(client.expect("message").await["data"], json!({ "title": "hi" }), "{name}");
        }
    }
}
