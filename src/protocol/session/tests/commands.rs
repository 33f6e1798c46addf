//! What a session refuses, at the limit and one beyond it, and that a refused command asks nothing of anybody.

use serde_json::Value;
use serde_json::json;

use crate::protocol::permissions::Operation;
use crate::protocol::session::tests::shell::Shell;
use crate::protocol::session::transcript::shell::Heard;
use crate::protocol::websocket::Event;

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
    shell.say(&json!({"type": "subscribe", "channel": channel}).to_string())
}

fn publish(shell: &mut Shell, channel: &str) -> Heard {
    shell.say(&json!({"type": "publish", "channel": channel, "data": 1}).to_string())
}

fn request(shell: &mut Shell, channel: &str) -> Heard {
    shell.say(&json!({"type": "request", "channel": channel, "data": 1}).to_string())
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
    shell.say(r#"{"type":"unsubscribe","channel":"a.2"}"#);
    assert_eq!(subscribe(&mut shell, "a.4").asked, ["join a.4"], "what was left makes room");
    assert_eq!(refused(&subscribe(&mut shell, "a.5")), ["limit_exceeded"]);
    let heard = shell.say(r#"{"type":"subscribe","channels":["a.6","a.7"]}"#);
    assert_eq!(refused(&heard), ["limit_exceeded"; 2]);
}

#[test]
fn ex_02_any_number_of_channels_in_one_message_costs_no_more_than_the_limits() {
    let mut shell =
        Shell::of("connect: a\nidentity a: subscribe a.>\nlimits: subscriptions 10; max_errors 5");
    let channels: Vec<String> = (0..100_000).map(|number| format!("a.{number}")).collect();
    let heard = shell.say(&json!({"type": "subscribe", "channels": channels}).to_string());
    assert_eq!(heard.asked.len(), 11, "ten joins and the close");
    assert_eq!(heard.messages.len(), 7, "six errors and the close");
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
fn ex_02_requests_that_wait_are_limited_with_publishes_among_them() {
    let mut shell = Shell::of(&format!("{ALLOWED_MOST}\nlimits: requests_in_flight 2"));
    assert_eq!(publish(&mut shell, "a.1").asked.len(), 1);
    assert_eq!(request(&mut shell, "a.2").asked.len(), 1);
    assert_eq!(refused(&publish(&mut shell, "a.3")), ["limit_exceeded"]);
    assert_eq!(refused(&request(&mut shell, "a.3")), ["limit_exceeded"]);
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
        assert_eq!(refused(&shell.say(command)), ["unauthorized"], "{command}");
    }
}

#[test]
fn sub_07_header_values_are_checked() {
    let mut shell = Shell::of(ALLOWED_MOST);
    let mut send = |name: &str, value: &str| {
        shell.say(
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
        assert_eq!(refused(&shell.say(message)), ["bad_request"], "{}", &message[..message.len().min(40)]);
    }
    let heard = shell.receive(Event::Binary(vec![0xff; 10].into()));
    let types: Vec<_> =
        said(&heard).iter().map(|message| (message["type"].clone(), message["code"].clone())).collect();
    assert_eq!(types, [(json!("error"), json!("bad_request")), (json!("close"), json!(4509))]);
    assert_eq!(heard.asked, ["close 4509"]);
}
