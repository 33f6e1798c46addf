//! What is said of one message.

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

fn behind_the_entrance(told: &str) -> &str {
    told.split_once("when that is done, the page is told nothing\n").unwrap().1
}

fn told(target: Option<&str>, message: &str) -> String {
    let sender = Sender { target, user: "ann", claims: None };
    explain_message(FILE, &sender, message).unwrap()
}

#[test]
fn a_message_is_explained_by_its_rule_what_comes_of_it_and_who_may() {
    assert_eq!(
        told(Some("/board/lyon"), r#"{"op":"watch","track":7}"#),
        "at /board/lyon, as ann:\nwho comes in is sent {\"hello\":\"ann\"}\nat once it subscribes to notices\n\
         a role has to allow: subscribe notices\nwhen that is done, the page is told nothing\n\
         receive[0] takes { op: \"watch\", track: … }: do = \"subscribe\"\nsubscribes to trains.lyon.7\n\
         in the group \"all\"\na role has to allow: subscribe trains.lyon.7\n\
         when that is done, the page is told {\"ok\":\"watch\"}\n"
    );
    assert_eq!(
        behind_the_entrance(&told(None, r#"{"op":"say","text":"hi"}"#)),
        "receive[1] takes { op: \"say\" }: do = \"publish\"\n\
             publishes on chat.ann: {\"text\":\"hi\"}\na role has to allow: publish chat.ann\n\
         when that is done, the page is told nothing\n"
    );
    let hello = told(None, r#"{"op":"hello"}"#);
    assert!(hello.ends_with("do = \"send\"\nthe page is told {\"hi\":\"ann\"}\n"), "{hello}");
    assert!(told(None, r#"{"op":"quiet"}"#).ends_with("nothing comes of it\n"));
}

#[test]
fn what_is_refused_says_why_and_what_the_page_is_told() {
    let wild = told(None, r#"{"op":"watch","track":"*"}"#);
    let refused = "is refused: bad_channel: `track` must be one word";
    assert!(wild.contains(refused) && wild.contains("the page is told {\"oops\":"), "{wild}");
    assert!(!behind_the_entrance(&wild).contains("a role has to allow"), "{wild}");
    let unknown = told(None, r#"{"op":"dance"}"#);
    let tail = "no rule takes this\nis refused: unknown_type: there is no op dance\n\
                the page is told {\"oops\":\"there is no op dance\"}\n";
    assert!(unknown.ends_with(tail), "{unknown}");
    let sender = Sender { target: Some("/elsewhere"), user: "ann", claims: None };
    let Err(Unexplained::Elsewhere(words)) = explain_message(FILE, &sender, "{}") else { panic!() };
    assert_eq!(words, "nobody comes in at /elsewhere: the paths are /board/{station}");
}

#[test]
fn a_message_that_lacks_something_is_not_called_unknown() {
    let near = told(None, r#"{"op":"watch"}"#);
    let expected =
        "no rule takes this; the nearest is receive[0] { op: \"watch\", track: … }, but `track` is missing\n";
    assert!(near.contains(expected), "{near}");
    let near = told(None, r#"{"op":"next","kind":"late","id":7}"#);
    let expected = "but `kind` must be \"arrival\" or \"departure\" and `id` must not be there\n";
    assert!(near.contains(expected), "{near}");
    assert!(told(None, r#"{"track":7}"#).contains("no rule takes this\n"), "what it is for, nobody can say");
}

#[test]
fn what_a_service_answers_is_shown_with_its_place() {
    let next = told(None, r#"{"op":"next","kind":"arrival"}"#);
    assert!(
        next.ends_with("the page is told, with what the service says: {\"trains\":\"{reply}\"}\n"),
        "{next}"
    );
}

#[test]
fn claims_that_are_none_are_refused() {
    let explained =
        |claims| explain_message(FILE, &Sender { target: None, user: "ann", claims: Some(claims) }, "{}");
    for (claims, words) in [("{org:1}", "are not JSON"), ("[1]", "not an object"), ("", "are not JSON")] {
        let Err(Unexplained::Elsewhere(said)) = explained(claims) else { panic!("{claims}") };
        assert!(said.contains(words) && said.contains("single quotes"), "{said}");
    }
    let told = explained(r#"{"org":"acme"}"#).unwrap();
    assert!(told.contains(r#"who comes in is sent {"hello":"ann","org":"acme"}"#), "{told}");
}
