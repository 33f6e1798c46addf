//! What a client understands of the frames that it reads.

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use crate::client::dialect::Dialect;
use crate::payload;
use crate::wire;
use crate::wire::Frame;
use crate::wire::Protocol;
use crate::wire::Said;

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not connected.
    Ended,
    /// Waits for the answer to its request.
    Upgrading,
    /// Waits for so many answers more.
    Subscribing { left: usize },
    /// Has what it wanted.
    Live,
}

/// What a client hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// It has all its subscriptions, so long after it began to connect.
    Live { after: Duration },
    /// The publication of this number.
    Publication(u64),
    /// A publication whose number only inflating tells.
    Compressed(&'a [u8]),
    /// Publications are missing here: why, and how many if that is known.
    Gap { cause: &'a str, dropped: Option<u64> },
    /// The answer to a command.
    Answered,
    /// The server asks it to come later.
    Refused,
    /// This is the end, and why.
    Ended(&'a str),
}

/// The part of a client that listens.
#[derive(Debug)]
pub struct Ear {
    pub phase: Phase,
    dialect: Dialect,
    protocol: Protocol,
    /// Where in a message the payload begins. It is the same in all messages of one client.
    payload_at: usize,
    /// The bytes from `payload_at` to the publication number.
    mark: &'static [u8],
}

impl Ear {
    /// One that has heard nothing.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            phase: Phase::Ended,
            dialect,
            protocol: Protocol::default(),
            payload_at: 0,
            mark: payload::MARK,
        }
    }

    /// Understands one frame. What is to be answered goes to `out`.
    pub fn frame(
        &mut self,
        frame: Frame<'_>,
        since: Instant,
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) {
        match frame.opcode() {
            0x8 => {
                self.phase = Phase::Ended;
                let code = frame.payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                hear(Heard::Ended(&format!("the server closes with {code}")));
            }
            0x9 => wire::put_masked(0x8a, frame.payload, out),
            0xa => {}
            _ if frame.is_compressed() => hear(Heard::Compressed(frame.payload)),
            _ if self.dialect == Dialect::Nats => self.nats(frame.payload, since, out, hear),
            _ => self.text(frame.payload, since, out, hear),
        }
    }

    fn text(&mut self, text: &[u8], since: Instant, out: &mut Vec<u8>, hear: &mut impl FnMut(Heard<'_>)) {
        let number = |at: usize, mark: &[u8]| payload::digits(text.get(at..)?, mark);
        if let Some(number) = number(self.payload_at, self.mark) {
            return hear(Heard::Publication(number));
        }
        let alone = || payload::find_alone(text).filter(|_| self.dialect == Dialect::Added);
        let found = payload::find(text).map(|at| (at, payload::MARK));
        if let Some((at, mark)) = found.or_else(|| Some((alone()?, payload::QUOTE)))
            && let Some(number) = number(at, mark)
        {
            (self.payload_at, self.mark) = (at, mark);
            return hear(Heard::Publication(number));
        }
        let Ok(message) = serde_json::from_slice::<Value>(text) else {
            return hear(Heard::Ended("it hears what is no JSON"));
        };
        match message["type"].as_str().unwrap_or_default() {
            "connected" | "subscribed" | "unsubscribed" => self.answered(since, hear),
            "gap" => hear(Heard::Gap {
                cause: message["cause"].as_str().unwrap_or_default(),
                dropped: message["dropped"].as_u64(),
            }),
            "ping" => wire::put_masked(0x81, br#"{"type":"pong"}"#, out),
            "error" => {
                self.phase = Phase::Ended;
                hear(Heard::Ended(&message.to_string()));
            }
            _ => {}
        }
    }

    fn nats(&mut self, bytes: &[u8], since: Instant, out: &mut Vec<u8>, hear: &mut impl FnMut(Heard<'_>)) {
        let mut protocol = std::mem::take(&mut self.protocol);
        protocol.walk(bytes, |said| match said {
            Said::Message(body) => match payload::number(body) {
                Some(number) => hear(Heard::Publication(number)),
                None => hear(Heard::Ended("it hears a message of somebody else")),
            },
            Said::Ping => wire::put_masked(0x82, b"PONG\r\n", out),
            Said::Pong => self.answered(since, hear),
            Said::Error(reason) => {
                self.phase = Phase::Ended;
                hear(Heard::Ended(&String::from_utf8_lossy(reason)));
            }
        });
        self.protocol = protocol;
    }

    fn answered(&mut self, since: Instant, hear: &mut impl FnMut(Heard<'_>)) {
        match self.phase {
            Phase::Subscribing { left: 1 } => {
                self.phase = Phase::Live;
                hear(Heard::Live { after: since.elapsed() });
            }
            Phase::Subscribing { left } => self.phase = Phase::Subscribing { left: left - 1 },
            Phase::Live => hear(Heard::Answered),
            Phase::Ended | Phase::Upgrading => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client hears of some frames, what it answers, and how far it then is.
    fn heard(dialect: Dialect, phase: Phase, frames: &[(u8, &[u8])]) -> (Vec<String>, Vec<u8>, Phase) {
        let (mut ear, mut out, mut all) = (Ear::new(dialect), Vec::new(), Vec::new());
        ear.phase = phase;
        for (first, payload) in frames {
            let frame = Frame { first: *first, payload };
            ear.frame(frame, Instant::now(), &mut out, &mut |heard| {
                let live = matches!(heard, Heard::Live { .. });
                all.push(if live { "live".to_owned() } else { format!("{heard:?}") });
            });
        }
        (all, out, ear.phase)
    }

    #[test]
    fn a_client_of_tidegate_understands_it() {
        let frames: [(u8, &[u8]); 7] = [
            (0x81, br#"{"type":"connected"}"#),
            (0x81, br#"{"type":"subscribed","id":0}"#),
            (0x81, br#"{"type":"message","channel":"a","data":{"n":"0000000007"}}"#),
            (0x81, br#"{"type":"message","channel":"a","data":{"n":"0000000008"}}"#),
            (0x81, br#"{"type":"gap","cause":"slow","dropped":3}"#),
            (0xc1, b"?"),
            (0x81, br#"{"type":"ping"}"#),
        ];
        let (all, out, phase) = heard(Dialect::Tidegate, Phase::Subscribing { left: 2 }, &frames);
        let gap = r#"Gap { cause: "slow", dropped: Some(3) }"#;
        assert_eq!(all, ["live", "Publication(7)", "Publication(8)", gap, "Compressed([63])"]);
        assert!(out.ends_with(br#"{"type":"pong"}"#));
        assert_eq!(phase, Phase::Live);
    }

    #[test]
    fn a_client_of_nats_server_understands_it() {
        let frames: [(u8, &[u8]); 3] = [
            (0x82, b"INFO {}\r\nPONG\r\nPING\r\nMSG a 1 18\r\n{\"n\":\"00"),
            (0x82, b"00000005\"}\r\nMSG a 1 18\r\n{\"n\":\"0000000006\"}\r\n"),
            (0x89, b"x"),
        ];
        let (all, out, _) = heard(Dialect::Nats, Phase::Subscribing { left: 1 }, &frames);
        assert_eq!(all, ["live", "Publication(5)", "Publication(6)"]);
        let mut answers = Vec::new();
        wire::put_masked(0x82, b"PONG\r\n", &mut answers);
        wire::put_masked(0x8a, b"x", &mut answers);
        assert_eq!(out, answers);
    }

    #[test]
    fn an_error_and_a_close_are_the_end() {
        let refused = br#"{"code":"forbidden","type":"error"}"#;
        let (all, _, phase) = heard(Dialect::Tidegate, Phase::Live, &[(0x81, refused)]);
        assert_eq!((all.len(), phase), (1, Phase::Ended));
        assert!(all[0].contains("forbidden"), "{all:?}");
        let (all, _, phase) = heard(Dialect::Nats, Phase::Live, &[(0x82, b"-ERR 'Stale Connection'\r\n")]);
        assert_eq!((all, phase), (vec!["Ended(\"-ERR 'Stale Connection'\")".to_owned()], Phase::Ended));
        let (all, _, _) = heard(Dialect::Tidegate, Phase::Live, &[(0x88, &[0x0f, 0xa2])]);
        assert_eq!(all, ["Ended(\"the server closes with 4002\")"]);
    }

    #[test]
    fn fields_alone_are_a_publication_where_a_file_describes_messages() {
        let frames: [(u8, &[u8]); 3] = [
            (0x81, br#"{"type":"connected"}"#),
            (0x81, br#"{"symbol":"S00001","bid":1.5,"seq":"0000000007"}"#),
            (0x81, br#"{"symbol":"S00002","bid":1.25,"seq":"0000000008"}"#),
        ];
        let (all, ..) = heard(Dialect::Added, Phase::Subscribing { left: 1 }, &frames);
        assert_eq!(all, ["live", "Publication(7)", "Publication(8)"]);
        let (all, ..) = heard(Dialect::Tidegate, Phase::Live, &frames[1..]);
        assert_eq!(all, [""; 0], "only clients of an added vocabulary read fields");
    }

    #[test]
    fn an_answer_to_a_live_client_is_heard() {
        let (all, ..) = heard(Dialect::Tidegate, Phase::Live, &[(0x81, br#"{"type":"unsubscribed"}"#)]);
        assert_eq!(all, ["Answered"]);
    }
}
