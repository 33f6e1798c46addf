//! Trace contexts: which trace a message belongs to, as W3C Trace Context writes it in `traceparent` and `tracestate`.
//! Everything here is text: no ids are drawn, and no spans are kept.

use std::fmt;

/// The names of the two headers, as NATS gets them.
pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";

/// The longest `tracestate` that is passed on, in bytes. W3C Trace Context §3.3.1.5 asks for at least 512.
const MAX_STATE_BYTES: usize = 512;
/// The length of a `traceparent` of version 00, in bytes.
const LEN: usize = 55;
/// The flags that have a meaning: sampled, and random trace id (Trace Context Level 2). §3.2.2.5: all others are sent as 0.
const KNOWN_FLAGS: u8 = SAMPLED | 2;
const SAMPLED: u8 = 1;

/// The content of a `traceparent`: the span that sent a message, and its trace. `Display` writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceParent {
    /// Never 0.
    pub trace_id: u128,
    /// The span of the sender. Never 0.
    pub span_id: u64,
    flags: u8,
}

impl TraceParent {
    /// A span of a trace that is recorded.
    pub fn sampled(trace_id: u128, span_id: u64) -> Self {
        Self { trace_id, span_id, flags: SAMPLED }
    }

    /// Another span of the same trace.
    pub fn with_span(self, span_id: u64) -> Self {
        Self { span_id, ..self }
    }

    /// Reads the value of `traceparent` (W3C Trace Context §3.2.2). `None` if it is malformed: it then counts as absent.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t']);
        let (known, rest) = text.split_at_checked(LEN)?;
        let mut parts = known.split('-');
        let version: u8 = hex(parts.next()?, 2)?.try_into().ok()?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = hex(parts.next()?, 16)?.try_into().ok()?;
        let flags: u8 = hex(parts.next()?, 2)?.try_into().ok()?;
        // §3.2.2.1: version ff is forbidden. §3.2.4: later versions may have more parts behind these.
        let is_version = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let is_valid = is_version && parts.next().is_none() && trace_id != 0 && span_id != 0;
        is_valid.then_some(Self { trace_id, span_id, flags: flags & KNOWN_FLAGS })
    }

    /// The id of the trace, as logs and tracing systems write it.
    pub fn trace_id_text(self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// Whether the sender records the trace.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// §3.2.4: a sender writes the version that it knows, whatever it has read.
impl fmt::Display for TraceParent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, flags } = self;
        write!(formatter, "00-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    }
}

/// Parses a number of exactly `digits` lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == digits && text.bytes().all(is_digit))
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

/// The trace of a message, with what tracing systems have added to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceContext {
    pub parent: TraceParent,
    /// The value of `tracestate`, which is passed on unchanged.
    pub state: Option<Box<str>>,
}

impl TraceContext {
    /// Reads the values of both headers. `None` without a valid `traceparent`. §3.3: a `tracestate` that is too long, or
    /// not printable ASCII, is left out.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let is_printable = |byte: u8| (0x20..0x7f).contains(&byte);
        let is_fit = |state: &&str| {
            !state.is_empty() && state.len() <= MAX_STATE_BYTES && state.bytes().all(is_printable)
        };
        let state = tracestate.map(str::trim).filter(is_fit).map(Box::from);
        Some(Self { parent: TraceParent::parse(traceparent)?, state })
    }

    /// The context in these headers, whose names are [`TRACEPARENT`] and [`TRACESTATE`].
    pub fn of(headers: &[(String, String)]) -> Option<Self> {
        let value = |name| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        Self::parse(value(TRACEPARENT)?, value(TRACESTATE))
    }

    /// Replaces the context in these headers. Without one, they have neither header afterwards.
    pub fn replace(context: Option<&Self>, headers: &mut Vec<(String, String)>) {
        headers.retain(|(name, _)| name != TRACEPARENT && name != TRACESTATE);
        let Some(Self { parent, state }) = context else { return };
        headers.push((TRACEPARENT.to_owned(), parent.to_string()));
        headers.extend(state.as_ref().map(|state| (TRACESTATE.to_owned(), String::from(&**state))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn text(version: &str, trace: &str, span: &str, flags: &str) -> String {
        format!("{version}-{trace}-{span}-{flags}")
    }

    /// W3C Trace Context §3.2.2 and §3.2.4, with the cases of its test suite.
    #[test]
    fn a_traceparent_is_what_w3c_trace_context_says() {
        let zeros = "0".repeat(32);
        let upper = TRACE.to_ascii_uppercase();
        for (value, expected) in [
            // Version 00 has exactly these parts.
            (text("00", TRACE, SPAN, "01"), Some("01")),
            (text("00", TRACE, SPAN, "00"), Some("00")),
            (text("00", TRACE, SPAN, "03"), Some("03")),
            (text("00", TRACE, SPAN, "01") + ".", None),
            (text("00", TRACE, SPAN, "01") + "-", None),
            (text("00", TRACE, SPAN, "01") + "-what-the-future-will-be-like", None),
            // Later versions may have more.
            (text("cc", TRACE, SPAN, "01"), Some("01")),
            (text("cc", TRACE, SPAN, "01") + "-what-the-future-will-be-like", Some("01")),
            (text("cc", TRACE, SPAN, "01") + "-", Some("01")),
            (text("cc", TRACE, SPAN, "01") + ".what-the-future-will-be-like", None),
            (text("fe", TRACE, SPAN, "01"), Some("01")),
            (text("ff", TRACE, SPAN, "01"), None),
            // The version, the ids and the flags have a fixed length, and lower-case hexadecimal digits only.
            (text(".0", TRACE, SPAN, "01"), None),
            (text("0.", TRACE, SPAN, "01"), None),
            (text("000", TRACE, SPAN, "01"), None),
            (text("0", TRACE, SPAN, "01"), None),
            (text("+0", TRACE, SPAN, "01"), None),
            (text("00", &zeros, SPAN, "01"), None),
            (text("00", &upper, SPAN, "01"), None),
            (text("00", &TRACE.replace('4', "."), SPAN, "01"), None),
            (text("00", &TRACE.replace('4', "g"), SPAN, "01"), None),
            (text("00", &format!("+{}", &TRACE[1..]), SPAN, "01"), None),
            (text("00", &format!("{TRACE}0"), SPAN, "01"), None),
            (text("00", &TRACE[1..], SPAN, "01"), None),
            (text("00", TRACE, "0000000000000000", "01"), None),
            (text("00", TRACE, "00F067AA0BA902B7", "01"), None),
            (text("00", TRACE, &format!("{SPAN}0"), "01"), None),
            (text("00", TRACE, &SPAN[1..], "01"), None),
            (text("00", TRACE, SPAN, "0."), None),
            (text("00", TRACE, SPAN, ".0"), None),
            (text("00", TRACE, SPAN, "0A"), None),
            (text("00", TRACE, SPAN, "1"), None),
            (text("00", TRACE, SPAN, "001"), None),
            // Flags without a meaning are not sent on.
            (text("00", TRACE, SPAN, "ff"), Some("03")),
            (text("00", TRACE, SPAN, "fc"), Some("00")),
            // White space around a header's value is not a part of it; other separators are mistakes.
            (format!(" \t{} \t", text("00", TRACE, SPAN, "01")), Some("01")),
            (text("00", TRACE, SPAN, "01").replace('-', "_"), None),
            (format!("00{TRACE}{SPAN}01"), None),
            ("00-1".to_owned(), None),
            (String::new(), None),
            ("\u{e9}".repeat(55), None),
        ] {
            let parsed = TraceParent::parse(&value);
            let written = expected.map(|flags| text("00", TRACE, SPAN, flags));
            assert_eq!(parsed.map(|parent| parent.to_string()), written, "{value}");
            assert_eq!(
                parsed.is_some_and(TraceParent::is_sampled),
                expected.is_some_and(|flags| flags.ends_with(['1', '3'])),
                "{value}"
            );
        }
    }

    /// W3C Trace Context §3.3: `tracestate` depends on `traceparent`, and not the other way round.
    #[test]
    fn a_tracestate_is_kept_as_it_is_if_it_fits() {
        let parent = text("00", TRACE, SPAN, "01");
        let longest = "a".repeat(MAX_STATE_BYTES);
        for (state, expected) in [
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")),
            (" a=1 , b=2\t", Some("a=1 , b=2")),
            (&longest, Some(&*longest)),
            (&format!("{longest}a"), None),
            ("a=\u{e9}", None),
            ("a=1\r\nNats-Rollup: all", None),
            ("a=1\tb", None),
            (" ", None),
            ("", None),
        ] {
            let context = TraceContext::parse(&parent, Some(state)).unwrap();
            assert_eq!(context.state.as_deref(), expected, "{state}");
        }
        assert_eq!(TraceContext::parse("00-1", Some("a=1")), None);
    }

    #[test]
    fn headers_have_a_context_as_a_whole_or_not_at_all() {
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let parent = text("00", TRACE, SPAN, "01");
        let mut headers = own(&[(TRACESTATE, "a=1"), ("Tidegate-Key", "k"), (TRACEPARENT, &parent)]);
        let context = TraceContext::of(&headers).unwrap();
        let next = TraceContext { parent: context.parent.with_span(0x10), ..context };
        TraceContext::replace(Some(&next), &mut headers);
        let written = text("00", TRACE, "0000000000000010", "01");
        assert_eq!(headers, own(&[("Tidegate-Key", "k"), (TRACEPARENT, &written), (TRACESTATE, "a=1")]));
        TraceContext::replace(None, &mut headers);
        assert_eq!(headers, own(&[("Tidegate-Key", "k")]));
        assert_eq!(TraceContext::of(&own(&[(TRACESTATE, "a=1")])), None);
        assert_eq!(TraceContext::of(&own(&[(TRACEPARENT, "00-1"), (TRACESTATE, "a=1")])), None);
    }
}
