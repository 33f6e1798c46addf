//! What parts of a file, each sound by itself, cannot say together.

use super::*;

/// What shows the channels of the rules here.
const SHOWN: &str = "\n[[deliver]]\npattern = \"a.>\"\nsend = 1\n[[deliver]]\npattern = \"a\"\nsend = 1\n";

#[test]
fn nobody_comes_to_a_path_twice() {
    let path = |path: &str| mistakes(&format!("[[path]]\nname = \"x\"\npath = \"{path}\""));
    for own in ["/healthz", "/readyz"] {
        let said = Said("path[2].path", "is a path of Tidegate's own", "choose another path than /healthz");
        check(&path(own), &[said], own);
    }
    let same = Said("path[2].path", "\"/ws/{symbol}\" and \"/ws/{id}\" are the same path", "remove one");
    check(&path("/ws/{id}"), &[same], "/ws/{id}");
    check(
        &path("/ws"),
        &[Said("path[2].path", "\"/ws\" and \"/ws\" are the same path", "remove one")],
        "/ws",
    );
    let taken = Said("path[2].path", "nobody comes to \"/ws/x\": \"/ws/{symbol}\" takes", "move it above");
    check(&path("/ws/x"), &[taken], "/ws/x");
    for other in ["/", "/{a}", "/ws/{symbol}/x", "/wss/{symbol}", "/ws/", "/{a}/{b}"] {
        let found = path(other);
        assert!(found.is_empty() || other == "/ws/", "{other}: {found:?}");
    }
}

/// Rules that use channels, and what is said of the first of them.
const SPACES: [(&str, &str, Option<Said>); 17] = [
    (
        "{}",
        "do = \"subscribe\"\nchannel = \"{msg.x}\"",
        Some(Said(
            "channel",
            "the first token is {msg.x}, which may be anything",
            "begin with a name, as in \"room.{msg.x}\", or list what is allowed: when = { x = [\"a\", \"b\"] }",
        )),
    ),
    (
        "{ x = true }",
        "do = \"subscribe\"\nchannel = \"u-{msg.x|upper}.a\"",
        Some(Said("channel", "the first token is u-{msg.x}, which may be anything", "\"room.u-{msg.x}\"")),
    ),
    (
        "{ y = [\"a\"] }",
        "do = \"publish\"\nsubject = \"{msg.x}.a\"\ndata = 1",
        Some(Said("subject", "the first token is {msg.x}, which may be anything", "list what is allowed")),
    ),
    (
        "{}",
        "do = \"request\"\nsubject = \"{user}.a\"\ndata = 1\nsend = 1",
        Some(Said("subject", "the first token is {user}, which may be anything", "\"room.{user}\"")),
    ),
    (
        "{}",
        "do = \"subscribe\"\nchannels = [\"a\", \"*.b\"]",
        Some(Said("channels", "the first token is *, which may be anything", "begin with a name")),
    ),
    (
        "{}",
        "do = \"subscribe\"\nchannel = \"{item}.a\"\neach = \"{msg.list}\"",
        Some(Said("channel", "the first token is {item}, which may be anything", "begin with a name")),
    ),
    (
        "{}",
        "do = \"filter\"\nchannel = \"{msg.x}\"\nfield = \"data.a\"\nin = \"{msg.b}\"",
        Some(Said("channel", "the first token is {msg.x}, which may be anything", "begin with a name")),
    ),
    (
        "{}",
        "do = \"subscribe\"\nchannel = \"_INBOX.{msg.x}\"",
        Some(Said("channel", "\"_INBOX\" belongs to NATS and Tidegate", "choose another first token")),
    ),
    (
        "{}",
        "do = \"subscribe\"\nchannel = \"$JS.API\"",
        Some(Said("channel", "\"$JS\" belongs to NATS", "another")),
    ),
    (
        "{}",
        "do = \"publish\"\nsubject = \"tidegate.x\"\ndata = 1",
        Some(Said("subject", "\"tidegate\" belongs to NATS and Tidegate", "choose another first token")),
    ),
    (
        "{ x = [\"a\", \"_live\"] }",
        "do = \"subscribe\"\nchannel = \"{msg.x}\"",
        Some(Said("channel", "\"_live\" belongs to NATS and Tidegate", "choose another first token")),
    ),
    (
        "{}",
        "do = \"subscribe\"\nchannel = \"{item}\"\neach = [\"a\", \"_live\"]",
        Some(Said("channel", "\"_live\" belongs to NATS and Tidegate", "choose another first token")),
    ),
    ("{ x = [\"a\"] }", "do = \"subscribe\"\nchannel = \"{msg.x}\"", None),
    ("{ p = { x = \"A\" } }", "do = \"subscribe\"\nchannel = \"{msg.p.x|lower}.{msg.y}\"", None),
    ("{}", "do = \"subscribe\"\nchannel = \"{item}.x\"\neach = [\"a\"]", None),
    ("{}", "do = \"subscribe\"\nchannel = \"a.{item}\"\neach = [1, \"b\"]", None),
    // To leave what one does not have does nothing.
    ("{}", "do = \"unsubscribe\"\nchannel = \"{msg.x}\"", None),
];

#[test]
fn channels_stay_in_a_space_that_their_rule_names() {
    for (when, keys, said) in SPACES {
        let file = format!("[[receive]]\nwhen = {when}\n{keys}\n{SHOWN}");
        let found = mistakes(&file);
        let Some(Said(key, problem, help)) = said else {
            assert!(found.is_empty(), "{file}: {found:#?}");
            continue;
        };
        let json_template =
            when.replace(" = ", ":").replace("{ ", "{\"").replace(" }", "}").replace(", ", ",");
        let json_template = json_template.replace(":[", "\":[").replace(":true", "\":true");
        check(
            &found,
            &[Said(format!("receive[0].{key} (when {json_template})").leak(), problem, help)],
            &file,
        );
    }
}

#[test]
fn every_channel_that_can_be_had_is_shown() {
    let file = r#"
        [[path.on_connect]]
        do = "subscribe"
        each = ["x", "y"]
        channel = "user.{user}.{item}"

        [[receive]]
        when = { type = "a", channel = ["alerts", "signals"] }
        do = "subscribe"
        channel = "{msg.channel}"

        [[receive]]
        path = "main"
        when = { type = "b" }
        do = "subscribe"
        channels = ["room.*", "room.{msg.b}", "deep.>"]

        [[deliver]]
        pattern = "user.*.x"
        send = 1

        [[deliver]]
        pattern = "alerts"
        send = 1

        [[deliver]]
        path = "one"
        pattern = "room.*"
        send = 1

        [[deliver]]
        pattern = "deep.*"
        send = 1
    "#;
    let silent = "(when {\"type\":\"a\",\"channel\":[\"alerts\",\"signals\"]})";
    let said = [
        Said(
            "path[1].on_connect[0].channel",
            "no [[deliver]] covers \"user.*.y\", which path[1].on_connect[0] can subscribe to on the path \"one\"",
            "add [[deliver]] pattern = \"user.*.y\"",
        ),
        Said(
            format!("receive[0].channel {silent}").leak(),
            "covers \"signals\", which receive[0] can subscribe to on the paths \"main\", \"one\"",
            "add [[deliver]] pattern = \"signals\"",
        ),
        Said(
            "receive[1].channels (when {\"type\":\"b\"})",
            "covers \"deep.>\", which receive[1] can",
            "\"deep.>\"",
        ),
        Said(
            "receive[1].channels (when {\"type\":\"b\"})",
            "covers \"room.*\", which receive[1] can",
            "\"room.*\"",
        ),
    ];
    check(&mistakes(file), &said, file);
}

#[test]
fn a_rule_for_publications_that_nobody_gets_is_warned_of() {
    let rule = "[[receive]]\npath = \"one\"\ndo = \"subscribe\"\nchannel = \"a.{path.symbol}\"\n";
    let unused = |keys: &str| warnings(&format!("{rule}{SHOWN}[[deliver]]\nsend = 1\n{keys}"));
    let warning = |key: &str, pattern: &str| {
        Diagnostic::warning(key, format!("no rule can subscribe to anything that \"{pattern}\" matches"))
    };
    let a = warning("deliver[1].pattern", "a");
    assert_eq!(unused("pattern = \"b.*\""), [a.clone(), warning("deliver[2].pattern", "b.*")]);
    assert_eq!(unused("pattern = \"*.b.c\""), [a.clone(), warning("deliver[2].pattern", "*.b.c")]);
    assert_eq!(unused("pattern = \"*.b\""), std::slice::from_ref(&a));
    let on_main = "[[deliver]]\nsend = 1\npath = \"main\"\npattern = \"a.b\"\n";
    let on_main = warnings(&format!("{on_main}{rule}{SHOWN}"));
    assert_eq!(on_main, [warning("deliver[0].pattern", "a.b"), warning("deliver[2].pattern", "a")]);
    let filter = "[[receive]]\nwhen = { a = 1 }\ndo = \"filter\"\nchannel = \"b.{user}\"\nfield = \"data.a\"\nin = \"{msg.a}\"";
    let filter = filter.to_owned() + "\n" + rule + SHOWN;
    assert_eq!(warnings(&filter), [warning("receive[0].channel (when {\"a\":1})", "b.*"), a]);
}

/// Two matches of rules that follow each other, and what is said of the second.
const PAIRS: [(&str, &str, &str); 25] = [
    ("{ a = 1 }", "{ a = 1 }", "same"),
    ("{ a = 1, b = true }", "{ b = true, a = [1] }", "same"),
    ("{ a = [\"x\", \"y\"] }", "{ a = [\"y\", \"x\"] }", "same"),
    ("{ a = { b = true } }", "{ a = { b = true } }", "same"),
    ("{}", "{}", "same"),
    ("{}", "{ a = 1 }", "never"),
    ("{ a = true }", "{ a = 1 }", "never"),
    ("{ a = true }", "{ a = [false] }", "never"),
    ("{ a = [1, 2] }", "{ a = 2, b = 1 }", "never"),
    ("{ a = true }", "{ a = { b = { c = true } } }", "never"),
    ("{ a = { b = true } }", "{ a = { b = { c = [\"x\"] } } }", "never"),
    ("{ a = { b = false } }", "{ a = false, c = 1 }", "never"),
    ("{ a = { b = false } }", "{ a = \"x\" }", "never"),
    ("{ a = { b = false }, b = true }", "{ a = [true, 2], b = { c = 1 } }", "never"),
    ("{ a = { b = false } }", "{ a = true }", ""),
    ("{ a = { b = true } }", "{ a = true }", ""),
    ("{ a = { b = false } }", "{ a = { c = true } }", ""),
    ("{ a = 1 }", "{ a = true }", ""),
    ("{ a = 1 }", "{ a = \"1\" }", ""),
    ("{ a = true }", "{ a = false }", ""),
    ("{ a = false }", "{ a = true }", ""),
    ("{ a = 1 }", "{ a = [1, 2] }", ""),
    ("{ a = 1 }", "{}", ""),
    ("{ a = 1, b = 1 }", "{ a = 1 }", ""),
    ("{ a = { b = 1 } }", "{ b = 1 }", ""),
];

#[test]
fn a_rule_that_never_matches_is_refused() {
    for (first, second, said) in PAIRS {
        let rules = format!(
            "[[receive]]\nwhen = {first}\ndo = \"ignore\"\n[[receive]]\nwhen = {second}\ndo = \"ignore\""
        );
        let found = mistakes(&rules);
        let words = match said {
            "same" => (
                "receive[1] has the same when as receive[0]",
                "remove one, or tell them apart by another field",
            ),
            "never" => {
                ("receive[1] never matches: receive[0] takes all that it could", "move it above receive[0]")
            }
            _ => {
                assert!(found.is_empty(), "{rules}: {found:?}");
                continue;
            }
        };
        assert_eq!(found.len(), 1, "{rules}: {found:?}");
        assert!(found[0].key.starts_with("receive[1].when (when {"), "{found:?}");
        assert_eq!((&*found[0].message, &*found[0].help), words);
    }
}

#[test]
fn rules_of_different_paths_do_not_take_from_each_other() {
    let rule =
        |path: &str, when: &str| format!("[[receive]]\npath = {path}\nwhen = {when}\ndo = \"ignore\"\n");
    let both = "[\"main\", \"one\"]";
    for (rules, problem) in [
        (rule("\"main\"", "{ a = 1 }") + &rule("\"one\"", "{ a = 1 }"), ""),
        (
            rule("\"main\"", "{ a = 1 }") + &rule(both, "{ a = 1 }"),
            "receive[1] has the same when as receive[0]",
        ),
        (rule("\"main\"", "{}") + &rule(both, "{ a = 1 }"), ""),
        (
            rule("\"main\"", "{}") + &rule("\"one\"", "{ a = true }") + &rule(both, "{ a = 1 }"),
            "receive[2] never matches: receive[0] takes all that it could",
        ),
        (rule(both, "{}") + &rule("\"one\"", "{ a = 1 }"), "receive[1] never matches: receive[0] takes all"),
    ] {
        let found = mistakes(&rules);
        assert_eq!(found.len(), usize::from(!problem.is_empty()), "{rules}: {found:?}");
        assert!(found.iter().all(|mistake| mistake.message.starts_with(problem)), "{rules}: {found:?}");
    }
}

#[test]
fn a_rule_for_publications_that_never_matches_is_refused() {
    let rule = "[[receive]]\ndo = \"subscribe\"\nchannels = [\"a.*\", \"b\"]\n";
    for (first, second, is_taken) in [
        ("pattern = \"a.*\"", "pattern = \"a.*\"", true),
        ("pattern = \"a.>\"", "pattern = \"a.b\"", true),
        ("pattern = \"a.>\"", "pattern = \"a.b\"\nwhen = { data = { x = 1 } }", true),
        (
            "pattern = \"a.*\"\nwhen = { data = { x = [1, 2] } }",
            "pattern = \"a.b\"\nwhen = { \"data.x\" = 2 }",
            true,
        ),
        (
            "pattern = \"a.*\"\nwhen = { data = { x = true } }",
            "pattern = \"a.b\"\nwhen = { \"data.x\" = 2 }",
            true,
        ),
        ("pattern = \"a.*\"\nwhen = { data = { x = 1 } }", "pattern = \"a.*\"", false),
        (
            "pattern = \"a.*\"\nwhen = { data = { x = 1 } }",
            "pattern = \"a.*\"\nwhen = { data = { y = 1 } }",
            false,
        ),
        ("pattern = \"a.b\"", "pattern = \"a.*\"", false),
        ("path = \"one\"\npattern = \"a.*\"", "pattern = \"a.*\"", false),
    ] {
        let shows = "[[deliver]]\npattern = \"b\"\nsend = 1\n[[deliver]]\npattern = \"*.*\"\nsend = 1";
        let file = format!("{rule}[[deliver]]\nsend = 1\n{first}\n[[deliver]]\nsend = 1\n{second}\n{shows}");
        let found = mistakes(&file);
        let taken = found.iter().filter(|mistake| mistake.key.starts_with("deliver[1].pattern"));
        let problems: Vec<&str> = taken.map(|mistake| &*mistake.message).collect();
        let never = "deliver[1] never matches: deliver[0] takes all that it could";
        assert_eq!(problems, if is_taken { vec![never] } else { vec![] }, "{file}: {found:?}");
    }
}

#[test]
fn what_pings_are_answered_with_is_for_no_rule() {
    let beat = "[heartbeat]\nby = \"server\"\nping = 1\npong = { type = \"pong\" }\n";
    for (when, is_taken) in [
        ("{ type = \"pong\" }", true),
        ("{ type = [\"ping\", \"pong\"] }", true),
        ("{ type = \"pong\", id = true }", true),
        ("{ type = \"ping\" }", false),
        // What is for all that no other rule takes.
        ("{ type = true }", false),
        ("{}", false),
    ] {
        let found = mistakes(&format!("{beat}[[receive]]\nwhen = {when}\ndo = \"ignore\""));
        let said = Said("heartbeat.pong", "pong is matched by receive[0] too", "remove one");
        check(&found, if is_taken { std::slice::from_ref(&said) } else { &[] }, when);
    }
}

/// Keys of a rule that subscribes, and whether what it keeps can be another message's.
const KEEPS: [(&str, bool); 9] = [
    ("channel = \"a\"\nkeep = { id = \"{msg.id}\" }", true),
    ("channel = \"a\"\nkeep = { id = \"{msg.id}\" }\ngroup = \"{user}\"", true),
    ("channel = \"a.*\"\nkeep = { id = \"{msg.x}\" }\ngroup = \"g\"", true),
    ("channels = [\"a.{msg.id}\", \"a\"]\nkeep = { id = \"{msg.id}\" }", true),
    ("channel = \"a.{msg.x|upper}\"\nkeep = { id = \"{msg.x}\" }", true),
    ("channel = \"a\"\nkeep = { id = \"{msg.id}\" }\ngroup = \"{msg.id}\"", false),
    ("channel = \"a\"\nkeep = { id = \"{msg.id}\" }\nunique = true", false),
    ("channel = \"a\"\nkeep = { id = \"{user}\" }", false),
    ("channel = \"a.{msg.x}\"\nkeep = { id = \"{msg.x}\" }", false),
];

#[test]
fn what_is_kept_differs_by_group() {
    for (keys, differs) in KEEPS {
        let file = format!("[[receive]]\ndo = \"subscribe\"\n{keys}\n{SHOWN}");
        let said = Said(
            "receive[0].keep",
            "keep differs by message and group does not: of two channels that overlap only one keeps its {sub.id}",
            "group = \"{msg.",
        );
        check(&mistakes(&file), if differs { std::slice::from_ref(&said) } else { &[] }, &file);
    }
}

#[test]
fn what_is_shown_of_a_subscription_is_kept_by_a_rule_that_makes_it() {
    let rule = |path: &str, channel: &str, keep: &str| {
        let when = format!("{{ path = \"{path}\", channel = \"{channel}\" }}");
        format!(
            "[[receive]]\npath = \"{path}\"\nwhen = {when}\ndo = \"subscribe\"\nchannel = \"{channel}\"\n{keep}\n"
        )
    };
    let show =
        "[[deliver]]\npattern = \"a.*\"\nsend = \"{sub.id}\"\n[[deliver]]\npattern = \"b\"\nsend = 1\n";
    let keep = "keep = { id = \"{user}\" }";
    let file = rule("main", "b", keep) + &rule("main", "a.x", "") + &rule("one", "a.y", keep) + show;
    let said = Said(
        "deliver[0].send",
        "{sub.id} is kept by no rule that can make a channel of \"a.*\" on the path \"main\"",
        "add keep = { id = … } to receive[1]",
    );
    check(&mistakes(&file), &[said], &file);
    let file = rule("main", "b", "") + &rule("main", "a.x", "") + &rule("main", "a.y", keep) + show;
    check(&mistakes(&file), &[], &file);
}

#[test]
fn a_slip_in_one_rule_is_not_said_of_others() {
    let file = r#"
        [[receive]]
        whne = { type = "a" }
        do = "subscribe"
        channel = "a.{msg.x}"

        [[receive]]
        when = { type = "b" }
        do = "send"
        send = "{var.x}"

        [[deliver]]
        pattern = "b.*"
        send = "{sub.id}"
    "#;
    check(
        &mistakes(file),
        &[Said("receive[0].whne", "there is no such key", "did you mean \"when\"?")],
        file,
    );
}
