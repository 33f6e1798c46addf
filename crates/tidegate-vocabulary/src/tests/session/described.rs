//! What a vocabulary's rules do in a session, as far as the transcripts of the shipped ones do not show it.

mod words;

use std::sync::Arc;

use crate::compile::compile;
use crate::tests::session::transcripts::played;
use crate::transcript::Transcript;

/// Errors that say their code, and words for whatever is published below `a` or `b`.
const WORDS: &str = r#"
[error]
send = { error = "{code}", of = "{channel}" }

[[deliver]]
pattern = "a.*"
send = { a = "{data}" }

[[deliver]]
pattern = "b.*"
send = { b = "{data}" }
"#;

/// A user, who may not have `a.no`, talks in a vocabulary that has these sections next to its path.
fn converse_in(sections: &str, head: &str, conversation: &str) {
    let file = format!("name = \"test\"\n[[path]]\nname = \"main\"\npath = \"/ws\"\n{sections}");
    let compiled = compile(&file).unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{file}"));
    let described = Arc::new(compiled.described);
    let conversation: Vec<&str> = conversation.lines().map(str::trim_start).collect();
    let identity = "identity u1: subscribe a.* b.*; deny-subscribe a.no; publish p.*; request q.*";
    let text = format!("# A conversation\nconnect: u1\n{identity}\n{head}\n{}", conversation.join("\n"));
    let transcript = Transcript::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    if let Err(difference) = played("line", transcript, Some(&described)) {
        panic!("{difference}\n{text}");
    }
}

fn converse(sections: &str, conversation: &str) {
    converse_in(&format!("{sections}\n{WORDS}"), "", conversation);
}

/// Joins and leaves channels of a list, in a group.
const LISTS: &str = r#"
[[receive]]
when = { do = "add" }
do = "subscribe"
group = "{msg.group|default:g}"
each = "{msg.list}"
channel = "a.{item}"
confirm = { added = "{msg.list}" }

[[receive]]
when = { do = "replace" }
do = "replace"
group = "{msg.group|default:g}"
each = "{msg.list}"
channel = "a.{item}"
confirm = "replaced"

[[receive]]
when = { do = "unique" }
do = "subscribe"
unique = true
group = "{msg.group|default:g}"
channels = ["a.{msg.x}", "b.{msg.x}"]

[[receive]]
when = { do = "all" }
do = "subscribe"
group = "{msg.group|default:g}"
channel = "b.*"
max_rate_ms = "{msg.rate|default:0}"

[[receive]]
when = { do = "one" }
do = "subscribe"
group = "{msg.group|default:g}"
channel = "b.{msg.x}"
confirm = "one"

[[receive]]
when = { do = "leave", list = true }
do = "unsubscribe"
group = "{msg.group|default:g}"
each = "{msg.list}"
channel = "a.{item}"
confirm = "left"

[[receive]]
when = { do = "leave" }
do = "unsubscribe"
group = "{msg.group|default:g}"
confirm = "left all"
"#;

#[test]
fn to_join_what_one_has_and_to_leave_what_one_has_not_is_done() {
    converse(
        LISTS,
        r#"
        > {"do":"add","list":["x"]}
        ! join a.x
        > {"do":"add","list":["x"]}
        = joined a.x
        ! live a.x
        < {"added":["x"]}
        < {"added":["x"]}
        > {"do":"add","list":["x"]}
        < {"added":["x"]}
        > {"do":"leave","list":["y"]}
        < "left"
        > {"do":"leave","list":["x","x"]}
        ! leave a.x
        < "left"
        > {"do":"leave","list":[]}
        < "left"
        > {"do":"leave","group":"none"}
        < "left all"
        > {"do":"add","list":[]}
        < {"added":[]}
        "#,
    );
}

#[test]
fn a_message_that_is_partly_wrong_does_the_right_part_and_is_confirmed_once() {
    converse(
        LISTS,
        r#"
        > {"do":"add","list":["x","no",null,"*","y"]}
        ! join a.x
        ! join a.y
        < {"error":"forbidden","of":"a.no"}
        < {"error":"bad_request","of":null}
        < {"error":"bad_channel","of":null}
        = joined a.y
        ! live a.y
        = joined a.x
        ! live a.x
        < {"added":["x","no",null,"*","y"]}
        > {"do":"add","list":["no","*"]}
        < {"error":"forbidden","of":"a.no"}
        < {"error":"bad_channel","of":null}
        > {"do":"add","list":"x"}
        < {"error":"bad_request","of":null}
        "#,
    );
}

#[test]
fn in_one_group_a_publication_comes_once_and_in_two_twice() {
    converse(
        LISTS,
        r#"
        > {"do":"add","list":["x"]}
        ! join a.x
        = joined a.x
        ! live a.x
        < {"added":["x"]}
        > {"do":"add","group":"h","list":["x"]}
        ! join a.x
        = joined a.x
        ! live a.x
        < {"added":["x"]}
        * a.x 1
        < {"a":1}
        < {"a":1}
        > {"do":"leave"}
        ! leave a.x
        < "left all"
        * a.x 2
        < {"a":2}
        "#,
    );
}

#[test]
fn a_wildcard_takes_the_place_of_what_it_covers_only_when_it_can_be_had() {
    converse(
        LISTS,
        r#"
        > {"do":"one","x":"x"}
        ! join b.x
        = joined b.x
        ! live b.x
        < "one"
        > {"do":"all","rate":"often"}
        < {"error":"bad_request","of":null}
        > {"do":"all","rate":50}
        < {"error":"unsupported","of":"b.*"}
        * b.x 1
        < {"b":1}
        > {"do":"all"}
        ! leave b.x
        ! join b.*
        = joined b.*
        ! live b.*
        > {"do":"one","x":"y"}
        < "one"
        * b.y 2
        < {"b":2}
        "#,
    );
}

#[test]
fn a_group_that_is_unique_is_empty_before() {
    converse(
        LISTS,
        r#"
        > {"do":"unique","x":"x"}
        ! join a.x
        ! join b.x
        > {"do":"unique","x":"y"}
        < {"error":"already_subscribed","of":null}
        > {"do":"unique","group":"h","x":"x"}
        ! join a.x
        ! join b.x
        > {"do":"leave"}
        ! leave a.x
        ! leave b.x
        < "left all"
        > {"do":"unique","x":"y"}
        ! join a.y
        ! join b.y
        "#,
    );
}

#[test]
fn what_is_replaced_is_left_only_if_all_that_takes_its_place_is_permitted() {
    converse(
        LISTS,
        r#"
        > {"do":"add","list":["x","y"]}
        ! join a.x
        ! join a.y
        = joined a.x
        ! live a.x
        = joined a.y
        ! live a.y
        < {"added":["x","y"]}
        > {"do":"replace","list":["z","no","*"]}
        < {"error":"forbidden","of":"a.no"}
        < {"error":"bad_channel","of":null}
        * a.x 1
        < {"a":1}
        > {"do":"replace","group":"h","list":["y"]}
        ! join a.y
        = joined a.y
        ! live a.y
        < "replaced"
        > {"do":"replace","list":["y","z"]}
        ! leave a.x
        ! join a.z
        = joined a.z
        ! live a.z
        < "replaced"
        > {"do":"replace","list":["z"]}
        ! leave a.y
        < "replaced"
        * a.y 2
        < {"a":2}
        > {"do":"replace","list":[]}
        ! leave a.z
        < "replaced"
        "#,
    );
}

#[test]
fn each_subscription_is_shown_what_it_has_kept() {
    let rules = r#"
        [[receive]]
        when = { do = "sub" }
        do = "subscribe"
        group = "{msg.id}"
        keep = { id = "{msg.id}", tag = "{msg.tag|default:null}" }
        channel = "a.{msg.x}"

        [[deliver]]
        pattern = "a.*"
        send = { id = "{sub.id}", text = "<{sub.tag}> {user}", data = "{data}" }

        [gap]
        send = { gap = "{cause}", dropped = "{dropped}", of = "{channel}", id = "{sub.id}", text = "{sub.tag}!" }

        [stale]
        send = { stale = "{since}", id = "{sub.id}" }
    "#;
    converse_in(
        rules,
        "class a.s: latest; snapshot",
        r#"
        > {"do":"sub","id":"1","tag":"\"é\\","x":"x"}
        ! join a.x
        = joined a.x stale for 5s
        ! live a.x
        < {"stale":"$time","id":"1"}
        > {"do":"sub","id":2,"x":"x"}
        ! join a.x
        = joined a.x
        ! live a.x
        * a.x {"p":185.50}
        < {"id":"1","text":"<\"é\\> u1","data":{"p":185.50}}
        < {"id":2,"text":"<> u1","data":{"p":185.50}}
        = lost a.x nats 3
        < {"gap":"nats","dropped":3,"of":"a.x","id":"1","text":"\"é\\!"}
        * a.s 7
        > {"do":"sub","id":3,"x":"s"}
        ! join a.s
        = joined a.s
        ! live a.s
        < {"id":3,"text":"<> u1","data":7}
        "#,
    );
}

#[test]
fn what_cannot_be_shown_is_a_gap() {
    let rules = r#"
        [[receive]]
        when = { do = "sub" }
        do = "subscribe"
        channel = "b.*"

        [[deliver]]
        pattern = "b.*"
        when = { "data.kind" = ["x", 1] }
        send = { kind = "{data.kind}", none = "{data.none}", more = "{data.more|optional}" }

        [[deliver]]
        pattern = "b.*"
        send = { type = "{subject.1}", "..." = "{data}" }

        [gap]
        send = { gap = "{cause}" }
    "#;
    converse_in(
        rules,
        "",
        r#"
        > {"do":"sub"}
        ! join b.*
        = joined b.*
        ! live b.*
        * b.x {"type":"mine","n":1.50}
        < {"type":"x","n":1.50}
        * b.x [1]
        < {"gap":"malformed"}
        * b.x plain
        < {"gap":"malformed"}
        * b.x base64:AP8=
        < {"gap":"malformed"}
        * b.x {"kind":"x","more":[]}
        < {"kind":"x","none":null,"more":[]}
        * b.x {"kind":1}
        < {"kind":1,"none":null}
        * b.x {"kind":"1"}
        < {"type":"x","kind":"1"}
        "#,
    );
}

#[test]
fn what_is_replaced_stays_if_the_class_of_what_takes_its_place_does_not_take_it() {
    let rules = r#"
[[receive]]
when = { do = "watch", in = ["a", "b"] }
do = "replace"
group = "g"
channel = "{msg.in}.{msg.name}"
max_rate_ms = "{msg.rate|default:0}"
"#;
    converse_in(
        &format!("{rules}\n{WORDS}"),
        "class a.*: latest",
        r#"
        > {"do":"watch","in":"a","name":"x","rate":100}
        ! join a.x max_rate 100ms
        = joined a.x
        ! live a.x
        > {"do":"watch","in":"a","name":"x","rate":60001}
        < {"error":"bad_request","of":null}
        > {"do":"watch","in":"b","name":"y","rate":100}
        < {"error":"unsupported","of":"b.y"}
        * a.x 1
        < {"a":1}
        "#,
    );
}

#[test]
fn a_filter_holds_until_the_next_and_for_its_subscription_only() {
    let rules = r#"
        [[path.on_connect]]
        do = "subscribe"
        channel = "a.u1"

        [[receive]]
        when = { do = "filter" }
        do = "filter"
        channel = "a.{msg.x|default:u1}"
        field = "data.kind"
        in = "{msg.kinds}"
        confirm = { kinds = "{msg.kinds}" }

        [[receive]]
        when = { do = "leave" }
        do = "unsubscribe"

        [[receive]]
        when = { do = "join" }
        do = "subscribe"
        channel = "a.{msg.x}"
    "#;
    converse(
        rules,
        r#"
        ! join a.u1
        = joined a.u1
        ! live a.u1
        > {"do":"filter","kinds":["x",7,true]}
        ! filter a.u1 data.kind x 7 true
        < {"kinds":["x",7,true]}
        * a.u1 {"kind":"x"}
        < {"a":{"kind":"x"}}
        * a.u1 {"kind":"\u0078"}
        < {"a":{"kind":"x"}}
        * a.u1 {"kind":7}
        < {"a":{"kind":7}}
        * a.u1 {"kind":true}
        < {"a":{"kind":true}}
        * a.u1 {"kind":"y"}
        * a.u1 {"kind":null}
        * a.u1 {}
        * a.u1 "x"
        > {"do":"filter","kinds":[]}
        ! filter a.u1 data.kind
        < {"kinds":[]}
        * a.u1 {"kind":"x"}
        > {"do":"filter","x":"other","kinds":["x"]}
        < {"error":"not_subscribed","of":"a.other"}
        > {"do":"filter","kinds":"x"}
        < {"error":"bad_request","of":null}
        > {"do":"leave"}
        ! leave a.u1
        > {"do":"filter","kinds":["x"]}
        < {"error":"not_subscribed","of":"a.u1"}
        > {"do":"join","x":"u1"}
        ! join a.u1
        = joined a.u1
        ! live a.u1
        * a.u1 {"kind":"y"}
        < {"a":{"kind":"y"}}
        "#,
    );
}
