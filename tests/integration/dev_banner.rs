//! What `tidegate dev` prints for each shipped configuration is true: the pages open, the sockets and tokens connect, and
//! each command reaches the clients that it is for.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use futures_util::StreamExt as _;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::watch;

use crate::support::eventually;
use crate::support::nats_server;
use crate::support::nats_server::NatsServer;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::within;

static FILES: AtomicU32 = AtomicU32::new(0);

/// A configuration, and the messages with which its pages subscribe.
struct Frontend {
    name: &'static str,
    messages: &'static [&'static str],
}

const FRONTENDS: [Frontend; 6] = [
    Frontend { name: "hoardrun", messages: &[r#"{"type":"join_room","room":"market_data"}"#] },
    Frontend { name: "ara", messages: &[] },
    Frontend { name: "financegpt", messages: &[r#"{"type":"subscribe","symbols":["AAPL"]}"#] },
    Frontend { name: "sentio", messages: &[r#"{"action":"subscribe"}"#] },
    Frontend {
        name: "stock-agent",
        messages: &[
            r#"{"type":"subscribe","channel":"prices"}"#,
            r#"{"type":"subscribe","channel":"alerts"}"#,
            r#"{"type":"subscribe","channel":"signals"}"#,
            r#"{"type":"subscribe","channel":"notifications"}"#,
        ],
    },
    Frontend {
        name: "graphql-ws",
        messages: &[
            r#"{"type":"connection_init"}"#,
            r#"{"id":"1","type":"subscribe","payload":{"operationName":"Prices","query":"subscription Prices($symbol: String!) { prices(symbol: $symbol) { price } }","variables":{"symbol":"AAPL"}}}"#,
            r#"{"id":"2","type":"subscribe","payload":{"operationName":"Notifications","query":"subscription Notifications { notifications { title } }"}}"#,
        ],
    },
];

/// What it has printed.
#[derive(Debug, Default)]
struct Printed {
    pages: Vec<String>,
    /// Each with the headers of its handshake.
    sockets: Vec<(String, String)>,
    nats: String,
    /// The user, the token, and whether it is for sockets.
    tokens: Vec<(String, String, bool)>,
    /// The readers, the subject and the payload.
    publications: Vec<(Vec<String>, String, Value)>,
    text: String,
}

impl Printed {
    fn read(&mut self, line: &str, readers: &mut Vec<String>) {
        self.text += line;
        self.text.push('\n');
        if let Some(list) = line.strip_prefix("For ") {
            *readers = list.trim_end_matches(':').split(", ").map(str::to_owned).collect();
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["page", url] => self.pages.push(url.to_owned()),
            ["socket", url, "subprotocol", name, ..] => {
                self.sockets.push((url.to_owned(), format!("Sec-WebSocket-Protocol: {name}\r\n")));
            }
            ["socket", url, ..] => self.sockets.push((url.to_owned(), String::new())),
            ["token", token, user, ..] => {
                self.tokens.push((user.to_owned(), token.to_owned(), !line.contains("HTTP calls only")));
            }
            ["nats", "pub", ..] => {
                let (command, payload) = line.trim().trim_end_matches('\'').split_once(" '").unwrap();
                let subject = command.rsplit(' ').next().unwrap().to_owned();
                self.publications.push((readers.clone(), subject, serde_json::from_str(payload).unwrap()));
            }
            ["nats", url] => self.nats = url.to_owned(),
            _ => {}
        }
    }
}

/// A running `tidegate dev`.
struct Dev {
    child: Child,
    printed: Printed,
}

impl Dev {
    async fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("dev")
            .args(arguments)
            .env("TIDEGATE_HTTP__LISTEN", "127.0.0.1:0")
            .env("TIDEGATE_NATS_SERVER", nats_server::program())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut printed, mut readers) = (Printed::default(), Vec::new());
        loop {
            let line = within("a line", lines.next_line()).await.unwrap().expect("the banner has an end");
            if line.starts_with("Ctrl-C") {
                return Self { child, printed };
            }
            printed.read(&line, &mut readers);
        }
    }

    /// With a shipped configuration, whose listeners get free ports.
    async fn shipped(name: &str) -> Self {
        let text = std::fs::read_to_string(format!("vocabularies/{name}.config.toml")).unwrap();
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let file = format!("tidegate-dev-banner-{}-{number}.toml", std::process::id());
        let file: PathBuf = std::env::temp_dir().join(file);
        std::fs::write(&file, text.replace("127.0.0.1:9001", "127.0.0.1:0")).unwrap();
        let dev = Self::start(&["--config", file.to_str().unwrap()]).await;
        std::fs::remove_file(&file).unwrap();
        dev
    }
}

/// The host and port, and the path of an address.
fn parts(url: &str) -> (&str, String) {
    let (_, rest) = url.split_once("://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    (host, format!("/{}", path.split('#').next().unwrap()))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Connects to every socket that accepts these headers, and sends the messages. Returns the addresses, and all that the
/// sockets receive from then on.
async fn listen(
    printed: &Printed,
    credential: &str,
    messages: &[&str],
) -> (Vec<String>, watch::Receiver<String>) {
    let mut open = Vec::new();
    let (sender, received) = watch::channel(String::new());
    for (url, subprotocol) in &printed.sockets {
        let (host, path) = parts(url);
        let headers = format!("{credential}{subprotocol}");
        let answer = ask(host, raw::handshake(&path, &headers)).await;
        assert!([101, 401, 403].contains(&answer.status), "{url}: {}", answer.head);
        if answer.status != 101 {
            continue;
        }
        open.push(url.clone());
        let mut client = RawClient::upgrade(TcpStream::connect(host).await.unwrap(), &path, &headers).await;
        for message in messages {
            client.send(&raw::text(message)).await;
        }
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some(frame) = client.frame().await {
                if frame.opcode == 1 {
                    let text = String::from_utf8_lossy(&frame.message()).into_owned();
                    sender.send_modify(|all| all.push_str(&text));
                }
            }
        });
    }
    (open, received)
}

async fn check_pages(printed: &Printed, what: &str) {
    assert!(!printed.pages.is_empty(), "{what}");
    for page in &printed.pages {
        let (host, path) = parts(page);
        let get =
            |headers: String| ask(host, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"));
        let answer = get(String::new()).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
        // The token is in the fragment. The page asks the node whether it is valid.
        let (_, token) = page.split_once("#token=").unwrap();
        assert_eq!(get(bearer(token)).await.status, 200, "{page}");
        assert_eq!(get(bearer("wrong")).await.status, 401, "{page}");
    }
}

async fn check(frontend: &Frontend) {
    let dev = Dev::shipped(frontend.name).await;
    let (printed, what) = (&dev.printed, frontend.name);
    check_pages(printed, what).await;
    let nats = async_nats::connect(&printed.nats).await.unwrap();
    let mut open = Vec::new();
    let mut readers = vec![];
    for (user, token, has_socket) in &printed.tokens {
        let (sockets, received) = listen(printed, &bearer(token), frontend.messages).await;
        assert!(!sockets.is_empty(), "{what}: the token of {user} connects nowhere");
        if *has_socket {
            open.extend(sockets);
        }
        readers.push((user.clone(), received));
    }
    for (url, _) in &printed.sockets {
        assert!(open.contains(url), "{what}: no token connects to {url}");
    }
    let (guests, received) = listen(printed, "", frontend.messages).await;
    assert!(!guests.is_empty() || !printed.text.contains("Clients without a token"), "{what}");
    readers.push(("clients without a token".to_owned(), received));
    assert!(!printed.publications.is_empty(), "{what}");
    for (at, (names, subject, payload)) in printed.publications.iter().enumerate() {
        // A page may get only the members that it knows, but each shows the price.
        let (mut payload, mark) = (payload.clone(), 7_000_000 + at);
        let member = if payload["price"].is_null() { "mark" } else { "price" };
        payload[member] = json!(mark);
        let mark = mark.to_string();
        for name in names {
            let (_, received) = readers.iter().find(|(reader, _)| reader == name).unwrap();
            eventually(&format!("{what}: {name} gets {subject}"), || async {
                nats.publish(subject.clone(), payload.to_string().into()).await.unwrap();
                received.borrow().contains(&mark)
            })
            .await;
        }
    }
}

#[tokio::test]
async fn all_that_is_printed_for_a_shipped_configuration_works() {
    for frontend in &FRONTENDS {
        check(frontend).await;
    }
}

#[tokio::test]
async fn only_roles_of_the_configuration_get_tokens() {
    let roles =
        [("ara", vec!["demo"]), ("financegpt", vec!["demo", "service"]), ("sentio", vec!["demo", "admin"])];
    for (name, expected) in roles {
        let dev = Dev::shipped(name).await;
        let users: Vec<&str> = dev.printed.tokens.iter().map(|(user, ..)| user.as_str()).collect();
        assert_eq!(users, expected, "{name}");
        assert!(!dev.printed.text.contains("has added"), "{name}");
        assert_eq!(dev.printed.text.contains("nats pub -s"), !dev.printed.nats.ends_with(":4222"), "{name}");
    }
}

#[tokio::test]
async fn the_users_own_nats_gets_demo_data_only_if_asked_for() {
    let nats = NatsServer::start().await;
    let url = nats.node_url();
    let client = nats.client().await;
    let mut prices = client.subscribe("prices.>").await.unwrap();
    client.flush().await.unwrap();
    let mut dev = Dev::start(&["--nats-url", &url]).await;
    assert!(dev.printed.text.contains("Nothing is published"), "{}", dev.printed.text);
    let (host, _) = parts(&dev.printed.sockets[0].0);
    eventually("the node is ready", || async { raw::get(host, "/readyz").await.0 == 200 }).await;
    dev.child.kill().await.unwrap();
    client.publish("prices.END", "{}".into()).await.unwrap();
    let first = within("a message", prices.next()).await.unwrap();
    assert_eq!(first.subject.as_str(), "prices.END");
    let dev =
        Dev::start(&["--nats-url", &url, "--demo-data", "--demo-user", &NatsServer::login_of("producer")])
            .await;
    assert!(dev.printed.text.contains("Demo data is published"), "{}", dev.printed.text);
    within("a price", prices.next()).await.unwrap();
}
