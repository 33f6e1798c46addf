//! Clients cannot set NATS headers or reply subjects, except the headers that a rule allows.

use serde_json::Value;
use serde_json::json;

use crate::support::edge::role;
use crate::support::within;
use crate::vocabularies::names::BROADCASTS;
use crate::vocabularies::names::by_vocabulary;
use crate::vocabularies::stage::MARK;
use crate::vocabularies::stage::Stage;
use crate::vocabularies::table::Command;
use crate::vocabularies::table::Effect;
use crate::vocabularies::table::FIXED_COMMANDS;
use crate::vocabularies::table::VALUE_COMMANDS;

/// Members and headers that would control NATS or JetStream if they were copied to a NATS message.
const STEERING: &str = r#""headers":{"Nats-Rollup":"all","Nats-Expected-Stream":"x","Nats-Msg-Id":"1"},"header":{"Nats-Rollup":"all"},"reply":"user.bob.notifications","reply_to":"user.bob.notifications","Nats-Rollup":"all","#;
const HTTP_STEERING: &str =
    "Nats-Rollup: all\r\nNats-Expected-Stream: x\r\nNats-Msg-Id: 1\r\nReply-To: user.bob.notifications\r\n";

/// The messages published since the last call. Waits for at least one.
async fn published(stage: &mut Stage) -> Vec<async_nats::Message> {
    let mut published = Vec::new();
    let some = async {
        while published.is_empty() {
            published = stage.published().await;
        }
    };
    within("something is published", some).await;
    published
}

/// Checks that a message has no headers and no reply subject except an inbox of the node.
fn assert_plain(message: &async_nats::Message) {
    assert!(message.headers.is_none(), "{message:?}");
    let reply = message.reply.as_ref().map(|reply| reply.as_str());
    assert!(reply.is_none_or(|reply| reply.starts_with("_INBOX_tidegate.")), "{message:?}");
}

#[tokio::test]
async fn sub_07_and_sub_08_members_of_messages_set_no_header_and_no_reply_subject() {
    let writes = |command: &Command| matches!(command.effect, Effect::Requests(_) | Effect::Publishes(_));
    let commands: Vec<Command> = VALUE_COMMANDS.into_iter().chain(FIXED_COMMANDS).filter(writes).collect();
    for (vocabulary, commands) in by_vocabulary(&commands) {
        let mut stage = Stage::shipped(vocabulary).await;
        for command in &commands {
            let (Effect::Requests(subject) | Effect::Publishes(subject)) = command.effect else { continue };
            let mut page = stage.page_for(command).await;
            page.send(&format!("{{{STEERING}{}", &command.good()[1..])).await;
            for message in published(&mut stage).await {
                assert_eq!(message.subject.as_str(), subject, "{command:?}");
                assert_plain(&message);
            }
        }
        stage.assert_no_subject_but(&[]).await;
    }
}

#[tokio::test]
async fn sub_07_and_sub_08_http_calls_set_no_nats_header_and_no_reply_subject() {
    let mut stage = Stage::shipped("hoardrun").await;
    let backend = json!({ "sub": "backend", "role": "backend" });
    for (what, parameter) in BROADCASTS {
        let body = format!("{{{STEERING}\"data\":1}}");
        let target = format!("/ws/broadcast/{what}?{parameter}=x");
        let answer = stage.call_with(HTTP_STEERING, "POST", &target, &backend, &body).await;
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        published(&mut stage).await.iter().for_each(assert_plain);
    }
    let mut stage = Stage::shipped("financegpt-mcp").await;
    let alice = json!({ "sub": "alice", "role": "user" });
    for command in
        VALUE_COMMANDS.iter().chain(&FIXED_COMMANDS).filter(|command| command.vocabulary == "financegpt-mcp")
    {
        let body = format!("{{{STEERING}{}", &command.good()[1..]);
        let answer = stage.call_with(HTTP_STEERING, "POST", "/mcp", &alice, &body).await;
        assert!(answer.body.contains(MARK), "{answer:?}");
        published(&mut stage).await.iter().for_each(assert_plain);
    }
}

/// A vocabulary whose clients set the headers that are allowed.
const HEADERS: &str = r#"
    name = "headers"
    [[path]]
    name = "headers"
    path = "/headers"
    [[receive]]
    when = { do = "say" }
    do = "publish"
    subject = "chat.a"
    data = 1
    headers = { "Nats-Msg-Id" = "{msg.id}", traceparent = "{msg.trace|default:none}" }
    confirm = { said = true }
    [error]
    send = { type = "error", code = "{code}" }
    [[http]]
    method = "POST"
    path = "/say"
    do = "publish"
    subject = "chat.a"
    data = 1
    headers = { "Nats-Msg-Id" = "{msg.id}", traceparent = "{msg.trace|default:none}" }
    send = { said = true }
"#;

#[tokio::test]
async fn sub_07_a_header_value_cannot_break_its_line() {
    let roles = vec![role("user", &[], &["chat.a"], &[])];
    let mut stage = Stage::start("headers", HEADERS, |config| config.roles = roles).await;
    let alice = json!({ "sub": "alice", "role": "user" });
    let mut page = stage.page("/headers", &alice, 0).await;
    let long = "x".repeat(1025);
    let values = [
        "1\r\nNats-Rollup: all",
        "1\nNats-Rollup: all",
        "\r",
        "1\r\n\r\nPUB x 1\r\n1",
        "\0",
        "\u{85}",
        "\u{7f}",
        &long,
    ];
    for value in values {
        for message in [json!({ "do": "say", "id": value }), json!({ "do": "say", "id": 1, "trace": value })]
        {
            let received = page.assert_rejected(&message.to_string()).await;
            assert_eq!(received, [json!({ "type": "error", "code": "bad_data" })], "{message}");
            let answer = stage.call("POST", "/say", &alice, &message.to_string()).await;
            assert_eq!((answer.status, &answer.json()["code"]), (400, &Value::from("bad_data")), "{message}");
        }
    }
    stage.assert_no_subject_but(&[]).await;
    let good = json!({ "do": "say", "id": 7 }).to_string();
    page.send(&good).await;
    page.until("said").await;
    assert_eq!(stage.call("POST", "/say", &alice, &good).await.status, 200);
    for message in published(&mut stage).await {
        let headers = message.headers.unwrap();
        assert_eq!(headers.get("Nats-Msg-Id").unwrap().as_str(), "alice|7");
        assert_eq!(headers.len(), 1, "a `traceparent` that is none is left out");
    }
}

#[tokio::test]
async fn sub_08_a_reply_reaches_only_the_client_that_sent_the_request() {
    for command in VALUE_COMMANDS
        .iter()
        .chain(&FIXED_COMMANDS)
        .filter(|command| matches!(command.effect, Effect::Requests(_)))
    {
        let mut stage = Stage::shipped(command.vocabulary).await;
        let (mut asks, mut silent) = (stage.page_for(command).await, stage.page_for(command).await);
        stage.assert_works(&mut asks, command).await;
        assert_eq!(asks.received().await, Vec::<Value>::new(), "{command:?}: one request has one reply");
        assert_eq!(silent.received().await, Vec::<Value>::new(), "{command:?}");
    }
}

#[tokio::test]
async fn an_http_body_is_parsed_as_strictly_as_a_message() {
    let mut stage = Stage::shipped("hoardrun").await;
    let backend = json!({ "sub": "backend", "role": "backend" });
    let (what, parameter) = BROADCASTS[0];
    let target = format!("/ws/broadcast/{what}?{parameter}=x");
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let many = |members: usize| (0..members).map(|n| format!(",\"m{n}\":1")).collect::<String>();
    let good = |more: &str| format!("{{\"id\":\"x\",\"data\":1{more}}}");
    for (body, status) in [
        (good(""), 200),
        (good(",\"data\":2"), 400),
        (good(",\"d\\u0061ta\":2"), 400),
        (good(&many(62)), 200),
        (good(&many(63)), 400),
        (good(&format!(",\"deep\":{}", nested(63))), 200),
        (good(&format!(",\"deep\":{}", nested(64))), 400),
        (nested(20_000), 400),
        (good("").repeat(2), 400),
    ] {
        let answer = stage.call("POST", &target, &backend, &body).await;
        assert_eq!(answer.status, status, "{answer:?} to {}", &body[..body.len().min(100)]);
        if status == 200 {
            published(&mut stage).await;
        } else {
            assert!(
                ["bad_request", "not_json"].contains(&answer.json()["code"].as_str().unwrap()),
                "{answer:?}"
            );
        }
    }
    stage.assert_no_subject_but(&[]).await;
}
