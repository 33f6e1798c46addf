//! What is said of a vocabulary.

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
fn what_a_file_says_is_said_in_words() {
    let expected = r#"board: Departures
subprotocols: board.v1, board; none has to be offered

path /board/{station} "station"
  query.user must be "{user}"
  who comes in is not greeted
  at once: joins notices
  a client may send
    { op: "watch", track: …, id: absent, kind: "arrival" or "departure" }
      joins trains.{path.station}.{msg.track} in the group "{msg.kind}"
      and is answered {"ok":true}
    any object
      is ignored
    anything else: the error unknown_type, "what?"
  a client is sent, of channels that it has
    trains.*.*: {"train":"{data}"}
    notices: "{data}"

on every path
  of errors: {"error":"{message}"}
  of gaps, where publications are missing: nothing is said
  of a channel that has fallen silent: nothing is said
  of a channel that ends unasked: nothing is said
  of a credential that is about to expire: nothing is said
  of the end of a session: nothing is said
  of pings in messages: nothing is said
  the error unauthorized closes with 4401

http GET /board/stats
  gives figures of this vocabulary, of all nodes together
  is answered 200 {"sockets":"{stats.connections}"}
"#;
    assert_eq!(explain(FILE).unwrap(), expected);
}

#[test]
fn a_file_with_mistakes_is_not_explained() {
    let mistakes = explain("name = \"x\"\nnmae = 1").unwrap_err();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
}
