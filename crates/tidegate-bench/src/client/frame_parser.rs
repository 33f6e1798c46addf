//! Interprets the WebSocket frames that a client receives, and turns them into events.

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use crate::client::dialect::Dialect;
use crate::payload;
use crate::wire;
use crate::wire::Frame;
use crate::wire::NatsOp;
use crate::wire::NatsParser;

/// The phases of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not connected, or closed.
    Ended,
    /// Connecting, or waiting for the upgrade response.
    Upgrading,
    /// Waiting for this number of replies.
    Subscribing { replies_left: usize },
    /// All subscriptions are confirmed.
    Live,
}

/// Something that a client received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvent<'a> {
    /// All subscriptions are confirmed. `after` counts from the start of the connection attempt.
    Live { after: Duration },
    /// The publication with this number.
    Publication(u64),
    /// A compressed publication, still deflated.
    Compressed(&'a [u8]),
    /// Publications are missing: the cause, and how many, if the server knows.
    Gap { cause: &'a str, dropped: Option<u64> },
    /// The reply to a command.
    Reply,
    /// The server rejected the handshake with 503.
    Rejected,
    /// The connection ended, for this reason.
    Ended(&'a str),
}

/// Interprets the frames of one client.
#[derive(Debug)]
pub struct FrameParser {
    pub phase: Phase,
    /// Number of ping frames.
    pub pings: u64,
    dialect: Dialect,
    nats_parser: NatsParser,
    /// The offset of the payload in a message. It is the same in all messages to one client.
    payload_at: usize,
    /// The bytes from `payload_at` to the publication number.
    prefix: &'static [u8],
}

impl FrameParser {
    pub fn new(dialect: Dialect) -> Self {
        Self {
            phase: Phase::Ended,
            pings: 0,
            dialect,
            nats_parser: NatsParser::default(),
            payload_at: 0,
            prefix: payload::MARK,
        }
    }

    /// Interprets one frame: calls `on_event` for each event, and appends replies, such as pongs, to `out`.
    pub fn frame(
        &mut self,
        frame: Frame<'_>,
        since: Instant,
        out: &mut Vec<u8>,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) {
        match frame.opcode() {
            0x8 => {
                self.phase = Phase::Ended;
                let code = frame.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                on_event(ClientEvent::Ended(&format!("the server closed the connection with code {code}")));
            }
            0x9 => {
                self.pings += 1;
                wire::put_masked(0x8a, frame.payload, out);
            }
            0xa => {}
            _ if frame.is_compressed() => on_event(ClientEvent::Compressed(frame.payload)),
            _ if self.dialect == Dialect::Nats => self.nats(frame.payload, since, out, on_event),
            _ if self.dialect == Dialect::Centrifugo => {
                for message in frame.payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    self.text(message, since, out, on_event);
                }
            }
            _ => self.text(frame.payload, since, out, on_event),
        }
    }

    /// Interprets one text message.
    fn text(
        &mut self,
        text: &[u8],
        since: Instant,
        out: &mut Vec<u8>,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) {
        let number = |at: usize, prefix: &[u8]| payload::digits(text.get(at..)?, prefix);
        if let Some(number) = number(self.payload_at, self.prefix) {
            return on_event(ClientEvent::Publication(number));
        }
        let alone = || payload::find_alone(text).filter(|_| self.dialect == Dialect::Vocabulary);
        let found = payload::find(text).map(|at| (at, payload::MARK));
        if let Some((at, prefix)) = found.or_else(|| Some((alone()?, payload::QUOTE)))
            && let Some(number) = number(at, prefix)
        {
            (self.payload_at, self.prefix) = (at, prefix);
            return on_event(ClientEvent::Publication(number));
        }
        let Ok(message) = serde_json::from_slice::<Value>(text) else {
            return on_event(ClientEvent::Ended("received a message that is not JSON"));
        };
        if self.dialect == Dialect::Centrifugo {
            return self.centrifugo(&message, since, out, on_event);
        }
        match message["type"].as_str().unwrap_or_default() {
            "connected" | "subscribed" | "unsubscribed" => self.on_reply(since, on_event),
            "gap" => on_event(ClientEvent::Gap {
                cause: message["cause"].as_str().unwrap_or_default(),
                dropped: message["dropped"].as_u64(),
            }),
            "ping" => wire::put_masked(0x81, br#"{"type":"pong"}"#, out),
            "error" => {
                self.phase = Phase::Ended;
                on_event(ClientEvent::Ended(&message.to_string()));
            }
            _ => {}
        }
    }

    /// Interprets a message of Centrifugo that is no publication.
    fn centrifugo(
        &mut self,
        message: &Value,
        since: Instant,
        out: &mut Vec<u8>,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) {
        let has = |key: &str| message.get(key).is_some();
        if message.as_object().is_some_and(|message| message.is_empty()) {
            self.pings += 1;
            wire::put_masked(0x81, b"{}", out);
        } else if has("error") || message["push"].get("disconnect").is_some() {
            self.phase = Phase::Ended;
            on_event(ClientEvent::Ended(&message.to_string()));
        } else if has("id") {
            self.on_reply(since, on_event);
        }
    }

    fn nats(
        &mut self,
        bytes: &[u8],
        since: Instant,
        out: &mut Vec<u8>,
        on_event: &mut impl FnMut(ClientEvent<'_>),
    ) {
        let mut nats_parser = std::mem::take(&mut self.nats_parser);
        nats_parser.parse(bytes, |op| match op {
            NatsOp::Message(body) => match payload::number(body) {
                Some(number) => on_event(ClientEvent::Publication(number)),
                None => on_event(ClientEvent::Ended("received a message without a publication number")),
            },
            NatsOp::Ping => wire::put_masked(0x82, b"PONG\r\n", out),
            NatsOp::Pong => self.on_reply(since, on_event),
            NatsOp::Error(reason) => {
                self.phase = Phase::Ended;
                on_event(ClientEvent::Ended(&String::from_utf8_lossy(reason)));
            }
        });
        self.nats_parser = nats_parser;
    }

    fn on_reply(&mut self, since: Instant, on_event: &mut impl FnMut(ClientEvent<'_>)) {
        match self.phase {
            Phase::Subscribing { replies_left: 1 } => {
                self.phase = Phase::Live;
                on_event(ClientEvent::Live { after: since.elapsed() });
            }
            Phase::Subscribing { replies_left } => {
                self.phase = Phase::Subscribing { replies_left: replies_left - 1 }
            }
            Phase::Live => on_event(ClientEvent::Reply),
            Phase::Ended | Phase::Upgrading => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses frames. Returns the events, the replies, and the phase after them.
    fn events(dialect: Dialect, phase: Phase, frames: &[(u8, &[u8])]) -> (Vec<String>, Vec<u8>, Phase) {
        let (mut parser, mut out, mut all) = (FrameParser::new(dialect), Vec::new(), Vec::new());
        parser.phase = phase;
        for (first, payload) in frames {
            let frame = Frame { first: *first, payload };
            parser.frame(frame, Instant::now(), &mut out, &mut |event| {
                let live = matches!(event, ClientEvent::Live { .. });
                all.push(if live { "live".to_owned() } else { format!("{event:?}") });
            });
        }
        (all, out, parser.phase)
    }

    #[test]
    fn messages_of_the_native_protocol_become_events() {
        let frames: [(u8, &[u8]); 7] = [
            (0x81, br#"{"type":"connected"}"#),
            (0x81, br#"{"type":"subscribed","id":0}"#),
            (0x81, br#"{"type":"message","channel":"a","data":{"n":"0000000007"}}"#),
            (0x81, br#"{"type":"message","channel":"a","data":{"n":"0000000008"}}"#),
            (0x81, br#"{"type":"gap","cause":"slow","dropped":3}"#),
            (0xc1, b"?"),
            (0x81, br#"{"type":"ping"}"#),
        ];
        let (all, out, phase) = events(Dialect::Native, Phase::Subscribing { replies_left: 2 }, &frames);
        let gap = r#"Gap { cause: "slow", dropped: Some(3) }"#;
        assert_eq!(all, ["live", "Publication(7)", "Publication(8)", gap, "Compressed([63])"]);
        assert!(out.ends_with(br#"{"type":"pong"}"#));
        assert_eq!(phase, Phase::Live);
    }

    #[test]
    fn messages_of_nats_server_become_events() {
        let frames: [(u8, &[u8]); 3] = [
            (0x82, b"INFO {}\r\nPONG\r\nPING\r\nMSG a 1 18\r\n{\"n\":\"00"),
            (0x82, b"00000005\"}\r\nMSG a 1 18\r\n{\"n\":\"0000000006\"}\r\n"),
            (0x89, b"x"),
        ];
        let (all, out, _) = events(Dialect::Nats, Phase::Subscribing { replies_left: 1 }, &frames);
        assert_eq!(all, ["live", "Publication(5)", "Publication(6)"]);
        let mut answers = Vec::new();
        wire::put_masked(0x82, b"PONG\r\n", &mut answers);
        wire::put_masked(0x8a, b"x", &mut answers);
        assert_eq!(out, answers);
    }

    #[test]
    fn messages_of_centrifugo_become_events_although_a_frame_has_several() {
        let two = br#"{"push":{"channel":"a","pub":{"data":{"n":"0000000007"}}}}
{"push":{"channel":"a","pub":{"data":{"n":"0000000008"}}}}"#;
        let frames: [(u8, &[u8]); 4] = [
            (0x81, b"{\"id\":1,\"connect\":{\"ping\":25,\"pong\":true}}\n{\"id\":2,\"subscribe\":{}}"),
            (0x81, two),
            (0x81, b"{}"),
            (0x81, br#"{"id":3,"error":{"code":103,"message":"permission denied"}}"#),
        ];
        let subscribing = Phase::Subscribing { replies_left: 2 };
        let (all, out, phase) = events(Dialect::Centrifugo, subscribing, &frames);
        assert_eq!(all[..3], ["live", "Publication(7)", "Publication(8)"]);
        assert!(all[3].contains("permission denied") && phase == Phase::Ended, "{all:?}");
        let mut answer = Vec::new();
        wire::put_masked(0x81, b"{}", &mut answer);
        assert_eq!(out, answer);
    }

    #[test]
    fn ping_frames_are_answered_and_counted() {
        let (mut parser, mut out) = (FrameParser::new(Dialect::Native), Vec::new());
        for frame in [(0x89, &b"a"[..]), (0x8a, b"a"), (0x81, br#"{"type":"ping"}"#), (0x89, b"b")] {
            let frame = Frame { first: frame.0, payload: frame.1 };
            parser.frame(frame, Instant::now(), &mut out, &mut |_| {});
        }
        let mut answers = Vec::new();
        wire::put_masked(0x8a, b"a", &mut answers);
        wire::put_masked(0x81, br#"{"type":"pong"}"#, &mut answers);
        wire::put_masked(0x8a, b"b", &mut answers);
        assert_eq!((parser.pings, out), (2, answers));
    }

    #[test]
    fn an_error_and_a_close_end_the_connection() {
        let refused = br#"{"code":"forbidden","type":"error"}"#;
        let (all, _, phase) = events(Dialect::Native, Phase::Live, &[(0x81, refused)]);
        assert_eq!((all.len(), phase), (1, Phase::Ended));
        assert!(all[0].contains("forbidden"), "{all:?}");
        let (all, _, phase) = events(Dialect::Nats, Phase::Live, &[(0x82, b"-ERR 'Stale Connection'\r\n")]);
        assert_eq!((all, phase), (vec!["Ended(\"-ERR 'Stale Connection'\")".to_owned()], Phase::Ended));
        let (all, _, _) = events(Dialect::Native, Phase::Live, &[(0x88, &[0x0f, 0xa2])]);
        assert_eq!(all, ["Ended(\"the server closed the connection with code 4002\")"]);
    }

    #[test]
    fn a_number_in_a_field_of_its_own_is_read_with_a_vocabulary_only() {
        let frames: [(u8, &[u8]); 3] = [
            (0x81, br#"{"type":"connected"}"#),
            (0x81, br#"{"symbol":"S00001","bid":1.5,"seq":"0000000007"}"#),
            (0x81, br#"{"symbol":"S00002","bid":1.25,"seq":"0000000008"}"#),
        ];
        let (all, ..) = events(Dialect::Vocabulary, Phase::Subscribing { replies_left: 1 }, &frames);
        assert_eq!(all, ["live", "Publication(7)", "Publication(8)"]);
        let (all, ..) = events(Dialect::Native, Phase::Live, &frames[1..]);
        assert_eq!(all, [""; 0], "only clients with a vocabulary look for such a field");
    }

    #[test]
    fn a_reply_to_a_live_client_is_an_event() {
        let (all, ..) = events(Dialect::Native, Phase::Live, &[(0x81, br#"{"type":"unsubscribed"}"#)]);
        assert_eq!(all, ["Reply"]);
    }
}
