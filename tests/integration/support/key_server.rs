//! An issuer of tokens: it signs them, and publishes its keys over HTTP on a free port of this machine.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use tidegate::config::auth::AuthConfig;
use tidegate::config::auth::issuer::IssuerConfig;
use tidegate::config::auth::remote_keys::KeyUrl;
use tidegate::config::auth::remote_keys::KeysLocation;
use tidegate::config::auth::remote_keys::RemoteKeysConfig;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::support::secrets::registered;

/// A key that signs tokens, for EdDSA.
pub(crate) struct IssuerKey {
    kid: String,
    pair: Ed25519KeyPair,
}

impl IssuerKey {
    pub(crate) fn new(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: Ed25519KeyPair::generate().unwrap() }
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x })
    }

    /// A token of the issuer for this user, valid for an hour.
    pub(crate) fn token(&self, issuer: &str, user: &str) -> String {
        self.token_with(json!({}), issuer, user)
    }

    /// The same with more header fields.
    pub(crate) fn token_with(&self, header: Value, issuer: &str, user: &str) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut all = json!({ "alg": "EdDSA", "kid": self.kid });
        all.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
        let claims = json!({ "iss": issuer, "sub": user, "role": "user", "iat": now, "exp": now + 3600 });
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(&all), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes()).as_ref());
        registered(format!("{message}.{signature}"))
    }
}

/// What the server answers.
#[derive(Clone, Default)]
struct Pages {
    /// Status and body of each path. Others are not found.
    documents: BTreeMap<String, (u16, String)>,
    /// Whether requests wait.
    is_held: bool,
}

/// Publishes documents, and counts the requests for them.
pub(crate) struct KeyServer {
    port: u16,
    pages: watch::Sender<Pages>,
    hits: watch::Receiver<usize>,
    task: AbortHandle,
}

impl KeyServer {
    /// A server without documents.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (pages, seen) = watch::channel(Pages::default());
        let (counted, hits) = watch::channel(0);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                counted.send_modify(|count| *count += 1);
                tokio::spawn(answer(socket, seen.clone()));
            }
        });
        Self { port, pages, hits, task: task.abort_handle() }
    }

    /// The URL of the server, which is the name of its issuer.
    pub(crate) fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Publishes these keys, and the discovery document.
    pub(crate) fn publish(&self, keys: &[&IssuerKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        self.answer("/keys", 200, &json!({ "keys": keys }).to_string());
        let discovery = json!({ "issuer": self.issuer(), "jwks_uri": format!("{}/keys", self.issuer()) });
        self.answer("/.well-known/openid-configuration", 200, &discovery.to_string());
    }

    /// Answers with this from now on.
    pub(crate) fn answer(&self, path: &str, status: u16, body: &str) {
        self.pages.send_modify(|pages| {
            pages.documents.insert(path.to_owned(), (status, body.to_owned()));
        });
    }

    /// Lets requests wait, or answers all that wait.
    pub(crate) fn hold(&self, is_held: bool) {
        self.pages.send_modify(|pages| pages.is_held = is_held);
    }

    /// The number of connections so far.
    pub(crate) fn hits(&self) -> usize {
        *self.hits.borrow()
    }

    /// Waits until it has had at least `count` connections.
    pub(crate) async fn until_hits(&self, count: usize) {
        self.hits.clone().wait_for(|hits| *hits >= count).await.unwrap();
    }

    /// The configuration of its issuer, with the URL of its keys.
    pub(crate) fn config(&self) -> IssuerConfig {
        let url = KeyUrl::parse(&format!("{}/keys", self.issuer())).unwrap();
        self.config_with(KeysLocation::KeySet(url))
    }

    /// The same with discovery.
    pub(crate) fn discovered(&self) -> IssuerConfig {
        self.config_with(KeysLocation::Discovery(KeyUrl::discovery(&self.issuer()).unwrap()))
    }

    fn config_with(&self, location: KeysLocation) -> IssuerConfig {
        let remote_keys = Some(RemoteKeysConfig { location, algorithms: Vec::new(), ca_file: None });
        let other = AuthConfig::default().all_issuers().remove(0);
        IssuerConfig { issuer: self.issuer(), remote_keys, ..other }
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut socket: TcpStream, pages: watch::Receiver<Pages>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if socket.read_buf(&mut request).await.unwrap_or_default() == 0 {
            return;
        }
    }
    let mut pages = pages;
    let Ok(pages) = pages.wait_for(|pages| !pages.is_held).await.map(|pages| pages.clone()) else { return };
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    let (status, body) = pages.documents.get(path).cloned().unwrap_or((404, String::new()));
    let answer = format!(
        "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = socket.write_all(answer.as_bytes()).await;
}
