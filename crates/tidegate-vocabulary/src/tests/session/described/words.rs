//! What rules remember and say: variables, answers, errors, ends and pings.

use crate::tests::session::described::converse;
use crate::tests::session::described::converse_in;

/// A variable, and what is said of it.
const VARIABLES: &str = r#"
[[receive]]
when = { do = "set" }
do = "request"
subject = "q.{msg.x}"
data = "{var.x|default:none}"
set = { x = "{msg.x}" }
send = { was = "{var.x}", reply = "{reply}" }

[[receive]]
when = { do = "sub" }
do = "subscribe"
channel = "a.{msg.x}"
set = { x = "{msg.x}" }
confirm = { was = "{var.x}" }

[[receive]]
when = { do = "ping" }
do = "pong"
set = { x = "{msg.x}" }
send = { was = "{var.x}" }

[[receive]]
when = { do = "what" }
do = "send"
send = { x = "{var.x}" }

[[receive]]
when = { do = "fail" }
do = "error"
message = "no"
refuse = { x = "{var.x}", code = "{code}", message = "{message}" }

[[receive]]
when = { do = "auth" }
do = "auth"
token = "{msg.token}"
set = { x = "{msg.x}" }
confirm = { was = "{var.x}" }

[error]
send = { error = "{code}", x = "{var.x}" }

[[deliver]]
pattern = "a.*"
send = 1
"#;

#[test]
fn an_answer_sees_the_variables_of_the_time_when_it_was_asked_for() {
    converse_in(
        VARIABLES,
        "",
        r#"
        > {"do":"what"}
        < {"x":null}
        > {"do":"set","x":"one"}
        ! request q.one within 2s "none"
        > {"do":"what"}
        < {"x":"one"}
        > {"do":"set","x":"two"}
        ! request q.two within 2s "one"
        > {"do":"what"}
        < {"x":"two"}
        = replied q.two {"a":1}
        < {"was":"one","reply":{"a":1}}
        = replied q.one text
        < {"was":null,"reply":"text"}
        > {"do":"sub","x":"no"}
        < {"error":"forbidden","x":"two"}
        > {"do":"sub","x":"*"}
        < {"error":"bad_channel","x":"two"}
        > {"do":"set","x":"a.b"}
        < {"error":"bad_channel","x":"two"}
        > {"do":"what"}
        < {"x":"two"}
        > {"do":"sub","x":"x"}
        ! join a.x
        > {"do":"what"}
        < {"x":"x"}
        = joined a.x
        ! live a.x
        < {"was":"two"}
        > {"do":"fail"}
        < {"x":"x","code":"bad_request","message":"no"}
        "#,
    );
}

#[test]
fn a_pong_sets_variables() {
    let conversation = "> {\"do\":\"ping\",\"x\":1}\n< {\"was\":null}\n> {\"do\":\"what\"}\n< {\"x\":1}";
    converse_in(VARIABLES, "", conversation);
}

#[test]
fn a_credential_in_a_message_sets_variables() {
    converse_in(
        VARIABLES,
        "",
        r#"
        > {"do":"auth","token":"$u1","x":1}
        ! authenticate $u1
        > {"do":"what"}
        < {"x":null}
        = authenticated u1
        < {"was":null}
        > {"do":"what"}
        < {"x":1}
        > {"do":"auth","token":"$u1","x":2}
        ! authenticate $u1
        = unauthenticated
        < {"error":"unauthorized","x":1}
        > {"do":"what"}
        < {"x":1}
        "#,
    );
}

#[test]
fn a_message_that_no_rule_takes_is_answered_with_the_variables() {
    let conversation = "> {\"do\":\"sub\",\"x\":\"y\"}\n! join a.y\n> {\"do\":\"dance\"}\n\
                        < {\"error\":\"unknown_type\",\"x\":\"y\"}";
    converse_in(VARIABLES, "", conversation);
}

#[test]
fn an_answer_that_cannot_be_spread_is_an_error() {
    let rules = r#"
        [[receive]]
        when = { do = "ask" }
        do = "request"
        subject = "q.x"
        data = 1
        send = { "..." = "{reply}", n = "{msg.n}" }

        [[receive]]
        when = { do = "echo" }
        do = "send"
        send = { "..." = "{msg.more}" }
    "#;
    converse(
        rules,
        r#"
        > {"do":"ask","n":1}
        ! request q.x within 2s 1
        = replied q.x {"n":2,"m":3}
        < {"m":3,"n":1}
        > {"do":"ask","n":1}
        ! request q.x within 2s 1
        = replied q.x [1]
        < {"error":"service","of":null}
        > {"do":"ask","n":1}
        ! request q.x within 2s 1
        = replied q.x base64:AP8=
        < {"error":"service","of":null}
        > {"do":"echo","more":{"a":1}}
        < {"a":1}
        > {"do":"echo","more":[1]}
        < {"error":"bad_request","of":null}
        "#,
    );
}

/// Errors by other names, of which some end the session.
const CODES: &str = r#"
[[receive]]
when = { do = "sub" }
do = "subscribe"
channel = "a.{msg.x}"

[[receive]]
when = { do = "ask" }
do = "request"
subject = "q.x"
data = 1
send = "{reply}"

[[receive]]
when = { do = "close" }
do = "close"
code = 4001
reason = "enough"

[unknown]
code = "bad_data"
message = "no {msg.do}"

[[deliver]]
pattern = "a.*"
send = 1

[error]
send = { code = "{code}", message = "{message}", of = "{channel}" }

[error.codes]
default = -1
forbidden = "NO"
bad_data = -2

[error.close]
not_json = 4400
timeout = 4408
"#;

#[test]
fn errors_have_the_names_that_the_vocabulary_gives_them() {
    converse_in(
        CODES,
        "",
        r#"
        > {"do":"sub","x":"no"}
        < {"code":"NO","message":"$text","of":"a.no"}
        > {"do":"sub","x":"*"}
        < {"code":-1,"message":"$text","of":null}
        > {"do":"dance"}
        < {"code":-2,"message":"no dance","of":null}
        > {}
        < {"code":-2,"message":"no rule of this vocabulary matches the message","of":null}
        > {"do":"ask"}
        ! request q.x within 2s 1
        = unreplied q.x no_responders
        < {"code":-1,"message":"$text","of":null}
        > {"do":"ask"}
        ! request q.x within 2s 1
        = unreplied q.x timeout
        ! close 4408
        "#,
    );
    for (message, code) in
        [("[]", 4400), ("{\"do\":1,\"do\":2}", 4400), ("base64:AP8=", 4400), ("{\"do\":\"close\"}", 4001)]
    {
        converse_in(CODES, "", &format!("> {message}\n! close {code}"));
    }
}

#[test]
fn ends_have_the_codes_and_the_words_that_the_vocabulary_gives_them() {
    let close = r#"
        [close]
        going_away = 4100
        send = { bye = "{close_code}", why = "{reason}", after = "{retry_after_ms}", who = "{user}" }
    "#;
    for (end, code, after) in [("drain retry after 3s", 4100, "3000"), ("failed 1009", 1009, "null")] {
        let said = format!("{{\"bye\":{code},\"why\":\"$text\",\"after\":{after},\"who\":\"u1\"}}");
        converse_in(close, "", &format!("= {end}\n! close {code}\n< {said}"));
    }
}

#[test]
fn the_answer_to_a_ping_of_the_server_is_for_no_rule() {
    let beat = r#"
        [heartbeat]
        by = "server"
        every = "10s"
        ping = { ping = "{user}" }
        pong = { type = "pong", of = { who = true } }
    "#;
    converse(
        beat,
        r#"
        @ +10s
        < {"ping":"u1"}
        ! ping
        > {"type":"pong","of":{"who":1}}
        @ +10s
        < {"ping":"u1"}
        ! ping
        > {"type":"pong"}
        < {"error":"unknown_type","of":null}
        @ +10s
        < {"ping":"u1"}
        ! ping
        @ +10s
        ! close 4003
        "#,
    );
}
