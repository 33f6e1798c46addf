//! Checks the source files against the rules of the architecture: layers, foreign crates, banned words, tasks, logs and
//! the layout of files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tidegate_vocabulary::Vocabulary;

use crate::source::Source;
use crate::source::read;
use crate::tables::BANS;
use crate::tables::DOORS;
use crate::tables::EXCEPTIONS;
use crate::tables::KNOWN_HASHERS;
use crate::tables::LAYERS;
use crate::tables::LOG_NAMES;
use crate::tables::LONGEST_FILE;
use crate::tables::PRIVILEGES;
use crate::tables::REACHED;
use crate::tables::SELDOM;

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/dependencies.rs"]
mod dependencies;
#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/tables.rs"]
mod tables;

/// Whether a path in `src` is in a module: `hub` matches `hub.rs` and `hub/topic.rs`, but not `hubs.rs`.
fn begins(path: &str, with: &str) -> bool {
    let rest = path.strip_prefix(with);
    rest.is_some_and(|rest| with.is_empty() || rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}

fn within(path: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|with| begins(path, with))
}

/// Imports of our own modules that the file's row in [`LAYERS`] does not allow. Other crates may import none of them.
fn wrong_imports(source: &Source) -> Vec<String> {
    if let Some(name) = source.of_crate() {
        let named = source.names_crate("tidegate").into_iter();
        return named
            .map(|line| source.fault(line, &format!("`{name}` may not import the product")))
            .collect();
    }
    let module = source.module();
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        return match module.as_str() {
            "lib" => Vec::new(),
            _ => vec![source.fault(1, &format!("the module `{module}` has no row in the table of layers"))],
        };
    };
    let wrong = source
        .imports()
        .into_iter()
        .filter(|(_, named)| *named != module && !allowed.contains(&named.as_str()));
    wrong.map(|(line, named)| source.fault(line, &format!("`{module}` may not import `{named}`"))).collect()
}

/// Foreign crates that the file uses although their row does not name it.
fn wrong_doors(source: &Source) -> Vec<String> {
    let away = DOORS.iter().filter(|(_, doors)| !within(&source.place(), doors));
    away.flat_map(|(name, _)| {
        let named = source.names_crate(name);
        named
            .into_iter()
            .map(move |line| source.fault(line, &format!("`{name}` is named away from its door")))
    })
    .collect()
}

/// Uses of words that are banned in this file.
fn wrong_words(source: &Source) -> Vec<String> {
    let path = source.place();
    let banned = BANS.iter().filter(|(places, ..)| within(&path, places)).map(|(_, words, why)| (words, why));
    let privileged = PRIVILEGES.iter().filter(|(_, places, _)| !within(&path, places));
    let forbidden = banned.chain(privileged.map(|(words, _, why)| (words, why)));
    let is_exception =
        |word: &str| EXCEPTIONS.iter().any(|(place, excepted, _)| *place == path && *excepted == word);
    let is_exception = &is_exception;
    let faults = forbidden.flat_map(|(words, why)| {
        words.iter().filter(|word| !is_exception(word)).flat_map(move |word| {
            let said = source.says(word);
            said.into_iter().map(move |line| source.fault(line, &format!("says `{word}`; {why}")))
        })
    });
    faults.collect()
}

/// Uses of hashers with known keys. Clients and producers choose the keys of most maps, so they could cause collisions.
fn wrong_hashers(source: &Source) -> Vec<String> {
    let said =
        KNOWN_HASHERS.iter().flat_map(|word| source.says(word).into_iter().map(move |line| (line, word)));
    said.map(|(line, word)| {
        source.fault(line, &format!("says `{word}`: std's maps draw their keys by chance"))
    })
    .collect()
}

/// Log statements above `debug` that a peer can cause and that do not go through a `LogLimit` with `suppressed`.
fn endless_logs(source: &Source) -> Vec<String> {
    if !REACHED.contains(&source.module().as_str()) {
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

/// The layout that every file must have, tests included.
fn reused_log_names(source: &Source) -> Vec<String> {
    let fields = source.log_fields(&LOG_MACROS).into_iter();
    let reused = fields.filter(|(_, name)| LOG_NAMES.contains(&name.as_str()));
    reused
        .map(|(line, name)| {
            source.fault(
                line,
                &format!("the field `{name}` of a log line has a name that the JSON format uses"),
            )
        })
        .collect()
}

/// The macros of log lines.
const LOG_MACROS: [&str; 5] = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];

/// Fields of log lines above `debug` that operators find nothing about.
fn undocumented_log_fields(source: &Source) -> Vec<String> {
    let page = include_str!("../docs/OPERATIONS.md");
    let fields = source.log_fields(&["info!(", "warn!(", "error!("]).into_iter();
    fields
        // Arguments of the message have dots.
        .filter(|(_, name)| !name.contains('.') && !page.contains(&format!("`{name}`")))
        .map(|(line, name)| {
            source.fault(line, &format!("the field `{name}` of a log line is not in docs/OPERATIONS.md"))
        })
        .collect()
}

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

/// Type names that occur twice in one crate, each with its reason. None today.
const TWICE: [&str; 0] = [];

#[test]
fn no_two_types_of_a_crate_have_one_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = ["tidegate-bench", "tidegate-document", "tidegate-protocol", "tidegate-vocabulary"];
    let folders = crates.map(|name| format!("crates/{name}/src"));
    for folder in folders.iter().map(String::as_str).chain(["src"]) {
        let (mut known, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for name in read(root, folder).iter().flat_map(Source::types) {
            if !known.insert(name.clone()) && !TWICE.contains(&name.as_str()) {
                twice.insert(name);
            }
        }
        assert!(known.len() > 5, "{folder}: {known:?}");
        assert_eq!(twice, BTreeSet::new(), "{folder}: one name is one thing");
    }
}

#[test]
fn modules_import_only_what_their_layer_allows() {
    all(&["src", "crates"], &[wrong_imports]);
}

#[test]
fn every_foreign_crate_has_its_doors() {
    all(&["src", "crates"], &[wrong_doors]);
}

#[test]
fn the_core_is_pure_and_only_app_and_shard_start_things() {
    all(&["src", "crates"], &[wrong_words]);
}

#[test]
fn ex_07_what_a_peer_can_cause_floods_no_log() {
    all(&["src"], &[endless_logs]);
}

/// In a JSON object with a name twice, parsers keep one of both values.
#[test]
fn no_field_of_a_log_line_has_a_name_that_the_json_format_adds() {
    all(&["src", "crates"], &[reused_log_names]);
    all(&["src"], &[undocumented_log_fields]);
    let lines = read(Path::new(env!("CARGO_MANIFEST_DIR")), "src")
        .iter()
        .map(|source| source.log_fields(&LOG_MACROS).len())
        .sum::<usize>();
    assert!(lines > 200, "{lines}: the fields are not found any more");
    for code in [
        "fn f() { info!(target = %target, connections, \"revoked\"); }",
        "fn f() { warn!(user = g(a, b), level, \"text\"); }",
        "fn f() { debug!(%span, \"text {}\", a); }",
    ] {
        assert_eq!(faults(reused_log_names, "src/shard.rs", code).len(), 1, "{code}");
    }
    let fine = "fn f() { info!(target: \"a\", user = target.level, \"text {}\", a == message); }";
    assert_eq!(faults(reused_log_names, "src/shard.rs", fine), Vec::<String>::new());
}

#[test]
fn ex_06_no_map_hashes_with_keys_that_are_known() {
    all(&["src", "crates"], &[wrong_hashers]);
}

#[test]
fn every_file_says_what_it_is_for_and_is_not_too_long() {
    all(&["src", "crates", "tests", "examples", "benches"], &[wrong_form]);
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
    let mut all = BTreeSet::new();
    for package in packages(root) {
        let names = dependencies(&fs::read_to_string(root.join(&package).join("Cargo.toml")).unwrap());
        let mut sources = read(root, format!("{package}/src").trim_start_matches('/'));
        if package.is_empty() {
            sources.extend(read(root, "benches"));
        }
        for name in &names {
            let is_used = sources.iter().any(|source| !source.names_crate(name).is_empty());
            assert!(is_used, "`{name}` is used nowhere in {package}/src");
        }
        all.extend(names);
    }
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    assert_eq!(all, DOORS.map(|(name, _)| name), "a new dependency is a decision: give it a door");
}

#[test]
fn crates_do_not_depend_on_the_product_and_share_its_lints_and_versions() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for package in packages(root) {
        let manifest = fs::read_to_string(root.join(&package).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("\n[lints]\nworkspace = true\n"), "{package}: other lints");
        let (head, _) = manifest.split_once("\n[dependencies]\n").unwrap();
        for field in ["version", "edition", "rust-version", "license", "repository"] {
            let inherited = format!("\n{field}.workspace = true\n");
            assert!(head.contains(&inherited), "{package}: `{field}` is not the workspace's");
        }
        if !package.is_empty() {
            let is_product = |line: &str| line.split(['.', ' ']).next() == Some("tidegate");
            assert!(!manifest.lines().any(is_product), "{package} depends on the product");
            for line in dependency_lines(&manifest) {
                assert!(line.contains("workspace = true"), "{package}: `{line}` has a version of its own");
            }
        }
    }
}

/// tokio's feature `test-util` makes each reading of the clock slower: async-nats' feature `jetstream` turns it on.
#[test]
fn the_product_has_no_test_hooks_of_tokio() {
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "features,no-dev", "--invert", "tokio"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.contains("tokio feature \"time\""), "{tree}");
    assert!(!tree.contains("tokio feature \"test-util\""), "{tree}");
}

/// The folders of our packages. The product's is the root.
fn packages(root: &Path) -> Vec<String> {
    let crates = fs::read_dir(root.join("crates")).unwrap();
    let crates = crates.map(|entry| format!("crates/{}", entry.unwrap().file_name().to_str().unwrap()));
    let mut packages: Vec<_> = [String::new()].into_iter().chain(crates).collect();
    packages.sort();
    packages
}

/// The section `[dependencies]` of a manifest.
fn dependency_lines(manifest: &str) -> impl Iterator<Item = &str> {
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    dependencies.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'))
}

/// The names of those crates in code.
fn dependencies(manifest: &str) -> Vec<String> {
    let names = dependency_lines(manifest).map(|line| line.split(['.', ' ']).next().unwrap());
    names.map(|name| name.replace('-', "_")).collect()
}

#[test]
fn every_vocabulary_has_transcripts_and_every_transcript_a_vocabulary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = fs::read_dir(root.join("tests/transcripts")).unwrap();
    let folders: Vec<_> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for folder in &folders {
        let is_shipped = root.join(format!("vocabularies/{folder}.toml")).exists();
        let is_for_tests = root.join(format!("tests/transcripts/{folder}/vocabulary.toml")).exists();
        let is_known = is_shipped || is_for_tests || Vocabulary::by_name(folder).is_some();
        assert!(is_known, "tests/transcripts/{folder} is of no vocabulary");
    }
    let source = fs::read_to_string(root.join("crates/tidegate-vocabulary/src/lib.rs")).unwrap();
    let lines: Vec<_> = source.lines().collect();
    // Dependencies of tests are not in the table.
    let named = lines.windows(2).filter(|pair| !pair[0].contains("test-hooks")).filter_map(|pair| {
        pair[1].trim().strip_prefix('"')?.split_once("\" => Some(Self::").map(|(name, _)| name)
    });
    let named: Vec<_> = named.collect();
    assert!(!named.is_empty());
    for name in named {
        assert!(folders.iter().any(|folder| folder == name), "`{name}` has no tests/transcripts/{name}");
    }
}

/// The result of a rule for a made-up source file.
fn faults(rule: fn(&Source) -> Vec<String>, path: &str, code: &str) -> Vec<String> {
    rule(&Source::new(path, &format!("//! A source.\n{code}\n")))
}

#[test]
fn a_forbidden_import_is_found_however_it_is_written() {
    for (path, code) in [
        ("src/hub/topic.rs", "use crate::lane::Lane;"),
        ("src/hub/outbox/queue.rs", "use super::super::super::lane::Lane;"),
        ("src/hub.rs", "fn f() -> super::lane::Lane { todo!() }"),
        ("src/hub/topic.rs", "fn f(lane: &crate::lane::Lane) {}"),
        ("src/lane.rs", "#[cfg(feature = \"test-hooks\")]\nuse crate::shard::Shard;"),
        ("src/connection/socket.rs", "pub use crate::http::serve;"),
        ("src/cli/dev.rs", "use crate::hub;"),
        ("src/main.rs", "use tidegate::app::App;"),
        ("src/surprise.rs", "fn f() {}"),
        ("crates/tidegate-bench/src/servers.rs", "use tidegate::auth::jwt;"),
    ] {
        let found = faults(wrong_imports, path, code);
        assert_eq!(found.len(), 1, "{path}: {code}: {found:?}");
        assert!(found[0].starts_with(path), "{found:?}");
    }
    for (path, code) in [
        ("src/hub/topic.rs", "use crate::hub::effects::Effects;"),
        ("src/hub/outbox/queue.rs", "use super::super::lane::Lane;"),
        ("src/hub.rs", "// as crate::lane does\nconst A: &str = \"crate::lane\";"),
        ("src/hub.rs", "#[cfg(test)]\nmod tests { use crate::lane::Lane; }"),
        ("src/hub/tests.rs", "use crate::lane::Lane;"),
        ("src/hub.rs", "use tidegate_protocol::class::Class;"),
        ("crates/tidegate-bench/src/servers.rs", "use crate::usage;\nuse super::hub::Hub;"),
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
        ("crates/tidegate-protocol/src/session.rs", "#[derive(serde::Serialize)]\nstruct A;"),
        ("src/connection/websocket.rs", "use tungstenite::protocol::frame::FrameHeader;"),
        ("src/config/table.rs", "use tracing_subscriber as logs;"),
        ("src/app.rs", "use tidegate_bench::Bench;"),
        ("src/lane.rs", "use tidegate_vocabulary::Vocabularies;"),
        ("crates/tidegate-bench/src/client.rs", "use jsonwebtoken::Header;"),
        ("crates/tidegate-bench/src/client.rs", "use tokio::time;"),
    ] {
        assert_eq!(faults(wrong_doors, path, code).len(), 1, "{path}: {code}");
    }
    for (path, code) in [
        ("src/nats/subscription.rs", "use nkeys::KeyPair;"),
        ("src/auth.rs", "use crate::config::auth::AuthConfig;\nfn f() { config::load(); }"),
        ("src/http/serve.rs", "use hyper::Request;"),
        ("crates/tidegate-bench/src/servers.rs", "use jsonwebtoken::Header;"),
        ("src/lane.rs", "// nkeys::KeyPair\nfn f(slab: u8) { a.slab::<u8>(); b::slab::c(); }"),
    ] {
        assert_eq!(faults(wrong_doors, path, code), Vec::<String>::new(), "{path}: {code}");
    }
}

#[test]
fn words_that_a_place_may_not_say_are_found() {
    for (path, code) in [
        ("crates/tidegate-protocol/src/session.rs", "async fn f() {}"),
        ("crates/tidegate-protocol/src/session.rs", "fn f() { g().await; }"),
        ("crates/tidegate-protocol/src/frame.rs", "fn f() -> Instant { Instant::now() }"),
        ("crates/tidegate-protocol/src/frame.rs", "use std::fs::File;"),
        ("crates/tidegate-protocol/src/frame.rs", "use tokio::time;"),
        ("crates/tidegate-protocol/src/lib.rs", "use std::hash::RandomState;"),
        ("src/hub.rs", "use tokio::sync::Notify;"),
        ("src/hub/topic.rs", "async fn f() {}"),
        ("src/lane/feed.rs", "fn f() { g().await; }"),
        ("src/lane/encoder.rs", "use tokio::time;"),
        ("src/connection.rs", "fn f() { tokio::spawn(g()); }"),
        ("src/nats.rs", "fn f() { tokio::task::spawn_local(g()); }"),
        ("src/lane.rs", "use std::thread;\nfn f() { thread::spawn(g); }"),
        ("src/http.rs", "fn f() { std::env::var(\"A\"); }"),
        ("crates/tidegate-bench/src/servers.rs", "fn f() { std::env::var(\"A\"); }"),
    ] {
        assert!(!faults(wrong_words, path, code).is_empty(), "{path}: {code}");
    }
    for (path, code) in [
        (
            "crates/tidegate-protocol/src/session.rs",
            "// async, tokio::spawn\nfn asynchronous() -> &'static str { \"async\" }",
        ),
        (
            "crates/tidegate-protocol/src/session.rs",
            "fn f() { r#\"tokio \" async\"#; '\"'; b'\\''; } /* .await */",
        ),
        (
            "crates/tidegate-protocol/src/session.rs",
            "#[cfg(test)]\nmod tests {\n    fn f() { Instant::now(); }\n}",
        ),
        ("src/shard.rs", "fn f() { tokio::task::spawn_local(g()); }"),
        ("src/connection.rs", "fn f() { self.tasks.spawn_local(g()); }"),
        ("src/lane/reader.rs", "async fn f() { g().await }"),
        ("src/config.rs", "fn f() { std::env::vars_os(); }"),
        ("crates/tidegate-bench/src/producer.rs", "fn f() { thread::spawn(g); }"),
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
        ("crates/tidegate-bench/src/workloads/mod.rs", "//! The workloads.\n".to_owned()),
        ("src/hub.rs", "//! The hub.\nuse crate::{protocol, lane};\n".to_owned()),
        ("tests/integration/main.rs", "//! All.\n".to_owned() + &"\n".repeat(600)),
        ("src/hub/tests.rs", "//! Tests.\nuse super::{Hub, Topic};\n".to_owned()),
    ] {
        assert_eq!(said(path, &text).len(), 1, "{path}: {text:.40}");
    }
}
