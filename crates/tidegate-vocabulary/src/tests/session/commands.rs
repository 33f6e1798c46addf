//! Limits and permissions of a session, at the limit and one beyond it. A rejected command has no other effect.

use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::session::InputReadiness;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;

use crate::tests::session::shell::Shell;
use crate::transcript::ShellInput;
use crate::transcript::shell::ShellOutput;

const ALLOWED: &str = "connect: a\nidentity a: subscribe a.> b.>; publish a.> b.>; request a.> b.>";

fn messages(output: &ShellOutput) -> Vec<Value> {
    output.messages.iter().map(|message| serde_json::from_str(message).unwrap()).collect()
}

/// The codes of the errors. The session may have sent and requested nothing else.
fn rejected(output: &ShellOutput) -> Vec<String> {
    assert_eq!(output.outputs, [""; 0], "a rejected command has no other effect");
    let code = |message: Value| {
        assert_eq!(message["type"], "error", "{message}");
        assert!(message["message"].as_str().is_some_and(|words| !words.is_empty()), "{message}");
        message["code"].as_str().unwrap().to_owned()
    };
    messages(output).into_iter().map(code).collect()
}

fn subscribe(shell: &mut Shell, channel: &str) -> ShellOutput {
    shell.send(&json!({"type": "subscribe", "channel": channel}).to_string())
}

fn publish(shell: &mut Shell, channel: &str) -> ShellOutput {
    shell.send(&json!({"type": "publish", "channel": channel, "data": 1}).to_string())
}

fn request(shell: &mut Shell, channel: &str) -> ShellOutput {
    shell.send(&json!({"type": "request", "channel": channel, "data": 1}).to_string())
}

/// All commands that name a channel.
const OPERATIONS: [Operation; 3] = [Operation::Subscribe, Operation::Publish, Operation::Request];

fn command(operation: Operation, shell: &mut Shell, channel: &str) -> ShellOutput {
    match operation {
        Operation::Subscribe => subscribe(shell, channel),
        Operation::Publish => publish(shell, channel),
        Operation::Request => request(shell, channel),
    }
}

/// The command is accepted, and has no other effect.
fn check_accepted(operation: Operation, output: &ShellOutput) {
    let words = match operation {
        Operation::Subscribe => "join ",
        Operation::Publish => "publish ",
        Operation::Request => "request ",
    };
    assert!(
        output.messages.is_empty() && output.outputs.len() == 1 && output.outputs[0].starts_with(words),
        "{output:?}"
    );
}

#[test]
fn ex_02_any_number_of_channels_in_one_message_costs_no_more_than_the_limits() {
    let mut shell =
        Shell::of("connect: a\nidentity a: subscribe a.>\nlimits: subscriptions 10; max_errors 5");
    let channels: Vec<String> = (0..100_000).map(|number| format!("a.{number}")).collect();
    let output = shell.send(&json!({"type": "subscribe", "channels": channels}).to_string());
    assert_eq!(output.outputs.len(), 10, "ten joins");
    assert_eq!(output.messages.len(), 1, "one error for all others");
    let output = shell.send(&json!({"type": "unsubscribe", "channels": channels}).to_string());
    assert_eq!(output.outputs.len(), 10, "ten are left");
    let unsubscribed = messages(&output).iter().filter(|message| message["type"] == "unsubscribed").count();
    assert_eq!((unsubscribed, output.messages.len()), (20, 31), "ten joins that are refused, and one error");
    let same = vec!["a.1"; 100_000];
    let output = shell.send(&json!({"type": "subscribe", "channels": same}).to_string());
    assert_eq!((output.outputs, output.messages), (vec!["join a.1".to_owned()], Vec::new()), "once");
}

#[test]
fn ex_02_wildcards_of_a_session_are_bounded_and_those_that_overlap_more_so() {
    let limits = "limits: wildcard_subscriptions 5; overlapping_subscriptions 2";
    let mut shell = Shell::of(&format!("connect: a\nidentity a: subscribe a.> b.>\n{limits}"));
    for channel in ["a.*", "a.x", "a.y"] {
        assert_eq!(subscribe(&mut shell, channel).outputs, [format!("join {channel}")]);
    }
    assert_eq!(subscribe(&mut shell, "a.>").outputs, ["join a.>"]);
    assert_eq!(
        subscribe(&mut shell, "a.*.>").outputs,
        ["join a.*.>"],
        "no subject of `a.*` has three tokens"
    );
    assert_eq!(rejected(&subscribe(&mut shell, "a.*.x")), ["limit_exceeded"], "a.>, a.*.> and this");
    assert_eq!(subscribe(&mut shell, "a.*").outputs, ["join a.*"], "again is not one more");
    for channel in ["b.*", "b.*.*"] {
        assert_eq!(subscribe(&mut shell, channel).outputs, [format!("join {channel}")]);
    }
    assert_eq!(
        rejected(&subscribe(&mut shell, "b.*.*.*")),
        ["limit_exceeded"],
        "it would be the sixth wildcard"
    );
    shell.send(r#"{"type":"unsubscribe","channel":"b.*"}"#);
    assert_eq!(subscribe(&mut shell, "b.*.*.*").outputs, ["join b.*.*.*"]);
}

#[test]
fn repeated_subscribes_are_no_mistakes() {
    let mut shell = Shell::of("connect: a\nidentity a: subscribe a.>; publish a.>\nlimits: max_errors 1");
    for _ in 0..100 {
        assert_eq!(subscribe(&mut shell, "a.1").outputs, ["join a.1"]);
        shell.handle_shell_input(&ShellInput::Joined {
            channel: Pattern::parse("a.1").unwrap(),
            stale_for: None,
        });
        let output = shell.send(r#"{"type":"unsubscribe","channel":"a.2"}"#);
        assert_eq!(messages(&output)[0]["type"], "unsubscribed");
    }
    assert_eq!(shell.subscriptions(), 1);
    // While NATS does not reply, the number of subscriptions stays bounded.
    let rejected: Vec<_> = (0..3000).flat_map(|_| codes(&subscribe(&mut shell, "a.1"))).collect();
    assert_eq!(rejected.first().map(String::as_str), Some("try_again"));
    assert!(shell.subscriptions() <= 257, "{}", shell.subscriptions());
}

fn codes(output: &ShellOutput) -> Vec<String> {
    messages(output).iter().filter_map(|message| message["code"].as_str().map(str::to_owned)).collect()
}

#[test]
fn at_most_256_joins_are_in_flight() {
    let mut shell = Shell::of("connect: a\nidentity a: subscribe a.>");
    let channels: Vec<String> = (0..1000).map(|number| format!("a.{number}")).collect();
    let output = shell.send(&json!({"type": "subscribe", "channels": channels}).to_string());
    assert_eq!((output.outputs.len(), output.messages.len()), (256, 0));
    let output = shell.handle_shell_input(&ShellInput::Joined {
        channel: Pattern::parse("a.17").unwrap(),
        stale_for: None,
    });
    assert_eq!(output.outputs, ["live a.17", "join a.256"], "the next one, in order");
    let others: Vec<_> =
        channels.iter().filter(|channel| *channel != "a.999" && *channel != "a.17").collect();
    let output = shell.send(&json!({"type": "unsubscribe", "channels": others}).to_string());
    assert_eq!(output.outputs.len(), 257, "joins that were not sent need no leave");
    assert_eq!(output.outputs.last().map(String::as_str), Some("join a.999"), "the leaves make room");
    assert_eq!(shell.subscriptions(), 2);
}

/// Subscribes to these rooms and, named with each of them, `a.all`. Returns the channels in the order in which the lanes
/// are asked for them. Each join succeeds.
fn asked(shell: &mut Shell, rooms: std::ops::Range<u32>) -> Vec<String> {
    let channels: Vec<String> = rooms.flat_map(|room| ["a.all".to_owned(), format!("a.{room}")]).collect();
    let mut output = shell.send(&json!({"type": "subscribe", "channels": channels}).to_string());
    let (mut asked, mut answered): (Vec<String>, usize) = (Vec::new(), 0);
    loop {
        asked.extend(output.outputs.iter().filter_map(|words| Some(words.strip_prefix("join ")?.to_owned())));
        let Some(channel) = asked.get(answered) else { return asked };
        answered += 1;
        let channel = Pattern::parse(channel).unwrap();
        output = shell.handle_shell_input(&ShellInput::Joined { channel, stale_for: None });
    }
}

#[test]
fn of_many_channels_the_one_that_is_named_with_each_of_the_others_is_asked_for_last() {
    let shell =
        |max: u32| Shell::of(&format!("connect: a\nidentity a: subscribe a.>\nlimits: subscriptions {max}"));
    let rooms = |rooms: std::ops::Range<u32>| rooms.map(|room| format!("a.{room}"));
    let all = || std::iter::once("a.all".to_owned());
    // The lists of `a.all` have elements for the rooms. When its lane answers, the hub must know of all of them.
    assert_eq!(asked(&mut shell(301), 0..300), rooms(0..300).chain(all()).collect::<Vec<_>>());
    assert_eq!(
        asked(&mut shell(300), 0..300),
        rooms(0..299).chain(all()).collect::<Vec<_>>(),
        "one is ignored"
    );
    // If other channels leave too little room, the last room of the message is refused, and not `a.all`.
    let mut with_others = shell(302);
    subscribe(&mut with_others, "a.x");
    subscribe(&mut with_others, "a.y");
    assert_eq!(asked(&mut with_others, 0..300), all().chain(rooms(0..299)).collect::<Vec<_>>());
    assert_eq!(asked(&mut shell(300), 0..255), all().chain(rooms(0..255)).collect::<Vec<_>>(), "all at once");
}

#[test]
fn ex_02_a_subject_has_at_most_256_bytes_and_16_tokens() {
    let bytes = |count: usize| format!("a.{}", "x".repeat(count - 2));
    let tokens = |count: usize| vec!["a"; count].join(".");
    let wild = |count: usize| format!("{}.>", tokens(count - 1));
    for operation in OPERATIONS {
        let mut shell = Shell::of(ALLOWED);
        for channel in [bytes(256), tokens(16)] {
            check_accepted(operation, &command(operation, &mut shell, &channel));
        }
        for channel in [bytes(257), tokens(17), bytes(60_000)] {
            assert_eq!(
                rejected(&command(operation, &mut shell, &channel)),
                ["bad_channel"],
                "{} bytes",
                channel.len()
            );
        }
    }
    let mut shell = Shell::of(ALLOWED);
    assert_eq!(subscribe(&mut shell, &wild(16)).outputs.len(), 1);
    assert_eq!(rejected(&subscribe(&mut shell, &wild(17))), ["bad_channel"]);
}

#[test]
fn ex_02_publishes_that_wait_for_nats_are_bounded_in_bytes_then_reading_stops() {
    let mut shell = Shell::of(&format!("{ALLOWED}\nlimits: requests_in_flight 1; commands_burst 1000"));
    let data = "x".repeat(10_000);
    let message = json!({"type": "publish", "channel": "a.1", "data": data}).to_string();
    let mut accepted = 0;
    while shell.session().readiness(Instant::now()) == InputReadiness::Now {
        assert!(shell.send(&message).messages.is_empty());
        accepted += 1;
    }
    assert_eq!(shell.session().readiness(Instant::now()), InputReadiness::AfterAnswer);
    assert_eq!(accepted, 14, "one is with NATS, 130 KB wait");
    let subject = Subject::parse("a.1").unwrap();
    shell.handle_shell_input(&ShellInput::Published { subject });
    assert_eq!(shell.session().readiness(Instant::now()), InputReadiness::Now);
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
    for operation in OPERATIONS {
        let mut shell = Shell::of(allowed_all);
        for root in roots {
            for channel in [root.to_owned(), format!("{root}.x"), format!("{root}.API.STREAM.DELETE.x")] {
                assert_eq!(rejected(&command(operation, &mut shell, &channel)), ["forbidden"], "{channel}");
            }
        }
        check_accepted(operation, &command(operation, &mut shell, "free.subject"));
    }
    let mut shell = Shell::of(allowed_all);
    for channel in [">", "*", "*.x", "*.>", "*.API.>", "$SYS.>", "$JS.*", "_INBOX.*", "tidegate.>"] {
        assert_eq!(rejected(&subscribe(&mut shell, channel)), ["forbidden"], "{channel}");
    }
}

#[test]
fn acl_01_commands_without_permission_are_rejected() {
    let heads = [
        "connect: a\nidentity a:",
        "connect: a\nidentity a: subscribe prices.* user.7.>; publish prices.*; request prices.*",
        "connect: a\nidentity a: subscribe admin.*; publish admin.*; request admin.*; deny-subscribe admin.users; \
         deny-publish admin.>; deny-request *.users",
    ];
    for head in heads {
        for operation in OPERATIONS {
            assert_eq!(
                rejected(&command(operation, &mut Shell::of(head), "admin.users")),
                ["forbidden"],
                "{head}"
            );
        }
    }
    for operation in OPERATIONS {
        let head = "connect: a\nidentity a: subscribe admin.*; publish admin.*; request admin.*";
        check_accepted(operation, &command(operation, &mut Shell::of(head), "admin.users"));
    }
}

#[test]
fn sub_07_header_values_are_checked() {
    let mut shell = Shell::of(ALLOWED);
    let mut send = |name: &str, value: &str| {
        shell.send(
            &json!({"type": "publish", "channel": "a.b", "data": 1, "headers": {name: value}}).to_string(),
        )
    };
    for name in
        ["Nats-Rollup", "Nats-Expected-Stream", "Nats-TTL", "Tidegate-Priority", "Nats-Msg-Id ", "", "X-Mine"]
    {
        assert_eq!(rejected(&send(name, "1")), ["bad_data"], "{name:?}");
    }
    for value in ["a\r\nb", "a\nb", "a\rb", "\u{0}", "\u{7f}", "\u{85}", &"x".repeat(1025)] {
        assert_eq!(rejected(&send("Nats-Msg-Id", value)), ["bad_data"], "{value:?}");
    }
    for (name, value) in [("nats-msg-id", ""), ("Tidegate-Key", "ключ"), ("traceparent", &"x".repeat(1024))]
    {
        assert_eq!(send(name, value).outputs.len(), 1, "{name}");
    }
}

#[test]
fn ws_07_each_mistake_gets_an_error_until_there_are_too_many() {
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
        assert_eq!(rejected(&shell.send(message)), ["bad_request"], "{}", &message[..message.len().min(40)]);
    }
    let output = shell.send_message(ClientMessage::Binary(vec![0xff; 10].into()));
    let types: Vec<_> =
        messages(&output).iter().map(|message| (message["type"].clone(), message["code"].clone())).collect();
    assert_eq!(types, [(json!("error"), json!("bad_request")), (json!("close"), json!(4509))]);
    assert_eq!(output.outputs, ["close 4509"]);
}
