//! The secrets that tests use. No node may log one, and no client may receive one (tok-01).
#![expect(clippy::disallowed_types, reason = "nodes of all tests log, and each test adds its secrets")]

use std::collections::HashSet;
use std::io;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::Once;
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::edge::SECRET;
use crate::support::nats_server::PASSWORD;

/// Shorter parts of a secret may occur elsewhere by chance.
const SHORTEST: usize = 12;
/// How the base64url of a token's header begins. A part of a token is found by it even if the rest is cut off.
const HEADERS: [&str; 2] = ["eyJ0eXAiO", "eyJhbGciO"];
/// What the nodes of this process log. Test clients use some of the same libraries, so those are left out here; tests
/// of `tidegate serve` see their lines too.
const FILTER: &str = "off,tidegate=trace,tidegate_protocol=trace,tidegate_vocabulary=trace";

/// The registered words: runs of base64url characters.
static WORDS: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
/// The lines of this process's nodes that have a secret.
static LEAKS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static LOGS: Once = Once::new();

/// Registers a token, a ticket or an API key, and returns it.
pub(crate) fn registered(secret: String) -> String {
    let parts: Vec<_> = secret.split('.').collect();
    // Tokens with the same key have the same header.
    let own = if parts.len() == 3 { &parts[1..] } else { &parts[..] };
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    words.extend(own.iter().filter(|part| part.len() >= SHORTEST).map(|part| (*part).to_owned()));
    // As in a subprotocol.
    words.insert(URL_SAFE_NO_PAD.encode(&secret));
    drop(words);
    secret
}

/// A secret that the text has.
pub(crate) fn found_in(text: &str) -> Option<String> {
    let fixed = [SECRET, PASSWORD].into_iter().find(|secret| text.contains(secret));
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    let words_of_secrets = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_secret = |word: &&str| {
        let is_token = || HEADERS.iter().any(|header| word.starts_with(header));
        word.len() >= SHORTEST && (words_of_secrets.contains(*word) || is_token())
    };
    fixed.or_else(|| words.find(is_secret)).map(str::to_owned)
}

/// Fails if the text has a secret.
pub(crate) fn assert_none_in(text: &str) {
    if let Some(secret) = found_in(text) {
        panic!("the secret {secret} is in: {text}");
    }
}

/// Checks what the nodes of this process log from now on.
pub(crate) fn check_logs() {
    LOGS.call_once(|| {
        let logs = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(FILTER);
        logs.with_writer(|| CheckedLines).init();
    });
}

/// Fails when it is dropped, if a line of a node in this process had a secret.
pub(crate) struct LogGuard;

impl Drop for LogGuard {
    fn drop(&mut self) {
        let leaks = LEAKS.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(leaks.is_empty() || std::thread::panicking(), "lines with secrets: {leaks:#?}");
    }
}

/// Checks each line, and drops it.
struct CheckedLines;

impl io::Write for CheckedLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if found_in(&text).is_some() {
            LEAKS.lock().unwrap_or_else(PoisonError::into_inner).push(text.into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn tok_01_a_secret_is_found_in_each_form() {
    let token = registered("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJmb3VuZCJ9.c2lnbmF0dXJlLW9mLWZvdW5k".to_owned());
    let key = registered("5f0c-this-key-is-in-no-text".to_owned());
    let item = URL_SAFE_NO_PAD.encode(&token);
    let signature = token.rsplit('.').next().unwrap();
    for shown in [&*token, signature, &token[..16], &item, &key, SECRET, PASSWORD] {
        for text in
            [format!("{{\"detail\":\"{shown}\"}}"), format!("GET /ws?token={shown}&x=1"), shown.to_owned()]
        {
            assert!(found_in(&text).is_some(), "{text}");
        }
    }
    assert_eq!(found_in("{\"session\":\"0198a3-0-5\",\"reason\":\"bad_signature\",\"eyJ\":1}"), None);
}
