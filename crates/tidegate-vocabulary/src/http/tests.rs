//! HTTP requests as sessions of one message: requests that a caller may not make have no effect.

mod parameters;

use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::message::LastValue;
use tidegate_protocol::message::Query;
use tidegate_protocol::message::QueryResult;
use tidegate_protocol::permissions::Permissions;
use tidegate_protocol::permissions::Rules;
use tidegate_protocol::permissions::StatsAccess;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::session::Input;
use tidegate_protocol::session::Output;
use tidegate_protocol::session::Session;
use tidegate_protocol::session::now::Now;
use tidegate_protocol::session::phase::Verified;
use tidegate_protocol::session::settings::Settings;

use super::*;
use crate::compile::compile;
use crate::route::PathIndex;
use crate::route::Route;
use crate::transcript::default_settings;

const FILE: &str = r#"
    name = "calls"
    [[path]]
    name = "a"
    path = "/a"
    [[receive]]
    path = "a"
    when = { type = "say" }
    do = "publish"
    subject = "own.{msg.room}"
    data = "{msg.text}"
    confirm = { said = "{msg.text}" }
    [error]
    send = { code = "{code}" }
    [[http]]
    method = "POST"
    path = "/publish/{room}"
    do = "publish"
    subject = "own.{path.room}"
    data = "{msg}"
    status = 202
    [[http]]
    method = "POST"
    path = "/request/{room}"
    do = "request"
    subject = "own.{path.room}"
    data = "{msg.text}"
    send = { reply = "{reply}", text = "{msg.text}" }
    [[http]]
    method = "GET"
    path = "/last"
    do = "last"
    each = "{query.rooms|split}"
    channel = "own.{item}"
    send = { list = "{list}", count = "{count}" }
    [[http]]
    method = "GET"
    path = "/one/{room}"
    do = "last"
    channel = "own.{path.room}"
    send = "{data}"
    [[http]]
    method = "GET"
    path = "/stats"
    do = "stats"
    send = { stats = "{stats.connections}" }
    [[http]]
    method = "GET"
    path = "/where"
    do = "send"
    send = { session = "{session}", node = "{node}", user = "{user}" }
    [[http]]
    method = "POST"
    path = "/messages"
    do = "receive"
"#;

/// An identity with permissions for these rooms, and access to statistics.
fn identity(rooms: &[&str], stats: StatsAccess) -> Identity {
    let allow = || Rules {
        allow: rooms.iter().map(|room| Pattern::parse(&format!("own.{room}")).unwrap()).collect(),
        deny: Vec::new(),
    };
    let permissions = Permissions {
        subscribe: allow(),
        publish: allow(),
        request: allow(),
        stats,
        admin: false,
        control: false,
    };
    Identity { user: "alice".into(), permissions: Arc::new(permissions), ..Identity::default() }
}

/// The outputs of a request's session, and the response. Every output succeeds.
fn call(method: &str, target: &str, body: &str, who: Identity, settings: Settings) -> (usize, HttpAnswer) {
    call_of(FILE, method, target, body, who, settings)
}

fn call_of(
    file: &str,
    method: &str,
    target: &str,
    body: &str,
    who: Identity,
    settings: Settings,
) -> (usize, HttpAnswer) {
    let vocabulary = Arc::new(compile(file).unwrap().vocabulary);
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let Lookup::Found(route) = vocabulary.lookup(VocabularyId(1), method, path, query, |_| None) else {
        panic!("{target}")
    };
    let scope = SessionScope { identity: Some(&who), ..SessionScope::default() };
    let accepted = match route.accept(scope, Some(body.to_owned())) {
        Ok(accepted) => accepted,
        Err(error) => return (0, HttpAnswer::Refused(error)),
    };
    assert_eq!(accepted.handler(), Handler::Session);
    let (dialect, body) = accepted.into_message();
    let now = Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH };
    let verified = Verified { identity: Arc::new(who), expires: None };
    let mut session = Session::of_one_message("s1".into(), dialect, Arc::new(settings), verified, now);
    session.handle_input(Input::Received(ClientMessage::Text(body)), now);
    let (mut outputs, mut frames) = (0, Vec::new());
    while let Some(output) = session.poll_output() {
        let value = || Payload::classify(r#"{"a":1}"#.into());
        let input = match output {
            Output::Send { frame, .. } => {
                frames.push(frame);
                continue;
            }
            Output::Publish { request, .. } => Input::Published { request, result: Ok(()) },
            Output::Request { request, .. } => Input::Replied { request, result: Ok(value()) },
            Output::Query { request, query } => {
                let found = match query {
                    // A room without a name has no value.
                    Query::LastValues { channels } => {
                        let named = channels.iter().filter(|it| it.as_str() != "own.empty");
                        let values: Vec<_> = named.map(|it| last_value(it.as_str(), value())).collect();
                        QueryResult::LastValues(vocabulary.last_values_json(&channels, &values))
                    }
                    Query::Statistics { with_names } => {
                        let json = format!(r#"{{"connections":{}}}"#, u8::from(with_names));
                        QueryResult::Statistics(json.into())
                    }
                };
                Input::Queried { request, result: Ok(found) }
            }
            Output::Deliver { .. }
            | Output::DeliverSnapshot { .. }
            | Output::Ping
            | Output::Authenticate { .. }
            | Output::TrustIdentity { .. }
            | Output::Join { .. }
            | Output::Recover { .. }
            | Output::Filter { .. }
            | Output::GoLive { .. }
            | Output::Release { .. }
            | Output::Leave { .. } => panic!("{output:?}"),
            Output::Denied(_) | Output::Refused(_) => continue,
            Output::Close { reason, .. } => {
                if frames.is_empty() {
                    frames.extend(HttpAnswer::of_end(&reason));
                }
                continue;
            }
        };
        outputs += 1;
        session.handle_input(input, now);
    }
    (outputs, HttpAnswer::of(&frames))
}

fn json(status: u16, text: &str) -> HttpAnswer {
    HttpAnswer::Json(status, text.to_owned().into())
}

#[test]
fn what_is_allowed_is_done_and_answered_as_the_route_says() {
    let good = |method, target, body| {
        let (outputs, answer) =
            call(method, target, body, identity(&["*"], StatsAccess::All), default_settings());
        assert_eq!(outputs, 1, "{target}");
        answer
    };
    assert_eq!(good("POST", "/publish/a", "1"), HttpAnswer::Status(202));
    let replied = json(200, r#"{"reply":{"a":1},"text":"x"}"#);
    assert_eq!(good("POST", "/request/a", r#"{"text":"x"}"#), replied);
    assert_eq!(good("GET", "/last?rooms=a,b", ""), json(200, r#"{"list":[{"a":1},{"a":1}],"count":2}"#));
    assert_eq!(good("GET", "/one/a", ""), json(200, r#"{"a":1}"#));
    assert_eq!(good("GET", "/one/empty", ""), HttpAnswer::NoValue);
    assert_eq!(good("GET", "/stats", ""), json(200, r#"{"stats":1}"#));
    let message = r#"{"type":"say","room":"a","text":"x"}"#;
    assert_eq!(good("POST", "/messages", message), json(200, r#"{"said":"x"}"#));
}

#[test]
fn what_a_caller_may_not_do_never_leaves_the_session() {
    let refused = |method, target, body| {
        let who = identity(&["mine"], StatsAccess::None);
        let (outputs, answer) = call(method, target, body, who, default_settings());
        assert_eq!(outputs, 0, "{target}");
        answer
    };
    let calls = [
        ("POST", "/publish/theirs", "1"),
        ("POST", "/request/theirs", r#"{"text":"x"}"#),
        ("GET", "/last?rooms=mine,theirs", ""),
        ("GET", "/one/theirs", ""),
        ("GET", "/stats", ""),
    ];
    for (method, target, body) in calls {
        let answer = refused(method, target, body);
        assert!(
            matches!(&answer, HttpAnswer::Refused(error) if error.code == ErrorCode::Forbidden),
            "{target}: {answer:?}"
        );
    }
    let message = r#"{"type":"say","room":"theirs","text":"x"}"#;
    assert_eq!(refused("POST", "/messages", message), json(200, r#"{"code":"forbidden"}"#));
}

#[test]
fn limits_of_a_session_are_those_of_a_call() {
    let settings = Settings { max_subscriptions: 2, publish_max: 3, ..default_settings() };
    let code = |method, target, body| {
        let who = identity(&["*"], StatsAccess::Counts);
        match call(method, target, body, who, settings.clone()) {
            (0, HttpAnswer::Refused(error)) => Some(error.code),
            (1, HttpAnswer::Json(..) | HttpAnswer::Status(_)) => None,
            other => panic!("{target}: {other:?}"),
        }
    };
    assert_eq!(code("POST", "/publish/a", "123"), None);
    assert_eq!(code("POST", "/publish/a", "1234"), Some(ErrorCode::BadData));
    assert_eq!(code("GET", "/last?rooms=a,b", ""), None);
    assert_eq!(code("GET", "/last?rooms=a,b,c", ""), Some(ErrorCode::LimitExceeded));
    assert_eq!(code("POST", "/request/a", r#"{"text":1}"#), None);
    assert_eq!(code("POST", "/request/a", "{}"), Some(ErrorCode::BadRequest));
    assert_eq!(code("POST", "/messages", " "), Some(ErrorCode::NotJson));
}

#[test]
fn who_may_see_counts_is_shown_no_names() {
    let who = identity(&[], StatsAccess::Counts);
    assert_eq!(call("GET", "/stats", "", who, default_settings()).1, json(200, r#"{"stats":0}"#));
}

#[test]
fn the_session_and_the_node_of_a_call_have_no_names() {
    let (outputs, answer) = call("GET", "/where", "", identity(&[], StatsAccess::None), default_settings());
    assert_eq!((outputs, answer), (0, json(200, r#"{"session":"","node":"","user":"alice"}"#)));
}

#[test]
fn a_message_that_would_have_ended_a_session_is_refused_and_not_called_accepted() {
    let file = FILE.replace("[error]", "[error.close]\n    forbidden = 4403\n    [error]");
    let who = || identity(&["mine"], StatsAccess::None);
    let message = |room| format!(r#"{{"type":"say","room":"{room}","text":"x"}}"#);
    let call = |room| call_of(&file, "POST", "/messages", &message(room), who(), default_settings());
    assert_eq!(call("mine"), (1, json(200, r#"{"said":"x"}"#)));
    let (outputs, answer) = call("theirs");
    assert_eq!(outputs, 0);
    let is_refused = matches!(&answer, HttpAnswer::Refused(error) if error.code == ErrorCode::Forbidden);
    assert!(is_refused, "{answer:?}");
}

#[test]
fn a_message_with_a_credential_of_its_own_is_refused_and_not_called_accepted() {
    let file = FILE.replace("path = \"/a\"", "path = \"/a\"\n    token_field = \"token\"");
    let message = r#"{"type":"say","room":"a","text":"x","token":"t"}"#;
    let who = identity(&["*"], StatsAccess::None);
    let answer = call_of(&file, "POST", "/messages", message, who, default_settings());
    assert_eq!(answer, (0, json(200, r#"{"code":"unsupported"}"#)));
}

#[test]
fn a_query_with_several_values_is_one_list() {
    let listed = |query: &str| {
        let file = FILE.to_owned()
            + "[[http]]\nmethod = \"GET\"\npath = \"/echo\"\ndo = \"send\"\n\
               send = { all = \"{query.s|split}\", first = \"{query.s}\" }\n";
        call_of(
            &file,
            "GET",
            &format!("/echo?{query}"),
            "",
            identity(&[], StatsAccess::None),
            default_settings(),
        )
        .1
    };
    for (query, all, first) in [
        ("s=a", r#"["a"]"#, r#""a""#),
        ("s=a,b&x=1&s=c", r#"["a","b","c"]"#, r#""a,b""#),
        ("s[]=a&s[]=b", r#"["a","b"]"#, r#""a""#),
        ("s%5B%5D=a,b&s=c&s%5B%5D=+d+", r#"["a","b","c","d"]"#, r#""c""#),
        ("s[]", r#"[""]"#, r#""""#),
        ("x=1&s[0]=a", "null", "null"),
    ] {
        assert_eq!(listed(query), json(200, &format!(r#"{{"all":{all},"first":{first}}}"#)), "{query}");
    }
    let long = "a".repeat(1025);
    let body_of = |query: &str| {
        let HttpAnswer::Json(200, body) = listed(query) else { panic!("{query}") };
        String::from_utf8(body.into()).unwrap()
    };
    let body = body_of(&format!("s={long}&s=b"));
    assert!(body.contains(&format!("[\"{long}\",\"b\"]")), "a list may be long");
    let many = (0..500).map(|n| format!("s[]={n}")).collect::<Vec<_>>().join("&");
    let body = body_of(&many);
    assert!(body.contains("\"498\",\"499\"]"), "{body}");
}

/// Last values of these channels, as an HTTP response shows them.
fn shown_of(vocabulary: &CompiledVocabulary, channels: &[&str], values: &[LastValue]) -> String {
    let channels: Vec<Pattern> = channels.iter().map(|channel| Pattern::parse(channel).unwrap()).collect();
    vocabulary.last_values_json(&channels, values).as_str().to_owned()
}

fn last_value(subject: &str, payload: Payload) -> LastValue {
    LastValue { subject: subject.into(), payload, time: SystemTime::UNIX_EPOCH }
}

#[test]
fn last_values_that_rules_take_apart_are_shown_as_the_newest_elements_of_the_wanted_channels() {
    const COLLECTING: &str = r#"
        name = "test"
        [[path]]
        name = "main"
        path = "/"
        [[receive]]
        when = { do = "watch" }
        do = "subscribe"
        channels = ["signals", "signals.a", "signals.b", "alerts.x", "plain.x"]
        [[deliver]]
        pattern = "signals"
        each = "{data}"
        channel = "signals.{data.s}"
        collect = { by = "{data.s}" }
        send = { list = "{list}" }
        [[deliver]]
        pattern = "signals.*"
        each = "{data}"
        channel = "signals.{data.s}"
        collect = { by = "{data.s}" }
        send = { list = "{list}" }
        [[deliver]]
        pattern = "alerts.*"
        each = "{data.list}"
        send = { alert = "{data}" }
        [[deliver]]
        pattern = "*.*"
        send = "{data}"
    "#;
    let vocabulary = compile(COLLECTING).unwrap().vocabulary;
    let value = |subject: &str, second, json: &'static str| {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
        LastValue { time, ..last_value(subject, Payload::classify(json.into())) }
    };
    let shown = |channels: &[&str], values: &[LastValue]| shown_of(&vocabulary, channels, values);
    let list = value("signals", 2, r#"[{"s":"b","n":1},{"s":"c","n":2},{"s":"a","n":3}]"#);
    let old = value("signals.a", 1, r#"{"s":"a","n":4}"#);
    let new = value("signals.b", 3, r#"[{"s":"b","n":5}]"#);
    let all = ["signals", "signals.a", "signals.b"];
    assert_eq!(shown(&all, &[list.clone(), old, new]), r#"[{"s":"a","n":3},{"s":"b","n":5}]"#);
    assert_eq!(shown(&["signals", "signals.b"], std::slice::from_ref(&list)), r#"[{"s":"b","n":1}]"#);
    assert_eq!(shown(&["signals"], &[list]), "[]");
    let alerts = value("alerts.x", 1, r#"{"list":[1,1,"two"]}"#);
    assert_eq!(shown(&["alerts.x"], &[alerts]), r#"[1,1,"two"]"#);
    assert_eq!(shown(&["alerts.x"], &[value("alerts.x", 1, "[]")]), "[[]]", "it has no list");
    assert_eq!(shown(&["plain.x"], &[value("plain.x", 1, "[1,2]")]), "[[1,2]]");
}

/// A vocabulary whose lists go only to those who have joined the channels of their elements.
const LISTS: &str = r#"
    name = "lists"
    [[path]]
    name = "a"
    path = "/a"
    [[receive]]
    do = "subscribe"
    channels = ["own.all", "own.a"]
    [[deliver]]
    pattern = "own.*"
    when = { data = { secret = false } }
    each = "{data}"
    channel = "own.{data.s|upper}"
    collect = { by = "{data.s}" }
    send = { list = "{list}" }
    [[http]]
    method = "GET"
    path = "/last"
    when = { query = { rooms = true } }
    do = "last"
    each = "{query.rooms|split}"
    channels = ["own.all", "own.{item|upper}"]
    send = { list = "{list}" }
"#;

#[test]
fn sub_11_a_last_value_that_cannot_be_taken_apart_is_not_shown_as_a_whole() {
    let vocabulary = compile(LISTS).unwrap().vocabulary;
    let too_many = format!("[{}]", vec![r#"{"s":"x"}"#; 10_001].join(","));
    for hidden in [&too_many, r#"[{"s":"*"}]"#, r#"[{"s":"a.b"}]"#, r#"{"s":"a","secret":1}"#, "[]"] {
        let value = last_value("own.all", Payload::classify(hidden.to_owned().into()));
        assert_eq!(shown_of(&vocabulary, &["own.all", "own.A"], &[value]), "[]");
    }
    let shown = last_value("own.all", Payload::classify(r#"[{"s":"x"},{"s":"a"}]"#.into()));
    assert_eq!(shown_of(&vocabulary, &["own.A"], &[shown]), r#"[{"s":"a"}]"#);
}

#[test]
fn a_channel_that_several_texts_name_is_read_once_however_long_the_list_is() {
    let vocabulary = Arc::new(compile(LISTS).unwrap().vocabulary);
    let channels = |query: &str| {
        let Lookup::Found(route) = vocabulary.lookup(VocabularyId(1), "GET", "/last", Some(query), |_| None)
        else {
            panic!("{query}")
        };
        route.accept(SessionScope::default(), None).unwrap().channels()
    };
    assert_eq!(channels("rooms=a,b"), 3, "own.all, own.A and own.B");
    assert_eq!(channels("rooms=a,A&rooms[]=a"), 2);
    let many: Vec<String> = (0..500).map(|number| format!("room{number}")).collect();
    assert_eq!(channels(&format!("rooms={}", many.join(","))), 501, "more than 1024 bytes");
}

#[test]
fn last_values_that_a_rule_cannot_show_are_left_to_the_next_one_as_for_clients() {
    const FALLING_THROUGH: &str = r#"
        name = "test"
        [[path]]
        name = "main"
        path = "/"
        [[receive]]
        when = { do = "watch" }
        do = "subscribe"
        channels = ["mixed.x", "none.x"]
        [[deliver]]
        pattern = "mixed.*"
        send = { "..." = "{data}", kind = "whole" }
        [[deliver]]
        pattern = "mixed.*"
        each = "{data}"
        collect = { by = "{data.s}" }
        send = { list = "{list}" }
        [[deliver]]
        pattern = "none.*"
        send = { "..." = "{data}" }
    "#;
    let vocabulary = compile(FALLING_THROUGH).unwrap().vocabulary;
    for (subject, payload, live, shown) in [
        ("mixed.x", r#"[{"s":"a"},{"s":"b"}]"#, "2 elements", r#"[{"s":"a"},{"s":"b"}]"#),
        ("mixed.x", r#"{"s":"a"}"#, "frame", r#"[{"s":"a"}]"#),
        ("none.x", "[1,2]", "unrenderable", "[[1,2]]"),
    ] {
        let value = last_value(subject, Payload::classify(payload.into()));
        let LastValue { subject, payload, time } = value.clone();
        let publication = Publication::without_headers(subject, payload, time);
        let rendered =
            match vocabulary.render(Route::Path(PathIndex(0)), &publication, &mut Scratch::default()) {
                Rendered::Elements { list, .. } => format!("{} elements", list.len()),
                Rendered::Frame(_) => "frame".to_owned(),
                Rendered::Unrenderable => "unrenderable".to_owned(),
                Rendered::Nothing | Rendered::TooManyElements => "nothing".to_owned(),
            };
        assert_eq!(rendered, live);
        assert_eq!(shown_of(&vocabulary, &[&*publication.subject], &[value]), shown, "{live}");
    }
}

mod choice;
