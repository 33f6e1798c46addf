//! Files that would open what is closed: the node does not start, and says which file, which key, and what to do.

use std::path::PathBuf;

use tidegate::config::load::load;
use tidegate::config::source::Sources;

/// A vocabulary with a mistake in it, served by a configuration.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tidegate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// What is said of this vocabulary at the start; empty if nothing is.
    fn said_of(&self, vocabulary: &str) -> String {
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

/// Rules that would open something, and the key that is at fault.
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
    (r#"do = "request", data = 1, subject = "c.a", headers = { Nats-Msg-Id = "1" }"#, "headers"),
];

/// The same of calls.
#[rustfmt::skip]
const CALLS: [(&str, &str); 5] = [
    (r#"do = "publish", data = 1, subject = "c.a", headers = { Nats-Rollup = "all" }"#, "headers"),
    (r#"do = "publish", data = 1, subject = "c.>""#, "subject"),
    (r#"do = "publish", data = 1, subject = "c.a", reply = "c.b""#, "reply"),
    (r#"do = "last", channel = "c.{usr}""#, "channel"),
    (r#"do = "last", channel = "c.{msg.a}{msg.b}""#, "channel"),
];

#[test]
fn voc_01_and_sub_07_what_would_open_something_does_not_start() {
    let folder = Folder::new("mistakes");
    assert_eq!(folder.said_of(HEAD), "");
    let rules = RULES.map(|(rule, key)| {
        (format!("receive = [{{ when = {{ a = true }}, {rule} }}]\n{HEAD}"), format!("receive[0].{key}"))
    });
    let calls = CALLS.map(|(call, key)| {
        (format!("http = [{{ method = \"POST\", path = \"/c\", {call} }}]\n{HEAD}"), format!("http[0].{key}"))
    });
    for (file, key) in rules.into_iter().chain(calls) {
        is_said(&folder.said_of(&file), &key, &file);
    }
}

/// That the file with its line, the key, what is wrong and how to mend it are said.
fn is_said(said: &str, key: &str, what: &str) {
    let names_it = |line: &&str| {
        let (_, behind) = line.split_once("mine.toml:").unwrap_or_default();
        behind.starts_with(|c: char| c.is_ascii_digit()) && behind.contains(key)
    };
    let mut lines = said.lines().skip_while(|line| !names_it(line));
    let problem = lines.next().and_then(|line| line.split_once(key)).map_or("", |(_, problem)| problem);
    let help = lines.next().unwrap_or_default();
    assert!(problem.len() > 8 && help.starts_with("  help: "), "{what}: {said:?}");
}

/// Every subject of every shipped vocabulary, with a placeholder that there is not and one that could swallow a dot.
#[test]
fn voc_01_no_subject_of_a_shipped_vocabulary_takes_a_hole_that_is_none() {
    let folder = Folder::new("shipped");
    let mut broken = 0;
    for name in ["ara", "financegpt", "financegpt-mcp", "graphql-ws", "hoardrun", "sentio", "stock-agent"] {
        let path = format!("{}/vocabularies/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(folder.said_of(&text), "", "{name}");
        for (at, line) in text.lines().enumerate() {
            let is_subject = line.starts_with("channel = \"") || line.starts_with("subject = \"");
            if !is_subject {
                continue;
            }
            for placeholder in [".{nobody}", ".{msg}{msg}", ".{user", "..x", ". x"] {
                let mut lines: Vec<&str> = text.lines().collect();
                let mended = format!("{}{placeholder}\"", line.strip_suffix('"').unwrap());
                lines[at] = &mended;
                let said = folder.said_of(&lines.join("\n"));
                let key = if line.starts_with("channel") { ".channel" } else { ".subject" };
                is_said(&said, key, &format!("{name}: {mended}"));
                broken += 1;
            }
        }
    }
    assert!(broken > 100, "only {broken} were tried");
}
