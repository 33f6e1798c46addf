//! `Produced`: when a message was produced, and in which trace, as its headers say. It is read of few messages, as a sample.

use std::time::SystemTime;

use humantime::parse_rfc3339;
use tidegate_protocol::trace_context::TRACEPARENT;
use tidegate_protocol::trace_context::TraceParent;

use crate::nats::message::Message;

/// The headers with the time, in the order in which they count: of `CloudEvents` in binary mode, and of messages that
/// JetStream republishes.
const TIMES: [&str; 2] = ["ce-time", "Nats-Time-Stamp"];

/// One message in this many is a sample.
const SAMPLE_EVERY: u32 = 16;

/// Chooses one message in 16.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sampler {
    left: u32,
}

impl Sampler {
    /// Whether this message is a sample.
    #[inline]
    pub fn is_sample(&mut self) -> bool {
        let is_sample = self.left == 0;
        self.left = if is_sample { SAMPLE_EVERY - 1 } else { self.left - 1 };
        is_sample
    }
}

/// When a message was produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub at: SystemTime,
    /// The id of its trace (W3C Trace Context), if it has one.
    pub trace: Option<u128>,
}

impl Produced {
    /// `None` if its headers do not say when.
    pub fn of(message: &Message) -> Option<Self> {
        if !message.has_headers() {
            return None;
        }
        let text = |name: &str| message.header(name).ok().flatten();
        let at = TIMES.into_iter().find_map(|name| parse_rfc3339(&text(name)?).ok())?;
        let trace = text(TRACEPARENT).as_deref().and_then(TraceParent::parse);
        Some(Self { at, trace: trace.map(|parent| parent.trace_id) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn of(headers: &str) -> Option<Produced> {
        let block = format!("NATS/1.0\r\n{headers}\r\n");
        Produced::of(&Message::with_headers("a.b", block.as_bytes(), b"payload"))
    }

    #[test]
    fn the_time_is_in_one_of_two_headers() {
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        for headers in [
            "ce-time: 2023-11-14T22:13:20.250Z\r\n",
            "Nats-Time-Stamp: 2023-11-14T22:13:20.250000000Z\r\n",
            "nats-time-stamp: 2020-01-01T00:00:00Z\r\nCE-Time: 2023-11-14T22:13:20.25Z\r\n",
        ] {
            assert_eq!(of(headers), Some(Produced { at, trace: None }), "{headers}");
        }
        for headers in ["", "a: b\r\n", "ce-time: yesterday\r\n", "ce-time: \r\n"] {
            assert_eq!(of(headers), None, "{headers}");
        }
        assert_eq!(Produced::of(&Message::with_headers("a.b", b"", b"payload")), None);
    }

    #[test]
    fn the_trace_is_that_of_traceparent() {
        let trace = |value: &str| {
            of(&format!("ce-time: 2023-11-14T22:13:20Z\r\ntraceparent: {value}\r\n")).unwrap().trace
        };
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace(valid), Some(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736));
        assert_eq!(trace("00-4bf92f3577b34da6a3ce929d0e0e4736"), None);
    }
}
