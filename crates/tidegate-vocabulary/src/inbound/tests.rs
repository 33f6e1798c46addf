//! Which rule matches a message, and which command it gives.

use std::sync::Arc;

use proptest::collection::vec;

use crate::arguments::MAX_KEPT_BYTES;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::compile::compile;
use crate::model::CompiledVocabulary;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::identity::Identity;

/// A vocabulary with these rules.
fn vocabulary(rules: &str) -> Arc<CompiledVocabulary> {
    let shows = "[[deliver]]\npattern = \"r.>\"\nsend = 1\n";
    let file = format!("name = \"test\"\n[[path]]\nname = \"main\"\npath = \"/ws\"\n{rules}\n{shows}");
    let compiled = compile(&file).unwrap_or_else(|mistakes| panic!("{file}: {mistakes:?}"));
    Arc::new(compiled.vocabulary)
}

/// The command of a user's message.
fn heard(vocabulary: &Arc<CompiledVocabulary>, message: &str) -> Result<Command, ClientError> {
    let Ok(binding) = vocabulary.bind(VocabularyId(1), "/ws", None, |_| None) else {
        panic!("the path is there")
    };
    let identity = Identity { user: "u1".into(), ..Identity::default() };
    let scope = SessionScope { identity: Some(&identity), ..SessionScope::default() };
    command(&binding, scope, &ClientMessage::Text(message.to_owned()))
        .map_err(|undecodable| undecodable.error)
}

fn code(vocabulary: &Arc<CompiledVocabulary>, message: &str) -> &'static str {
    heard(vocabulary, message).map_or_else(|error| error.code.name(), |_| "")
}

#[test]
fn what_is_remembered_of_a_message_is_bounded() {
    let subscribes = "[[receive]]\nwhen = { op = \"sub\" }\ndo = \"subscribe\"\nchannel = \"r.a\"\nkeep = { id = \"{msg.id}\" }\nunique = true";
    let sets = "[[receive]]\nwhen = { op = \"set\" }\ndo = \"pong\"\nset = { id = \"{msg.id}\" }";
    let vocabulary = vocabulary(&format!("{subscribes}\n{sets}"));
    for op in ["sub", "set"] {
        // The quotation marks count too.
        for (length, expected) in [(MAX_KEPT_BYTES - 2, ""), (MAX_KEPT_BYTES - 1, "bad_request")] {
            let message = format!(r#"{{"op":"{op}","id":"{}"}}"#, "x".repeat(length));
            assert_eq!(code(&vocabulary, &message), expected, "{op} {length}");
        }
        let long = format!(r#"{{"op":"{op}","id":[{}1]}}"#, "1,".repeat(MAX_KEPT_BYTES));
        assert_eq!(code(&vocabulary, &long), "bad_request", "{op}");
    }
}

#[test]
fn a_client_cannot_reach_the_channels_of_rules_without_a_group_by_an_empty_one() {
    let rules = |group: &str| {
        vocabulary(&format!(
            "[[path.on_connect]]\ndo = \"subscribe\"\nchannel = \"r.mine\"\n\
             [[receive]]\nwhen = {{ op = \"join\" }}\ndo = \"subscribe\"\ngroup = \"{group}\"\nchannel = \"r.a\"\n\
             [[receive]]\nwhen = {{ op = \"leave\" }}\ndo = \"unsubscribe\"\ngroup = \"{group}\""
        ))
    };
    let named = rules("{msg.room}");
    for op in ["join", "leave"] {
        for (room, expected) in [("\"a\"", ""), ("0", ""), ("\"\"", "bad_request"), ("null", "bad_request")] {
            assert_eq!(code(&named, &format!(r#"{{"op":"{op}","room":{room}}}"#)), expected, "{op} {room}");
        }
    }
    let (defaulted, prefixed) = (rules("{msg.room|default:\\\"\\\"}"), rules("room-{msg.room}"));
    for message in [r#"{"op":"leave","room":""}"#, r#"{"op":"leave"}"#] {
        assert_eq!(code(&defaulted, message), "", "the file says so");
    }
    assert_eq!(code(&prefixed, r#"{"op":"leave","room":""}"#), "", "that is the group `room-`");
}

/// A `when`, messages that match it, and messages that do not.
const MATCHES: [(&str, &[&str], &[&str]); 15] = [
    (
        "{ a = true }",
        &[r#"{"a":0}"#, r#"{"a":false}"#, r#"{"a":""}"#, r#"{"a":[]}"#, r#"{"b":1, "a" : {} }"#],
        &["{}", r#"{"a":null}"#, r#"{"b":1}"#],
    ),
    (
        "{ a = false }",
        &["{}", r#"{"a":null}"#, r#"{"b":1}"#],
        &[r#"{"a":0}"#, r#"{"a":false}"#, r#"{"a":""}"#],
    ),
    (
        "{ a = [true] }",
        &[r#"{"a":true}"#, r#"{"a": true }"#],
        &[r#"{"a":"true"}"#, r#"{"a":1}"#, r#"{"a":false}"#],
    ),
    ("{ a = [false] }", &[r#"{"a":false}"#], &["{}", r#"{"a":null}"#, r#"{"a":0}"#, r#"{"a":true}"#]),
    (
        "{ a = 1 }",
        &[r#"{"a":1}"#, r#"{"a": 1 }"#],
        &[r#"{"a":"1"}"#, r#"{"a":1.0}"#, r#"{"a":1e0}"#, r#"{"a":-1}"#, r#"{"a":[1]}"#, "{}"],
    ),
    ("{ a = 9007199254740993 }", &[r#"{"a":9007199254740993}"#], &[r#"{"a":9007199254740992}"#]),
    (
        "{ a = \"x\" }",
        &[r#"{"a":"x"}"#, r#"{"a":"\u0078"}"#],
        &[r#"{"a":"X"}"#, r#"{"a":"x "}"#, r#"{"a":["x"]}"#],
    ),
    ("{ a = \"\" }", &[r#"{"a":""}"#], &["{}", r#"{"a":null}"#]),
    (
        "{ a = [\"x\", 1, true] }",
        &[r#"{"a":"x"}"#, r#"{"a":1}"#, r#"{"a":true}"#],
        &[r#"{"a":"1"}"#, r#"{"a":false}"#, r#"{"a":null}"#],
    ),
    (
        "{ a = [\"x\", []] }",
        &[r#"{"a":[]}"#, r#"{"a": [ ] }"#, r#"{"a":"x"}"#],
        &[
            "{}",
            r#"{"a":null}"#,
            r#"{"a":{}}"#,
            r#"{"a":""}"#,
            r#"{"a":[null]}"#,
            r#"{"a":[[]]}"#,
            r#"{"a":0}"#,
        ],
    ),
    (
        "{ a = { b = true } }",
        &[r#"{"a":{"b":1}}"#, r#"{"a": { "c":2, "b" : {} } }"#],
        &["{}", r#"{"a":"b"}"#, r#"{"a":["b"]}"#, r#"{"a":{"b":null}}"#, r#"{"b":1}"#, r#"{"a.b":1}"#],
    ),
    (
        "{ a = { b = false } }",
        &["{}", r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":{"b":null}}"#, r#"{"a":{}}"#, r#"{"b":1}"#],
        &[r#"{"a":{"b":0}}"#],
    ),
    (
        "{ a = { 1 = \"x\" } }",
        &[r#"{"a":[0,"x"]}"#, r#"{"a":{"1":"x"}}"#],
        &[r#"{"a":["x"]}"#, r#"{"a":"x"}"#],
    ),
    ("{ a = 1, b = true }", &[r#"{"b":"","a":1}"#], &[r#"{"a":1}"#, r#"{"b":1}"#]),
    ("{}", &["{}", r#"{"a":null}"#, r#"{"":""}"#], &[]),
];

#[test]
fn a_match_is_for_some_messages_and_not_for_others() {
    for (when, yes, no) in MATCHES {
        let vocabulary = vocabulary(&format!("[[receive]]\nwhen = {when}\ndo = \"send\"\nsend = 1"));
        for message in yes {
            assert_eq!(code(&vocabulary, message), "", "{when} {message}");
        }
        for message in no {
            assert_eq!(code(&vocabulary, message), "unknown_type", "{when} {message}");
        }
    }
}

/// Rules that each reject a message with their own text.
fn refusing(rules: &[&str]) -> String {
    let rules = rules.iter().enumerate();
    rules
        .map(|(at, when)| format!("[[receive]]\nwhen = {when}\ndo = \"error\"\nmessage = \"{at}\"\n"))
        .collect()
}

fn taker(vocabulary: &Arc<CompiledVocabulary>, message: &str) -> Option<usize> {
    heard(vocabulary, message).unwrap_err().message.parse().ok()
}

#[test]
fn the_first_rule_of_a_file_that_is_for_a_message_takes_it() {
    let rules = [
        "{ type = \"a\", x = 1 }",
        "{ action = \"a\" }",
        "{ type = [\"a\", \"b\"], x = true }",
        "{ type = [\"c\", 1] }",
        "{ x = { y = true } }",
        "{ type = \"a\" }",
        "{ type = \"b\" }",
        "{ type = \"c\", z = false }",
    ];
    let vocabulary = vocabulary(&refusing(&rules[..7]));
    for (message, taken) in [
        (r#"{"type":"a","x":1}"#, Some(0)),
        (r#"{"type":"a","action":"a"}"#, Some(1)),
        (r#"{"type":"a","x":2}"#, Some(2)),
        (r#"{"type":"a","x":{"y":1}}"#, Some(2)),
        (r#"{"type":"b","x":2}"#, Some(2)),
        (r#"{"type":"c","x":{"y":1}}"#, Some(3)),
        (r#"{"type":1}"#, Some(3)),
        (r#"{"type":2,"x":{"y":1}}"#, Some(4)),
        (r#"{"type":"d","x":{"y":1}}"#, Some(4)),
        (r#"{"x":{"y":1}}"#, Some(4)),
        (r#"{"type":"\u0061"}"#, Some(5)),
        (r#"{"type":"b"}"#, Some(6)),
        (r#"{"type":"d"}"#, None),
        (r#"{"action":"b"}"#, None),
        (r#"{"type":["a"]}"#, None),
        ("{}", None),
    ] {
        assert_eq!(taker(&vocabulary, message), taken, "{message}");
    }
}

proptest! {
    #[test]
    fn rules_are_sorted_and_taken_in_the_order_of_the_file(
        rules in vec((0_usize..6, 0_usize..6), 1..5),
        message in (0_usize..6, 0_usize..6),
    ) {
        const TESTS: [&str; 6] = ["true", "false", "\"a\"", "[\"a\", \"b\"]", "[\"b\", 1]", "[1]"];
        const VALUES: [&str; 6] = ["null", "\"a\"", "\"b\"", "1", "{}", "\"c\""];
        let rules: Vec<String> =
            rules.iter().map(|(t, u)| format!("{{ t = {}, u = {} }}", TESTS[*t], TESTS[*u])).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let message = format!("{{\"t\":{},\"u\":{}}}", VALUES[message.0], VALUES[message.1]);
        let file = format!("name = \"test\"\n[[path]]\nname = \"main\"\npath = \"/ws\"\n{}", refusing(&rules));
        // Files with unreachable rules do not compile.
        if let Ok(compiled) = compile(&file) {
            let alone = |rule: &&str| taker(&vocabulary(&refusing(&[rule])), &message).is_some();
            prop_assert_eq!(taker(&Arc::new(compiled.vocabulary), &message), rules.iter().position(alone));
        }
    }

    #[test]
    fn any_list_names_only_channels_below_its_own(items in vec(".{0,12}", 0..6), rest in select(vec!["", ".x", "-x"])) {
        let rule = format!(
            "[[receive]]\ndo = \"subscribe\"\neach = \"{{msg.list}}\"\nchannel = \"r.{{item}}{rest}\""
        );
        let message = serde_json::json!({ "list": items }).to_string();
        let Ok(Command::Subscribe { wanted, .. }) = heard(&vocabulary(&rule), &message) else {
            panic!("{message} is a list");
        };
        prop_assert_eq!(wanted.channels.len(), items.iter().collect::<std::collections::BTreeSet<_>>().len());
        for channel in wanted.channels.into_iter().flatten() {
            let tokens: Vec<&str> = channel.split('.').collect();
            prop_assert_eq!(tokens.len(), if rest == ".x" { 3 } else { 2 });
            prop_assert!(tokens[0] == "r" && !channel.contains(['*', '>', ' ']), "{channel}");
        }
    }
}

/// The channels and errors that a subscribing rule makes from a list.
fn named(each: &str, message: &str) -> Result<Vec<String>, &'static str> {
    let rule = format!("[[receive]]\ndo = \"subscribe\"\neach = {each}\nchannel = \"r.{{item}}\"");
    match heard(&vocabulary(&rule), message) {
        Ok(Command::Subscribe { wanted, .. }) => Ok(wanted
            .channels
            .into_iter()
            .map(|channel| channel.unwrap_or_else(|error| error.code.name().to_owned()))
            .collect()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code.name()),
    }
}

#[test]
fn each_takes_what_a_list_has_one_by_one() {
    let of = |list: &str| named("\"{msg.list}\"", &format!("{{\"list\":{list}}}"));
    assert_eq!(of("[]").unwrap(), Vec::<String>::new());
    assert_eq!(of(r#" [ "a" , 7, "b" , "a"] "#).unwrap(), ["r.a", "r.7", "r.b"], "each once");
    assert_eq!(of(r#"["a",null,"b"]"#).unwrap(), ["r.a", "bad_request", "r.b"]);
    let wrong = r#"["*",">","a.b","",true,1.5,{},[],["a"],"a b"]"#;
    assert_eq!(of(wrong).unwrap(), ["bad_channel"; 10]);
    for other in ["\"a\"", "{}", "{\"0\":\"a\"}", "7", "true", "null"] {
        assert_eq!(of(other), Err("bad_request"), "{other}");
    }
    assert_eq!(named("\"{msg.list}\"", "{}"), Err("bad_request"));
    assert_eq!(named("\"{msg.list|default:[]}\"", "{}").unwrap(), Vec::<String>::new());
    assert_eq!(named("\"{msg.list|default:[]}\"", "{\"list\":null}").unwrap(), Vec::<String>::new());
    assert_eq!(
        named("\"{msg.list|split}\"", "{\"list\":\"a, b,,c\"}").unwrap(),
        ["r.a", "r.b", "bad_channel", "r.c"]
    );
    assert_eq!(named("\"{msg.list|split}\"", "{\"list\":[\"a\"]}"), Err("bad_request"));
    assert_eq!(named("[\"x\", 7]", "{}").unwrap(), ["r.x", "r.7"]);
}

#[test]
fn a_group_is_a_short_text_or_a_number() {
    let rule = "[[receive]]\ndo = \"unsubscribe\"\ngroup = \"{msg.id}\"";
    let group = |id: &str| match heard(&vocabulary(rule), &format!("{{\"id\":{id}}}")) {
        Ok(Command::Unsubscribe { group, channels: None, .. }) => Ok(group.into_string()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code.name()),
    };
    assert_eq!(group("\"a.b *\"").unwrap(), "a.b *");
    assert_eq!(group("7").unwrap(), "7");
    assert_eq!(group("true").unwrap(), "true");
    assert_eq!(group("\"[a]\"").unwrap(), "[a]", "a text, whatever it looks like");
    assert_eq!(group("\"null\"").unwrap(), "null");
    assert_eq!(group(&format!("\"{}\"", "x".repeat(128))).unwrap(), "x".repeat(128));
    for wrong in ["{}", "[1]", "null", "\"\"", &format!("\"{}\"", "x".repeat(129))] {
        assert_eq!(group(wrong), Err("bad_request"), "{wrong}");
    }
}

#[test]
fn a_filter_is_a_short_list_of_scalars() {
    let rule = "[[receive]]\ndo = \"filter\"\nchannel = \"r.a\"\nfield = \"data.type\"\nin = \"{msg.in}\"";
    let values = |list: &str| match heard(&vocabulary(rule), &format!("{{\"in\":{list}}}")) {
        Ok(Command::Filter { filter, .. }) => {
            Ok(filter.values.iter().flatten().map(ToString::to_string).collect::<Vec<_>>())
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code.name()),
    };
    assert_eq!(values("[]").unwrap(), Vec::<String>::new());
    assert_eq!(values(r#"["a","\u0062",7,1.50,true]"#).unwrap(), ["a", "b", "7", "1.50", "true"]);
    let list = |count: usize| serde_json::json!(vec!["x"; count]).to_string();
    assert_eq!(values(&list(64)).unwrap().len(), 64);
    let long = |bytes: usize| serde_json::json!(["x".repeat(bytes)]).to_string();
    assert_eq!(values(&long(128)).unwrap()[0].len(), 128);
    for wrong in [&*list(65), &*long(129), "[null]", "[[\"a\"]]", "[{}]", "\"a\"", "{}", "null"] {
        assert_eq!(values(wrong), Err("bad_request"), "{wrong}");
    }
}

#[test]
fn a_token_is_a_text() {
    let vocabulary = vocabulary("[[receive]]\ndo = \"auth\"\ntoken = \"{msg.token}\"");
    assert!(matches!(
        heard(&vocabulary, r#"{"token":"t\u0031"}"#),
        Ok(Command::Auth { token, .. }) if token == "t1"
    ));
    for wrong in ["{}", r#"{"token":null}"#, r#"{"token":1}"#, r#"{"token":{}}"#, r#"{"token":["t"]}"#] {
        assert_eq!(code(&vocabulary, wrong), "bad_request", "{wrong}");
    }
}

#[test]
fn what_is_no_object_is_not_json() {
    let vocabulary = vocabulary("[[receive]]\ndo = \"send\"\nsend = 1");
    let many: Vec<String> = (0..65).map(|at| format!("\"{at}\":1")).collect();
    let many = format!("{{{}}}", many.join(","));
    for wrong in
        ["", "[]", "1", "\"a\"", "null", "{", "{}{}", r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, &many]
    {
        assert_eq!(code(&vocabulary, wrong), "not_json", "{wrong:.40}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(code(&vocabulary, &deep), "", "however deep, it is an object");
}

#[test]
fn a_rule_may_require_that_a_message_speaks_for_its_own_user() {
    let vocabulary =
        vocabulary("[[receive]]\nrequire = { \"msg.user\" = \"{user}\" }\ndo = \"send\"\nsend = 1");
    assert_eq!(code(&vocabulary, r#"{"user":"u1"}"#), "");
    for wrong in ["{}", r#"{"user":null}"#, r#"{"user":"u2"}"#, r#"{"user":["u1"]}"#, r#"{"user":{"u1":1}}"#]
    {
        assert_eq!(code(&vocabulary, wrong), "forbidden", "{wrong}");
    }
}
