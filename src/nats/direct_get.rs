//! Reading a JetStream stream: the requests (direct get, and what only its leader answers), and their answers. Pure.
//!
//! A direct get of several messages is answered with a message for each, and then with a status. The messages have their
//! subjects and sequences in headers: the last of each name counts, because a producer may have sent the same name.

use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use serde_json::json;

use crate::nats::api_error::ApiError;
use crate::nats::message::Message;

/// The most messages in one answer.
pub const BATCH: usize = 500;
/// The most bytes in one answer, in about. A larger message comes alone.
const BATCH_BYTES: usize = 256 * 1024;
/// The same for the newest messages of many subjects.
const NEWEST_BYTES: usize = 1024 * 1024;

/// The `err_code`s that say that there is no such stream, or no JetStream.
const NO_STREAM: [u64; 3] = [10_059, 10_039, 10_076];

/// A request to JetStream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    pub subject: String,
    pub body: Vec<u8>,
    pub kind: AnswerKind,
}

/// What answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// Messages of a direct get, and a status.
    Messages,
    /// One message, as JSON.
    OneMessage,
    /// The state of a stream, as JSON.
    State,
}

impl StreamRequest {
    /// The newest message of each subject that this pattern matches, in the order of their sequences; only those from
    /// this sequence on, and about 1 MiB of them. Refused if the pattern matches more than 1,024 subjects.
    pub fn newest(stream: &str, pattern: &str, from: u64) -> Self {
        Self::newest_of(stream, &[pattern], from)
    }

    /// The same for several patterns or subjects.
    pub fn newest_of(stream: &str, patterns: &[&str], from: u64) -> Self {
        let mut body = json!({ "multi_last": patterns, "max_bytes": NEWEST_BYTES });
        if from > 1 {
            body["seq"] = from.into();
        }
        Self::direct(stream, &body)
    }

    /// The messages on this subject from this sequence on: at most [`BATCH`].
    pub fn following(stream: &str, subject: &str, from: u64) -> Self {
        let body = json!({ "seq": from, "next_by_subj": subject, "batch": BATCH, "max_bytes": BATCH_BYTES });
        Self::direct(stream, &body)
    }

    /// The first message on this subject from this sequence on, from the leader of the stream.
    pub fn next_of_leader(stream: &str, subject: &str, from: u64) -> Self {
        let body = json!({ "seq": from, "next_by_subj": subject });
        Self {
            subject: format!("$JS.API.STREAM.MSG.GET.{stream}"),
            body: body.to_string().into_bytes(),
            kind: AnswerKind::OneMessage,
        }
    }

    /// The state of the stream, from its leader.
    pub fn state(stream: &str) -> Self {
        Self { subject: format!("$JS.API.STREAM.INFO.{stream}"), body: Vec::new(), kind: AnswerKind::State }
    }

    fn direct(stream: &str, body: &Value) -> Self {
        Self {
            subject: format!("$JS.API.DIRECT.GET.{stream}"),
            body: body.to_string().into_bytes(),
            kind: AnswerKind::Messages,
        }
    }
}

/// One part of an answer.
#[derive(Debug)]
pub enum DirectGetPart {
    Message(ReadMessage),
    /// Nothing follows.
    End(AnswerEnd),
}

/// Why nothing follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerEnd {
    /// Those are all that were asked for. `up_to` is the newest sequence of the stream; `pending` messages would follow.
    Complete { up_to: Option<u64>, pending: u64 },
    /// There is no such message.
    NotFound,
    /// The request asks for too much.
    TooMuch,
    /// The stream does not answer this now.
    Unavailable,
}

/// A message that a stream stores.
#[derive(Clone, Debug)]
pub struct ReadMessage {
    pub subject: String,
    pub seq: u64,
    pub time: Option<SystemTime>,
    pub message: Message,
}

impl DirectGetPart {
    /// Reads a message that answers a [`AnswerKind::Messages`]. `None` if it cannot be read.
    pub fn of_direct_get(message: &Message) -> Option<Self> {
        // A message of a producer may begin like a status, but no status says where it is stored.
        if let (Some(subject), Some(seq)) = (text(message, "Nats-Subject"), number(message, "Nats-Sequence"))
        {
            let (subject, message, time) = (subject.into_owned(), message.detached(), time(message));
            return Some(Self::Message(ReadMessage { subject, seq, time, message }));
        }
        match message.status() {
            Some(b"204") => {
                let up_to = number(message, "Nats-UpTo-Sequence");
                let pending = number(message, "Nats-Num-Pending").unwrap_or(0);
                Some(Self::End(AnswerEnd::Complete { up_to, pending }))
            }
            Some(b"404") => Some(Self::End(AnswerEnd::NotFound)),
            Some(b"408" | b"413") => Some(Self::End(AnswerEnd::TooMuch)),
            Some(_) => Some(Self::End(AnswerEnd::Unavailable)),
            None => None,
        }
    }

    /// Reads the answer to a [`AnswerKind::OneMessage`].
    pub fn of_leader(payload: &[u8]) -> Option<Self> {
        let answer: Value = serde_json::from_slice(payload).ok()?;
        if !answer["error"].is_null() {
            let is_missing = answer["error"]["code"].as_u64() == Some(404);
            return Some(Self::End(if is_missing { AnswerEnd::NotFound } else { AnswerEnd::Unavailable }));
        }
        let stored = &answer["message"];
        let bytes = |name: &str| match stored[name].as_str() {
            Some(text) => BASE64_STANDARD.decode(text).ok(),
            None => Some(Vec::new()),
        };
        let (subject, seq) = (stored["subject"].as_str()?, stored["seq"].as_u64()?);
        Some(Self::Message(ReadMessage {
            subject: subject.to_owned(),
            seq,
            time: stored["time"].as_str().and_then(|time| humantime::parse_rfc3339(time).ok()),
            message: Message::stored(subject, &bytes("hdrs")?, &bytes("data")?)?,
        }))
    }
}

/// What a node needs to know of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// When it was created, as text: another stream of the same name has another time.
    pub created: String,
    pub first_seq: u64,
    pub last_seq: u64,
    /// The most messages on one subject; 0 for no limit.
    pub max_per_subject: u64,
    pub replicas: u64,
    /// Whether any replica may answer direct gets.
    pub allows_direct: bool,
    /// Where it sends each stored message with its body, if it does.
    pub republishes_to: Option<String>,
}

/// Why JetStream does not tell the state of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoFacts {
    /// There is no such stream, or no JetStream.
    NoStream(String),
    /// It cannot tell now.
    NotNow(String),
}

impl StreamFacts {
    /// Reads the answer to a [`AnswerKind::State`]. `None` if it cannot be read.
    pub fn parse(payload: &[u8]) -> Option<Result<Self, NoFacts>> {
        let answer: Value = serde_json::from_slice(payload).ok()?;
        if let Some(ApiError { code, reason, .. }) = ApiError::of(&answer) {
            let is_final = code.is_some_and(|code| NO_STREAM.contains(&code));
            return Some(Err(if is_final { NoFacts::NoStream(reason) } else { NoFacts::NotNow(reason) }));
        }
        let (config, state) = (&answer["config"], &answer["state"]);
        Some(Ok(Self {
            created: answer["created"].as_str()?.to_owned(),
            first_seq: state["first_seq"].as_u64()?,
            last_seq: state["last_seq"].as_u64()?,
            max_per_subject: config["max_msgs_per_subject"].as_i64().map_or(0, |limit| limit.max(0) as u64),
            replicas: config["num_replicas"].as_u64().unwrap_or(1),
            allows_direct: config["allow_direct"].as_bool().unwrap_or(false),
            republishes_to: Some(&config["republish"])
                .filter(|republish| republish["headers_only"] != true)
                .and_then(|republish| Some(republish["dest"].as_str()?.to_owned())),
        }))
    }
}

/// Where a message is in its stream, as `RePublish` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Republished {
    pub seq: u64,
    /// The sequence of the message before it on the same subject; 0 if there is none.
    pub previous: u64,
    pub time: Option<SystemTime>,
}

impl Republished {
    /// Whether this stream has sent the message, and not another one that stores it too.
    pub fn is_from(message: &Message, stream: &str) -> bool {
        text(message, "Nats-Stream").is_some_and(|name| name == stream)
    }

    /// `None` if the message does not say it: no stream has sent it.
    pub fn of(message: &Message) -> Option<Self> {
        let seq = number(message, "Nats-Sequence").filter(|seq| *seq > 0)?;
        Some(Self { seq, previous: number(message, "Nats-Last-Sequence")?, time: time(message) })
    }
}

fn text<'m>(message: &'m Message, name: &str) -> Option<Cow<'m, str>> {
    message.header(name).ok().flatten()
}

fn number(message: &Message, name: &str) -> Option<u64> {
    text(message, name)?.parse().ok()
}

fn time(message: &Message) -> Option<SystemTime> {
    humantime::parse_rfc3339(&text(message, "Nats-Time-Stamp")?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn message(headers: &str, payload: &str) -> Message {
        let block = format!("NATS/1.0{headers}\r\n\r\n");
        Message::with_headers("_INBOX_tidegate.1", block.as_bytes(), payload.as_bytes())
    }

    #[test]
    fn a_message_of_a_direct_get_is_where_its_last_headers_say() {
        let headers = "\r\nNats-Sequence: 999\r\nNats-Subject: forged\r\nNats-Subject: prices.AAPL\r\nNats-Sequence: 7\r\n\
                       Nats-Time-Stamp: 2023-11-14T22:13:20.250000001Z\r\nNats-Num-Pending: 2";
        let part = DirectGetPart::of_direct_get(&message(headers, "190"));
        let Some(DirectGetPart::Message(read)) = part else { panic!("{part:?}") };
        assert_eq!(
            (read.subject.as_str(), read.seq, &*read.message.payload()),
            ("prices.AAPL", 7, &b"190"[..])
        );
        let time = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_250_000_001);
        assert_eq!(read.time, Some(time));
        assert!(DirectGetPart::of_direct_get(&message("\r\nNats-Sequence: 7", "")).is_none());
    }

    #[test]
    fn a_status_ends_an_answer() {
        for (headers, expected) in [
            (
                " 204 EOB\r\nNats-Num-Pending: 3\r\nNats-UpTo-Sequence: 12",
                AnswerEnd::Complete { up_to: Some(12), pending: 3 },
            ),
            (" 204 EOB", AnswerEnd::Complete { up_to: None, pending: 0 }),
            (" 404 Message Not Found", AnswerEnd::NotFound),
            (" 413 Too Many Results", AnswerEnd::TooMuch),
            (" 503", AnswerEnd::Unavailable),
        ] {
            let part = DirectGetPart::of_direct_get(&message(headers, ""));
            assert!(matches!(part, Some(DirectGetPart::End(end)) if end == expected), "{headers}: {part:?}");
        }
    }

    #[test]
    fn a_stored_message_that_begins_like_a_status_is_a_message() {
        let headers = " 204 x\r\nNats-UpTo-Sequence: 999999\r\nNats-Subject: prices.X\r\nNats-Sequence: 7";
        let part = DirectGetPart::of_direct_get(&message(headers, "190"));
        assert!(matches!(part, Some(DirectGetPart::Message(ReadMessage { seq: 7, .. }))), "{part:?}");
    }

    #[test]
    fn the_leader_answers_in_json() {
        let answer = r#"{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","message":{"subject":"a.b","seq":5,
            "hdrs":"TkFUUy8xLjANCmE6IDENCg0K","data":"MTkw","time":"2023-11-14T22:13:20.25Z"}}"#;
        let part = DirectGetPart::of_leader(answer.as_bytes());
        let Some(DirectGetPart::Message(read)) = part else { panic!("{part:?}") };
        assert_eq!((read.subject.as_str(), read.seq, &*read.message.payload()), ("a.b", 5, &b"190"[..]));
        assert_eq!(read.message.header("a").unwrap().as_deref(), Some("1"));
        let plain = r#"{"message":{"subject":"a.b","seq":5,"time":"2023-11-14T22:13:20.25Z"}}"#;
        let Some(DirectGetPart::Message(read)) = DirectGetPart::of_leader(plain.as_bytes()) else { panic!() };
        assert!(read.message.payload().is_empty() && !read.message.has_headers());
        let missing = r#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#;
        assert!(matches!(
            DirectGetPart::of_leader(missing.as_bytes()),
            Some(DirectGetPart::End(AnswerEnd::NotFound))
        ));
        let away = r#"{"error":{"code":503,"err_code":10008,"description":"unavailable"}}"#;
        assert!(matches!(
            DirectGetPart::of_leader(away.as_bytes()),
            Some(DirectGetPart::End(AnswerEnd::Unavailable))
        ));
        assert!(DirectGetPart::of_leader(b"{").is_none());
    }

    #[test]
    fn a_republished_message_says_what_was_before_it() {
        let of = |headers: &str| Republished::of(&message(headers, ""));
        let both = "\r\nNats-Sequence: 9\r\nNats-Last-Sequence: 4";
        assert_eq!(of(both), Some(Republished { seq: 9, previous: 4, time: None }));
        for without in [
            "",
            "\r\nNats-Sequence: 9",
            "\r\nNats-Last-Sequence: 4",
            "\r\nNats-Sequence: 0\r\nNats-Last-Sequence: 0",
        ] {
            assert_eq!(of(without), None, "{without}");
        }
    }

    #[test]
    fn the_facts_of_a_stream() {
        let answer =
            br#"{"config":{"name":"PRICES","max_msgs_per_subject":200,"num_replicas":3,"allow_direct":true,
            "republish":{"src":">","dest":"_live.>"}},"created":"2026-11-01T10:00:00.123Z",
            "state":{"messages":3,"first_seq":2,"last_seq":9}}"#;
        let facts = StreamFacts::parse(answer).unwrap().unwrap();
        let expected = StreamFacts {
            created: "2026-11-01T10:00:00.123Z".to_owned(),
            first_seq: 2,
            last_seq: 9,
            max_per_subject: 200,
            replicas: 3,
            allows_direct: true,
            republishes_to: Some("_live.>".to_owned()),
        };
        assert_eq!(facts, expected);
        let missing = br#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;
        assert_eq!(StreamFacts::parse(missing), Some(Err(NoFacts::NoStream("stream not found".to_owned()))));
        let away = br#"{"error":{"code":503,"err_code":10008,"description":"unavailable"}}"#;
        assert_eq!(StreamFacts::parse(away), Some(Err(NoFacts::NotNow("unavailable".to_owned()))));
        assert_eq!(StreamFacts::parse(b"{}"), None);
    }
}
