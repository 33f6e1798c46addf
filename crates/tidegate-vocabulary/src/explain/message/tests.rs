//! How messages are explained.

use super::*;

const FILE: &str = r#"
name = "board"
[[path]]
name = "station"
path = "/board/{station}"
greeting = { hello = "{user}", org = "{claims.org|optional}" }
[[path.on_connect]]
do = "subscribe"
channel = "notices"
[[receive]]
when = { op = "watch", track = true }
do = "subscribe"
group = "{msg.kind|default:all}"
channel = "trains.{path.station}.{msg.track}"
confirm = { ok = "{msg.op}" }
[[receive]]
when = { op = "say" }
do = "publish"
subject = "chat.{user}"
data = { text = "{msg.text}" }
[[receive]]
when = { op = "hello" }
do = "send"
send = { hi = "{user}" }
[[receive]]
when = { op = "quiet" }
do = "ignore"
[[receive]]
when = { op = "next", kind = ["arrival", "departure"], id = false }
do = "request"
subject = "timetable.{path.station}"
data = "{msg}"
send = { trains = "{reply}" }
[unknown]
message = "there is no op {msg.op}"
[[deliver]]
pattern = "trains.*.*"
send = { train = "{data}" }
[[deliver]]
pattern = "notices"
send = "{data}"
[error]
send = { oops = "{message}" }
"#;

fn after_connecting(told: &str) -> &str {
    told.split_once("on success, the client is sent nothing\n").unwrap().1
}

fn explained_message(target: Option<&str>, message: &str) -> String {
    let sender = Sender { target, user: "ann", claims: None, switches: &[] };
    explain_message(FILE, &sender, message).unwrap()
}

#[test]
fn a_message_is_explained_by_its_rule_what_comes_of_it_and_who_may() {
    assert_eq!(
        explained_message(Some("/board/lyon"), r#"{"op":"watch","track":7}"#),
        "at /board/lyon, as ann:\non connect, the client is sent {\"hello\":\"ann\"}\non connect, the client subscribes to notices\n\
         needs the permission: subscribe notices\non success, the client is sent nothing\n\
         receive[0] matches { op: \"watch\", track: … }: do = \"subscribe\"\nsubscribes to trains.lyon.7\n\
         in the group \"all\"\nneeds the permission: subscribe trains.lyon.7\n\
         on success, the client is sent {\"ok\":\"watch\"}\n"
    );
    assert_eq!(
        after_connecting(&explained_message(None, r#"{"op":"say","text":"hi"}"#)),
        "receive[1] matches { op: \"say\" }: do = \"publish\"\n\
             publishes on chat.ann: {\"text\":\"hi\"}\nneeds the permission: publish chat.ann\n\
         on success, the client is sent nothing\n"
    );
    let hello = explained_message(None, r#"{"op":"hello"}"#);
    assert!(hello.ends_with("do = \"send\"\nthe client is sent {\"hi\":\"ann\"}\n"), "{hello}");
    assert!(explained_message(None, r#"{"op":"quiet"}"#).ends_with("is ignored\n"));
}

#[test]
fn what_is_refused_says_why_and_what_the_page_is_explained_message() {
    let wild = explained_message(None, r#"{"op":"watch","track":"*"}"#);
    let refused = "is refused: bad_channel: `track` must be one word";
    assert!(wild.contains(refused) && wild.contains("the client is sent {\"oops\":"), "{wild}");
    assert!(!after_connecting(&wild).contains("needs the permission"), "{wild}");
    let unknown = explained_message(None, r#"{"op":"dance"}"#);
    let tail = "no rule matches this message\nis refused: unknown_type: there is no op dance\n\
                the client is sent {\"oops\":\"there is no op dance\"}\n";
    assert!(unknown.ends_with(tail), "{unknown}");
    let sender = Sender { target: Some("/elsewhere"), user: "ann", claims: None, switches: &[] };
    let Err(ExplainError::Sender(words)) = explain_message(FILE, &sender, "{}") else { panic!() };
    assert_eq!(words, "no path of this vocabulary matches /elsewhere: its paths are /board/{station}");
}

#[test]
fn a_message_that_lacks_something_is_not_called_unknown() {
    let near = explained_message(None, r#"{"op":"watch"}"#);
    let expected = "no rule matches this message; the closest is receive[0] { op: \"watch\", track: … }, but `track` is missing\n";
    assert!(near.contains(expected), "{near}");
    let near = explained_message(None, r#"{"op":"next","kind":"late","id":7}"#);
    let expected = "but `kind` must be \"arrival\" or \"departure\" and `id` must be absent\n";
    assert!(near.contains(expected), "{near}");
    assert!(
        explained_message(None, r#"{"track":7}"#).contains("no rule matches this message\n"),
        "its purpose is unclear"
    );
}

#[test]
fn what_a_service_answers_is_shown_with_its_place() {
    let next = explained_message(None, r#"{"op":"next","kind":"arrival"}"#);
    assert!(
        next.ends_with("the client is sent, with the reply of the service: {\"trains\":\"{reply}\"}\n"),
        "{next}"
    );
}

#[test]
fn claims_that_are_none_are_refused() {
    let explained = |claims| {
        explain_message(
            FILE,
            &Sender { target: None, user: "ann", claims: Some(claims), switches: &[] },
            "{}",
        )
    };
    for (claims, words) in [("{org:1}", "are not JSON"), ("[1]", "not an object"), ("", "are not JSON")] {
        let Err(ExplainError::Sender(said)) = explained(claims) else { panic!("{claims}") };
        assert!(said.contains(words) && said.contains("single quotes"), "{said}");
    }
    let told = explained(r#"{"org":"acme"}"#).unwrap();
    assert!(told.contains(r#"on connect, the client is sent {"hello":"ann","org":"acme"}"#), "{told}");
}

#[test]
fn with_a_switch_the_rules_that_are_on_are_explained_and_keep_their_places() {
    let file = FILE.replacen("[[path]]", "[switches]\nquiet = \"no answers\"\n[[path]]", 1).replacen(
        "[[receive]]",
        "[[receive]]\nif = \"quiet\"\nwhen = { op = \"watch\" }\ndo = \"send\"\nsend = 1\n[[receive]]\nunless = \"quiet\"",
        1,
    );
    let explained = |switches: &[&str]| {
        let sender = Sender { target: None, user: "ann", claims: None, switches };
        explain_message(&file, &sender, r#"{"op":"watch","track":"7"}"#).unwrap()
    };
    assert!(explained(&[]).contains("receive[1] matches { op: \"watch\", track: … }"), "{}", explained(&[]));
    let on = explained(&["quiet"]);
    assert!(on.contains("receive[0] matches { op: \"watch\" }: do = \"send\""), "{on}");
}
