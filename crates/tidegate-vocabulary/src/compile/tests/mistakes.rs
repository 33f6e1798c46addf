//! Every mistake that a part can make by itself: its key, its problem and its cure.

use super::*;
use crate::language::rules::MAX_ON_CONNECT;
use crate::language::rules::MAX_TABLES;

/// Files that are wrong as a whole.
const FILES: [(&str, Said); 13] = [
    ("name = \"a\"\n[[path", Said("the file", "is not TOML: ", "mend that line")),
    ("name = \"é\"\nx = [1,,]\n", Said("the file", "is not TOML: ", "mend that line")),
    ("[[path]]\nname = \"a\"\npath = \"/\"\n", Said("name", "is missing", "name = \"stock-agent\"")),
    (
        "name = \"\"\n[[path]]\nname = \"a\"\npath = \"/\"\n",
        Said("name", "is empty", "name = \"stock-agent\""),
    ),
    (
        "name = \"A b\"\n[[path]]\nname = \"a\"\npath = \"/\"\n",
        Said("name", "is not a name for a vocabulary", "small letters"),
    ),
    (
        "name = \"native\"\n[[path]]\nname = \"a\"\npath = \"/\"\n",
        Said("name", "is not a name for a vocabulary", "\"native\" is taken"),
    ),
    (
        "name = 7\n[[path]]\nname = \"a\"\npath = \"/\"\n",
        Said("name", "7 is not a text", "write it between quotation marks"),
    ),
    ("name = \"a\"", Said("path", "is missing", "[[path]] with name and path")),
    (
        "name = \"a\"\ndescripton = \"b\"\n[[path]]\nname = \"a\"\npath = \"/\"\n",
        Said("descripton", "there is no such key", "did you mean \"description\"?"),
    ),
    (
        "name = \"a\"\n[[path]]\nname = \"a\"\npath = \"/\"\n[join]\nsend = 1\n",
        Said("join", "\"join\" needs stored subjects or presence", "remove it"),
    ),
    (
        "name = \"a\"\npath = 1\n[error]\nsend = 1\n",
        Said("path", "1 is not a list of tables", "write each under a line [[path]]"),
    ),
    (
        "name = \"a\"\n[path]\nname = \"a\"\npath = \"/\"\n",
        Said("path", "a table is not a list of tables", "write each under a line [[path]]"),
    ),
    (
        "name = \"a\"\nerror = \"x\"\n[[path]]\nname = \"a\"\npath = \"/\"\n",
        Said("error", "\"x\" is not a table", "write it as a table"),
    ),
];

#[test]
fn a_file_that_is_wrong_as_a_whole_says_so() {
    for (file, said) in FILES {
        let found = compile(file).unwrap_err();
        // What follows from it is not looked at here.
        check(&found[..1], &[said], file);
    }
}

/// Sections with one mistake each.
const SECTIONS: [(&str, Said); 38] = [
    (
        "[protocol]\nencoding = \"msgpack\"",
        Said("protocol.encoding", "this version writes JSON", "write \"json\""),
    ),
    (
        "[protocol]\ntime = \"navie\"",
        Said("protocol.time", "\"navie\" is no way to write times", "did you mean \"naive\"?"),
    ),
    (
        "[protocol]\nsubprotocols = [\"a b\"]",
        Said("protocol.subprotocols", "no handshake can offer", "RFC 6455"),
    ),
    (
        "[protocol]\nrequired = 1",
        Said("protocol.required", "1 is neither true nor false", "write true or false"),
    ),
    (
        "[[path]]\nname = \"main\"\npath = \"/x\"",
        Said("path[2].name", "there are two paths \"main\"", "a name of its own"),
    ),
    ("[[path]]\npath = \"/x\"", Said("path[2].name", "is missing", "name = \"prices\"")),
    ("[[path]]\nname = \"x\"\npath = \"\"", Said("path[2].path", "is empty", "path = \"/ws/{symbol}\"")),
    (
        "[[path]]\nname = \"x\"\npath = \"x\"",
        Said("path[2].path", "does not start with \"/\"", "write \"/\""),
    ),
    (
        "[[path]]\nname = \"x\"\npath = \"/a{b}\"",
        Said("path[2].path", "\"a{b}\" is no segment and no {name}", "\"/ws/{symbol}\""),
    ),
    ("[[path]]\nname = \"x\"\npath = \"/{a}/{a}\"", Said("path[2].path", "has {a} twice", "write \"/\"")),
    (
        "[[path]]\nname = \"x\"\npath = \"/x\"\ntoken_qery = \"t\"",
        Said("path[2].token_qery", "there is no such key", "did you mean \"token_query\"?"),
    ),
    (
        "[[path]]\nname = \"x\"\npath = \"/x/{a}\"\nlabel = \"{path.b}\"",
        Said("path[2].label", "path \"x\" has no parameter {b}", "its parameters are a"),
    ),
    (
        "[[path]]\nname = \"x\"\npath = \"/x\"\nrequire = { \"user\" = \"{user}\" }",
        Said(
            "path[2].require.user",
            "is not what a client gives",
            "compare path.x, query.x, header.x or msg.x",
        ),
    ),
    (
        "[[path]]\nname = \"x\"\npath = \"/x\"\n[[path.on_connect]]\ndo = \"publish\"\nsubject = \"a\"\ndata = 1",
        Said(
            "path[2].on_connect[0].do",
            "\"publish\" cannot be done before",
            "takes subscribe, replace and filter",
        ),
    ),
    (
        "[[path]]\nname = \"x\"\npath = \"/x\"\ngreeting = \"{msg.id}\"",
        Said(
            "path[2].greeting",
            "{msg.id} is known when a client's message is read, not before",
            "use what is",
        ),
    ),
    ("[greeting]\nsnd = 1\nsend = 2", Said("greeting.snd", "there is no such key", "did you mean \"send\"?")),
    ("[gap]", Said("gap.send", "is missing", "leave [gap] out for silence")),
    ("[gap]\nsend = \"{now}\"", Said("gap.send", "{now} is known", "use what is known there")),
    (
        "[gap]\nsend = \"{var.a}\"",
        Said("gap.send", "{var.a} may change while a channel is held", "put it into keep, and write {sub.a}"),
    ),
    (
        "[gap]\nsend = { id = \"{user|optional}\" }",
        Said(
            "gap.send",
            "what differs between clients can only be a whole value or a part of a text",
            "`optional`",
        ),
    ),
    ("[gap]\nsend = \"{sub.id}\"", Said("gap.send", "{sub.id} is kept by no rule", "add keep = { id = … }")),
    (
        "[expiring]\nsend = 1979-05-27",
        Said("expiring.send", "has a value that JSON does not have", "times as texts"),
    ),
    ("[heartbeat]\nby = \"sever\"", Said("heartbeat.by", "\"sever\" pings nobody", "client, server or both")),
    ("[heartbeat]\nby = \"server\"", Said("heartbeat.ping", "is missing", "by = \"server\" needs")),
    (
        "[heartbeat]\nping = 1",
        Said("heartbeat.ping", "is never sent: by = \"client\"", "write by = \"server\""),
    ),
    (
        "[heartbeat]\nevery = \"1h\"",
        Said("heartbeat.every", "\"1h\" is no time between pings", "write \"30s\""),
    ),
    ("[unknown]\ndo = \"close\"", Said("unknown.do", "is not \"ignore\"", "remove it")),
    (
        "[unknown]\ncode = \"bad_reqest\"",
        Said("unknown.code", "there is no error \"bad_reqest\"", "did you mean"),
    ),
    (
        "[error.codes]\nunathorized = 1",
        Said("error.codes.unathorized", "there is no error", "did you mean \"unauthorized\"?"),
    ),
    (
        "[error.codes]\nservice = true",
        Said("error.codes.service", "is no text and no whole number", "what stands for {code}"),
    ),
    (
        "[error.close]\nservice = 999",
        Said("error.close.service", "is not a code that an application may send", "3000 to 4999"),
    ),
    (
        "[[http]]\nmethod = \"GET\"\npath = \"/readyz\"\ndo = \"stats\"",
        Said("http[0].path", "is a path of Tidegate's own", "choose another path than /healthz"),
    ),
    (
        "[[http]]\nmethod = \"POST\"\npath = \"/x\"\ndo = \"publish\"\nsubject = \"{msg.x}\"\ndata = 1",
        Said("http[0].subject", "the first token is {msg.x}, which may be anything", "\"room.{msg.x}\""),
    ),
    (
        "[[http]]\nmethod = \"GET\"\npath = \"/x\"\ndo = \"last\"\neach = [\"a\", \"_live\"]\nchannel = \"{item}.x\"",
        Said("http[0].channel", "\"_live\" belongs to NATS and Tidegate", "choose another first token"),
    ),
    (
        "[[http]]\nmethod = \"GET\"\npath = \"/x\"\ndo = \"last\"\nchannels = [\"a\", \"$SYS.x\"]",
        Said("http[0].channels", "\"$SYS\" belongs to NATS and Tidegate", "choose another first token"),
    ),
    (
        "[[http]]\nmethod = \"GTE\"\npath = \"/x\"\ndo = \"stats\"",
        Said("http[0].method", "\"GTE\" is none that a call may have", "GET, POST, PUT or DELETE"),
    ),
    (
        "[[http]]\nmethod = \"GET\"\npath = \"/x/{a}\"\ndo = \"last\"\nchannel = \"a.{path.b}\"",
        Said("http[0].channel", "path \"/x/{a}\" has no parameter {b}", "its parameters are a"),
    ),
    ("[close]\nexpired = 4000", Said("close.expired", "is no end of a session", "known are")),
];

#[test]
fn every_section_names_its_mistakes() {
    for (section, said) in SECTIONS {
        check(&mistakes(section), &[said], section);
    }
}

/// Rules with one mistake each, all of them with `when = { type = "a" }`.
const RULES: [(&str, Said); 44] = [
    ("", Said("do", "is missing", "say what is to be done: subscribe, replace")),
    ("do = \"subscrib\"", Said("do", "\"subscrib\" is not a word for do", "did you mean \"subscribe\"?")),
    ("do = \"ack\"", Said("do", "\"ack\" needs stored subjects", "the rest of the file works without")),
    ("do = \"ignore\"\npath = \"man\"", Said("path", "there is no path \"man\"", "did you mean \"main\"?")),
    ("do = \"ignore\"\npath = []", Said("path", "names no path", "name one at least")),
    ("do = \"ignore\"\nwhat = 1", Said("what", "there is no such key", "known keys")),
    ("do = \"ignore\"\nhistory = 1", Said("history", "\"history\" needs stored subjects", "remove it")),
    (
        "do = \"ignore\"\nconfirm = 1",
        Said("confirm", "\"confirm\" means nothing for do = \"ignore\"", "choose one of subscribe"),
    ),
    (
        "do = \"ignore\"\nset = { a = 1 }",
        Said("set", "\"set\" means nothing for do = \"ignore\"", "remove it"),
    ),
    (
        "do = \"request\"\nsubject = \"a\"\ndata = 1\nsend = 1\nconfirm = 2",
        Said("confirm", "\"confirm\" means nothing for do = \"request\"", "remove it"),
    ),
    (
        "do = \"pong\"\nchannel = \"a\"",
        Said("channel", "\"channel\" means nothing for do = \"pong\"", "filter"),
    ),
    ("do = \"subscribe\"", Said("channel", "is missing", "channel = \"prices.{msg.symbol}\"")),
    (
        "do = \"subscribe\"\nchannel = \"a\"\nchannels = [\"b\"]",
        Said("channels", "excludes channel", "keep one"),
    ),
    ("do = \"subscribe\"\nchannels = []", Said("channels", "names no channel", "name one at least")),
    ("do = \"subscribe\"\nchannel = \"a..b\"", Said("channel", "token 2 is empty", "tokens with dots")),
    (
        "do = \"subscribe\"\nchannel = \"a.{msg.a}{msg.b}\"",
        Said("channel", "two placeholders share a token", "tokens with dots"),
    ),
    ("do = \"subscribe\"\nchannel = \"a.{msg.a\"", Said("channel", "has a brace", "write } behind")),
    (
        "do = \"subscribe\"\nchannel = \"a.{msg.a|uper}\"",
        Said("channel", "there is no filter \"uper\"", "did you mean \"upper\"?"),
    ),
    (
        "do = \"subscribe\"\nchannel = \"a.{item}\"",
        Said("channel", "{item} is an element of each, and there is no each", "add each"),
    ),
    (
        "do = \"subscribe\"\nchannel = \"a.{data.x}\"",
        Said(
            "channel",
            "{data.x} is known when something is published",
            "use {msg.…}, or move it to [[deliver]]",
        ),
    ),
    (
        "do = \"subscribe\"\nchannel = \"a.{path.symbol}\"",
        Said("channel", "path \"main\" has no parameter {symbol}", "it has none"),
    ),
    (
        "do = \"subscribe\"\nchannel = \"a\"\nunique = \"yes\"",
        Said("unique", "\"yes\" is neither true nor false", "true or false"),
    ),
    (
        "do = \"subscribe\"\nchannel = \"a\"\neach = []",
        Said("each", "is no list", "name one element at least"),
    ),
    (
        "do = \"subscribe\"\nchannel = \"a\"\neach = [1.5]",
        Said("each", "is no list", "name one element at least"),
    ),
    (
        "do = \"subscribe\"\nchannel = \"a\"\neach = \"msg.a\"",
        Said("each", "is no placeholder", "\"{msg.symbols}\""),
    ),
    (
        "do = \"subscribe\"\nchannel = \"a.{item}\"\neach = \"{msg.a}\"\ngroup = \"{item}\"",
        Said("group", "{item} is an element of each", "write it in channel only"),
    ),
    (
        "do = \"subscribe\"\nchannel = \"a\"\nmax_rate_ms = -1",
        Said("max_rate_ms", "is out of range", "from 0 to 60000"),
    ),
    (
        "do = \"replace\"\nchannel = \"a\"",
        Said("group", "replace without group would leave everything", "name a group"),
    ),
    (
        "do = \"replace\"\nchannel = \"a\"\ngroup = \"g\"\nunique = true",
        Said("unique", "means nothing", "subscribe"),
    ),
    ("do = \"unsubscribe\"\neach = \"{msg.a}\"", Said("each", "means nothing without channel", "{item}")),
    (
        "do = \"filter\"\nchannel = \"a\"\nin = \"{msg.a}\"",
        Said("field", "is missing", "field = \"data.type\""),
    ),
    (
        "do = \"filter\"\nchannel = \"a\"\nfield = \"user\"\nin = \"{msg.a}\"",
        Said("field", "is no part of a publication", "field = \"data.type\""),
    ),
    (
        "do = \"filter\"\nchannel = \"a\"\nfield = \"data.type\"",
        Said("in", "is missing", "in = \"{msg.types}\""),
    ),
    ("do = \"publish\"\nsubject = \"a\"", Said("data", "is missing", "needs subject and data")),
    ("do = \"publish\"\nsubject = \"a.*\"\ndata = 1", Said("subject", "has a wildcard", "name the tokens")),
    (
        "do = \"publish\"\nsubject = \"a\"\ndata = 1\nheaders = { traceparent = \"x\", Traceparent = \"y\" }",
        Said("headers", "is there twice", "keep one"),
    ),
    (
        "do = \"publish\"\nsubject = \"a\"\ndata = 1\nheaders = { Nats-Foo = \"x\" }",
        Said("headers", "\"Nats-Foo\" is not for clients", "allowed are Nats-Msg-Id"),
    ),
    (
        "do = \"request\"\nsubject = \"a\"\ndata = 1",
        Said("send", "is missing", "a rule with do = \"request\" needs the message"),
    ),
    ("do = \"auth\"", Said("token", "is missing", "token = \"{msg.token}\"")),
    ("do = \"send\"", Said("send", "is missing", "a rule with do = \"send\" needs")),
    ("do = \"error\"", Said("message", "is missing", "say what is wrong")),
    (
        "do = \"close\"\ncode = 1001",
        Said("code", "is not a code that an application may send", "3000 to 4999"),
    ),
    ("do = \"pong\"\nsend = \"{var.a}\"", Said("send", "no rule sets {var.a}", "add set = { a = … }")),
    (
        "do = \"pong\"\nsend = { \"...\" = 1 }",
        Said("send", "\"...\" stands for the members", "write a placeholder there"),
    ),
];

#[test]
fn every_rule_names_its_mistakes_and_the_messages_that_it_is_for() {
    for (keys, Said(key, problem, help)) in RULES {
        let deliver = "[[deliver]]\npattern = \"a.>\"\nsend = 1\n[[deliver]]\npattern = \"a\"\nsend = 1";
        let file = format!("[[receive]]\nwhen = {{ type = \"a\" }}\n{keys}\n{deliver}");
        let key = format!("receive[0].{key} (when {{\"type\":\"a\"}})");
        check(&mistakes(&file), &[Said(key.leak(), problem, help)], &file);
    }
}

/// Placeholders that cannot be, in the message of a rule that answers.
const HOLES: [(&str, Said); 11] = [
    (
        "{x",
        Said(
            "",
            "has a brace that belongs to no placeholder",
            "write } behind the placeholder, or {{ for a brace",
        ),
    ),
    ("x}", Said("", "has a brace that belongs to no placeholder", "{{ for a brace")),
    ("{mgs.a}", Said("", "there is no placeholder {mgs.a}", "did you mean \"msg\"? known are user")),
    ("{path}", Said("", "{path} is written {path.name}", "write it so")),
    ("{user.x}", Said("", "{user.x} is written {user}", "write it so")),
    ("{msg.a|uper}", Said("", "there is no filter \"uper\"", "did you mean \"upper\"? known are upper")),
    ("{msg.a|default:1|optional}", Said("", "\"default\" and \"optional\" exclude each other", "keep one")),
    ("{msg.a|naive}", Said("", "{msg.a} is no instant", "only {now}, {time} and {since} are instants")),
    ("a {msg.a|optional}", Said("", "has an optional placeholder", "write default:")),
    (
        "{reply}",
        Said("", "{reply} is known when a request is answered, not when a client's", "use what is known"),
    ),
    (
        "{stats.users}",
        Said("", "{stats.users} is known when an HTTP call is answered", "only [[http]] has it"),
    ),
];

#[test]
fn every_hole_that_cannot_be_says_why() {
    for (placeholder, Said(_, problem, help)) in HOLES {
        let file = format!("[[receive]]\ndo = \"send\"\nsend = {{ a = \"{placeholder}\" }}");
        check(&mistakes(&file), &[Said("receive[0].send", problem, help)], placeholder);
    }
}

#[test]
fn a_figure_that_there_is_not_is_named_with_those_that_there_are() {
    let file =
        "[[http]]\nmethod = \"GET\"\npath = \"/stats\"\ndo = \"stats\"\nsend = { a = \"{stats.deliverd}\" }";
    let problem = "there is no figure \"deliverd\"";
    let help = "did you mean \"delivered\"? there are connections, users";
    check(&mistakes(file), &[Said("http[0].send", problem, help)], "deliverd");
}

#[test]
fn a_call_whose_do_is_no_word_is_one_mistake() {
    let head = "[[http]]\nmethod = \"GET\"\npath = \"/last\"\nchannel = \"x\"\nlast = 10\n";
    let later = "\"history\" needs stored subjects or presence";
    check(
        &mistakes(&format!("{head}do = \"history\"")),
        &[Said("http[0].do", later, "remove it")],
        "history",
    );
    let problem = "\"lats\" is not a word for do";
    let help = "did you mean \"last\"?";
    check(&mistakes(&format!("{head}do = \"lats\"")), &[Said("http[0].do", problem, help)], "lats");
}

/// Matches that cannot be.
const MATCHES: [(&str, Said); 4] = [
    ("{ a = [] }", Said("a", "an empty list matches nothing", "name at least one value")),
    ("{ a = 1.5 }", Said("a", "1.5 is nothing to compare with", "write a text")),
    (
        "{ b = { a = [\"x\", [1]] } }",
        Said("b.a", "is nothing to compare with", "true (there) or false (absent)"),
    ),
    ("{ a = 1979-05-27 }", Said("a", "1979-05-27 is nothing to compare with", "write a text")),
];

#[test]
fn every_match_that_cannot_be_says_why() {
    for (when, Said(key, problem, help)) in MATCHES {
        let found = mistakes(&format!("[[receive]]\nwhen = {when}\ndo = \"ignore\""));
        assert!(found[0].key.starts_with(&format!("receive[0].when.{key} (when {{")), "{found:?}");
        assert!(found[0].message.contains(problem) && found[0].help.contains(help), "{found:?}");
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

/// Rules for publications with one mistake each, all of them of `prices.*`.
const SHOWS: [(&str, Said); 9] = [
    ("pattern = \"a..b\"\nsend = 1", Said("pattern", "is no pattern", "\"prices.*\"")),
    ("send = 1", Said("pattern", "is missing", "pattern = \"prices.*\"")),
    ("pattern = \"prices.*\"", Said("send", "is missing", "data = \"{data}\"")),
    (
        "pattern = \"prices.*\"\nsend = \"{now}\"",
        Said("send", "{now} is the same as {time} here", "write {time}"),
    ),
    (
        "pattern = \"prices.*\"\nsend = \"{msg.a}\"",
        Said("send", "{msg.a} is known when a client's message is read", "put it into keep"),
    ),
    (
        "pattern = \"prices.*\"\nsend = { \"...\" = \"{claims.a}\" }",
        Said("send", "what differs between clients", "without `optional` and \"...\""),
    ),
    (
        "pattern = \"prices.*\"\nsend = 1\nwhen = { user = true }",
        Said("when (when {\"user\":true})", "user is no part of a publication", "data.x or nats.X"),
    ),
    (
        "pattern = \"prices.*\"\nsend = 1\nwhen = { dta = { a = 1 } }",
        Said("when (when {\"dta\":{\"a\":1}})", "there is no placeholder {dta.a}", "did you mean \"data\"?"),
    ),
    (
        "pattern = \"prices.*\"\nsend = 1\nwhen = { \"data.a\" = 1, data = { a = 2 } }",
        Said(
            "when (when {\"data.a\":1,\"data\":{\"a\":2}})",
            "when asks for \"data.a\" in two ways",
            "keep one",
        ),
    ),
];

#[test]
fn every_rule_for_publications_names_its_mistakes() {
    let rule = "[[receive]]\ndo = \"subscribe\"\nchannel = \"prices.x\"\n";
    for (keys, Said(key, problem, help)) in SHOWS {
        let file = format!("{rule}[[deliver]]\n{keys}");
        check(&mistakes(&file), &[Said(format!("deliver[0].{key}").leak(), problem, help)], &file);
    }
}

#[test]
fn a_file_that_is_too_large_says_so() {
    let rules: String = (0..=MAX_TABLES)
        .map(|at| format!("[[receive]]\nwhen = {{ type = \"{at}\" }}\ndo = \"ignore\"\n"))
        .collect();
    let said =
        Said("receive", "there are more than 256 [[receive]]", "split the frontend into two endpoints");
    check(&mistakes(&rules), &[said], "many rules");
    let endless = mistakes(&"[[deliver]]\n".repeat(10_000));
    assert_eq!(endless.len(), 1 + 2 * MAX_TABLES as usize, "what is too much is not read");
    let actions =
        "[[path.on_connect]]\ndo = \"subscribe\"\nchannel = \"a\"\n".repeat(MAX_ON_CONNECT as usize + 1);
    let file = format!("{actions}[[deliver]]\npattern = \"a\"\nsend = 1");
    check(
        &mistakes(&file),
        &[Said("path[1].on_connect", "has more than 16 actions", "`each`")],
        "many actions",
    );
    for send in [format!("[{}]", "\"{user}\",".repeat(65)), format!("\"{}\"", "x".repeat(17_000))] {
        let found = mistakes(&format!("[greeting]\nsend = {send}"));
        check(&found, &[Said("greeting.send", "64 placeholders, 16 KiB", "send less at once")], &send);
    }
}

#[test]
fn all_mistakes_of_a_file_are_said_in_its_order() {
    let file = r#"
        [[receive]]
        when = { type = "a" }
        do = "subscrib"
        channel = "a.{msg.x}"

        [[receive]]
        when = { type = "b", payload = { id = true } }
        do = "subscribe"
        channel = "b.{mgs.x}"
        keep = { id = "{msg.id|uper}" }
        kepe = { id = 1 }

        [[deliver]]
        pattern = "a..b"
        send = { a = "{data" }

        [gap]
        send = { a = "{user.x}" }
        wen = 1
    "#;
    let said = [
        Said("receive[0].do (when {\"type\":\"a\"})", "\"subscrib\" is not a word for do", ""),
        Said(
            "receive[1].channel (when {\"type\":\"b\",\"payload\":{\"id\":true}})",
            "no placeholder {mgs.x}",
            "",
        ),
        Said(
            "receive[1].keep.id (when {\"type\":\"b\",\"payload\":{\"id\":true}})",
            "no filter \"uper\"",
            "",
        ),
        Said("receive[1].kepe (when {\"type\":\"b\",\"payload\":{\"id\":true}})", "no such key", "\"keep\"?"),
        Said("deliver[0].pattern", "is no pattern", ""),
        Said("deliver[0].send", "has a brace", ""),
        Said("gap.send", "{user.x} is written {user}", ""),
        Said("gap.wen", "there is no such key", ""),
    ];
    let found = mistakes(file);
    check(&found, &said, file);
    let (text, keys) =
        (format!("{HEAD}{file}"), ["do", "channel", "id", "kepe", "pattern", "send", "send", "wen"]);
    for (mistake, key) in found.iter().zip(keys) {
        let place = mistake.place.unwrap_or_else(|| panic!("{mistake}"));
        let line: String = text.lines().nth(place.line - 1).unwrap().chars().skip(place.column - 1).collect();
        assert!(line.starts_with(&format!("{key} = ")), "{mistake}: {place}: {line}");
    }
}

#[test]
fn a_long_match_is_cut_beside_the_key() {
    let when = format!("{{ type = \"{}\" }}", "é".repeat(400));
    let found = mistakes(&format!("[[receive]]\nwhen = {when}\ndo = 1"));
    assert!(found[0].key.starts_with("receive[0].do (when {\"type\":\"éé"), "{found:?}");
    assert!(found[0].key.ends_with("é…)") && found[0].key.chars().count() < 190, "{found:?}");
}
