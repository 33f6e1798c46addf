//! Checks that the documents agree with the code.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::Value;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::Dialect;
use tidegate_protocol::dialect::SessionScope;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ClientError;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::gap_cause::GapCause;
use tidegate_protocol::headers::PublicationHeaders;
use tidegate_protocol::message::Connected;
use tidegate_protocol::message::Push;
use tidegate_protocol::message::Reply;
use tidegate_protocol::message::RequestContext;
use tidegate_protocol::native::Native;
use tidegate_protocol::native::encode;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::position::Epoch;
use tidegate_protocol::position::Position;
use tidegate_protocol::position::SequenceRange;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::scratch::Scratch;

#[path = "docs/citations.rs"]
mod citations;
#[path = "docs/codes.rs"]
mod codes;
#[path = "docs/glossary.rs"]
mod glossary;
#[path = "docs/manual.rs"]
mod manual;
#[path = "docs/metrics.rs"]
mod metrics;
#[path = "docs/readme.rs"]
mod readme;
#[path = "docs/schema.rs"]
mod schema;
#[path = "docs/scripts.rs"]
mod scripts;
#[path = "docs/strings.rs"]
mod strings;
#[path = "docs/threats.rs"]
mod threats;

#[test]
fn the_table_of_errors_is_that_of_the_code() {
    let protocol = read("docs/PROTOCOL.md");
    let written: Vec<_> = rows(section(&protocol, "Errors")).into_iter().map(|row| row[0].clone()).collect();
    let coded: Vec<_> = ErrorCode::ALL.iter().map(|code| format!("[`{code}`](errors/{code}.md)")).collect();
    assert_eq!(written, coded);
}

#[test]
fn the_table_of_close_codes_is_that_of_the_code() {
    let protocol = read("docs/PROTOCOL.md");
    let written: Vec<_> =
        rows(section(&protocol, "Close codes")).into_iter().map(|row| row[..3].to_vec()).collect();
    let row = |disconnect: &Disconnect| {
        let reconnect = if disconnect.should_reconnect() { "yes" } else { "no" };
        let name = disconnect.name();
        vec![disconnect.code().to_string(), format!("[`{name}`](errors/{name}.md)"), reconnect.to_owned()]
    };
    assert_eq!(written, Disconnect::ALL.iter().map(row).collect::<Vec<_>>());
}

#[test]
fn the_table_of_gap_causes_is_that_of_the_code() {
    let protocol = read("docs/PROTOCOL.md");
    // The section's other table lists losses that cannot be reported, and has two columns.
    let causes = rows(section(&protocol, "Gaps")).into_iter().filter(|row| row.len() == 3);
    let written: Vec<_> = causes.map(|row| row[0].clone()).collect();
    let coded: Vec<_> = gap_causes().iter().map(|cause| format!("`{}`", cause.name())).collect();
    assert_eq!(written, coded);
}

#[test]
fn what_a_client_sends_is_understood() {
    let protocol = read("docs/PROTOCOL.md");
    let examples = examples(section(&protocol, "What a client sends"));
    assert!(examples.len() > 5, "{examples:?}");
    for example in examples {
        let decoded = Native.decode(SessionScope::default(), &ClientMessage::Text(example.clone()));
        assert!(decoded.is_ok(), "{example}: {decoded:?}");
    }
}

#[test]
fn what_the_server_sends_is_what_it_sends() {
    let protocol = read("docs/PROTOCOL.md");
    let written = examples(section(&protocol, "What the server sends"));
    let text = |frame: Frame| String::from_utf8(frame.message().to_vec()).unwrap();
    let sent: BTreeSet<_> = said().into_iter().map(text).collect();
    assert_eq!(written.iter().cloned().collect::<BTreeSet<_>>(), sent);
}

#[test]
fn every_message_in_the_conversation_is_json() {
    let protocol = read("docs/PROTOCOL.md");
    let lines =
        protocol.lines().filter_map(|line| line.strip_prefix("< ").or_else(|| line.strip_prefix("> ")));
    let lines: Vec<_> = lines.filter(|line| line.starts_with('{')).collect();
    assert!(lines.len() > 5);
    for line in lines {
        let parsed: Result<Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok_and(|message| message["type"].is_string()), "{line}");
    }
}

#[test]
fn the_limits_of_the_protocol_are_the_defaults() {
    let (protocol, config) = (read("docs/PROTOCOL.md"), read("config.toml"));
    let limits = rows(section(&protocol, "Limits"));
    assert!(limits.len() > 10);
    for row in limits {
        let (group, key) = row[0].trim_matches('`').split_once('.').expect("a section and a key");
        let group = config.split(&format!("\n[{group}]\n")).nth(1).expect("the section");
        let group = group.split("\n[").next().unwrap_or_default();
        let line = format!("{key} = {}", row[1]);
        assert!(group.lines().any(|written| written == line), "config.toml has no line `{line}`");
    }
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let text = read(&document);
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match Path::new(&document).parent() {
                Some(folder) if !path.is_empty() => folder.join(path),
                Some(_) | None => PathBuf::from(&document),
            };
            assert!(root().join(&target).exists(), "{document}: there is no {link}");
            if !anchor.is_empty() {
                let headings = headings(&read(target.to_str().unwrap()));
                assert!(headings.contains(anchor), "{document}: there is no heading {link}");
            }
        }
    }
}

/// The key file of the examples, readable only by its owner, as the documents say.
fn write_key(folder: &Path) {
    let key = folder.join("token.key");
    fs::write(&key, "not a secret, for it stands in this very test\n").unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_configuration_of_the_readme_is_valid() {
    let readme = read("README.md");
    let folder = std::env::temp_dir().join(format!("tidegate-readme-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), fenced(&readme, "toml").concat()).unwrap();
    write_key(&folder);
    let check = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("check")
        .current_dir(&folder)
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(said, "the configuration is valid (config.toml)\n", "no mistake, and no warning");
}

#[test]
fn the_table_of_imports_names_every_import() {
    let architecture = read("docs/ARCHITECTURE.md");
    let table = rows(section(&architecture, "Who may import whom"));
    assert!(table.len() > 10);
    for row in table {
        let module = row[0].trim_matches('`').to_owned();
        let files = sources("src").into_iter().filter(|file| {
            file.starts_with(&format!("src/{module}/")) || *file == format!("src/{module}.rs")
        });
        for file in files {
            for line in read(&file).lines() {
                let Some(import) = line.trim_start().trim_start_matches("pub ").strip_prefix("use crate::")
                else {
                    continue;
                };
                let named = import.split([':', ';']).next().unwrap_or_default();
                let known = named == module || named == "hooks" || row[1].contains(&format!("`{named}`"));
                assert!(known, "{file} imports {named}, and the table does not say so");
            }
        }
    }
}

#[test]
fn tests_and_files_that_the_architecture_names_exist() {
    let architecture = read("docs/ARCHITECTURE.md");
    let code: String =
        ["src", "crates", "tests"].iter().flat_map(|folder| sources(folder)).map(|f| read(&f)).collect();
    let quoted: Vec<_> = architecture.split('`').skip(1).step_by(2).collect();
    let tests = quoted.iter().filter(|word| {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        word.chars().all(letters) && word.matches('_').count() >= 3
    });
    for test in tests.clone() {
        assert!(code.contains(&format!("fn {test}(")), "there is no test {test}");
    }
    assert!(tests.count() > 5);
    for file in quoted.iter().filter(|word| word.starts_with("src/") || word.starts_with("crates/")) {
        assert!(root().join(file).exists(), "there is no {file}");
    }
}

/// The folder of each crate, by the colour of its boxes in the architecture picture.
const CRATES: [(&str, &str); 5] = [
    ("#dbeafe", "src"),
    ("#bbf7d0", "crates/tidegate-protocol/src"),
    ("#fed7aa", "crates/tidegate-vocabulary/src"),
    ("#99f6e4", "crates/tidegate-document/src"),
    ("#fbcfe8", "crates/tidegate-bench/src"),
];

#[test]
fn the_overview_picture_names_files_that_exist_and_is_drawn_from_its_source() {
    let (source, drawing) = (read("docs/architecture/overview.dot"), read("docs/architecture/overview.svg"));
    let mut labels = Vec::new();
    for statement in source.split("];") {
        let Some((node, label)) = statement.split_once("label=<") else { continue };
        let lines = label.strip_suffix('>').expect("a label ends its statement").split('<');
        let lines = lines.filter_map(|line| line.rsplit('>').next()).filter(|line| !line.is_empty());
        for line in lines {
            labels.push(line);
            for file in line.split(", ").filter(|word| word.ends_with(".rs")) {
                let known =
                    CRATES.iter().find(|(colour, _)| node.contains(&format!("fillcolor=\"{colour}\"")));
                let (_, folder) = known.unwrap_or_else(|| panic!("{file} has the colour of no crate"));
                assert!(root().join(folder).join(file).exists(), "there is no {folder}/{file}");
            }
        }
    }
    let mut texts: Vec<_> = drawing
        .split("<text ")
        .skip(1)
        .map(|text| text.split(['<', '>']).nth(1).expect("what it says"))
        .collect();
    labels.sort_unstable();
    texts.sort_unstable();
    assert!(labels.len() > 30, "{labels:?}");
    assert_eq!(labels, texts, "overview.svg is not drawn from overview.dot: `make picture` draws it");
    let arrows = drawing.matches("class=\"edge\"").count();
    assert_eq!(source.matches(" -> ").count(), arrows, "arrows: `make picture` draws them");
}

/// Every kind of message that the server sends, with the values of the examples.
fn said() -> Vec<Frame> {
    let mut frames: Vec<_> = replies().iter().filter_map(encode::reply).collect();
    frames.extend(pushes().iter().map(encode::push));
    let chat = |payload: &[u8], at: &str| publication("chat.general", payload, at);
    let (scratch, general) = (&mut Scratch::default(), "chat.general");
    let mut text = chat(b"plain text", "12.177");
    text.headers =
        [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")].into_iter().collect();
    frames.push(encode::publication(scratch, general, &chat(br#"{"text":"hello"}"#, "12.802")));
    frames.push(encode::publication(scratch, general, &text));
    frames.push(encode::publication(scratch, general, &chat(b"\xff\x00", "12.219")));
    frames
}

fn replies() -> Vec<Reply> {
    let id = |json: &str| Some(RequestContext::Id(json.into()));
    let price = publication("prices.AAPL", br#"{"price":190.1}"#, "11.833");
    let order = Publication { seq: 41, ..publication("orders.7", br#"{"state":"paid"}"#, "11.833") };
    let error = |code, words: &str| ClientError::new(code, words);
    let forbidden = "this identity may not do this on this channel";
    vec![
        Reply::Connected(Connected {
            session: "50fde92a-0-0".into(),
            user: "alice".into(),
            node: "edge-1".into(),
            ping_interval: Duration::from_secs(25),
            expires_in: Some(Duration::from_millis(3_599_168)),
            max_message: 65_536,
            max_subscriptions: 1000,
        }),
        Reply::Subscribed {
            request_context: id("1"),
            channel: "chat.general".into(),
            snapshot: Vec::new(),
            position: None,
            recovered: None,
        },
        Reply::Subscribed {
            request_context: id("1"),
            channel: "prices.*".into(),
            snapshot: vec![encode::publication(&mut Scratch::default(), "prices.*", &price)],
            position: None,
            recovered: None,
        },
        Reply::Subscribed {
            request_context: id("1"),
            channel: "orders.7".into(),
            snapshot: vec![encode::publication(&mut Scratch::default(), "orders.7", &order)],
            position: Some(Position { epoch: Epoch("20261120093011812".into()), seq: 41 }),
            recovered: None,
        },
        Reply::Subscribed {
            request_context: id("2"),
            channel: "orders.7".into(),
            snapshot: Vec::new(),
            position: Some(Position { epoch: Epoch("20261120093011812".into()), seq: 41 }),
            recovered: Some(true),
        },
        Reply::Unsubscribed { request_context: id("2"), channel: "prices.*".into() },
        Reply::Published { request_context: id("3") },
        Reply::Replied {
            request_context: id("5"),
            data: Payload::classify(Bytes::from_static(br#"{"bid":190.0,"ask":190.2}"#)),
        },
        Reply::Pong { request_context: id("6") },
        Reply::Error {
            request_context: id("\"screen\""),
            channel: Some("admin.users".to_owned()),
            error: error(ErrorCode::Forbidden, forbidden),
        },
        Reply::Error {
            request_context: id("5"),
            channel: None,
            error: error(ErrorCode::NoResponders, "no service subscribes to this subject"),
        },
    ]
}

fn pushes() -> Vec<Push> {
    let general: Arc<str> = "chat.general".into();
    let channel = || Arc::clone(&general);
    let error = ClientError::new(ErrorCode::Forbidden, "the new token does not allow this channel");
    vec![
        Push::Gap { channel: channel(), cause: GapCause::Slow, dropped: Some(34), range: None },
        Push::Gap { channel: channel(), cause: GapCause::Nats, dropped: None, range: None },
        Push::Gap {
            channel: "orders.7".into(),
            cause: GapCause::Discarded,
            dropped: None,
            range: Some(SequenceRange { from: 42, to: 57 }),
        },
        Push::Stale { channel: "prices.AAPL".into(), since: time("12.266") },
        Push::Unsubscribed { channel: channel(), error },
        Push::Ping,
        Push::Expiring { within: Duration::from_millis(29_998) },
        Push::Close { disconnect: Disconnect::GoingAway, retry_after: Some(Duration::from_millis(100)) },
        Push::Close { disconnect: Disconnect::TokenExpired, retry_after: None },
    ]
}

fn publication(subject: &str, payload: &[u8], at: &str) -> Publication {
    Publication {
        subject: subject.into(),
        payload: Payload::classify(Bytes::copy_from_slice(payload)),
        headers: PublicationHeaders::default(),
        key: subject.into(),
        time: time(at),
        seq: 0,
    }
}

fn time(second: &str) -> SystemTime {
    humantime::parse_rfc3339(&format!("2026-11-21T02:24:{second}Z")).unwrap()
}

/// All causes. A new one does not compile until it is added here.
fn gap_causes() -> Vec<GapCause> {
    let mut causes = vec![GapCause::Slow];
    while let Some(next) = match causes[causes.len() - 1] {
        GapCause::Slow => Some(GapCause::Expired),
        GapCause::Expired => Some(GapCause::Nats),
        GapCause::Nats => Some(GapCause::Malformed),
        GapCause::Malformed => Some(GapCause::TooLarge),
        GapCause::TooLarge => Some(GapCause::Overflow),
        GapCause::Overflow => Some(GapCause::Internal),
        GapCause::Internal => Some(GapCause::Discarded),
        GapCause::Discarded => Some(GapCause::StreamUnavailable),
        GapCause::StreamUnavailable => Some(GapCause::Epoch),
        GapCause::Epoch => Some(GapCause::TooMany),
        GapCause::TooMany => None,
    } {
        causes.push(next);
    }
    causes
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text below `## heading`, up to the next heading of the same level.
fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let found = text.split("\n## ").find(|part| part.lines().next().is_some_and(|l| l.starts_with(heading)));
    found.unwrap_or_else(|| panic!("there is no heading {heading}"))
}

/// The rows of all tables in a text, without their headings.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let mut rows = Vec::new();
    let mut in_body = false;
    for line in text.lines() {
        if line.starts_with("|---") {
            in_body = true;
        } else if !line.starts_with('|') {
            in_body = false;
        } else if in_body {
            rows.push(cells(line));
        }
    }
    rows
}

/// The contents of the fenced code blocks of one language.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    text.split(&opening)
        .skip(1)
        .map(|block| block.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

/// The JSON examples of a text, one message per line.
fn examples(text: &str) -> Vec<String> {
    fenced(text, "json").iter().flat_map(|block| block.lines()).map(str::to_owned).collect()
}

fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// The anchors of a page's headings.
fn headings(text: &str) -> BTreeSet<String> {
    let kept = |c: char| c.is_alphanumeric() || c == ' ' || c == '-' || c == '_';
    let anchor =
        |heading: &str| heading.trim().to_lowercase().chars().filter(|c| kept(*c)).collect::<String>();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#')).replace(' ', "-")).collect()
}

/// The Markdown files of the repository.
fn documents() -> Vec<String> {
    let mut found = files("", "md", false);
    found.extend(files("docs", "md", true));
    assert!(found.len() > 5, "{found:?}");
    found
}

fn sources(folder: &str) -> Vec<String> {
    files(folder, "rs", true)
}

fn files(folder: &str, extension: &str, deep: bool) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if entry.file_type().unwrap().is_dir() {
            if deep && name != "node_modules" {
                found.extend(files(&path, extension, deep));
            }
        } else if path.ends_with(&format!(".{extension}")) {
            found.push(path);
        }
    }
    found.sort();
    found
}
