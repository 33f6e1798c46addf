//! Unsafe vocabularies: the node does not start, and the error names the file, the key and the fix.

use std::path::Path;
use std::path::PathBuf;

use tidegate::config::load::load;
use tidegate::config::source::Sources;

use crate::shipped::shipped;

/// A directory for a vocabulary and its configuration.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tidegate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// The errors at startup with this vocabulary; empty if there are none.
    fn errors_of(&self, vocabulary: &str) -> String {
        let (file, config) = (self.0.join("mine.toml"), self.0.join("config.toml"));
        std::fs::write(&file, vocabulary).unwrap();
        let text = format!("[[endpoint]]\nvocabulary = {:?}\n", file.to_str().unwrap());
        std::fs::write(&config, text).unwrap();
        let environment = vec![("TIDEGATE_AUTH__HMAC_SECRET".to_owned(), "x".repeat(32))];
        match load(&Sources { file: Some(config), environment, ..Sources::default() }) {
            Ok(_) => String::new(),
            Err(mistakes) => mistakes.to_string(),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const HEAD: &str = "name = \"mine\"\n[[path]]\nname = \"a\"\npath = \"/a/{b}\"\n";

/// Unsafe rules, each with the key that is wrong.
#[rustfmt::skip]
const RULES: [(&str, &str); 15] = [
    (r#"do = "subscribe", channel = "c.{msg.a}{msg.b}""#, "channel"),
    (r#"do = "subscribe", channel = "c.{msg.a}-{user}""#, "channel"),
    (r#"do = "subscribe", channel = "c.{msg.a|optional}""#, "channel"),
    (r#"do = "subscribe", channel = "c. {msg.a}""#, "channel"),
    (r#"do = "subscribe", channel = "c..{msg.a}""#, "channel"),
    (r#"do = "subscribe", channel = "c.{usr}""#, "channel"),
    (r#"do = "subscribe", channel = "c.{path.nobody}""#, "channel"),
    (r#"do = "subscribe", channel = "c.{reply.a}""#, "channel"),
    (r#"do = "publish", data = 1, subject = "c.*.{msg.a}""#, "subject"),
    (r#"do = "request", data = 1, subject = "c.>""#, "subject"),
    (r#"do = "publish", data = 1, subject = "c.a", headers = { Nats-Rollup = "all" }"#, "headers"),
    (r#"do = "publish", data = 1, subject = "c.a", headers = { nats-expected-last-sequence = "{msg.n}" }"#, "headers"),
    (r#"do = "publish", data = 1, subject = "c.a", headers = { Nats-TTL = "1s" }"#, "headers"),
    (r#"do = "publish", data = 1, subject = "c.a", reply = "{msg.reply}""#, "reply"),
    (r#"do = "request", data = 1, subject = "c.a", send = {}, headers = { Nats-Rollup = "all" }"#, "headers"),
];

/// The same for HTTP calls.
#[rustfmt::skip]
const CALLS: [(&str, &str); 5] = [
    (r#"do = "publish", data = 1, subject = "c.a", headers = { Nats-Rollup = "all" }"#, "headers"),
    (r#"do = "publish", data = 1, subject = "c.>""#, "subject"),
    (r#"do = "publish", data = 1, subject = "c.a", reply = "c.b""#, "reply"),
    (r#"do = "last", channel = "c.{usr}""#, "channel"),
    (r#"do = "last", channel = "c.{msg.a}{msg.b}""#, "channel"),
];

#[test]
fn voc_01_and_sub_07_unsafe_rules_are_rejected_with_file_key_and_help() {
    let folder = Folder::new("mistakes");
    assert_eq!(folder.errors_of(HEAD), "");
    let rules = RULES.map(|(rule, key)| {
        (format!("receive = [{{ when = {{ a = true }}, {rule} }}]\n{HEAD}"), format!("receive[0].{key}"))
    });
    let calls = CALLS.map(|(call, key)| {
        (format!("http = [{{ method = \"POST\", path = \"/c\", {call} }}]\n{HEAD}"), format!("http[0].{key}"))
    });
    for (file, key) in rules.into_iter().chain(calls) {
        assert_explained(&folder.errors_of(&file), &key, &file);
    }
}

/// Checks that the errors name the file with its line, the key, the mistake and the fix.
fn assert_explained(errors: &str, key: &str, what: &str) {
    let names_it = |line: &&str| {
        let (_, behind) = line.split_once("mine.toml:").unwrap_or_default();
        behind.starts_with(|c: char| c.is_ascii_digit()) && behind.contains(key)
    };
    let mut lines = errors.lines().skip_while(|line| !names_it(line));
    let problem = lines.next().and_then(|line| line.split_once(key)).map_or("", |(_, problem)| problem);
    let help = lines.next().unwrap_or_default();
    assert!(problem.len() > 8 && help.starts_with("  help: "), "{what}: {errors:?}");
}

/// Adds an unknown placeholder, one that could contain a dot, and other mistakes to each subject of each shipped
/// vocabulary.
#[test]
fn voc_01_invalid_placeholders_in_shipped_subjects_are_rejected() {
    let folder = Folder::new("shipped");
    let mut broken = 0;
    for (name, text) in shipped(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        assert_eq!(folder.errors_of(&text), "", "{name}");
        for (at, line) in text.lines().enumerate() {
            let is_subject = line.starts_with("channel = \"") || line.starts_with("subject = \"");
            if !is_subject {
                continue;
            }
            for placeholder in [".{nobody}", ".{msg}{msg}", ".{user", "..x", ". x"] {
                let mut lines: Vec<&str> = text.lines().collect();
                let changed = format!("{}{placeholder}\"", line.strip_suffix('"').unwrap());
                lines[at] = &changed;
                let errors = folder.errors_of(&lines.join("\n"));
                let key = if line.starts_with("channel") { ".channel" } else { ".subject" };
                assert_explained(&errors, key, &format!("{name}: {changed}"));
                broken += 1;
            }
        }
    }
    assert!(broken > 100, "only {broken} were tried");
}
