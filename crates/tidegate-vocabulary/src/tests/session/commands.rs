//! What a session refuses, at the limit and one beyond it, and that a refused command asks nothing of anybody.

use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::session::Readiness;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;

use crate::tests::session::shell::Shell;
use crate::transcript::Answer;
use crate::transcript::shell::Heard;

const ALLOWED_MOST: &str = "connect: a\nidentity a: subscribe a.> b.>; publish a.> b.>; request a.> b.>";

fn said(heard: &Heard) -> Vec<Value> {
    heard.messages.iter().map(|message| serde_json::from_str(message).unwrap()).collect()
}

/// The codes of the errors; nothing else may have been said or asked.
fn refused(heard: &Heard) -> Vec<String> {
    assert_eq!(heard.asked, [""; 0], "a refused command asks nothing of anybody");
    let code = |message: Value| {
        assert_eq!(message["type"], "error", "{message}");
        assert!(message["message"].as_str().is_some_and(|words| !words.is_empty()), "{message}");
        message["code"].as_str().unwrap().to_owned()
    };
    said(heard).into_iter().map(code).collect()
}

fn subscribe(shell: &mut Shell, channel: &str) -> Heard {
    shell.outbound(&json!({"type": "subscribe", "channel": channel}).to_string())
}

fn publish(shell: &mut Shell, channel: &str) -> Heard {
    shell.outbound(&json!({"type": "publish", "channel": channel, "data": 1}).to_string())
}

fn request(shell: &mut Shell, channel: &str) -> Heard {
    shell.outbound(&json!({"type": "request", "channel": channel, "data": 1}).to_string())
}

/// All ways to name a channel.
const WAYS: [Operation; 3] = [Operation::Subscribe, Operation::Publish, Operation::Request];

fn name(way: Operation, shell: &mut Shell, channel: &str) -> Heard {
    match way {
        Operation::Subscribe => subscribe(shell, channel),
        Operation::Publish => publish(shell, channel),
        Operation::Request => request(shell, channel),
    }
}

/// The command has passed, and nothing else has come of it.
fn check_passed(way: Operation, heard: &Heard) {
    let asks = match way {
        Operation::Subscribe => "join ",
        Operation::Publish => "publish ",
        Operation::Request => "request ",
    };
    assert!(
        heard.messages.is_empty() && heard.asked.len() == 1 && heard.asked[0].starts_with(asks),
        "{heard:?}"
    );
}

#[test]
fn ex_02_a_session_has_as_many_channels_as_the_limit_says() {
    let mut shell = Shell::of("connect: a\nidentity a: subscribe a.>\nlimits: subscriptions 3");
    for channel in ["a.1", "a.2", "a.*"] {
        assert_eq!(subscribe(&mut shell, channel).asked, [format!("join {channel}")]);
    }
    assert_eq!(refused(&subscribe(&mut shell, "a.4")), ["limit_exceeded"]);
    assert_eq!(shell.subscriptions(), 3);
    shell.outbound(r#"{"type":"unsubscribe","channel":"a.2"}"#);
    assert_eq!(subscribe(&mut shell, "a.4").asked, ["join a.4"], "what was left makes room");
    assert_eq!(refused(&subscribe(&mut shell, "a.5")), ["limit_exceeded"]);
    let heard = shell.outbound(r#"{"type":"subscribe","channels":["a.6","a.7"]}"#);
    assert_eq!(refused(&heard), ["limit_exceeded"; 2]);
}

#[test]
fn ex_02_any_number_of_channels_in_one_message_costs_no_more_than_the_limits() {
    let mut shell =
        Shell::of("connect: a\nidentity a: subscribe a.>\nlimits: subscriptions 10; max_errors 5");
    let channels: Vec<String> = (0..100_000).map(|number| format!("a.{number}")).collect();
    let heard = shell.outbound(&json!({"type": "subscribe", "channels": channels}).to_string());
    assert_eq!(heard.asked.len(), 10, "ten joins");
    assert_eq!(heard.messages.len(), 1, "one error for all others");
    let heard = shell.outbound(&json!({"type": "unsubscribe", "channels": channels}).to_string());
    assert_eq!(heard.asked.len(), 10, "ten are left");
    let unsubscribed = said(&heard).iter().filter(|message| message["type"] == "unsubscribed").count();
    assert_eq!((unsubscribed, heard.messages.len()), (20, 31), "ten joins that are refused, and one error");
    let same = vec!["a.1"; 100_000];
    let heard = shell.outbound(&json!({"type": "subscribe", "channels": same}).to_string());
    assert_eq!((heard.asked, heard.messages), (vec!["join a.1".to_owned()], Vec::new()), "once");
}

#[test]
fn ex_02_wildcards_of_a_session_are_bounded_and_those_that_overlap_more_so() {
    let limits = "limits: wildcard_subscriptions 5; overlapping_subscriptions 2";
    let mut shell = Shell::of(&format!("connect: a\nidentity a: subscribe a.> b.>\n{limits}"));
    for channel in ["a.*", "a.x", "a.y"] {
        assert_eq!(subscribe(&mut shell, channel).asked, [format!("join {channel}")]);
    }
    assert_eq!(subscribe(&mut shell, "a.>").asked, ["join a.>"]);
    assert_eq!(subscribe(&mut shell, "a.*.>").asked, ["join a.*.>"], "no subject of `a.*` has three tokens");
    assert_eq!(refused(&subscribe(&mut shell, "a.*.x")), ["limit_exceeded"], "a.>, a.*.> and this");
    assert_eq!(subscribe(&mut shell, "a.*").asked, ["join a.*"], "again is not one more");
    for channel in ["b.*", "b.*.*"] {
        assert_eq!(subscribe(&mut shell, channel).asked, [format!("join {channel}")]);
    }
    assert_eq!(
        refused(&subscribe(&mut shell, "b.*.*.*")),
        ["limit_exceeded"],
        "it would be the sixth wildcard"
    );
    shell.outbound(r#"{"type":"unsubscribe","channel":"b.*"}"#);
    assert_eq!(subscribe(&mut shell, "b.*.*.*").asked, ["join b.*.*.*"]);
}

#[test]
fn a_client_that_asks_for_what_it_has_makes_no_mistake_however_often() {
    let mut shell = Shell::of("connect: a\nidentity a: subscribe a.>; publish a.>\nlimits: max_errors 1");
    for _ in 0..100 {
        assert_eq!(subscribe(&mut shell, "a.1").asked, ["join a.1"]);
        shell.answer(&Answer::Joined { channel: Pattern::parse("a.1").unwrap(), stale_for: None });
        let heard = shell.outbound(r#"{"type":"unsubscribe","channel":"a.2"}"#);
        assert_eq!(said(&heard)[0]["type"], "unsubscribed");
    }
    assert_eq!(shell.subscriptions(), 1);
    // While NATS is away nothing grows without end.
    let refused: Vec<_> = (0..3000).flat_map(|_| refused_again(&subscribe(&mut shell, "a.1"))).collect();
    assert_eq!(refused.first().map(String::as_str), Some("try_again"));
    assert!(shell.subscriptions() <= 257, "{}", shell.subscriptions());
}

fn refused_again(heard: &Heard) -> Vec<String> {
    said(heard).iter().filter_map(|message| message["code"].as_str().map(str::to_owned)).collect()
}

#[test]
fn joins_wait_in_the_session_when_many_are_in_flight() {
    let mut shell = Shell::of("connect: a\nidentity a: subscribe a.>");
    let channels: Vec<String> = (0..1000).map(|number| format!("a.{number}")).collect();
    let heard = shell.outbound(&json!({"type": "subscribe", "channels": channels}).to_string());
    assert_eq!((heard.asked.len(), heard.messages.len()), (256, 0));
    let heard = shell.answer(&Answer::Joined { channel: Pattern::parse("a.17").unwrap(), stale_for: None });
    assert_eq!(heard.asked, ["live a.17", "join a.256"], "the next one, in order");
    let others: Vec<_> =
        channels.iter().filter(|channel| *channel != "a.999" && *channel != "a.17").collect();
    let heard = shell.outbound(&json!({"type": "unsubscribe", "channels": others}).to_string());
    assert_eq!(heard.asked.len(), 257, "what was not asked for needs not to be left");
    assert_eq!(heard.asked.last().map(String::as_str), Some("join a.999"), "left ones make room");
    assert_eq!(shell.subscriptions(), 2);
}

#[test]
fn ex_02_a_subject_has_at_most_256_bytes_and_16_tokens() {
    let bytes = |count: usize| format!("a.{}", "x".repeat(count - 2));
    let tokens = |count: usize| vec!["a"; count].join(".");
    let wild = |count: usize| format!("{}.>", tokens(count - 1));
    for way in WAYS {
        let mut shell = Shell::of(ALLOWED_MOST);
        for channel in [bytes(256), tokens(16)] {
            check_passed(way, &name(way, &mut shell, &channel));
        }
        for channel in [bytes(257), tokens(17), bytes(60_000)] {
            assert_eq!(refused(&name(way, &mut shell, &channel)), ["bad_channel"], "{} bytes", channel.len());
        }
    }
    let mut shell = Shell::of(ALLOWED_MOST);
    assert_eq!(subscribe(&mut shell, &wild(16)).asked.len(), 1);
    assert_eq!(refused(&subscribe(&mut shell, &wild(17))), ["bad_channel"]);
}

#[test]
fn ex_02_requests_wait_for_requests_and_publishes_for_publishes() {
    let mut shell = Shell::of(&format!("{ALLOWED_MOST}\nlimits: requests_in_flight 2"));
    for (asked, published) in [("a.1", "b.1"), ("a.2", "b.2")] {
        assert_eq!(request(&mut shell, asked).asked, [format!("request {asked} within 2s 1")]);
        assert_eq!(publish(&mut shell, published).asked, [format!("publish {published} 1")]);
    }
    for (asked, published) in [("a.3", "b.3"), ("a.4", "b.4")] {
        assert_eq!(request(&mut shell, asked), Heard::default(), "neither refused nor sent");
        assert_eq!(publish(&mut shell, published), Heard::default());
    }
    let subject = |text: &str| Subject::parse(text).unwrap();
    let heard = shell.answer(&Answer::Published { subject: subject("b.1") });
    assert_eq!(heard.asked, ["publish b.3 1"], "requests that take long hold up no publish");
    let heard = shell.answer(&Answer::Unreplied { subject: subject("a.2"), code: ErrorCode::Timeout });
    assert_eq!(heard.asked, ["request a.3 within 2s 1"]);
}

#[test]
fn ex_02_what_waits_for_nats_is_bounded_in_bytes_and_then_the_client_is_not_read() {
    let mut shell = Shell::of(&format!("{ALLOWED_MOST}\nlimits: requests_in_flight 1; commands_burst 1000"));
    let data = "x".repeat(10_000);
    let message = json!({"type": "publish", "channel": "a.1", "data": data}).to_string();
    let mut taken = 0;
    while shell.session().readiness(Instant::now()) == Readiness::Now {
        assert!(shell.outbound(&message).messages.is_empty());
        taken += 1;
    }
    assert_eq!(shell.session().readiness(Instant::now()), Readiness::AfterAnswer);
    assert_eq!(taken, 14, "one is with NATS, 130 KB wait");
    let subject = Subject::parse("a.1").unwrap();
    shell.answer(&Answer::Published { subject });
    assert_eq!(shell.session().readiness(Instant::now()), Readiness::Now);
}

#[test]
fn sub_05_no_role_reaches_what_belongs_to_nats_and_tidegate() {
    let allowed_all = "connect: a\nidentity a: subscribe > *.* $SYS.> $JS.> _INBOX.> tidegate.>; publish > $SYS.> $JS.> \
                       _INBOX.>; request > $SYS.> $JS.> _INBOX.>\nlimits: max_errors 100";
    let roots = [
        "$SYS",
        "$JS",
        "$KV",
        "$O",
        "$SRV",
        "$MQTT",
        "$G",
        "_INBOX",
        "_INBOX_tidegate",
        "_live",
        "tidegate",
        "_R_",
        "_GR_",
        "$ANYTHING",
        "_INBOX_other",
    ];
    for way in WAYS {
        let mut shell = Shell::of(allowed_all);
        for root in roots {
            for channel in [root.to_owned(), format!("{root}.x"), format!("{root}.API.STREAM.DELETE.x")] {
                assert_eq!(refused(&name(way, &mut shell, &channel)), ["forbidden"], "{channel}");
            }
        }
        check_passed(way, &name(way, &mut shell, "free.subject"));
    }
    let mut shell = Shell::of(allowed_all);
    for channel in [">", "*", "*.x", "*.>", "*.API.>", "$SYS.>", "$JS.*", "_INBOX.*", "tidegate.>"] {
        assert_eq!(refused(&subscribe(&mut shell, channel)), ["forbidden"], "{channel}");
    }
}

#[test]
fn sub_06_messages_go_to_one_valid_subject() {
    for way in [Operation::Publish, Operation::Request] {
        let mut shell = Shell::of(ALLOWED_MOST);
        for channel in
            ["a..b", ".a", "a.", "a.*", ">", "a.>", "", ".", "a b", "a\tb", "a\r\nPUB b 1", "a.\u{0}", "a.b*"]
        {
            assert_eq!(refused(&name(way, &mut shell, channel)), ["bad_channel"], "{channel:?}");
        }
        check_passed(way, &name(way, &mut shell, "a.b"));
    }
    let mut shell = Shell::of(ALLOWED_MOST);
    for channel in ["a..b", ".a", "a.", "a.>.b", "a.b*", "", "a b", "a\r\nSUB > 1"] {
        assert_eq!(refused(&subscribe(&mut shell, channel)), ["bad_channel"], "{channel:?}");
    }
}

#[test]
fn acl_01_what_is_not_allowed_is_refused() {
    let heads = [
        "connect: a\nidentity a:",
        "connect: a\nidentity a: subscribe prices.* user.7.>; publish prices.*; request prices.*",
        "connect: a\nidentity a: subscribe admin.*; publish admin.*; request admin.*; deny-subscribe admin.users; \
         deny-publish admin.>; deny-request *.users",
    ];
    for head in heads {
        for way in WAYS {
            assert_eq!(refused(&name(way, &mut Shell::of(head), "admin.users")), ["forbidden"], "{head}");
        }
    }
    for way in WAYS {
        let head = "connect: a\nidentity a: subscribe admin.*; publish admin.*; request admin.*";
        check_passed(way, &name(way, &mut Shell::of(head), "admin.users"));
    }
}

#[test]
fn sub_03_sub_04_a_wildcard_lies_within_what_is_allowed_and_touches_nothing_denied() {
    let head = "connect: a\nidentity a: subscribe prices.* user.7.> log.>; deny-subscribe log.secret.>";
    for channel in ["prices.>", "user.*.notifications", "*.7.>", "log.>", "log.*.x", "log.secret.x"] {
        assert_eq!(refused(&subscribe(&mut Shell::of(head), channel)), ["forbidden"], "{channel}");
    }
    for channel in ["prices.*", "user.7.>", "user.7.*", "log.public.>", "log.*"] {
        assert_eq!(subscribe(&mut Shell::of(head), channel).asked, [format!("join {channel}")]);
    }
}

#[test]
fn without_an_identity_nothing_is_done() {
    let mut shell = Shell::of("");
    for command in [
        r#"{"type":"subscribe","channel":"a"}"#,
        r#"{"type":"subscribe","channels":["a","b"]}"#,
        r#"{"type":"unsubscribe","channel":"a"}"#,
        r#"{"type":"publish","channel":"a","data":1}"#,
        r#"{"type":"request","channel":"a","data":1}"#,
    ] {
        assert_eq!(refused(&shell.outbound(command)), ["unauthorized"], "{command}");
    }
}

#[test]
fn sub_07_header_values_are_checked() {
    let mut shell = Shell::of(ALLOWED_MOST);
    let mut send = |name: &str, value: &str| {
        shell.outbound(
            &json!({"type": "publish", "channel": "a.b", "data": 1, "headers": {name: value}}).to_string(),
        )
    };
    for name in
        ["Nats-Rollup", "Nats-Expected-Stream", "Nats-TTL", "Tidegate-Priority", "Nats-Msg-Id ", "", "X-Mine"]
    {
        assert_eq!(refused(&send(name, "1")), ["bad_data"], "{name:?}");
    }
    for value in ["a\r\nb", "a\nb", "a\rb", "\u{0}", "\u{7f}", "\u{85}", &"x".repeat(1025)] {
        assert_eq!(refused(&send("Nats-Msg-Id", value)), ["bad_data"], "{value:?}");
    }
    for (name, value) in [("nats-msg-id", ""), ("Tidegate-Key", "ключ"), ("traceparent", &"x".repeat(1024))]
    {
        assert_eq!(send(name, value).asked.len(), 1, "{name}");
    }
}

#[test]
fn ws_07_each_mistake_is_answered_until_there_are_too_many() {
    let deep = format!(r#"{{"type":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let keys: String = (0..5000).map(|number| format!(r#","k{number}":0"#)).collect();
    let many = format!(r#"{{"type":"ping"{keys}}}"#);
    let hostile = [
        deep.as_str(),
        many.as_str(),
        "",
        "null",
        r#"{"type":"ping","id":1e400e}"#,
        r#"{"type":"\ud800"}"#,
        r#"{"type":"ping","type":"pong"}"#,
        "\u{feff}{}",
        r#"{"__proto__":{}}"#,
    ];
    let mut shell = Shell::of("connect: a\nidentity a: subscribe a.>\nlimits: max_errors 9");
    for message in hostile {
        assert_eq!(
            refused(&shell.outbound(message)),
            ["bad_request"],
            "{}",
            &message[..message.len().min(40)]
        );
    }
    let heard = shell.receive(ClientMessage::Binary(vec![0xff; 10].into()));
    let types: Vec<_> =
        said(&heard).iter().map(|message| (message["type"].clone(), message["code"].clone())).collect();
    assert_eq!(types, [(json!("error"), json!("bad_request")), (json!("close"), json!(4509))]);
    assert_eq!(heard.asked, ["close 4509"]);
}
