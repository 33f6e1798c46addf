//! The notation: every kind of line, and every error by its name.

use super::*;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;
use tidegate_protocol::permissions::Operation;

const WHOLE: &str = "# A title
connect: alice
identity alice: user u1; subscribe chat.> prices.*; deny-subscribe chat.staff; publish chat.general; expires 10s
identity nobody: anonymous
identity bob:
class prices.>: latest; snapshot; priority high; max_rate 250ms; headers A B
limits: max_errors 2; ping_interval 20s

# A comment.
> {\"type\":\"ping\"}
> base64:AP8=
< {\"type\":\"pong\"}
! join chat.general
= joined chat.general
* chat.general (A: 1; B: x y) {\"a\": [1]}
* chat.general base64:AP8=
* chat.general
@ +25s
>> POST /call?x=1 as alice (A: 1) {\"b\": 1}
<< 200 {\"ok\":\"$any\"}
>> GET /
<< 404
";

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn error(text: &str) -> (usize, LineError) {
    let error = Transcript::parse(text).map(|transcript| transcript.title).expect_err(text);
    (error.line, error.error)
}

#[test]
fn the_head_says_who_connects_and_by_which_rules() {
    let transcript = Transcript::parse(WHOLE).unwrap();
    assert_eq!(transcript.title, "A title");
    assert_eq!(transcript.connect.as_deref(), Some("alice"));
    let alice = transcript.persona("alice").unwrap();
    assert_eq!((&*alice.identity.user, alice.expires_in), ("u1", Some(Duration::from_secs(10))));
    let may =
        |channel| alice.identity.permissions.decide(Operation::Subscribe, &pattern(channel)).is_allowed();
    assert!(may("chat.general") && may("prices.AAPL") && !may("chat.staff") && !may("prices.AAPL.x"));
    let nobody = transcript.persona("nobody").unwrap();
    assert_eq!((nobody.identity.anonymous, nobody.expires_in), (true, None));
    let bob = transcript.persona("bob").unwrap();
    assert_eq!((&*bob.identity.user, bob.expires_in), ("bob", Some(Duration::from_secs(3600))));
    let class = transcript.settings.classes.of(&pattern("prices.AAPL"));
    assert_eq!((class.kind, class.snapshot, class.priority), (Kind::Latest, true, Priority::High));
    assert_eq!(class.max_rate, Some(Duration::from_millis(250)));
    assert_eq!(class.headers, ["A", "B"]);
    assert_eq!(transcript.settings.max_errors, 2);
    assert_eq!(transcript.settings.ping_interval, Duration::from_secs(20));
}

#[test]
fn every_kind_of_line_is_read_with_its_number() {
    let transcript = Transcript::parse(WHOLE).unwrap();
    let numbers: Vec<usize> = transcript.steps.iter().map(|step| step.line).collect();
    assert_eq!(numbers, (10..23).collect::<Vec<_>>());
    let subject = Subject::parse("chat.general").unwrap();
    let publication = |headers: &[(&str, &str)], payload: &'static [u8]| Published {
        subject: subject.clone(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        payload: Bytes::from_static(payload),
    };
    let (mut publications, mut calls, mut called) = (Vec::new(), Vec::new(), Vec::new());
    for step in transcript.steps {
        match step.action {
            Action::Client(ClientMessage::Text(text)) => assert_eq!(text, r#"{"type":"ping"}"#),
            Action::Client(event) => assert_eq!(event, ClientMessage::Binary(Bytes::from_static(&[0, 255]))),
            Action::Server(expected) => assert_eq!(expected.check(br#"{"type":"pong"}"#), Ok(())),
            Action::Output(words) => assert_eq!(words, "join chat.general"),
            Action::Input(input) => {
                assert_eq!(input, ShellInput::Joined { channel: pattern("chat.general"), stale_for: None });
            }
            Action::Publication(published) => publications.push(published),
            Action::After(duration) => assert_eq!(duration, Duration::from_secs(25)),
            Action::HttpRequest(call) => calls.push(call),
            Action::HttpResponse { status, body } => {
                called.push((status, body.map(|body| body.check(br#"{"ok":1}"#))))
            }
        }
    }
    let expected = [
        publication(&[("A", "1"), ("B", "x y")], br#"{"a": [1]}"#),
        publication(&[], &[0, 255]),
        publication(&[], b""),
    ];
    assert_eq!(publications, expected);
    let header = ("A".to_owned(), "1".to_owned());
    let (method, target) = ("POST".to_owned(), "/call?x=1".to_owned());
    let (persona, body) = (Some("alice".to_owned()), Some("{\"b\": 1}".to_owned()));
    assert_eq!(calls[0], HttpRequest { method, target, persona, headers: vec![header], body });
    assert_eq!((calls[1].target.as_str(), &calls[1].body, &calls[1].persona), ("/", &None, &None));
    assert_eq!(called, [(200, Some(Ok(()))), (404, None)]);
}

#[test]
fn every_answer_is_read() {
    let channel = pattern("a.*");
    let subject = Subject::parse("a").unwrap();
    let five = Duration::from_secs(5);
    let cases = [
        ("joined a.* stale for 5s", ShellInput::Joined { channel: channel.clone(), stale_for: Some(five) }),
        (
            "unjoined a.* unavailable",
            ShellInput::Unjoined { channel: channel.clone(), code: ErrorCode::Unavailable },
        ),
        (
            "lost a.* nats",
            ShellInput::Lost { channel: channel.clone(), cause: GapCause::Nats, dropped: None },
        ),
        (
            "lost a.* malformed 7",
            ShellInput::Lost { channel: channel.clone(), cause: GapCause::Malformed, dropped: Some(7) },
        ),
        ("stale a.* for 5s", ShellInput::Stale { channel, stale_for: five }),
        ("authenticated alice", ShellInput::Authenticated { persona: "alice".to_owned() }),
        ("unauthenticated", ShellInput::Unauthenticated),
        ("narrowed alice", ShellInput::Narrowed { persona: "alice".to_owned() }),
        ("published a", ShellInput::Published { subject: subject.clone() }),
        (
            "unpublished a bad_data",
            ShellInput::Unpublished { subject: subject.clone(), code: ErrorCode::BadData },
        ),
        (
            "replied a {\"x\": 1}",
            ShellInput::Replied { subject: subject.clone(), payload: Bytes::from_static(b"{\"x\": 1}") },
        ),
        ("unreplied a timeout", ShellInput::Unreplied { subject, code: ErrorCode::Timeout }),
        ("alive", ShellInput::Alive),
        ("failed 1009", ShellInput::Failed(Disconnect::MessageTooBig)),
        ("drain retry after 5s", ShellInput::Drain { retry_after: five }),
    ];
    for (text, expected) in cases {
        let text = format!("# Title\nidentity alice:\n= {text}");
        let transcript = Transcript::parse(&text).expect(&text);
        match &transcript.steps[..] {
            [Step { line: 3, action: Action::Input(input) }] => assert_eq!(*input, expected),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn mistakes_are_named_with_their_line() {
    let text = |text: &str| text.to_owned();
    let cases = [
        ("connect: alice", 1, LineError::NoTitle),
        ("# T\nconnect", 2, LineError::Declaration),
        ("# T\nwhatever: 5", 2, LineError::Declaration),
        ("# T\n\nconnect: alice", 3, LineError::UnknownIdentity { name: text("alice") }),
        ("# T\n= authenticated bob", 2, LineError::UnknownIdentity { name: text("bob") }),
        ("# T\n@ +5s\nlimits: max_errors 3", 3, LineError::LateDeclaration),
        ("# T\nlimits: max_errors x", 2, LineError::Number { text: text("x") }),
        ("# T\nlimits: fun 5", 2, LineError::Clause { clause: text("fun 5") }),
        ("# T\nidentity a: may all", 2, LineError::Clause { clause: text("may all") }),
        ("# T\nclass a: priority urgent", 2, LineError::Clause { clause: text("priority urgent") }),
        ("# T\nclass a: max_age soon", 2, LineError::Duration { text: text("soon") }),
        (
            "# T\nclass a..b: latest",
            2,
            LineError::Subject { text: text("a..b"), error: SubjectError::EmptyToken { position: 2 } },
        ),
        ("# T\n@ 5s", 2, LineError::After),
        ("# T\n@ +5", 2, LineError::Duration { text: text("5") }),
        ("# T\n= jumped a", 2, LineError::Input { verb: text("jumped") }),
        ("# T\n= published a b", 2, LineError::TrailingWords { text: text("b") }),
        ("# T\n= stale a", 2, LineError::Duration { text: text("") }),
        ("# T\n= unjoined a why", 2, LineError::ErrorCode { name: text("why") }),
        ("# T\n= lost a why", 2, LineError::GapCause { name: text("why") }),
        ("# T\n= failed 999", 2, LineError::CloseCode { text: text("999") }),
        ("# T\n* a.* x", 2, LineError::Subject { text: text("a.*"), error: SubjectError::Wildcard }),
        ("# T\n* a base64:?", 2, LineError::Base64),
        ("# T\n> base64:AP8", 2, LineError::Base64),
        ("# T\n* a (A: 1 x", 2, LineError::Headers),
        ("# T\n* a (A) x", 2, LineError::Headers),
        ("# T\n< {\"a\":[\"$sometime\"]}", 2, LineError::Wildcard { text: text("$sometime") }),
    ];
    for (text, line, expected) in cases {
        assert_eq!(error(text), (line, expected), "{text}");
    }
    assert!(matches!(error("# T\n< {"), (2, LineError::Json { .. })));
}

#[test]
fn messages_are_compared_as_json_but_for_what_varies() {
    let expected =
        r#"{"type":"message","data":{"b":[1,"$any"],"a":null},"time":"$time","n":"$number","s":"$text"}"#;
    let expected = Expected::parse(expected).unwrap();
    let message = |data: &str, time: &str, n: &str, s: &str| {
        format!(r#"{{"s":{s},"n":{n},"time":{time},"data":{data},"type":"message"}}"#)
    };
    let (data, time) = (r#"{"a":null,"b":[1,{}]}"#, r#""2026-01-01T00:00:00.000Z""#);
    assert_eq!(expected.check(message(data, time, "7", r#""x""#).as_bytes()), Ok(()));
    for (message, where_) in [
        (message(r#"{"a":null,"b":[2,{}]}"#, time, "7", r#""x""#), ".data.b[0]: 2 is not 1"),
        (message(r#"{"a":null,"b":[1]}"#, time, "7", r#""x""#), ".data.b: [1] is not [1,\"$any\"]"),
        (message(r#"{"b":[1,2]}"#, time, "7", r#""x""#), ".data.a: is missing"),
        (message(r#"{"a":null,"b":[1,2],"c":1}"#, time, "7", r#""x""#), ".data.c: is unexpected"),
        (message(data, "\"now\"", "7", r#""x""#), ".time: \"now\" is not $time"),
        (message(data, time, "-7", r#""x""#), ".n: -7 is not $number"),
        (message(data, time, "7", r#""""#), ".s: \"\" is not $text"),
    ] {
        assert_eq!(expected.check(message.as_bytes()), Err(where_.to_owned()), "{message}");
    }
    assert!(expected.check(b"{").unwrap_err().starts_with("not JSON"));
}
