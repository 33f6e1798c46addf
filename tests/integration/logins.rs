//! How a node logs in to NATS, and how it verifies the server.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::nats::NatsConfig;
use tidegate::config::nats::login::NatsLogin;
use tidegate::config::secret::Secret;
use tidegate::nats::client::Client as Producer;
use tidegate::nats::error::NatsError;
use tidegate_protocol::subject::Subject;

use crate::support::edge::TestEdge;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::within;

const PRODUCER: &str = "tidegate/test/dev";

/// Certificates for these tests, valid for a hundred years; see the README.md next to them.
fn tls(file: &str) -> String {
    format!("{}/tests/integration/support/tls/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// Checks that a node with this configuration works: its client receives what it publishes itself, and what async-nats
/// publishes with the same configuration.
async fn publishes_and_receives(nats: NatsServer, change: impl FnOnce(&mut Config)) {
    let mut settings = NatsConfig::default();
    let change = |config: &mut Config| {
        change(config);
        settings.clone_from(&config.nats);
    };
    let edge = TestEdge::with_nats(nats, change, false).await;
    edge.readyz(200).await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.a").await;
    client.send(&json!({ "type": "publish", "channel": "chat.a", "data": 1 })).await;
    // They use different connections, so their order is undefined.
    let mut types = [client.next().await, client.next().await].map(|m| m.unwrap()["type"].to_string());
    types.sort();
    assert_eq!(types, ["\"message\"", "\"published\""]);
    let producer = Producer::connect(&settings, PRODUCER).await.unwrap();
    produce(&producer, 2).await.unwrap();
    assert_eq!(client.next().await.unwrap()["data"], 2);
}

async fn produce(producer: &Producer, number: u64) -> Result<(), NatsError> {
    let subject = Subject::parse("chat.a").unwrap();
    within("the end of a publish", producer.publish(&subject, number.to_string().into())).await
}

fn logs_in(login: NatsLogin) -> impl FnOnce(&mut Config) {
    |config| config.nats.login = login
}

#[tokio::test]
async fn with_a_token() {
    let nats = NatsServer::with("authorization { token: \"s3cret\" }").await;
    publishes_and_receives(nats, logs_in(NatsLogin::Token(Secret::new("s3cret")))).await;
}

#[tokio::test]
async fn with_a_user_and_a_password() {
    let nats = NatsServer::with("authorization { user: \"ann\", password: \"a b\\\"c\" }").await;
    let login = NatsLogin::Password { user: "ann".to_owned(), password: Secret::new("a b\"c") };
    publishes_and_receives(nats, logs_in(login)).await;
}

#[tokio::test]
async fn with_a_key() {
    let key = KeyPair::new_user();
    let nats =
        NatsServer::with(&format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public_key())).await;
    let file = nats.file("user.nk", &format!("{}\n", key.seed().unwrap()));
    publishes_and_receives(nats, logs_in(NatsLogin::NkeyFile(file))).await;
}

/// Encodes a JWT in the format of NATS.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, kind: &str, nats: Value) -> String {
    let mut nats = nats;
    (nats["type"], nats["version"]) = (kind.into(), 2.into());
    let claims = json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name,
        "sub": subject.public_key(), "nats": nats,
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), encode(&claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn with_a_credentials_file() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let limits = json!({ "limits": {
        "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1,
        "wildcards": true,
    } });
    let nats = NatsServer::with(&format!(
        "operator: \"{}\"\nresolver: MEMORY\nresolver_preload: {{ {}: \"{}\" }}\njetstream: disabled",
        jwt(&operator, &operator, "operator", "operator", json!({})),
        account.public_key(),
        jwt(&operator, &account, "account", "account", limits),
    ))
    .await;
    let user_jwt = jwt(&account, &user, "user", "user", json!({ "subs": -1, "data": -1, "payload": -1 }));
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    );
    let file = nats.file("user.creds", &credentials);
    publishes_and_receives(nats, logs_in(NatsLogin::CredsFile(file))).await;
}

fn with_tls(more: &str) -> String {
    format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}\n{more}", tls("server.pem"), tls("server.key"))
}

#[tokio::test]
async fn over_tls_if_the_server_requires_it() {
    let nats = NatsServer::with(&with_tls("")).await;
    publishes_and_receives(nats, |config| config.nats.ca_file = Some(PathBuf::from(tls("ca.pem")))).await;
}

#[tokio::test]
async fn over_tls_if_the_node_requires_it_with_a_key() {
    let key = KeyPair::new_user();
    let users =
        format!("authorization {{ users: [ {{ nkey: {} }} ] }}\nallow_non_tls: true", key.public_key());
    let nats = NatsServer::with(&with_tls(&users)).await;
    let file = nats.file("user.nk", &key.seed().unwrap());
    let url = nats.url().replace("nats://127.0.0.1", "tls://localhost");
    let change = |config: &mut Config| {
        config.nats.urls = vec![url];
        config.nats.login = NatsLogin::NkeyFile(file);
        config.nats.ca_file = Some(PathBuf::from(tls("ca.pem")));
    };
    publishes_and_receives(nats, change).await;
}

#[tokio::test]
async fn the_producer_retries_with_new_credentials_and_reconnects_after_a_restart() {
    let key = KeyPair::new_user();
    let users = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", key.public_key());
    let mut nats = NatsServer::with(&users).await;
    let file = nats.file("user.nk", &KeyPair::new_user().seed().unwrap());
    let login = NatsLogin::NkeyFile(file);
    let config = NatsConfig { urls: vec![nats.url()], login, ..NatsConfig::default() };

    let producer = Producer::connect(&config, PRODUCER).await.unwrap();
    let before = nats.connections_made().await;
    let fix_credentials = async {
        eventually("refused logins", || async { nats.connections_made().await > before + 3 }).await;
        assert_eq!(nats.connections(PRODUCER).await, 0);
        nats.file("user.nk", &key.seed().unwrap());
    };
    let (published, ()) = tokio::join!(produce(&producer, 1), fix_credentials);
    published.unwrap();
    assert_eq!(nats.connections(PRODUCER).await, 1);

    nats.kill();
    nats.restart().await;
    eventually("it is back", || async { nats.connections(PRODUCER).await == 1 }).await;
    produce(&producer, 2).await.unwrap();
}

/// Checks that a node with this configuration keeps trying, but never logs in.
async fn never_logs_in(nats: NatsServer, change: impl FnOnce(&mut Config)) {
    let edge = TestEdge::with_nats(nats, change, false).await;
    let before = edge.nats.connections_made().await;
    eventually("attempts", || async { edge.nats.connections_made().await > before + 5 }).await;
    assert_eq!(edge.get("/readyz").await.0, 503);
    assert_eq!(edge.nats.connections("tidegate/").await, 0);
}

#[tokio::test]
async fn not_to_a_server_with_an_untrusted_certificate() {
    never_logs_in(NatsServer::with(&with_tls("")).await, |_| {}).await;
}

#[tokio::test]
async fn not_to_a_server_without_tls_if_tls_is_required() {
    let nats = NatsServer::start().await;
    let url = nats.url().replace("nats://", "tls://");
    never_logs_in(nats, |config| config.nats.urls = vec![url]).await;
}
