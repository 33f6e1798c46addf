//! A real OpenID Connect provider: discovery, an access token, a client with it, and the rotation of the provider's keys.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tidegate::config::auth::AuthConfig;
use tidegate::config::auth::issuer::IssuerConfig;
use tidegate::config::auth::remote_keys::KeyUrl;
use tidegate::config::auth::remote_keys::KeysLocation;
use tidegate::config::auth::remote_keys::RemoteKeysConfig;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::Command;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::raw::handshake;
use crate::support::secrets::registered;
use crate::support::within;

/// `tests/oidc/provider.mjs`, which runs until this is dropped.
struct Provider {
    issuer: String,
    _child: Child,
    _stdin: ChildStdin,
}

impl Provider {
    async fn start(algorithm: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oidc");
        let installed = std::path::Path::new(folder).join("node_modules/oidc-provider").exists();
        assert!(installed, "oidc-provider is not installed: run tests/setup.sh");
        let mut child = Command::new("node")
            .args(["provider.mjs", algorithm])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let issuer = within("the provider", lines.next_line()).await.unwrap().unwrap();
        Self { issuer, _stdin: child.stdin.take().unwrap(), _child: child }
    }

    fn address(&self) -> &str {
        self.issuer.strip_prefix("http://").unwrap()
    }

    async fn post(&self, path: &str, headers: &str, body: &str) -> (u16, String) {
        let address = self.address();
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{headers}");
        let mut client = RawClient::connect(address).await;
        client.send(format!("{head}\r\n{body}").as_bytes()).await;
        let answer = client.any_answer().await;
        (answer.status, answer.body)
    }

    /// An access token by `client_credentials` (RFC 6749 §4.4), for a resource (RFC 8707).
    async fn token(&self) -> String {
        // `reports:a%20secret%20of%20these%20tests` (RFC 6749 §2.3.1).
        let headers = "Authorization: Basic cmVwb3J0czphJTIwc2VjcmV0JTIwb2YlMjB0aGVzZSUyMHRlc3Rz\r\n\
                       Content-Type: application/x-www-form-urlencoded\r\n";
        let body = "grant_type=client_credentials&scope=read&resource=urn%3Atidegate";
        let (status, body) = self.post("/token", headers, body).await;
        assert_eq!(status, 200, "{body}");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        registered(answer["access_token"].as_str().unwrap().to_owned())
    }

    async fn rotate(&self, keeps_old: bool) {
        let path = format!("/rotate?keep={}", u8::from(keeps_old));
        assert_eq!(self.post(&path, "", "").await.0, 204);
    }

    fn config(&self) -> IssuerConfig {
        let location = KeysLocation::Discovery(KeyUrl::discovery(&self.issuer).unwrap());
        IssuerConfig {
            issuer: self.issuer.clone(),
            audience: "tidegate".to_owned(),
            user_prefix: "svc:".to_owned(),
            token_types: vec!["at+jwt".to_owned()],
            remote_keys: Some(RemoteKeysConfig { location, algorithms: Vec::new(), ca_file: None }),
            ..AuthConfig::default().all_issuers().remove(0)
        }
    }
}

#[tokio::test]
async fn jwt_10_tokens_of_a_real_provider_are_accepted_and_its_keys_rotate() {
    for algorithm in ["RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        let provider = Provider::start(algorithm).await;
        let edge = TestEdge::with(|config| {
            config.auth.keys.clear();
            config.auth.issuers = vec![provider.config()];
            config.auth.jwks_min_refetch = Duration::from_millis(1);
        })
        .await;
        let status = async |token: &str| {
            let bearer = format!("Authorization: Bearer {token}\r\n");
            ask(&edge.address(), handshake("/ws", &bearer)).await.status
        };
        let first = provider.token().await;
        let mut client = Client::open(&edge.address(), "/ws", Some(&first)).await;
        assert_eq!(client.expect("connected").await["user"], "svc:reports", "{algorithm}");
        client.subscribe("user.svc:reports.notifications").await;
        edge.publish("user.svc:reports.notifications", "{\"n\":1}").await;
        assert_eq!(client.expect("message").await["data"], json!({ "n": 1 }), "{algorithm}");
        provider.rotate(true).await;
        let second = provider.token().await;
        assert_eq!((status(&second).await, status(&first).await), (101, 101), "{algorithm}");
        provider.rotate(false).await;
        let third = provider.token().await;
        let after = (status(&third).await, status(&second).await, status(&first).await);
        assert_eq!(after, (101, 401, 401), "{algorithm}");
    }
}
