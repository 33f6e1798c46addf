//! Checks of `docs/errors`: each code has a page, each page has a code, and the examples are real messages.

use std::collections::BTreeSet;

use serde_json::Value;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;

use crate::examples;
use crate::files;
use crate::read;
use crate::rows;
use crate::section;
use crate::sources;
use crate::strings::is_from;
use crate::strings::literals;

/// The URL of an error page, without the code.
const PAGES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/errors");

/// Codes that `Problem::new` gets in a variable and that are not in `ErrorCode`.
const IN_A_VARIABLE: &str = "invalid_token";

/// Messages that come from a service on NATS and not from Tidegate.
const OF_A_SERVICE: &str = "there is no such symbol";

fn errors() -> BTreeSet<String> {
    ErrorCode::ALL.iter().map(|code| code.name().to_owned()).collect()
}

fn closes() -> BTreeSet<String> {
    Disconnect::ALL.iter().map(|end| end.name().to_owned()).collect()
}

/// The codes of the problem documents in `src/http`.
fn problems() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut in_variables = 0;
    for file in sources("src/http") {
        let text = read(&file);
        let (code, _) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
        for call in code.split("::new(").skip(1).filter(|call| call.trim_start().starts_with("StatusCode::"))
        {
            let argument = call.split(',').nth(1).unwrap().trim();
            match argument.strip_prefix('"').and_then(|argument| argument.strip_suffix('"')) {
                Some(literal) => _ = found.insert(literal.to_owned()),
                None => in_variables += 1,
            }
        }
        let written = code.split("code: \"").skip(1).filter_map(|rest| rest.split('"').next());
        found.extend(written.map(str::to_owned));
    }
    assert_eq!(in_variables, 2, "calls.rs has the code of an error there, door.rs `{IN_A_VARIABLE}`");
    assert!(read("src/http/gate.rs").contains(&format!("\"{IN_A_VARIABLE}\"")));
    found.insert(IN_A_VARIABLE.to_owned());
    assert!(found.len() > 20, "{found:?}");
    found
}

/// The codes that have a page, with the text of the page.
fn pages() -> Vec<(String, String)> {
    let pages = files("docs/errors", "md", false).into_iter().filter(|file| !file.ends_with("/README.md"));
    let code = |file: &str| file.trim_start_matches("docs/errors/").trim_end_matches(".md").to_owned();
    pages.map(|file| (code(&file), read(&file))).collect()
}

#[test]
fn each_code_has_a_page_and_each_page_a_code() {
    let paged: BTreeSet<_> = pages().into_iter().map(|(code, _)| code).collect();
    let coded = &(&errors() | &closes()) | &problems();
    assert_eq!(paged, coded);
    let table = rows(&read("docs/errors/README.md"));
    let named: Vec<_> = table.iter().map(|row| row[0].clone()).collect();
    let linked: BTreeSet<_> = paged.iter().map(|code| format!("[`{code}`]({code}.md)")).collect();
    assert_eq!(named.iter().cloned().collect::<BTreeSet<_>>(), linked);
    assert_eq!(named.len(), linked.len(), "a code is there twice");
}

#[test]
fn each_page_says_what_happened_why_and_what_to_do() {
    for (code, page) in pages() {
        assert_eq!(page.lines().next(), Some(&*format!("# `{code}`")));
        let headings: Vec<_> = page.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(headings, ["## What happened", "## Why", "## What to do"], "{code}");
        assert!(section(&page, "Why").lines().any(|line| line.starts_with("- ")), "{code}");
        for reader in ["**You write the client:** ", "**You operate the node:** "] {
            assert_eq!(section(&page, "What to do").matches(reader).count(), 1, "{code}");
        }
    }
}

#[test]
fn pages_and_their_table_have_the_numbers_of_close_codes() {
    let table = rows(&read("docs/errors/README.md"));
    for (code, page) in pages() {
        let row = table.iter().find(|row| row[0].starts_with(&format!("[`{code}`]"))).unwrap();
        let end = Disconnect::ALL.into_iter().find(|end| end.name() == code);
        assert_eq!(row[2], end.map_or_else(String::new, |end| end.code().to_string()), "{code}");
        let lead = page.split("```").next().unwrap().replace('\n', " ");
        assert_eq!(lead.contains("he reason of close code "), end.is_some(), "{code}");
        if let Some(end) = end {
            let comes_back = if end.should_reconnect() { "reconnects" } else { "does not reconnect" };
            let words = format!("close code {}, after which a client {comes_back}", end.code());
            assert!(lead.contains(&words), "{code}: {words}");
        }
    }
}

#[test]
fn the_examples_of_pages_have_the_shape_of_what_is_sent() {
    let table = rows(&read("docs/errors/README.md"));
    for (code, page) in pages() {
        let row = table.iter().find(|row| row[0].starts_with(&format!("[`{code}`]"))).unwrap();
        let (mut is_error, mut is_close) = (false, false);
        let mut statuses = BTreeSet::new();
        let examples = examples(&page);
        assert!(!examples.is_empty(), "{code}");
        for example in examples {
            let message: Value = serde_json::from_str(&example).unwrap();
            let named = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
            match &*named("type") {
                "error" => {
                    has(&message, &["code", "message"], &["id", "channel", "pending"]);
                    assert_eq!(named("code"), code, "{example}");
                    is_error = true;
                }
                "close" => {
                    has(&message, &["code", "reason"], &["retry_after_ms"]);
                    let end = Disconnect::ALL.into_iter().find(|end| end.name() == code).unwrap();
                    assert_eq!((&message["code"], named("reason")), (&end.code().into(), code.clone()));
                    is_close = true;
                }
                "unsubscribed" => has(&message, &["channel", "code", "reason"], &["id"]),
                "" => has(&message, &["level", "message", "code", "reason"], &["user", "endpoint"]),
                kind => {
                    assert_eq!(kind, format!("{PAGES}/{code}.md"));
                    has(&message, &["code", "detail", "status", "title"], &["request_id"]);
                    assert_eq!(named("code"), code, "{example}");
                    let status = u16::try_from(message["status"].as_u64().unwrap()).unwrap();
                    let title = warp::http::StatusCode::from_u16(status).unwrap().canonical_reason();
                    assert_eq!(Some(&*named("title")), title, "{example}");
                    statuses.insert(status.to_string());
                }
            }
        }
        let listed: BTreeSet<_> = row[3].split(", ").filter(|status| !status.is_empty()).collect();
        assert!(statuses.iter().all(|status| listed.contains(&**status)), "{code}: {statuses:?}");
        assert_eq!(is_error, row[1] == "yes", "{code}");
        assert!(is_error || is_close || !statuses.is_empty() || code == "slow_consumer", "{code}");
        if problems().contains(&code) && !errors().contains(&code) {
            assert!(!statuses.is_empty(), "{code} has no problem document");
        }
    }
}

/// Checks that an object has the required members, and besides `type` only optional ones.
fn has(message: &Value, all: &[&str], perhaps: &[&str]) {
    let members: BTreeSet<_> = message.as_object().unwrap().keys().map(String::as_str).collect();
    for name in all {
        assert!(members.contains(name), "{message} has no {name}");
    }
    let known = |name: &str| name == "type" || all.contains(&name) || perhaps.contains(&name);
    assert!(members.iter().all(|name| known(name)), "{message}");
}

#[test]
fn the_words_of_examples_are_those_of_the_code() {
    let code: Vec<_> = ["src", "crates"].iter().flat_map(|folder| sources(folder)).collect();
    let known: BTreeSet<String> = code.iter().flat_map(|file| literals(&read(file))).collect();
    for (code, page) in pages() {
        for example in examples(&page) {
            let message: Value = serde_json::from_str(&example).unwrap();
            let words = message["message"].as_str().or_else(|| message["detail"].as_str());
            for words in words.into_iter().filter(|words| *words != OF_A_SERVICE) {
                assert!(
                    known.iter().any(|literal| is_from(words, literal)),
                    "{code}: nothing says {words:?}"
                );
            }
        }
    }
}

#[test]
fn the_problem_document_of_the_protocol_is_that_of_a_page() {
    let protocol = read("docs/PROTOCOL.md");
    let documents = examples(section(&protocol, "Connecting"));
    assert!(!documents.is_empty());
    for document in documents {
        let is_there = pages().iter().any(|(_, page)| examples(page).contains(&document));
        assert!(is_there, "no page has {document}");
    }
}

#[test]
fn configuration_keys_that_pages_name_exist() {
    let config = read("config.toml");
    let mut documents: Vec<_> = pages().into_iter().map(|(_, page)| page).collect();
    documents.push(read("docs/THREATS.md"));
    let mut named = BTreeSet::new();
    for quoted in documents.iter().flat_map(|page| page.split('`').skip(1).step_by(2)) {
        let Some((group, key)) = quoted.split_once('.') else { continue };
        if let Some((_, keys)) = config.split_once(&format!("\n[{group}]\n")) {
            let keys = keys.split("\n[").next().unwrap_or_default();
            assert!(keys.lines().any(|line| line.starts_with(&format!("{key} = "))), "there is no {quoted}");
            named.insert(quoted);
        }
    }
    assert!(named.len() > 25, "{named:?}");
}
