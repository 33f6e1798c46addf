//! tok-01 as a whole: a sentinel in every place that can carry a credential, and a search for it in all that a node logs
//! and answers.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join;
use serde_json::Value;
use serde_json::json;

use crate::support::command::tidegate;
use crate::support::edge::signed;
use crate::support::edge::token_with;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::raw::handshake;

/// Part of every credential here.
const SENTINEL: &str = "Zq7vSentinelWq9xKm3";
const ISSUER: &str = "https://id.example.com";
const APP: &str = "Origin: https://app.example.com\r\n";
const FOREIGN: &str = "Origin: https://evil.example.net\r\n";
/// A valid API key, and its hash.
const API_KEY: &str = "Zq7vSentinelWq9xKm3-of-the-reports";
const API_KEY_SHA256: &str = "0c524544a32479e1a3928e383c3d47999046620a43aa161393b2a44933cc8fc5";
/// A node logs at most 10 rejections with the same reason in a second.
const NEXT_SECOND: Duration = Duration::from_millis(1100);

/// What must not be shown: the sentinel as it is, percent-encoded, and in base64, and parts of single credentials.
struct Needles(Vec<String>);

impl Needles {
    fn new() -> Self {
        let percent = |format: fn(u8) -> String| SENTINEL.bytes().map(format).collect::<String>();
        let mut all = vec![
            SENTINEL.to_ascii_lowercase(),
            percent(|byte| format!("%{byte:02x}")),
            percent(|byte| format!("{byte:02x}")),
        ];
        for before in 0..3 {
            let text = [&" ".repeat(before), SENTINEL].concat();
            let encoded = URL_SAFE_NO_PAD.encode(&text).to_ascii_lowercase();
            // Characters that other bytes take part in are left out.
            all.push(encoded[(before * 8).div_ceil(6)..text.len() * 8 / 6].to_owned());
        }
        Self(all)
    }

    /// The signature of a token, the whole in base64, and a ticket as it is.
    fn add(&mut self, credential: &str) {
        let last = credential.rsplit('.').next().filter(|part| part.len() >= 20);
        let encoded = URL_SAFE_NO_PAD.encode(credential);
        self.0.extend(last.into_iter().chain([&*encoded]).map(str::to_ascii_lowercase));
    }

    fn found_in(&self, text: &str) -> Option<&str> {
        let text = text.to_ascii_lowercase();
        self.0.iter().find(|needle| text.contains(&**needle)).map(String::as_str)
    }

    fn assert_none_in(&self, what: &str, text: &str) {
        assert_eq!(self.found_in(text), None, "{what}: {text}");
    }
}

/// A credential, and why a node rejects it as a token of `/ws`.
struct Credential {
    text: String,
    reason: Option<&'static str>,
}

fn credentials() -> Vec<Credential> {
    let claims = |more: Value| {
        let mut claims = json!({ "iss": ISSUER, "note": SENTINEL });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let minted = |more: Value| token_with(&claims(more));
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let valid = minted(json!({}));
    let (message, signature) = valid.rsplit_once('.').unwrap();
    let unsigned =
        format!("{}.{}.", part(&json!({ "alg": "none" })), part(&claims(json!({ "sub": "alice" }))));
    let far = 4_000_000_000_u64;
    let rejected = [
        (
            "bad_signature",
            format!("{message}.{}{}", if signature.starts_with('A') { "B" } else { "A" }, &signature[1..]),
        ),
        ("expired", minted(json!({ "exp": 1_600_000_000, "iat": 1_500_000_000 }))),
        ("not_yet_valid", minted(json!({ "nbf": far, "exp": far + 9 }))),
        ("wrong_issuer", minted(json!({ "iss": format!("https://{SENTINEL}.example.com") }))),
        ("wrong_audience", minted(json!({ "aud": SENTINEL }))),
        ("unknown_role", minted(json!({ "role": SENTINEL }))),
        ("bad_claim", minted(json!({ "exp": SENTINEL }))),
        (
            "unknown_key",
            signed(
                "a secret that no node of these tests ever has",
                Some(SENTINEL),
                &claims(json!({ "sub": "alice", "role": "user", "exp": far })),
            ),
        ),
        ("wrong_algorithm", unsigned),
        ("malformed", SENTINEL.to_owned()),
        ("malformed", format!("{SENTINEL}.{SENTINEL}.{SENTINEL}")),
        ("malformed", format!("a.{SENTINEL}.c")),
        ("malformed", format!("{SENTINEL}-with-{SENTINEL}.")),
        ("too_long", SENTINEL.repeat(450)),
    ];
    let mut all = vec![Credential { text: valid, reason: None }];
    // At `/ws`, no API key is accepted.
    all.push(Credential { text: API_KEY.to_owned(), reason: Some("api_key_not_accepted") });
    all.extend(rejected.map(|(reason, text)| Credential { text, reason: Some(reason) }));
    all
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Query and headers of requests that carry the credential, where it is read and where it is not.
fn carriers(credential: &str) -> Vec<(String, String)> {
    let item = URL_SAFE_NO_PAD.encode(credential);
    let header = |text: String| (String::new(), text);
    let query = |text: String| (text, String::new());
    vec![
        header(format!("Authorization: Bearer {credential}\r\n")),
        header(format!("Authorization: Bearer {credential}\r\n{APP}")),
        header(format!("Authorization: Bearer {credential}\r\n{FOREIGN}")),
        header(format!("Authorization: {credential}\r\n")),
        header(format!("Authorization: Basic {credential}\r\n")),
        header(format!("Authorization: Bearer {credential}\r\nAuthorization: Bearer {credential}\r\n")),
        header(format!("Sec-WebSocket-Protocol: tidegate.v1.json, base64url.bearer.{item}\r\n")),
        header(format!("Sec-WebSocket-Protocol: base64url.bearer.{item}\r\n")),
        header(format!("Sec-WebSocket-Protocol: tidegate.v1.json, base64url.bearer.{credential}\r\n")),
        header(format!("Sec-WebSocket-Protocol: {credential}\r\n")),
        header(format!("Cookie: session={credential}\r\n{APP}")),
        header(format!("Cookie: session={credential}\r\n{FOREIGN}")),
        header(format!("Cookie: session={credential}\r\n")),
        header(format!("Cookie: session={credential}; other={credential}; session={credential}\r\n{APP}")),
        header(format!("X-Api-Key: {credential}\r\n")),
        header(format!("Referer: https://app.example.com/page?token={credential}\r\n")),
        query(format!("?token={credential}")),
        query(format!("?token={}", percent_encoded(credential))),
        query(format!("?token={credential}&token={credential}&access_token={credential}")),
        query(format!("?ticket={credential}")),
        query(format!("/{credential}")),
    ]
}

/// Requests other than the handshake of `/ws`.
fn requests(query: &str, headers: &str) -> Vec<Vec<u8>> {
    let request = |line: &str, headers: &str| {
        format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes()
    };
    let mut all: Vec<_> = ["/ws/alerts", "/ws/predictions/A", "/graphql", "/nowhere"]
        .iter()
        .map(|path| handshake(&format!("{path}{query}"), headers))
        .collect();
    for path in ["/sse", "/ws", "/ws/stats", "/console/ara", "/healthz", "/readyz", "/", "/v1/ticket"] {
        all.push(request(&format!("GET {path}{query}"), headers));
    }
    let json = format!("{headers}Content-Type: application/json\r\nContent-Length: 2\r\n");
    for path in ["/ws/stats", "/v1/nothing", "/ws/alerts"] {
        all.push([request(&format!("POST {path}{query}"), &json), b"{}".to_vec()].concat());
    }
    all
}

/// The pages of the admin listener.
const ADMIN_PAGES: [&str; 7] = [
    "/events?limit=1000",
    "/nodes",
    "/metrics",
    "/config",
    "/connections",
    "/subscriptions?prefix=nothing",
    "/explain?operation=subscribe&subject=prices.A&path=/ws",
];

/// A node under test, and what it has answered so far.
struct Watched {
    node: Process,
    /// The address of its admin listener.
    admin: String,
    needles: Needles,
}

impl Watched {
    async fn serve(nats: &NatsServer, log: &str) -> Self {
        let config = format!(
            "{log}\nadmin.listen = \"127.0.0.1:0\"\nhttp.allowed_origins = [\"https://app.example.com\"]\nhttp.console = true\nauth.cookie = \"session\"\n\
             auth.issuer = \"{ISSUER}\"\n\
             [[endpoint]]\npath = \"/ws\"\n[[endpoint]]\nvocabulary = \"vocabularies/ara.toml\"\napi_keys = true\nanonymous_role = \"guest\"\n\
             [[endpoint]]\nvocabulary = \"vocabularies/graphql-ws.toml\"\n\
             [[role]]\nname = \"guest\"\nsubscribe = {{ allow = [\"alerts\"] }}\nstats = \"all\"\n\
             [[auth.api_key]]\nname = \"reports\"\nsha256 = \"{API_KEY_SHA256}\"\nuser = \"reports\"\nrole = \"user\"\n"
        );
        let mut node = Process::spawn("exec \"$0\" \"$@\"", &nats.node_url(), &config);
        eventually("the node listens", || {
            node.address =
                node.logs().iter().find_map(|line| address_in(line, "listening")).unwrap_or_default();
            let is_listening = !node.address.is_empty();
            async move { is_listening }
        })
        .await;
        node.ready().await;
        let admin = node.logs().iter().find_map(|line| address_in(line, "serving /metrics")).unwrap();
        Self { node, admin, needles: Needles::new() }
    }

    /// Sends the request, and messages if it is a handshake that the node accepts. Returns status and body.
    async fn send(&mut self, request: &[u8], messages: &[String]) -> (u16, String) {
        let mut client = RawClient::connect(&self.node.address).await;
        client.send(request).await;
        let answer = client.answer().await;
        let mut shown = format!("{} {}", answer.head, answer.body);
        if answer.status == 101 {
            for message in messages {
                client.send(&raw::text(message)).await;
            }
            client.send(&raw::frame(0x88, &1000_u16.to_be_bytes())).await;
            shown += &String::from_utf8_lossy(&client.rest().await);
        }
        self.needles.assert_none_in(&String::from_utf8_lossy(request), &shown);
        (answer.status, answer.body)
    }

    /// The pages for operators while a client is connected, with each credential as that of the operator and of the
    /// client in question.
    async fn admin_pages(&mut self, credentials: &[Credential]) {
        let mut connected = RawClient::connect(&self.node.address).await;
        let bearer = format!("Authorization: Bearer {}\r\n", credentials[0].text);
        connected.send(&handshake("/ws", &bearer)).await;
        assert_eq!(connected.answer().await.status, 101);
        let session = connected.message().await["session"].as_str().unwrap().to_owned();
        let of_session = format!("/connections/{session}");
        for Credential { text, .. } in credentials {
            for page in ADMIN_PAGES.into_iter().chain([&*of_session]) {
                for headers in ["", "Authorization: Bearer ", "Explain-Token: "].map(|name| match name {
                    "" => String::new(),
                    name => format!("{name}{text}\r\n"),
                }) {
                    let mut client = RawClient::connect(&self.admin).await;
                    let request = format!("GET {page} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
                    client.send(request.as_bytes()).await;
                    let answer = client.answer().await;
                    assert!(!headers.is_empty() || answer.status < 500, "{answer:?}");
                    self.needles.assert_none_in(&request, &format!("{} {}", answer.head, answer.body));
                }
            }
        }
    }

    /// Every credential in every carrier of a handshake.
    async fn handshakes(&mut self, credentials: &[Credential]) {
        let mut last = None;
        for credential in credentials {
            if credential.reason == last {
                tokio::time::sleep(NEXT_SECOND).await;
            }
            last = credential.reason;
            for (query, headers) in carriers(&credential.text) {
                self.send(&handshake(&format!("/ws{query}"), &headers), &[]).await;
            }
            // A vocabulary may allow a token in the query.
            self.send(&handshake(&format!("/ws/alerts?token={}", credential.text), ""), &[]).await;
        }
    }

    /// Other requests, with a token that is accepted and with one that is not.
    async fn other_requests(&mut self, credentials: &[Credential]) {
        for credential in &credentials[..3] {
            tokio::time::sleep(NEXT_SECOND).await;
            for (query, headers) in carriers(&credential.text) {
                for request in requests(&query, &headers) {
                    self.send(&request, &[]).await;
                }
            }
        }
    }

    /// Credentials in messages, also malformed ones.
    async fn messages(&mut self, credentials: &[Credential]) {
        let sub_protocol = "Sec-WebSocket-Protocol: graphql-transport-ws\r\n";
        for Credential { text, .. } in credentials {
            let auth = json!({ "type": "auth", "token": text }).to_string();
            let init = json!({ "type": "connection_init", "payload": { "token": text } }).to_string();
            self.send(&handshake("/ws", ""), std::slice::from_ref(&auth)).await;
            self.send(&handshake("/graphql", sub_protocol), &[init]).await;
            // Again on a session that is open.
            let bearer = format!("Authorization: Bearer {}\r\n", credentials[0].text);
            self.send(&handshake("/ws", &bearer), &[auth]).await;
        }
        let valid = &credentials[0].text;
        for malformed in [
            json!({ "type": "auth", "token": [valid] }).to_string(),
            json!({ "type": "auth", "token": { "token": valid } }).to_string(),
            json!({ "type": "auth", "Token": valid }).to_string(),
            json!({ "type": "auth", "id": 1, "token": format!("Bearer {valid}") }).to_string(),
            json!({ "type": "subscribe", "token": valid }).to_string(),
            json!([{ "type": "auth", "token": valid }]).to_string(),
            format!("{{\"type\":\"auth\",\"token\":\"{valid}"),
            format!("{{\"type\":\"auth\",\"token\":{valid}}}"),
            format!("{{\"type\":\"auth\",\"token\":\"{valid}\",\"token\":\"{valid}\"}}"),
            format!("{{\"type\":\"auth\",\"token\":\"\u{0}{valid}\"}}"),
            format!("Authorization: Bearer {valid}"),
            valid.clone(),
        ] {
            self.send(&handshake("/ws", ""), std::slice::from_ref(&malformed)).await;
            self.send(&handshake("/ws/alerts", ""), std::slice::from_ref(&malformed)).await;
            self.send(&handshake("/graphql", sub_protocol), &[malformed]).await;
        }
    }

    /// Tickets: used, used twice, and used by another page.
    async fn tickets(&mut self, valid: &str) {
        let post = |headers: &str| {
            let page = format!("Authorization: Bearer {valid}\r\nContent-Length: 0\r\n{headers}");
            format!("POST /v1/ticket HTTP/1.1\r\nHost: localhost\r\n{page}\r\n").into_bytes()
        };
        for (asks, connects) in [("", ""), (APP, APP), (APP, ""), (APP, FOREIGN)] {
            // Only this answer has the ticket.
            let (status, body) = self.send(&post(asks), &[]).await;
            assert_eq!(status, 200, "{body}");
            let body: Value = serde_json::from_str(&body).unwrap();
            let ticket = body["ticket"].as_str().unwrap().to_owned();
            self.needles.add(&ticket);
            for path in ["/ws", "/ws/alerts", "/ws"] {
                self.send(&handshake(&format!("{path}?ticket={ticket}"), connects), &[]).await;
            }
            let half = &ticket[..ticket.len() - 1];
            self.send(&handshake(&format!("/ws?ticket={half}"), connects), &[]).await;
        }
    }

    /// Everything; then the search in the log. Returns the log.
    async fn run(mut self) -> Vec<String> {
        let credentials = credentials();
        for credential in &credentials {
            self.needles.add(&credential.text);
        }
        self.handshakes(&credentials).await;
        self.other_requests(&credentials).await;
        self.messages(&credentials).await;
        self.tickets(&credentials[0].text).await;
        self.admin_pages(&credentials).await;
        tokio::time::sleep(NEXT_SECOND).await;
        let headers = "X-Request-Id: the-last-request\r\nAuthorization: Bearer a.b.c\r\n";
        self.send(&handshake("/ws", headers), &[]).await;
        let logs = || self.node.logs().iter().map(ToString::to_string).collect::<Vec<_>>();
        eventually("the last line", || async {
            logs().iter().any(|line| line.contains("rejected") && line.contains("the-last-request"))
        })
        .await;
        let logs = logs();
        for line in &logs {
            self.needles.assert_none_in("a log line", line);
        }
        logs
    }
}

/// The address in the line with this message, in either format.
fn address_in(line: &Value, message: &str) -> Option<String> {
    if let Some(text) = line.as_str() {
        let (before, after) = text.split_once("address=")?;
        return before.contains(message).then(|| after.split(' ').next().map(str::to_owned))?;
    }
    line["address"].as_str().filter(|_| line["message"] == message).map(str::to_owned)
}

#[tokio::test]
async fn tok_01_no_log_line_and_no_answer_has_a_credential_wherever_it_was_sent() {
    let nats = NatsServer::start().await;
    let json = Watched::serve(&nats, "log.filter = \"trace\"").await;
    let text = Watched::serve(&nats, "log.filter = \"trace,async_nats=trace\"\nlog.format = \"text\"").await;
    let (json, text) = join(json.run(), text.run()).await;
    // The search was not in vain: each rejection has lines.
    for reason in credentials().into_iter().filter_map(|credential| credential.reason).chain(["bad_ticket"]) {
        for logs in [&json, &text] {
            let has_reason = |line: &String| line.contains("rejected") && line.contains(reason);
            assert!(logs.iter().any(has_reason), "{reason}");
        }
    }
}

/// Logins to NATS that NATS rejects, in every way to write one.
#[tokio::test]
async fn tok_01_no_log_line_has_the_login_of_nats() {
    let nats = NatsServer::with("authorization { users: [ { user: edge, password: other } ] }").await;
    let needles = Needles::new();
    let folder = std::env::temp_dir().join(format!("tidegate-sentinel-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        format!("{:?}", path.to_str().unwrap())
    };
    let url = nats.url();
    let with_login = url.replace("nats://", &format!("nats://edge:{SENTINEL}@"));
    let with_token = url.replace("nats://", &format!("nats://{SENTINEL}@"));
    let creds = "-----BEGIN NATS USER JWT-----\nJWT\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\nSEED\n------END USER NKEY SEED------\n";
    let creds = creds
        .replace("JWT\n--", &format!("{SENTINEL}\n--"))
        .replace("SEED\n--", &format!("SU{SENTINEL}\n--"));
    for (url, config) in [
        (&url, format!("nats.user = \"edge\"\nnats.password = \"{SENTINEL}\"")),
        (&url, format!("nats.user = \"edge\"\nnats.password_file = {}", file("password", SENTINEL))),
        (&url, format!("nats.token = \"{SENTINEL}\"")),
        (&url, format!("nats.token_file = {}", file("token", SENTINEL))),
        (&url, format!("nats.creds_file = {}", file("creds", &creds))),
        (&url, format!("nats.nkey_file = {}", file("nkey", &format!("SU{SENTINEL}")))),
        (&with_login, String::new()),
        (&with_token, String::new()),
    ] {
        let config = format!("log.filter = \"trace,async_nats=trace\"\n{config}");
        let node = Process::spawn("exec \"$0\" \"$@\"", url, &config);
        // It cannot log in, or it cannot use the file.
        let is_about_the_login = |line: &String| line.contains("cannot") || line.contains("error");
        let logs = || node.logs().iter().map(ToString::to_string).collect::<Vec<_>>();
        eventually("a line about the login", || async { logs().iter().any(is_about_the_login) }).await;
        for line in logs() {
            needles.assert_none_in(&config, &line);
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A configuration with errors where its secrets are.
#[tokio::test]
async fn tok_01_no_error_of_a_configuration_shows_a_secret_of_it() {
    let needles = Needles::new();
    let path = std::env::temp_dir().join(format!("tidegate-sentinel-{}.toml", std::process::id()));
    for (number, text) in [
        format!("auth.hmac_secret = \"{SENTINEL}\""),
        format!("auth.hmac_secret = \"{SENTINEL}\nhttp.listen = 1"),
        format!("auth.hmac_secret = {SENTINEL}"),
        format!("auth.hmac_secret = [\"{SENTINEL}\"]"),
        format!("auth.hmac_secert = \"{SENTINEL}\""),
        format!("auth = {{ hmac_secret = \"{SENTINEL}\", hmac_secret = \"{SENTINEL}\" }}"),
        format!("nats.password = \"{SENTINEL}\""),
        format!("nats.user = 1\nnats.password = {{ text = \"{SENTINEL}\" }}"),
        format!("nats.token = \"{SENTINEL}\"\nnats.user = \"edge\"\nnats.password = \"{SENTINEL}\""),
        format!("nats.url = \"nats://edge:{SENTINEL}@127.0.0.1:99999\""),
        format!("nats.url = \"http://edge:{SENTINEL}@127.0.0.1\""),
        format!("nats.url = \"nats://edge:{SENTINEL}@127.0.0.1/path\""),
        format!("nats.url = \"nats://edge:{SENTINEL}@a b\""),
        format!("nats.url = \"nats://{SENTINEL}@127.0.0.1\"\nnats.token = \"{SENTINEL}\""),
        format!("nats.url = [\"nats://edge:{SENTINEL}@127.0.0.1\", \"nats://edge:{SENTINEL}2@127.0.0.2\"]"),
        format!("[[auth.key]]\nkid = \"a\"\nalgorithm = \"RS256\"\npublic_key = \"{SENTINEL}\"\nsecret = \"{SENTINEL}\""),
        format!("[[auth.key]]\nkid = \"a\"\nsecret = \"{SENTINEL}\"\n[[auth.key]]\nkid = \"a\"\nsecret = \"{SENTINEL}\""),
        format!("[[auth.key]]\nkid = \"a\"\nsecret = 7\nsecrets = \"{SENTINEL}\""),
        format!("[[auth.api_key]]\nname = \"a\"\nsha256 = \"{SENTINEL}\"\nuser = \"a\"\nrole = \"user\""),
        format!("[[auth.api_key]]\nname = \"a\"\nkey = \"{SENTINEL}\"\nuser = \"a\"\nrole = \"user\""),
    ]
    .iter()
    .enumerate()
    {
        std::fs::write(&path, text).unwrap();
        let printed = tidegate(&["check", "--config", path.to_str().unwrap()], "").await;
        assert!(number == 6 || printed.code != 0, "{text}: {printed:?}");
        needles.assert_none_in(text, &format!("{} {}", printed.out, printed.err));
    }
    std::fs::remove_file(&path).unwrap();
    for (key, value) in [
        ("auth.hmac_secret", SENTINEL.to_owned()),
        ("auth.hmac_secert", SENTINEL.to_owned()),
        ("nats.password", SENTINEL.to_owned()),
        ("nats.pasword", SENTINEL.to_owned()),
        ("nats.url", format!("nats://edge:{SENTINEL} {SENTINEL}@127.0.0.1:0")),
        // Its host is missing.
        ("nats.url", format!("nats://edge:{SENTINEL}")),
    ] {
        let printed = tidegate(&["check", "--set", &format!("{key}={value}")], "").await;
        assert!(key == "nats.password" || printed.code != 0, "{key}: {printed:?}");
        needles.assert_none_in(key, &format!("{} {}", printed.out, printed.err));
    }
}
