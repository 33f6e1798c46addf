//! What the pages of the admin listener say about a node.

use std::sync::Arc;

use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::endpoint::EndpointConfig;
use tidegate::config::endpoint::VocabularyFile;
use tidegate::config::endpoint::access::AccessConfig;
use tidegate_vocabulary::compile::compile;

use crate::access::api_key;
use crate::support::admin::address;
use crate::support::admin::get;
use crate::support::admin::json_of;
use crate::support::admin::json_with;
use crate::support::admin::on_loopback;
use crate::support::edge::SECRET;
use crate::support::edge::TestEdge;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::edge::token_with;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::nats_server::PASSWORD;
use crate::support::process::Process;
use crate::support::within;

const KEY: &str = "8d1e-the-key-of-the-dashboard";

const OWN_PATHS: &str = r#"
name = "own-paths"
[[path]]
name = "own"
path = "/own/{user_id}"
require = { "path.user_id" = "{user}" }
[[deliver]]
pattern = "news.*"
send = "{data}"
"#;

/// `/ws` needs a token, `/open` no credential, and `/own/<user>` a token of that user.
fn with_endpoints(config: &mut Config) {
    on_loopback(config);
    config.roles.push(role("guest", &["prices.*"], &[], &[]));
    config.auth.api_keys = vec![api_key(KEY, "dashboard", "user")];
    let at =
        |path: &str, access| EndpointConfig { path: path.to_owned(), access, ..EndpointConfig::default() };
    let open = AccessConfig { anonymous_role: Some("guest".to_owned()), ..AccessConfig::default() };
    let file = Some(VocabularyFile(Arc::new(compile(OWN_PATHS).unwrap().vocabulary)));
    let (path, vocabulary) = (String::new(), "own-paths".to_owned());
    let own = EndpointConfig { path, vocabulary, file, ..EndpointConfig::default() };
    config.endpoints = vec![at("/ws", AccessConfig::default()), at("/open", open), own];
}

async fn explain(edge: &TestEdge, query: &str, credential: Option<&str>) -> Value {
    let header = credential.map(|credential| format!("Explain-Token: {credential}\r\n")).unwrap_or_default();
    json_with(edge, &format!("/explain?{query}"), &header).await
}

#[tokio::test]
async fn what_the_node_explains_is_what_it_decides() {
    let edge = TestEdge::with(with_endpoints).await;
    let alice = token("alice");
    let mut client = edge.client("alice").await;
    for (subject, allowed, rule) in [
        ("chat.a", true, Some("chat.>")),
        ("user.alice.orders", true, Some("user.{sub}.>")),
        ("user.bob.orders", false, None),
        ("chat.%3E", true, Some("chat.>")),
        ("%24SRV.PING", false, None),
        ("tidegate.nodes", false, None),
    ] {
        let query = format!("operation=subscribe&path=%2Fws&subject={subject}");
        let body = explain(&edge, &query, Some(&alice)).await;
        assert_eq!(
            (body["allowed"].as_bool(), body["rule"]["rule"].as_str()),
            (Some(allowed), rule),
            "{body}"
        );
        assert_eq!(body["detail"].is_null(), allowed, "{body}");
        client.send(&json!({ "type": "subscribe", "channel": body["subject"] })).await;
        client.expect(if allowed { "subscribed" } else { "error" }).await;
    }
    let body = explain(&edge, "operation=subscribe&path=%2Fws&subject=user.alice.x", Some(&alice)).await;
    let expected = json!({
        "node": &*edge.app.node.name,
        "operation": "subscribe",
        "subject": "user.alice.x",
        "endpoint": "/ws",
        "class": null,
        "allowed": true,
        "detail": null,
        "rule": { "role": "user", "effect": "allow", "rule": "user.{sub}.>", "patterns": ["user.alice.>"] },
        "withdrawn": false,
        "rules": [
            { "role": "user", "effect": "allow", "rule": "prices.>", "patterns": ["prices.>"] },
            { "role": "user", "effect": "allow", "rule": "chat.>", "patterns": ["chat.>"] },
            { "role": "user", "effect": "allow", "rule": "user.{sub}.>", "patterns": ["user.alice.>"] },
        ],
        "user": "alice",
        "in_subjects": "alice",
        "anonymous": false,
        "roles": ["user"],
        "issuer": null,
        "expires_at": body["expires_at"],
        "services": [],
    });
    assert_eq!(body, expected);
    let body = explain(&edge, "operation=publish&subject=prices.A&role=admin&role=user&user=bob", None).await;
    assert_eq!((&body["allowed"], &body["user"]), (&json!(false), &json!("bob")), "{body}");
    let class = json!({ "pattern": "prices.>", "kind": "latest", "snapshot": true });
    assert_eq!((&body["class"], &body["endpoint"]), (&class, &Value::Null), "{body}");
}

#[tokio::test]
async fn an_endpoint_decides_who_a_client_is() {
    let edge = TestEdge::with(with_endpoints).await;
    let (alice, expired) = (token("alice"), token_with(&json!({ "iat": 1, "exp": 2 })));
    for (query, credential, allowed, member, value) in [
        ("path=%2Fws", None, false, "refused", json!("unauthorized")),
        ("path=%2Fws", Some(&*expired), false, "refused", json!("expired")),
        ("path=%2Fws", Some(KEY), false, "refused", json!("api_key_not_accepted")),
        ("path=%2Fws&via=http", Some(KEY), true, "user", json!("dashboard")),
        ("", Some(KEY), true, "user", json!("dashboard")),
        ("path=%2Fopen", None, true, "roles", json!(["guest"])),
        ("path=%2Fopen", None, true, "anonymous", json!(true)),
        ("path=%2Fown%2Falice", Some(&*alice), true, "user", json!("alice")),
        ("path=%2Fown%2Fbob", Some(&*alice), false, "detail", json!("this path belongs to another user")),
    ] {
        let query = format!("operation=subscribe&subject=prices.A&{query}");
        let body = explain(&edge, &query, credential).await;
        assert_eq!((body["allowed"].as_bool(), &body[member]), (Some(allowed), &value), "{query}: {body}");
    }
    for (query, headers, status, code) in [
        ("operation=subscribe&subject=a&path=%2Fnowhere", "", 404, "not_found"),
        ("operation=subscribe&subject=a", "", 400, "bad_request"),
        ("operation=subscribe&subject=a&role=usr", "", 400, "bad_request"),
        ("operation=subscribe&subject=a&role=user", "Explain-Token: a.b.c\r\n", 400, "bad_request"),
        ("operation=subscribe&subject=a", "Explain-Token: a\r\nExplain-Token: b\r\n", 400, "bad_credential"),
    ] {
        let headers = format!("Host: localhost\r\n{headers}");
        let answer = get(&address(&edge), &format!("/explain?{query}"), &headers).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{query}: {answer:?}");
    }
}

#[tokio::test]
async fn revocations_are_part_of_an_explanation() {
    let edge = TestEdge::with(with_endpoints).await;
    let alice = token("alice");
    let operator = edge.nats.operator().await;
    let revoke = async |revocation: Value| {
        operator.request("tidegate.revoke", revocation.to_string().into()).await.unwrap();
    };
    let query = "operation=subscribe&path=%2Fws&subject=chat.a";
    let allowed = async |credential| explain(&edge, query, credential).await["allowed"].as_bool();
    assert_eq!(allowed(Some(&*alice)).await, Some(true));
    revoke(json!({ "user": "alice", "deny": { "subscribe": ["chat.a"] } })).await;
    eventually("the permission is withdrawn", async || allowed(Some(&*alice)).await == Some(false)).await;
    let body = explain(&edge, query, Some(&alice)).await;
    assert_eq!((&body["withdrawn"], &body["rule"]), (&json!(true), &Value::Null), "{body}");
    let named = explain(&edge, &format!("{query}&role=user&user=alice"), None).await;
    assert_eq!(named["withdrawn"], true, "{named}");
    revoke(json!({ "user": "alice" })).await;
    eventually("the user is revoked", async || {
        explain(&edge, query, Some(&alice)).await["refused"] == "revoked"
    })
    .await;
    let named = explain(&edge, &format!("{query}&role=user&user=alice"), None).await;
    assert_eq!((&named["allowed"], &named["refused"]), (&json!(false), &json!("revoked")), "{named}");
    let other = explain(&edge, &format!("{query}&role=user&user=bob"), None).await;
    assert_eq!(other["allowed"], true, "{other}");
    assert_eq!(json_of(&edge, "/connections").await["matching"], 0);
}

#[tokio::test]
async fn the_configuration_is_shown_with_its_origins_and_without_its_secrets() {
    let nats = NatsServer::start().await;
    let config = |more: &str| format!("admin.listen = \"127.0.0.1:0\"\nlimits.subscriptions = 77\n{more}");
    let mut node = Process::serve(&nats.node_url(), &config("")).await;
    let address = node.logged("serving /metrics", |_| true).await["address"].as_str().unwrap().to_owned();
    let settings = async || get(&address, "/config", "Host: localhost\r\n").await.json();
    let body = settings().await;
    let of = |body: &Value, key: &str| {
        let setting = &body["settings"][key];
        (setting["value"].clone(), setting["from"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(of(&body, "limits.subscriptions"), (json!(77), "file".to_owned()), "{body}");
    assert_eq!(of(&body, "limits.outbox_bytes"), (json!(1_048_576), "default".to_owned()), "{body}");
    assert_eq!(of(&body, "auth.key").0[0]["secret"], "***", "{body}");
    assert!(body["settings"]["limits.subscriptions"]["line"].as_u64() > Some(0), "{body}");
    let text = body.to_string();
    assert!(text.contains("***@127.0.0.1") && !text.contains(PASSWORD) && !text.contains(SECRET), "{text}");
    // A reload changes what can change. The rest is as it was.
    let secret = "a secret that is only used in this test";
    let more = config("server.drain_s = 3\nlimits.outbox_frames = 99\n").replace("77", "78");
    node.reload(&Process::config(&nats.node_url(), &more, secret, "prices.*"));
    eventually("the reload", async || settings().await["settings"]["limits.subscriptions"]["value"] == 78)
        .await;
    let body = settings().await;
    assert_eq!(of(&body, "limits.outbox_frames"), (json!(99), "file".to_owned()), "{body}");
    assert_eq!(of(&body, "server.drain_s"), (json!(10), "default".to_owned()), "{body}");
    assert_eq!(body["needs_restart"], json!(["server.drain_s"]), "{body}");
    node.signal("TERM");
    within("the end", node.ended()).await;
}

#[tokio::test]
async fn the_channels_with_the_most_subscriptions_are_listed_first_with_their_rates() {
    let edge = TestEdge::with(on_loopback).await;
    let (mut one, mut other) = edge.pair().await;
    for channel in ["chat.busy", "prices.A", "prices.*"] {
        one.subscribe(channel).await;
    }
    other.subscribe("chat.busy").await;
    other.subscribe("prices.A").await;
    let nats = edge.nats.client().await;
    nats.publish("prices.A", "1".into()).await.unwrap();
    nats.flush().await.unwrap();
    other.expect("message").await;
    let listed = async |query: &str| {
        let body = json_of(&edge, &format!("/subscriptions?{query}")).await;
        let of = |channel: &Value| {
            format!("{} {}", channel["channel"].as_str().unwrap(), channel["subscriptions"])
        };
        body["channels"].as_array().unwrap().iter().map(of).collect::<Vec<_>>().join(", ")
    };
    for (query, expected) in [
        ("", "chat.busy 2, prices.A 2, prices.* 1"),
        ("limit=1", "chat.busy 2"),
        ("limit=1&offset=1", "prices.A 2"),
        ("offset=3", ""),
        ("prefix=prices.A", "prices.A 2"),
        ("pattern=prices.*", "prices.A 2, prices.* 1"),
    ] {
        assert_eq!(listed(query).await, expected, "{query}");
    }
    // Publications while the page samples. It waits a second, in which far more than 100 of these arrive.
    let publishing = async {
        loop {
            nats.publish("chat.busy", "2".into()).await.unwrap();
            nats.flush().await.unwrap();
        }
    };
    let body = tokio::select! {
        body = json_of(&edge, "/subscriptions") => body,
        () = publishing => unreachable!("it never ends"),
    };
    assert_eq!((&body["subscriptions"], &body["exact"]), (&json!(5), &json!(true)), "{body}");
    let channels = body["channels"].as_array().unwrap();
    assert!(channels[0]["rate_per_s"].as_f64() > Some(0.0) && channels[0]["class"].is_null(), "{body}");
    assert_eq!(
        (&channels[1]["class"], channels[1]["rate_per_s"].as_f64()),
        (&json!({ "pattern": "prices.>", "kind": "latest", "snapshot": true }), Some(0.0)),
        "{body}"
    );
    assert!(channels[1]["last_age_ms"].as_u64() >= body["sample_ms"].as_u64(), "{body}");
    let publishing = async {
        loop {
            nats.publish("prices.B", "2".into()).await.unwrap();
            nats.flush().await.unwrap();
        }
    };
    let by_rate = tokio::select! {
        body = json_of(&edge, "/subscriptions?sort=rate&limit=1") => body,
        () = publishing => unreachable!("it never ends"),
    };
    let busiest = &by_rate["channels"][0];
    assert_eq!((&busiest["channel"], &by_rate["exact"]), (&json!("prices.*"), &json!(true)), "{by_rate}");
    assert_eq!(by_rate["channels"].as_array().unwrap().len(), 1, "{by_rate}");
    let wrong = get(&address(&edge), "/subscriptions?limit=0", "Host: localhost\r\n").await;
    assert_eq!((wrong.status, &wrong.json()["code"]), (400, &json!("bad_request")), "{wrong:?}");
}
