//! Who may import whom, what is pure, who starts tasks, and what every file looks like; read from the sources.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use tidegate::vocabulary::Vocabulary;

use crate::source::Source;
use crate::source::read;

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/source.rs"]
mod source;

/// Each module, and the modules of ours that it may import. A new edge is a decision: it changes this table and
/// `docs/ARCHITECTURE.md` in the same commit. `hooks` does something in tests only, and to whoever asks for it.
const LAYERS: [(&str, &[&str]); 16] = [
    ("main", &["cli"]),
    ("cli", &["bench", "app", "config", "telemetry", "auth", "nats", "vocabulary", "protocol"]),
    // A program beside the node: it starts nodes as processes, and uses only what makes a token and hides a secret.
    ("bench", &["auth", "config", "vocabulary", "protocol"]),
    (
        "app",
        &[
            "http",
            "shard",
            "connection",
            "lane",
            "auth",
            "nats",
            "hub",
            "telemetry",
            "config",
            "vocabulary",
            "protocol",
            "hooks",
        ],
    ),
    (
        "http",
        &[
            "shard",
            "connection",
            "lane",
            "auth",
            "nats",
            "hub",
            "telemetry",
            "config",
            "vocabulary",
            "protocol",
        ],
    ),
    (
        "shard",
        &[
            "connection",
            "lane",
            "auth",
            "nats",
            "hub",
            "telemetry",
            "config",
            "vocabulary",
            "protocol",
            "hooks",
        ],
    ),
    ("connection", &["lane", "auth", "nats", "hub", "telemetry", "config", "protocol", "hooks"]),
    ("lane", &["nats", "telemetry", "config", "protocol", "hooks"]),
    ("auth", &["telemetry", "config", "protocol"]),
    ("nats", &["telemetry", "config", "protocol", "hooks"]),
    ("hub", &["protocol"]),
    ("telemetry", &["config"]),
    ("config", &["vocabulary", "protocol"]),
    ("vocabulary", &["protocol"]),
    ("protocol", &[]),
    ("hooks", &[]),
];

/// Each foreign crate, and the files that may name it, by the beginnings of their paths in `src`.
const DOORS: [(&str, &[&str]); 36] = [
    ("anyhow", &["app", "bench", "cli"]),
    ("async_nats", &["nats/client.rs"]),
    ("aws_lc_rs", &["auth", "nats/dial.rs"]),
    ("base64", &["protocol", "auth", "http", "nats/login.rs"]),
    (
        "bytes",
        &["vocabulary", "protocol", "hub", "nats", "lane", "connection", "shard", "http", "cli/demo.rs"],
    ),
    ("clap", &["cli"]),
    ("config", &["config"]),
    ("flate2", &["protocol/deflate.rs"]),
    ("futures_util", &["nats", "shard", "http/calls.rs", "http/farewell.rs", "http/health.rs"]),
    ("getrandom", &["app", "bench", "cli"]),
    ("hdrhistogram", &["bench"]),
    ("headers", &["http"]),
    ("httparse", &["http"]),
    ("humantime", &["vocabulary", "protocol"]),
    ("hyper", &["http"]),
    ("hyper_util", &["http"]),
    ("jsonwebtoken", &["auth"]),
    ("memchr", &["nats"]),
    ("mio", &["bench"]),
    ("nkeys", &["nats"]),
    ("rustix", &["app", "bench", "cli", "http/accept.rs"]),
    ("rustls_native_certs", &["nats"]),
    (
        "serde",
        &[
            "protocol/json.rs",
            "protocol/members.rs",
            "protocol/native",
            "protocol/payload.rs",
            "protocol/tally.rs",
            "vocabulary",
            "auth",
            "shard/nodes",
        ],
    ),
    (
        "serde_json",
        &[
            "protocol/json.rs",
            "protocol/members.rs",
            "protocol/native",
            "protocol/payload.rs",
            "protocol/writer.rs",
            "vocabulary",
            "auth",
            "http",
            "bench",
            "cli",
            "nats/info.rs",
            "nats/login.rs",
            "nats/permissions.rs",
            "shard/nodes",
        ],
    ),
    ("slab", &["connection", "lane", "bench"]),
    ("smallvec", &["lane", "shard"]),
    ("socket2", &["connection", "http", "bench"]),
    ("thiserror", &[""]),
    ("tokio", &["nats", "lane", "connection", "shard", "http", "app", "cli", "hooks"]),
    ("tokio_rustls", &["nats"]),
    ("tokio_util", &["nats", "lane", "connection", "shard", "http", "app", "cli"]),
    ("toml", &["vocabulary", "protocol/place.rs"]),
    ("tracing", &["nats", "lane", "connection", "shard", "http", "app", "cli", "auth", "telemetry"]),
    ("tracing_subscriber", &["telemetry", "config/log.rs"]),
    ("tungstenite", &["protocol"]),
    ("warp", &["http"]),
];

/// What may not stand where, and why: the beginnings of paths in `src`, the words, the reason.
const BANS: [(&[&str], &[&str], &str); 2] = [
    (
        &["protocol", "vocabulary"],
        &[
            "tokio",
            "async",
            ".await",
            "Instant::now",
            "SystemTime::now",
            "std::net",
            "std::fs",
            "std::env",
            "std::thread",
            "getrandom",
            "RandomState",
            "rand",
        ],
        "the core performs no I/O, reads no clock and draws no chance: they are arguments",
    ),
    (
        &["hub", "lane/feed.rs", "lane/feeds.rs", "lane/encoder.rs", "lane/values.rs"],
        &["tokio", "async", ".await", "Instant::now", "SystemTime::now"],
        "hub and feed are data: they never wait",
    ),
];

/// Hashers whose keys are known: whoever chooses the names in a map could make them collide.
const KNOWN_HASHERS: [&str; 13] = [
    "FxHash",
    "FxHashMap",
    "FxHashSet",
    "FxHasher",
    "FxBuildHasher",
    "rustc_hash",
    "fnv",
    "FnvHashMap",
    "ahash",
    "nohash",
    "DefaultHasher",
    "SipHasher",
    "BuildHasherDefault",
];

/// Words that only some files may say, and why the others may not: the words, the beginnings of paths, the reason.
const PRIVILEGES: [(&[&str], &[&str], &str); 3] = [
    (
        &[
            "tokio::spawn",
            "task::spawn",
            "task::spawn_local",
            "task::spawn_blocking",
            "spawn_blocking",
            "thread::spawn",
            "thread::scope",
            "thread::Builder",
        ],
        &["app", "shard", "bench"],
        "threads and tasks are started by app and shard, and by others on the tracker that they are given; bench is \
         a program of its own",
    ),
    (
        &["LocalSet", "runtime::Builder", "runtime::Runtime"],
        &["app", "shard", "cli.rs"],
        "a runtime is a shard's, or the one around the shards",
    ),
    (
        &["env::var", "env::vars", "env::var_os", "env::vars_os", "env::set_var"],
        &["config"],
        "only config reads the environment",
    ),
];

/// Where clients and NATS can cause a line of the log, and the lines above `debug` there that they cannot cause again and
/// again, or that count on their own.
const REACHED: [&str; 6] = ["http", "shard", "connection", "lane", "auth", "nats"];
const SELDOM: [&str; 6] = [
    "cannot listen\"",
    "cannot set options of the listener",
    "a shard has ended by a fault",
    "cannot listen to other nodes",
    "a message from nats cannot be read",
    "a lane was asked by a shard that does not exist",
];

const LONGEST_FILE: usize = 600;

/// Whether a path in `src` begins so, by whole names: `hub` begins `hub.rs` and `hub/topic.rs`.
fn begins(path: &str, with: &str) -> bool {
    let rest = path.strip_prefix(with);
    rest.is_some_and(|rest| with.is_empty() || rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}

fn within(path: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|with| begins(path, with))
}

/// The modules of ours that the source names and its row does not allow.
fn wrong_imports(source: &Source) -> Vec<String> {
    let module = source.module();
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        return match module {
            "lib" => Vec::new(),
            _ => vec![source.fault(1, &format!("the module `{module}` has no row in the table of layers"))],
        };
    };
    let wrong = source
        .imports()
        .into_iter()
        .filter(|(_, named)| named != module && !allowed.contains(&named.as_str()));
    wrong.map(|(line, named)| source.fault(line, &format!("`{module}` may not import `{named}`"))).collect()
}

/// The foreign crates that the source names away from their doors.
fn wrong_doors(source: &Source) -> Vec<String> {
    let away = DOORS.iter().filter(|(_, doors)| !within(source.in_src(), doors));
    away.flat_map(|(name, _)| {
        let named = source.names_crate(name);
        named
            .into_iter()
            .map(move |line| source.fault(line, &format!("`{name}` is named away from its door")))
    })
    .collect()
}

/// The words that the source may not say.
fn wrong_words(source: &Source) -> Vec<String> {
    let path = source.in_src();
    let banned = BANS.iter().filter(|(places, ..)| within(path, places)).map(|(_, words, why)| (words, why));
    let privileged = PRIVILEGES.iter().filter(|(_, places, _)| !within(path, places));
    let forbidden = banned.chain(privileged.map(|(words, _, why)| (words, why)));
    let faults = forbidden.flat_map(|(words, why)| {
        words.iter().flat_map(move |word| {
            let said = source.says(word);
            said.into_iter().map(move |line| source.fault(line, &format!("says `{word}`; {why}")))
        })
    });
    faults.collect()
}

/// The hashers that no map may have: the keys of most maps come from clients and producers.
fn wrong_hashers(source: &Source) -> Vec<String> {
    let said =
        KNOWN_HASHERS.iter().flat_map(|word| source.says(word).into_iter().map(move |line| (line, word)));
    said.map(|(line, word)| {
        source.fault(line, &format!("says `{word}`: std's maps draw their keys by chance"))
    })
    .collect()
}

/// Lines above `debug` that a peer can cause and that no limit holds back: each goes through one, and has `suppressed`.
fn endless_logs(source: &Source) -> Vec<String> {
    if !REACHED.contains(&source.module()) {
        return Vec::new();
    }
    let code = source.text.split("#[cfg(test)]").next().unwrap_or_default();
    let begins = ["info!(", "warn!(", "error!("].into_iter().flat_map(|word| code.match_indices(word));
    let endless = begins.filter(|(at, _)| {
        let line = code[*at..].split_inclusive(')').scan(0_usize, |open, piece| {
            *open += piece.matches('(').count();
            let is_whole = *open == 0;
            *open = open.saturating_sub(1);
            (!is_whole).then_some(piece)
        });
        let line: String = line.collect();
        !line.contains("suppressed") && !SELDOM.iter().any(|words| line.contains(words))
    });
    endless
        .map(|(at, _)| {
            let line = code[..at].matches('\n').count() + 1;
            source
                .fault(line, "logs what a peer may cause without end: use a `LogLimit` and say `suppressed`")
        })
        .collect()
}

/// What every file has to look like, tests too.
fn wrong_form(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    if !source.text.starts_with("//! ") {
        faults.push(source.fault(1, "the first line does not say in `//! …` what the file is for"));
    }
    let lines = source.text.lines().count();
    if lines > LONGEST_FILE {
        faults.push(source.fault(lines, &format!("has {lines} lines, more than {LONGEST_FILE}")));
    }
    if source.path.ends_with("/mod.rs") {
        faults.push(source.fault(1, "is called mod.rs: call it by its module's name, beside its folder"));
    }
    for line in source.says_raw("use crate::{").into_iter().chain(source.says_raw("use super::{")) {
        faults.push(source.fault(line, "imports several things in one line: one `use` each"));
    }
    faults
}

fn all(folders: &[&str], rules: &[fn(&Source) -> Vec<String>]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: Vec<_> = folders.iter().flat_map(|folder| read(root, folder)).collect();
    assert!(sources.len() > 10, "only {} sources found", sources.len());
    let faults: Vec<_> =
        sources.iter().flat_map(|source| rules.iter().flat_map(|rule| rule(source))).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn modules_import_only_what_their_layer_allows() {
    all(&["src"], &[wrong_imports]);
}

#[test]
fn every_foreign_crate_has_its_doors() {
    all(&["src"], &[wrong_doors]);
}

#[test]
fn the_core_is_pure_and_only_app_and_shard_start_things() {
    all(&["src"], &[wrong_words]);
}

#[test]
fn what_a_peer_can_cause_floods_no_log() {
    all(&["src"], &[endless_logs]);
}

#[test]
fn ex_06_no_map_hashes_with_keys_that_are_known() {
    all(&["src"], &[wrong_hashers]);
}

#[test]
fn every_file_says_what_it_is_for_and_is_not_too_long() {
    all(&["src", "tests", "examples", "benches"], &[wrong_form]);
}

#[test]
fn the_table_of_layers_follows_the_order_of_the_map() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let order: Vec<_> = ["main"].into_iter().chain(modules).collect();
    let place =
        |name: &str| order.iter().position(|module| *module == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(order.len(), LAYERS.len(), "{order:?}");
    for (module, imports) in LAYERS {
        for import in imports {
            assert!(place(module) < place(import), "`{module}` stands below `{import}` in src/lib.rs");
        }
    }
}

#[test]
fn every_dependency_has_a_door_and_is_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (dependencies, _) = dependencies.split_once("\n[").unwrap();
    let names = dependencies.lines().filter_map(|line| line.split_once(" = "));
    let mut names: Vec<_> = names.map(|(name, _)| name.replace('-', "_")).collect();
    names.sort();
    assert_eq!(names, DOORS.map(|(name, _)| name), "a new dependency is a decision: give it a door");
    let sources = read(root, "src");
    for name in names {
        assert!(
            sources.iter().any(|source| !source.names_crate(&name).is_empty()),
            "`{name}` is used by nobody"
        );
    }
}

#[test]
fn every_vocabulary_has_transcripts_and_every_transcript_a_vocabulary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = fs::read_dir(root.join("tests/transcripts")).unwrap();
    let folders: Vec<_> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for folder in &folders {
        let is_shipped = root.join(format!("vocabularies/{folder}.toml")).exists();
        let is_known = is_shipped || Vocabulary::by_name(folder).is_some();
        assert!(is_known, "tests/transcripts/{folder} is of no vocabulary");
    }
    let source = fs::read_to_string(root.join("src/vocabulary.rs")).unwrap();
    let lines: Vec<_> = source.lines().collect();
    // Those of tests have no frontend.
    let named = lines.windows(2).filter(|pair| !pair[0].contains("test-hooks")).filter_map(|pair| {
        pair[1].trim().strip_prefix('"')?.split_once("\" => Some(Self::").map(|(name, _)| name)
    });
    let named: Vec<_> = named.collect();
    assert!(!named.is_empty());
    for name in named {
        assert!(folders.iter().any(|folder| folder == name), "`{name}` has no tests/transcripts/{name}");
    }
}

/// What a rule says of a source that is made up.
fn faults(rule: fn(&Source) -> Vec<String>, path: &str, code: &str) -> Vec<String> {
    rule(&Source::new(path, &format!("//! A source.\n{code}\n")))
}

#[test]
fn a_forbidden_import_is_found_however_it_is_written() {
    for (path, code) in [
        ("src/protocol/session.rs", "use crate::hub::Hub;"),
        ("src/protocol/session/command.rs", "use super::super::super::hub::Hub;"),
        ("src/protocol.rs", "fn f() -> super::hub::Hub { todo!() }"),
        ("src/hub/topic.rs", "fn f(lane: &crate::lane::Lane) {}"),
        ("src/lane.rs", "#[cfg(feature = \"test-hooks\")]\nuse crate::shard::Shard;"),
        ("src/connection/socket.rs", "pub use crate::http::serve;"),
        ("src/cli/dev.rs", "use crate::hub;"),
        ("src/main.rs", "use tidegate::app::App;"),
        ("src/surprise.rs", "fn f() {}"),
    ] {
        let found = faults(wrong_imports, path, code);
        assert_eq!(found.len(), 1, "{path}: {code}: {found:?}");
        assert!(found[0].starts_with(path), "{found:?}");
    }
    for (path, code) in [
        ("src/protocol/session.rs", "use crate::protocol::frame::Frame;"),
        ("src/protocol/session/command.rs", "use super::super::hub::Hub;"),
        ("src/protocol/session.rs", "// as crate::hub does\nconst A: &str = \"crate::hub\";"),
        ("src/protocol/session.rs", "#[cfg(test)]\nmod tests { use crate::hub::Hub; }"),
        ("src/protocol/session/tests.rs", "use crate::hub::Hub;"),
        ("src/hub.rs", "use crate::protocol::class::Class;"),
    ] {
        assert_eq!(faults(wrong_imports, path, code), Vec::<String>::new(), "{path}: {code}");
    }
}

#[test]
fn a_crate_away_from_its_door_is_found() {
    for (path, code) in [
        ("src/lane.rs", "use nkeys::KeyPair;"),
        ("src/connection.rs", "fn f(reply: impl warp::Reply) {}"),
        ("src/http.rs", "fn f() { ::tokio_rustls::connect(); }"),
        ("src/auth.rs", "use config::Config;"),
        ("src/auth.rs", "use clap;"),
        ("src/protocol/session.rs", "#[derive(serde::Serialize)]\nstruct A;"),
        ("src/connection/websocket.rs", "use tungstenite::protocol::frame::FrameHeader;"),
        ("src/config/table.rs", "use tracing_subscriber as logs;"),
    ] {
        assert_eq!(faults(wrong_doors, path, code).len(), 1, "{path}: {code}");
    }
    for (path, code) in [
        ("src/nats/subscription.rs", "use nkeys::KeyPair;"),
        ("src/auth.rs", "use crate::config::auth::AuthConfig;\nfn f() { config::load(); }"),
        ("src/http/serve.rs", "use hyper::Request;"),
        ("src/lane.rs", "// nkeys::KeyPair\nfn f(slab: u8) { a.slab::<u8>(); b::slab::c(); }"),
    ] {
        assert_eq!(faults(wrong_doors, path, code), Vec::<String>::new(), "{path}: {code}");
    }
}

#[test]
fn words_that_a_place_may_not_say_are_found() {
    for (path, code) in [
        ("src/protocol/session.rs", "async fn f() {}"),
        ("src/protocol/session.rs", "fn f() { g().await; }"),
        ("src/protocol/frame.rs", "fn f() -> Instant { Instant::now() }"),
        ("src/protocol/frame.rs", "use std::fs::File;"),
        ("src/protocol/frame.rs", "use tokio::time;"),
        ("src/protocol.rs", "use std::hash::RandomState;"),
        ("src/hub.rs", "use tokio::sync::Notify;"),
        ("src/hub/topic.rs", "async fn f() {}"),
        ("src/lane/feed.rs", "fn f() { g().await; }"),
        ("src/lane/encoder.rs", "use tokio::time;"),
        ("src/connection.rs", "fn f() { tokio::spawn(g()); }"),
        ("src/nats.rs", "fn f() { tokio::task::spawn_local(g()); }"),
        ("src/lane.rs", "use std::thread;\nfn f() { thread::spawn(g); }"),
        ("src/http.rs", "fn f() { std::env::var(\"A\"); }"),
    ] {
        assert!(!faults(wrong_words, path, code).is_empty(), "{path}: {code}");
    }
    for (path, code) in [
        (
            "src/protocol/session.rs",
            "// async, tokio::spawn\nfn asynchronous() -> &'static str { \"async\" }",
        ),
        ("src/protocol/session.rs", "fn f() { r#\"tokio \" async\"#; '\"'; b'\\''; } /* .await */"),
        ("src/protocol/session.rs", "#[cfg(test)]\nmod tests {\n    fn f() { Instant::now(); }\n}"),
        ("src/shard.rs", "fn f() { tokio::task::spawn_local(g()); }"),
        ("src/connection.rs", "fn f() { self.tasks.spawn_local(g()); }"),
        ("src/lane/reader.rs", "async fn f() { g().await }"),
        ("src/config.rs", "fn f() { std::env::vars_os(); }"),
    ] {
        assert_eq!(faults(wrong_words, path, code), Vec::<String>::new(), "{path}: {code}");
    }
    let behind =
        faults(wrong_words, "src/hub.rs", "#[cfg(test)]\nmod tests {\n    mod a {}\n}\nasync fn f() {}");
    assert!(behind[0].starts_with("src/hub.rs:6: says `async`"), "{behind:?}");
}

#[test]
fn a_known_hasher_is_found() {
    for code in ["use rustc_hash::FxHashMap as Map;", "fn f() { std::hash::DefaultHasher::new(); }"] {
        assert!(!faults(wrong_hashers, "src/hub.rs", code).is_empty(), "{code}");
    }
    let fine = "use std::collections::HashMap;\nuse std::hash::RandomState;\n// not FxHashMap";
    assert_eq!(faults(wrong_hashers, "src/hub.rs", fine), Vec::<String>::new());
}

#[test]
fn files_that_do_not_look_as_they_should_are_found() {
    let said = |path: &str, text: &str| wrong_form(&Source::new(path, text));
    assert_eq!(said("src/hub.rs", "//! The hub.\n"), Vec::<String>::new());
    for (path, text) in [
        ("src/hub.rs", "use std::rc::Rc;\n//! The hub.\n".to_owned()),
        ("src/hub.rs", "// The hub.\n".to_owned()),
        ("src/hub/mod.rs", "//! The hub.\n".to_owned()),
        ("src/hub.rs", "//! The hub.\nuse crate::{protocol, lane};\n".to_owned()),
        ("tests/integration/main.rs", "//! All.\n".to_owned() + &"\n".repeat(600)),
        ("src/hub/tests.rs", "//! Tests.\nuse super::{Hub, Topic};\n".to_owned()),
    ] {
        assert_eq!(said(path, &text).len(), 1, "{path}: {text:.40}");
    }
}
