//! Invalid tokens and names of other users, in messages, paths, queries and bodies.

use serde_json::json;

use crate::support::eventually;
use crate::vocabularies::stage::Stage;
use crate::vocabularies::stage::is_error;
use crate::vocabularies::table::Command;
use crate::vocabularies::table::DOTTED;
use crate::vocabularies::table::Effect;
use crate::vocabularies::table::INVALID_TOKENS;
use crate::vocabularies::table::VALUE_COMMANDS;
use crate::vocabularies::table::invalid_tokens;

/// The commands, grouped by vocabulary.
pub(crate) fn by_vocabulary(commands: &[Command]) -> Vec<(&'static str, Vec<Command>)> {
    let mut all: Vec<(&str, Vec<Command>)> = Vec::new();
    for command in commands {
        match all.iter_mut().find(|(vocabulary, _)| *vocabulary == command.vocabulary) {
            Some((_, of_it)) => of_it.push(*command),
            None => all.push((command.vocabulary, vec![*command])),
        }
    }
    all
}

/// Whether this JSON is several tokens with dots between them. A number is text for the filter `upper`.
fn is_dotted(value: &str) -> bool {
    value.trim_matches('"') == DOTTED || value == "1.5"
}

/// Checks that each command is rejected with each of these values, that it works with its valid value, and that nothing
/// else reaches NATS.
async fn assert_all_rejected(commands: &[Command], values: &[String]) {
    for (vocabulary, commands) in by_vocabulary(commands) {
        let mut stage = Stage::shipped(vocabulary).await;
        for command in &commands {
            let mut page = stage.page_for(command).await;
            let is_invalid = |value: &&String| !(command.is_dotted() && is_dotted(value));
            for value in values.iter().filter(is_invalid) {
                let before = stage.joined();
                page.assert_rejected(&command.with(value)).await;
                assert_eq!(stage.joined(), before, "{command:?} {value}");
                if !page.is_open {
                    page = stage.page_for(command).await;
                }
            }
            stage.assert_works(&mut page, command).await;
        }
        let allowed: Vec<&str> = commands.iter().flat_map(|command| command.effect.subjects()).collect();
        stage.assert_no_subject_but(&allowed).await;
    }
}

#[tokio::test]
async fn sub_01_invalid_tokens_in_messages_are_rejected_by_every_vocabulary() {
    assert_eq!(by_vocabulary(&VALUE_COMMANDS).len(), 7);
    assert_all_rejected(&VALUE_COMMANDS, &invalid_tokens()).await;
}

#[tokio::test]
async fn sub_06_no_publish_or_request_uses_a_malformed_subject() {
    let writes = |command: &&Command| matches!(command.effect, Effect::Requests(_) | Effect::Publishes(_));
    let commands: Vec<Command> = VALUE_COMMANDS.iter().filter(writes).copied().collect();
    let values = ["a..b", ".a", "a.", "a.*", ">"];
    assert_all_rejected(&commands, &values.map(|text| json!(text).to_string())).await;
    let mut stage = Stage::shipped("hoardrun").await;
    let backend = json!({ "sub": "backend", "role": "backend" });
    for value in &values {
        for (what, parameter) in BROADCASTS {
            let target = format!("/ws/broadcast/{what}?{parameter}={}", escaped(value));
            let answer = stage.call("POST", &target, &backend, "{\"a\":1}").await;
            assert_eq!(answer.status, 400, "{target}: {answer:?}");
        }
    }
    stage.assert_no_subject_but(&[]).await;
}

/// Calls that publish, with the query parameter that becomes a token of the subject.
pub(crate) const BROADCASTS: [(&str, &str); 4] =
    [("notification", "user_id"), ("transaction", "user_id"), ("balance", "user_id"), ("market", "room")];

/// The text with every byte percent-encoded.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn sub_02_invalid_tokens_in_paths_are_rejected_after_one_decoding() {
    // A label may be any text, because it gives no permissions.
    for (vocabulary, path, is_label) in [
        ("ara", "/ws/predictions/", false),
        ("ara", "/ws/market-data/", false),
        ("financegpt", "/ws/", false),
        ("stock-agent", "/ws/", true),
    ] {
        let mut stage = Stage::shipped(vocabulary).await;
        let long = "x".repeat(300);
        let raw = [
            "%2E",
            "%2A",
            "%3E",
            "%20",
            "%0D%0A",
            "..",
            "%252E",
            "AAPL/../admin",
            "%",
            "%2",
            "%zz",
            "%+1",
            "%ff",
        ];
        // Symbols in the path may be several tokens.
        let invalid = INVALID_TOKENS.into_iter().filter(|text| vocabulary != "ara" || *text != DOTTED);
        let escapes = invalid.chain([&*long]).map(escaped);
        let twice = INVALID_TOKENS.iter().filter(|text| !text.is_empty()).map(|text| escaped(&escaped(text)));
        for value in raw.map(str::to_owned).into_iter().chain(escapes).chain(twice) {
            let answer = stage.handshake(&format!("{path}{value}"), &json!({ "sub": "alice" })).await;
            let is_refused = matches!(answer.status, 400 | 403 | 404);
            assert!(is_refused || is_label && answer.status == 101, "{path}{value}: {answer:?}");
        }
        assert_eq!(stage.joined(), 0, "{vocabulary}");
        stage.assert_no_subject_but(&[]).await;
    }
    // The paths of the other vocabularies have no values, so these paths are unknown.
    for (vocabulary, path) in [
        ("financegpt-mcp", "/"),
        ("graphql-ws", "/graphql/"),
        ("hoardrun", "/ws/notifications/"),
        ("sentio", "/ws/"),
    ] {
        let stage = Stage::shipped(vocabulary).await;
        for value in ["%2E", "%2A", "%252E", "AAPL/../admin", "alice"] {
            let answer = stage.handshake(&format!("{path}{value}"), &json!({ "sub": "alice" })).await;
            assert_eq!(answer.status, 404, "{path}{value}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn sub_02_invalid_tokens_in_queries_and_bodies_are_rejected() {
    let mut stage = Stage::shipped("sentio").await;
    let alice = json!({ "sub": "alice", "role": "user" });
    for text in INVALID_TOKENS {
        // A symbol may be several tokens.
        let once = (text != DOTTED).then(|| escaped(text));
        for value in once.into_iter().chain([escaped(&escaped(text))]) {
            let target = format!("/api/v1/dashboard/trade-signals?symbols=AAPL,{value}");
            let answer = stage.call("GET", &target, &alice, "").await;
            assert_eq!(answer.status, 400, "{target}: {answer:?}");
        }
    }
    stage.assert_no_subject_but(&[]).await;
    let mut stage = Stage::shipped("hoardrun").await;
    let backend = json!({ "sub": "backend", "role": "backend" });
    for text in INVALID_TOKENS {
        for (what, parameter) in BROADCASTS {
            for value in [escaped(text), escaped(&escaped(text))] {
                let target = format!("/ws/broadcast/{what}?{parameter}={value}");
                let answer = stage.call("POST", &target, &backend, "{\"a\":1}").await;
                assert_eq!(answer.status, 400, "{target}: {answer:?}");
            }
        }
    }
    stage.assert_no_subject_but(&[]).await;
    let mut stage = Stage::shipped("financegpt-mcp").await;
    for command in VALUE_COMMANDS.iter().filter(|command| command.vocabulary == "financegpt-mcp") {
        for value in invalid_tokens() {
            let answer = stage.call("POST", "/mcp", &alice, &command.with(&value)).await;
            assert!(answer.status == 200 && is_error(&answer.json()), "{value}: {answer:?}");
        }
    }
    stage.assert_no_subject_but(&[]).await;
}

#[tokio::test]
async fn id_01_a_path_or_query_that_names_another_user_is_rejected() {
    let bob = json!({ "sub": "bob", "role": "user" });
    for (vocabulary, target) in [
        ("financegpt", "/ws/alice"),
        ("financegpt", "/ws/%61lice"),
        ("financegpt", "/ws/Bob"),
        ("financegpt", "/ws/bo"),
    ] {
        let stage = Stage::shipped(vocabulary).await;
        assert_eq!(stage.handshake(target, &bob).await.status, 403, "{target}");
        assert_eq!(stage.joined(), 0, "{target}");
    }
    let stage = Stage::shipped("sentio").await;
    for query in ["user_id=alice", "user_id=alice&user_id=bob", "us%65r_id=alice", "user_id=", "user_id=Bob"]
    {
        let target = format!("/api/v1/dashboard/earnings?{query}");
        assert_eq!(stage.call("GET", &target, &bob, "").await.status, 403, "{target}");
    }
}

#[tokio::test]
async fn id_01_a_message_that_names_another_user_is_rejected() {
    let mut stage = Stage::shipped("sentio").await;
    for target in ["trade-signals", "earnings", "notifications", "admin", "market-data"] {
        let target = format!("/ws/{target}");
        let mut page = stage.page(&target, &json!({ "sub": "bob", "role": "user" }), 0).await;
        for id in [r#""alice""#, r#""""#, "7", "{}", r#"["bob"]"#, r#""*""#, r#""bob ""#, r#"true"#] {
            for action in ["subscribe", "unsubscribe", "ping"] {
                let message = format!(r#"{{"action":"{action}","user_id":{id}}}"#);
                page.assert_rejected(&message).await;
                page.assert_rejected(&format!(r#"{{"action":"{action}","us\u0065r_id":{id}}}"#)).await;
            }
        }
        assert!(page.is_open);
        // A message with a member that it has twice ends the session.
        page.assert_rejected(r#"{"action":"subscribe","user_id":"bob","user_id":"alice"}"#).await;
    }
    assert_eq!(stage.joined(), 0);
    stage.assert_no_subject_but(&[]).await;
}

/// In vocabularies whose rules do not check the user, members that name another user have no effect.
#[tokio::test]
async fn id_01_unused_members_that_name_another_user_have_no_effect() {
    let others = r#""user_id":"bob","user":"bob","sub":"bob","client_id":"bob","from":"bob","#;
    for (vocabulary, commands) in by_vocabulary(&VALUE_COMMANDS) {
        if vocabulary == "sentio" {
            continue;
        }
        let mut stage = Stage::shipped(vocabulary).await;
        for command in &commands {
            let mut page = stage.page_for(command).await;
            let message: &'static str = format!("{{{others}{}", &command.message[1..]).leak();
            stage.assert_works(&mut page, &Command { message, ..*command }).await;
        }
        let allowed: Vec<&str> = commands.iter().flat_map(|command| command.effect.subjects()).collect();
        stage.assert_no_subject_but(&allowed).await;
    }
    // The name that a page gives itself is not a user.
    let stage = Stage::shipped("stock-agent").await;
    let mut page = stage.page("/ws/bob", &json!({ "sub": "alice", "role": "user" }), 0).await;
    page.send(r#"{"type":"subscribe","channel":"portfolio"}"#).await;
    eventually("alice has joined", || async { stage.joined() == 1 }).await;
    assert!(!page.received().await.iter().any(is_error));
    let subjects = stage.edge.nats.subjects("tidegate/").await;
    assert!(subjects.iter().any(|subject| subject == "user.alice.portfolio"), "{subjects:?}");
    assert!(!subjects.iter().any(|subject| subject.contains("bob")), "{subjects:?}");
}
