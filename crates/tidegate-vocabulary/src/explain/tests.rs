//! How vocabularies are described.

use super::*;

const FILE: &str = r#"
name = "board"
description = "Departures"

[protocol]
subprotocols = ["board.v1"]

[[path]]
name = "station"
path = "/board/{station}"
require = { "query.user" = "{user}" }

[[path.on_connect]]
do = "subscribe"
channel = "notices"

[[receive]]
when = { op = "watch", track = true, id = false, kind = ["arrival", "departure"] }
do = "subscribe"
group = "{msg.kind}"
channel = "trains.{path.station}.{msg.track}"
confirm = { ok = true }

[[receive]]
do = "ignore"

[unknown]
message = "what?"

[[deliver]]
pattern = "trains.*.*"
send = { train = "{data}" }

[[deliver]]
pattern = "notices"
send = "{data}"

[error]
send = { error = "{message}" }

[error.close]
unauthorized = 4401

[[http]]
method = "GET"
path = "/board/stats"
do = "stats"
send = { sockets = "{stats.connections}" }
"#;

#[test]
fn a_file_is_described_in_english() {
    let expected = r#"board: Departures
subprotocols: board.v1, board; optional

path /board/{station} "station"
  query.user must be "{user}"
  on connect, the client is sent nothing
  on connect: joins notices
  a client may send
    { op: "watch", track: …, id: absent, kind: "arrival" or "departure" }
      joins trains.{path.station}.{msg.track} in the group "{msg.kind}"
      the answer is {"ok":true}
    any object
      is ignored
    anything else: the error unknown_type, "what?"
  a client receives, for its channels
    trains.*.*: {"train":"{data}"}
    notices: "{data}"

on every path
  errors: {"error":"{message}"}
  gaps (missing publications): nothing is sent
  stale channels: nothing is sent
  channels that the server ends: nothing is sent
  credentials that expire soon: nothing is sent
  the end of a session: nothing is sent
  pings in messages: nothing is sent
  the error unauthorized closes with 4401

http GET /board/stats
  returns statistics of this vocabulary on all nodes
  responds with 200 {"sockets":"{stats.connections}"}
"#;
    assert_eq!(explain(FILE, &[]).unwrap(), expected);
}

#[test]
fn a_file_with_errors_is_not_explained() {
    let mistakes = explain("name = \"x\"\nnmae = 1", &[]).unwrap_err();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
}

#[test]
fn switches_are_listed_and_rules_that_are_off_are_left_out() {
    let file = FILE
        .replacen("[[path]]", "[switches]\nguests = \"for pages without a login\"\n[[path]]", 1)
        .replacen("[[path.on_connect]]", "[[path.on_connect]]\nif = \"guests\"", 1)
        .replacen("[[receive]]", "[[receive]]\nunless = \"guests\"", 1)
        .replacen("[[deliver]]", "[[deliver]]\nunless = \"guests\"", 1)
        .replacen("[[http]]", "[[http]]\nif = \"guests\"", 1);
    let off = explain(&file, &[]).unwrap();
    assert!(off.starts_with("board: Departures\nswitch guests is off: for pages without a login\n"), "{off}");
    let on = explain(&file, &["guests"]).unwrap();
    assert!(on.contains("switch guests is on: "), "{on}");
    for (words, when_off) in [
        ("on connect: joins notices", false),
        ("op: \"watch\"", true),
        ("trains.*.*: {", true),
        ("http GET", false),
    ] {
        assert_eq!((off.contains(words), on.contains(words)), (when_off, !when_off), "{words}: {off}{on}");
    }
}

#[test]
fn a_rule_whose_value_may_have_dots_says_so() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/transcripts/dotted/vocabulary.toml");
    let file = std::fs::read_to_string(path).unwrap();
    let described = explain(&file, &[]).unwrap();
    let rule = "joins prices.{item|upper|dotted}, for each of \"{msg.symbols}\" in the group \"prices\"";
    let dots = "{item|dotted} may have dots: it becomes up to 8 tokens";
    assert!(described.contains(&format!("      {rule}\n      {dots}\n")), "{described}");
    assert!(!explain(FILE, &[]).unwrap().contains("may have dots"));
}
