//! Tests with tables of valid and invalid frames, cut at every byte.

use proptest::array::uniform4;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::sample::select;

use super::*;

mod deflated;

const CONTINUE: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const LIMITS: AssemblerLimits = limits(65_536, 256);

/// The memory of an unfinished message apart from its payload, in bytes.
const SMALL: usize = 512;

/// The events, and how it ended: whether a message is unfinished, or the violation.
#[derive(Debug, PartialEq)]
struct Received(Vec<Event>, Result<bool, Violation>);

#[test]
fn an_idle_assembler_is_one_pointer_and_gives_its_memory_back() {
    assert_eq!(size_of::<Assembler>(), size_of::<usize>());
    let mut assembler = Assembler::new();
    for byte in frames("text+to ping.still-there? more.gether") {
        assert!(heap_bytes(&assembler) <= SMALL);
        feed(&mut assembler, &[byte], LIMITS).unwrap();
    }
    assert_eq!(heap_bytes(&assembler), 0);
}

/// RFC 6455 §5.2: a length has 7, 16 or 64 bits.
#[test]
fn whole_messages_with_lengths_of_each_size() {
    for len in [0, 1, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 70_000] {
        let (words, limits) = ("x".repeat(len), limits(70_000, 1));
        let received = Received(vec![text(&words), binary(words.as_bytes())], Ok(false));
        let sent = frames(&format!("text.{words} data.{words}"));
        assert_eq!(receive(&sent, limits), received);
    }
}

#[test]
fn hs_06_frames_in_one_read_are_all_received() {
    let mut read = [b"GET", &frames("text.one ping.2 data.three")[..]].concat();
    let (mut assembler, mut at) = (Assembler::new(), 3);
    let mut next = || assembler.next_event(&mut read, &mut at, LIMITS, None).unwrap();
    assert_eq!(next(), Some(text("one")));
    assert_eq!(next(), Some(ping("2")));
    assert_eq!(next(), Some(binary(b"three")));
    assert_eq!(next(), None);
    assert_eq!(at, read.len());
}

#[test]
fn batched_pub_in_single_frame() {
    let batch = "PUB prices.AAPL 5\r\n189.5\r\n".repeat(1000);
    let sent = [frame(FIN | TEXT, batch.as_bytes()), frames("text.last")].concat();
    for size in [1, 13, 1460, 16_384, sent.len()] {
        let received = Received(vec![text(&batch), text("last")], Ok(false));
        assert_eq!(receive_chunks(sent.chunks(size), LIMITS), received);
    }
}

#[test]
fn read_partial_frame_header_at_end_of_read_buffer() {
    let (first, second) = (frames("text.first"), frame(FIN | BINARY, &[7; 65_536]));
    for cut in 1..=MAX_HEADER {
        let read = [&first, &second[..cut]].concat();
        assert_eq!(receive(&read, LIMITS), Received(vec![text("first")], Ok(true)));
        let received = Received(vec![text("first"), binary(&[7; 65_536])], Ok(false));
        assert_eq!(receive_chunks([&read, &second[cut..]], LIMITS), received);
    }
}

/// RFC 6455 §5.4: control frames may come between the fragments of a message.
#[test]
fn read_control_frame_between_fragmented_frames() {
    let sent = frames("text+first ping.there? more+ pong. more.second close.");
    let pong = Event::Pong(Bytes::new());
    let events = vec![ping("there?"), pong, text("firstsecond"), Event::Close(None)];
    assert_eq!(receive(&sent, LIMITS), Received(events, Ok(false)));
}

#[test]
fn a_message_is_unfinished_from_its_first_byte_to_its_last() {
    let (cut_text, cut_ping) = (frames("text.cut"), frames("ping.cut"));
    let mut assembler = Assembler::new();
    let mut unfinished_after = |bytes: &[u8]| {
        feed(&mut assembler, bytes, LIMITS).unwrap();
        assembler.is_unfinished()
    };
    assert!(!unfinished_after(b""));
    assert!(!unfinished_after(&frames("text.whole")));
    assert!(unfinished_after(&cut_text[..1]));
    assert!(unfinished_after(&cut_text[1..6]));
    assert!(!unfinished_after(&cut_text[6..]));
    assert!(unfinished_after(&frames("data+")));
    assert!(unfinished_after(&frames("ping.between")));
    assert!(!unfinished_after(&frames("more.")));
    assert!(unfinished_after(&cut_ping[..8]));
    assert!(!unfinished_after(&cut_ping[8..]));
}

/// RFC 6455 §5.5.1: a close frame has no body, or a two-byte code and a reason in UTF-8.
#[test]
fn close_frame_with_partial_or_invalid() {
    let long = "ä".repeat(61) + "!";
    for reason in ["", "bye", &long] {
        let sent = frame(FIN | CLOSE, &[b"\x03\xe8", reason.as_bytes()].concat());
        let close = Event::Close(Some((1000, reason.to_owned())));
        assert_eq!(receive(&sent, LIMITS), Received(vec![close], Ok(false)));
    }
    let too_long = [b"\x03\xe8!", long.as_bytes()].concat();
    assert_refused("half a code", &frame(FIN | CLOSE, b"\x03"), 1002);
    assert_refused("126 bytes (Autobahn 7.3.6)", &frame(FIN | CLOSE, &too_long), 1002);
    assert_refused("fragmented", &frame(CLOSE, b"\x03\xe8"), 1002);
    assert_refused("reason not in UTF-8", &frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007);
    assert_refused("reason cut short", &frame(FIN | CLOSE, b"\x03\xe8\xc3"), 1007);
}

/// RFC 6455 §7.4: codes that a close frame may have, and those that were registered with IANA since.
#[test]
fn ws_06_close_codes() {
    for code in 0..=u16::MAX {
        let sent = frame(FIN | CLOSE, &code.to_be_bytes());
        if matches!(code, 0..=999 | 1004..=1006 | 1015..=2999 | 5000..) {
            assert_refused(&code.to_string(), &sent, 1002);
        } else {
            let close = Event::Close(Some((code, String::new())));
            assert_eq!(receive(&sent, LIMITS), Received(vec![close], Ok(false)));
        }
    }
}

#[test]
fn ws_06_protocol_errors() {
    // RFC 6455 §5.4: fragments of different messages are not interleaved.
    // RFC 6455 §5.5: control frames are at most 125 bytes and not fragmented.
    for sent in [
        "ping+",
        "pong+fragmented",
        "close+",
        "more.of-nothing",
        "more+of-nothing",
        "text+a text.b",
        "text+a data+b",
        "data+ data.",
        "text+a ping. text.b",
    ] {
        assert_refused(sent, &frames(sent), 1002);
    }
    // RFC 6455 §5.2: an unknown opcode fails the connection.
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        assert_refused("reserved opcode", &frame(FIN | opcode, b""), 1002);
        assert_refused("reserved opcode, fragmented", &frame(opcode, b"x"), 1002);
    }
    // RFC 6455 §5.2: reserved bits are 0 unless an extension defines them.
    for rsv in [0x40, 0x20, 0x10, 0x70] {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            assert_refused("RSV without an extension", &frame(FIN | rsv | opcode, b""), 1002);
        }
        let continuation = [frames("text+a"), frame(FIN | rsv | CONTINUE, b"b")].concat();
        assert_refused("RSV on a continuation", &continuation, 1002);
    }
    // RFC 6455 §5.1: a client masks all its frames.
    assert_refused("unmasked text", b"\x81\x05hello", 1002);
    assert_refused("unmasked empty ping", b"\x89\x00", 1002);
    // RFC 6455 §5.5: control frames are at most 125 bytes and not fragmented.
    assert_refused("ping of 126 bytes", &frame(FIN | PING, &[0; 126]), 1002);
    assert_refused("ping of 2^63 bytes", &header_of(FIN | PING, 1 << 63), 1002);
}

/// RFC 6455 §5.2: a length is encoded in the shortest form.
#[test]
fn ws_06_a_length_is_written_in_its_shortest_form() {
    for (first, length, payload) in [
        (FIN | TEXT, &[MASKED | 126, 0, 1][..], &b"x"[..]),
        (FIN | TEXT, &[MASKED | 126, 0, 125], &[b'x'; 125]),
        (FIN | PING, &[MASKED | 126, 0, 0], b""),
        (FIN | BINARY, &[MASKED | 127, 0, 0, 0, 0, 0, 0, 0, 126], &[0; 126]),
        (BINARY, &[MASKED | 127, 0, 0, 0, 0, 0, 0, 255, 255], &[0; 65_535]),
    ] {
        let sent = [&[first], length, &MASK, &masked(payload, MASK)].concat();
        assert_refused(&format!("{length:?}"), &sent, 1002);
    }
}

/// RFC 6455 §8.1: text that is not UTF-8 fails the connection.
#[test]
fn ws_06_text_is_rejected_at_its_first_invalid_byte() {
    for (name, bytes) in [
        ("Autobahn 6.4.3", &b"\xce\xba\xe1\xbd\xb9\xf4\x90"[..]),
        ("surrogate", b"\xed\xa0"),
        ("overlong slash in two bytes", b"\xc0"),
        ("overlong in three bytes", b"\xe0\x80"),
        ("overlong in four bytes", b"\xf0\x8f"),
        ("continuation without a start", b"a\x80"),
        ("five-byte form", b"\xf8"),
        ("F5", b"\xf5"),
        ("FE", b"ab\xfe"),
        ("FF", b"\xff"),
        ("two bytes, cut short", b"\xc3a"),
        ("three bytes, cut short", b"\xe1\xbda"),
        ("four bytes, cut short", b"\xf0\x9f\x98a"),
    ] {
        let good = bytes.len() - 1;
        assert_refused(name, &frame(FIN | TEXT, bytes), 1007);
        // The header announces more than follows.
        let head = header_of(FIN | TEXT, 99);
        let sent = [&head, &masked(bytes, MASK)[..]].concat();
        assert_refused(name, &sent, 1007);
        let unfinished = Received(vec![], Ok(true));
        assert_eq!(receive(&sent[..head.len() + good], LIMITS), unfinished, "{name}");
        // One fragment per byte.
        let octets: Vec<_> = bytes.iter().map(|byte| frame(CONTINUE, &[*byte])).collect();
        let sent = |octets: &[Vec<u8>]| [frames("text+"), octets.concat()].concat();
        assert_refused(name, &sent(&octets), 1007);
        assert_eq!(receive(&sent(&octets[..good]), LIMITS), unfinished, "{name}");
    }
}

/// RFC 6455 §5.6: a frame may end within a character, a message may not.
#[test]
fn ws_06_text_may_be_cut_inside_a_character_but_not_end_there() {
    for words in ["é", "€", "😀", "\0\u{7ff}\u{800}\u{10ffff}", "\u{feff}ok"] {
        for cut in 0..=words.len() {
            let (start, end) = words.as_bytes().split_at(cut);
            let sent = [frame(TEXT, start), frame(FIN | CONTINUE, end)].concat();
            let received = Received(vec![text(words)], Ok(false));
            assert_eq!(receive(&sent, LIMITS), received, "cut at {cut}");
            if !words.is_char_boundary(cut) {
                assert_refused(words, &frame(FIN | TEXT, start), 1007);
                assert_refused(words, &[frame(TEXT, start), frames("more.")].concat(), 1007);
            }
        }
    }
}

/// RFC 6455 §5.2: the top bit of a 64-bit length must be 0.
/// RFC 6455 §10.4: limits apply to a frame before its payload arrives.
#[test]
fn ws_01_read_huge_payload_len_does_not_panic() {
    for len in [65_537, 1 << 24, 1 << 32, 1 << 40, 1 << 62, 1 << 63, u64::MAX] {
        for first in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
            let mut assembler = Assembler::new();
            let violation = feed(&mut assembler, &header_of(first, len), LIMITS);
            assert_eq!(violation, Err(Violation::TooBig), "{len}");
            assert_eq!(heap_bytes(&assembler), 0, "{len}");
        }
        let continued = [frames("text+x"), header_of(CONTINUE, len)].concat();
        assert_refused("continued", &continued, 1009);
    }
    let unlimited = limits(usize::MAX, u32::MAX);
    for (first, len) in [("text.", 1 << 63), ("text.", u64::MAX), ("data+x", (1 << 63) - 1)] {
        let opcode = if first == "data+x" { CONTINUE } else { TEXT };
        let sent = [frames(first), header_of(opcode, len)].concat();
        assert_eq!(receive(&sent, unlimited).1, Err(Violation::TooBig), "{len}");
    }
}

/// RFC 6455 §10.4: limits apply to whole messages.
#[test]
fn ws_01_the_limit_counts_all_frames_of_a_message_and_no_others() {
    for (sent, end) in [
        ("text.123456", Ok(false)),
        ("text.1234567", Err(Violation::TooBig)),
        ("text+1234 ping.not-counted more.56", Ok(false)),
        ("data+1234 ping.not-counted more.567", Err(Violation::TooBig)),
        ("text.123456 data.123456", Ok(false)),
        ("text+123456 more+ more.", Ok(false)),
        ("text+123456 more+ more+7", Err(Violation::TooBig)),
    ] {
        assert_eq!(receive(&frames(sent), limits(6, 9)).1, end, "{sent}");
    }
    for (rest, end) in [(&b"\xa4"[..], Ok(false)), (b"\xa4!", Err(Violation::TooBig))] {
        let sent = [frame(TEXT, b"1234\xc3"), frame(FIN | CONTINUE, rest)].concat();
        assert_eq!(receive(&sent, limits(6, 9)).1, end, "a character that is cut counts");
    }
}

#[test]
fn ws_01_memory_grows_with_what_arrives() {
    for first in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
        let mut assembler = Assembler::new();
        feed(&mut assembler, &header_of(first, 60_000), LIMITS).unwrap();
        assert!(heap_bytes(&assembler) <= SMALL);
        let mut arrived = 0;
        for chunk in masked(&[b'x'; 59_999], MASK).chunks(7) {
            feed(&mut assembler, chunk, LIMITS).unwrap();
            arrived += chunk.len();
            let bound = (arrived * 2).max(arrived + MAX_AHEAD).min(LIMITS.max_message);
            assert!(heap_bytes(&assembler) <= bound + SMALL);
        }
    }
}

#[test]
fn limits_may_change_inside_a_frame() {
    for first in [TEXT, BINARY] {
        let mut assembler = Assembler::new();
        let sent = frame(first, &[b'x'; 20_000]);
        feed(&mut assembler, &sent[..100], LIMITS).unwrap();
        feed(&mut assembler, &sent[100..], limits(10, 1)).unwrap();
        let more = feed(&mut assembler, &frames("more.x"), limits(10, 2));
        assert_eq!(more, Err(Violation::TooBig));
    }
}

/// RFC 6455 §10.4: limits apply to whole messages.
#[test]
fn ws_02_endless_fragments() {
    for (first, next) in [("text+", "more+"), ("data+x", "more+x")] {
        let (limits, next) = (limits(2_000_000, 256), frames(next));
        let mut assembler = Assembler::new();
        feed(&mut assembler, &frames(first), limits).unwrap();
        let taken = (1..1_000_000).position(|_| feed(&mut assembler, &next, limits).is_err());
        assert_eq!(taken, Some(255), "the first frame counts");
        let flood = [frames(first), next.repeat(1000)].concat();
        assert_refused("in one read", &flood, 1008);
    }
}

#[test]
fn ws_02_each_message_has_its_own_limit() {
    let pairs = frames(&["text+a ping. more.b"; 50].join(" "));
    assert_eq!(receive(&pairs, limits(99, 2)).1, Ok(false));
    assert_eq!(receive(&pairs, limits(99, 1)).1, Err(Violation::TooManyFragments));
    let wholes = frames(&["text.whole"; 50].join(" "));
    assert_eq!(receive(&wholes, limits(99, 0)).1, Ok(false));
}

/// RFC 6455 §5.1: a server does not mask its frames.
/// RFC 6455 §5.2: a length is encoded in the shortest form.
#[test]
fn headers_of_server_frames() {
    for (opcode, len, expected) in [
        (Opcode::Text, 0, &[0x81, 0][..]),
        (Opcode::Text, 125, &[0x81, 125]),
        (Opcode::Text, 126, &[0x81, 126, 0, 126]),
        (Opcode::Text, 65_535, &[0x81, 126, 0xff, 0xff]),
        (Opcode::Text, 65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        (Opcode::Binary, 1, &[0x82, 1]),
        (Opcode::Close, 2, &[0x88, 2]),
    ] {
        let mut out = b"before".to_vec();
        put_header(&mut out, opcode, len);
        assert_eq!(out, [b"before", expected].concat());
    }
}

proptest! {
    #[test]
    fn valid_frames_give_the_same_events_however_they_are_cut(
        messages in vec(messages(), 0..6),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let sent = messages.iter().flat_map(FragmentedMessage::frames).collect::<Vec<u8>>();
        let received = Received(messages.iter().flat_map(FragmentedMessage::events).collect(), Ok(false));
        prop_assert_eq!(&receive(&sent, LIMITS), &received);
        prop_assert_eq!(&receive_chunks(cut(&sent, &cuts), LIMITS), &received);
        for at in 0..=sent.len().min(300) {
            prop_assert_eq!(&receive_chunks([&sent[..at], &sent[at..]], LIMITS), &received);
        }
    }

    #[test]
    fn any_bytes_give_the_same_events_however_they_are_cut(
        sent in vec(any_frame(), 0..12).prop_map(|frames| frames.concat()),
        cuts in vec(any::<Index>(), 0..12),
        limits in (0..300_usize, 0..6_u32).prop_map(|(bytes, frames)| limits(bytes, frames)),
    ) {
        prop_assert_eq!(receive_chunks(cut(&sent, &cuts), limits), receive(&sent, limits));
    }

    /// RFC 6455 §5.3: the masking key is applied to each byte with XOR.
    #[test]
    fn unmasking_follows_the_rfc(mut bytes in vec(any::<u8>(), 0..40), mask in any::<[u8; 4]>()) {
        let expected = masked(&bytes, mask);
        unmask(&mut bytes, mask);
        prop_assert_eq!(bytes, expected);
    }
}

/// A fragmented message; a control frame may follow each fragment.
#[derive(Debug, Clone)]
struct FragmentedMessage {
    message: Event,
    cuts: Vec<Index>,
    controls: [Option<Event>; 4],
    mask: [u8; 4],
}

impl FragmentedMessage {
    fn frames(&self) -> Vec<u8> {
        let (opcode, payload) = opcode_and_payload(&self.message);
        let parts = cut(payload, &self.cuts);
        let mut sent = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let fin = if index + 1 == parts.len() { FIN } else { 0 };
            let opcode = if index == 0 { opcode } else { CONTINUE };
            sent.extend(frame_masked(fin | opcode, part, self.mask));
            if let Some(control) = &self.controls[index] {
                let (opcode, payload) = opcode_and_payload(control);
                sent.extend(frame_masked(FIN | opcode, payload, self.mask));
            }
        }
        sent
    }

    fn events(&self) -> Vec<Event> {
        let last = self.cuts.len();
        let mut events = self.controls[..=last].to_vec();
        events.insert(last, Some(self.message.clone()));
        events.into_iter().flatten().collect()
    }
}

prop_compose! {
    fn messages()(
        message in prop_oneof![
            vec(any::<char>(), 0..120).prop_map(|text| text_event(text.into_iter().collect())),
            vec(any::<u8>(), 0..300).prop_map(|bytes| binary_event(bytes.into())),
        ],
        cuts in vec(any::<Index>(), 0..4),
        controls in uniform4(option::of(control())),
        mask in any::<[u8; 4]>(),
    ) -> FragmentedMessage {
        FragmentedMessage { message, cuts, controls, mask }
    }
}

fn control() -> impl Strategy<Value = Event> {
    let payload = vec(any::<u8>(), 0..=MAX_CONTROL).prop_map(Bytes::from);
    (payload, any::<bool>()).prop_map(|(it, ping)| if ping { Event::Ping(it) } else { Event::Pong(it) })
}

/// Bytes of a valid frame, of a damaged one, or at random.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let opcodes = [CONTINUE, TEXT, BINARY, CLOSE, PING, PONG];
    let first = opcodes.map(|opcode| [opcode, FIN | opcode]).concat();
    let text = vec(any::<char>(), 0..40).prop_map(|text| String::from_iter(text).into_bytes());
    let close = (990..1020_u16).prop_map(|code| code.to_be_bytes().to_vec());
    let payload = prop_oneof![4 => text, 1 => vec(any::<u8>(), 0..140), 1 => close];
    let likely = (select(first), payload).prop_map(|(first, payload)| frame(first, &payload));
    let damaged = (likely.clone(), any::<Index>(), any::<u8>()).prop_map(|(mut sent, index, byte)| {
        *index.get_mut(&mut sent) = byte;
        sent
    });
    prop_oneof![12 => likely, 1 => damaged, 1 => vec(any::<u8>(), 0..40)]
}

/// The events from all bytes at once, which must be the same byte by byte.
fn receive(sent: &[u8], limits: AssemblerLimits) -> Received {
    let received = receive_chunks([sent], limits);
    assert_eq!(receive_chunks(sent.chunks(1), limits), received);
    received
}

fn receive_chunks<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limits: AssemblerLimits) -> Received {
    receive_with(chunks, limits, None)
}

/// The same with permessage-deflate.
fn receive_with<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    limits: AssemblerLimits,
    mut inflater: Option<&mut Inflater>,
) -> Received {
    let mut assembler = Assembler::new();
    let mut events = Vec::new();
    for chunk in chunks {
        let (mut bytes, mut at) = (chunk.to_vec(), 0);
        loop {
            match assembler.next_event(&mut bytes, &mut at, limits, inflater.as_deref_mut()) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(violation) => return Received(events, Err(violation)),
            }
        }
        assert_eq!(at, bytes.len());
        assert!(heap_bytes(&assembler) <= limits.max_message.saturating_add(SMALL));
    }
    Received(events, Ok(assembler.is_unfinished()))
}

/// Feeds bytes and ignores the events.
fn feed(assembler: &mut Assembler, bytes: &[u8], limits: AssemblerLimits) -> Result<(), Violation> {
    let (mut bytes, mut at) = (bytes.to_vec(), 0);
    while assembler.next_event(&mut bytes, &mut at, limits, None)?.is_some() {}
    Ok(())
}

/// Asserts that the bytes are rejected with this code, before any event except pings.
fn assert_refused(name: &str, sent: &[u8], code: u16) {
    let Received(events, end) = receive(sent, LIMITS);
    let only_pings = events.iter().all(|event| matches!(event, Event::Ping(_)));
    assert!(only_pings, "{name}: {events:?}");
    assert_eq!(end.map_err(|end| end.close_code()), Err(code), "{name}");
}

/// The memory on the heap, in bytes.
fn heap_bytes(assembler: &Assembler) -> usize {
    let Some(partial) = &assembler.partial else {
        return 0;
    };
    let message = match partial.message.as_ref().map(|message| &message.content) {
        Some(Content::Text { text, .. }) => text.capacity(),
        Some(Content::Binary(payload) | Content::Deflated { payload, .. }) => payload.capacity(),
        None => 0,
    };
    size_of::<Partial>() + partial.control.capacity() + message
}

fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Frames from a short notation: `text+a more+b more.c` is a message in three fragments, `text.abc` is whole.
fn frames(words: &str) -> Vec<u8> {
    let one = |word: &str| {
        let (name, payload) = word.split_once(['+', '.']).unwrap();
        let opcode = match name {
            "more" => CONTINUE,
            "text" => TEXT,
            "data" => BINARY,
            "close" => CLOSE,
            "ping" => PING,
            "pong" => PONG,
            unknown => panic!("no frame is called {unknown}"),
        };
        let ends = word[name.len()..].starts_with('.');
        frame(if ends { FIN | opcode } else { opcode }, payload.as_bytes())
    };
    words.split(' ').flat_map(one).collect()
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_masked(first, payload, MASK)
}

fn frame_masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let header = header_of(first, payload.len() as u64);
    [&header[..header.len() - 4], &mask, &masked(payload, mask)].concat()
}

/// The header of a client's frame, written without the code under test.
fn header_of(first: u8, len: u64) -> Vec<u8> {
    let length = match len {
        0..126 => vec![MASKED | len as u8],
        126..65_536 => [&[MASKED | 126], &len.to_be_bytes()[6..]].concat(),
        65_536.. => [&[MASKED | 127], &len.to_be_bytes()[..]].concat(),
    };
    [&[first], &length[..], &MASK].concat()
}

fn masked(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let keys = mask.iter().cycle();
    payload.iter().zip(keys).map(|(byte, key)| byte ^ key).collect()
}

fn opcode_and_payload(event: &Event) -> (u8, &[u8]) {
    match event {
        Event::Message(ClientMessage::Text(text)) => (TEXT, text.as_bytes()),
        Event::Message(ClientMessage::Binary(payload)) => (BINARY, payload),
        Event::Ping(payload) => (PING, payload),
        Event::Pong(payload) => (PONG, payload),
        Event::Close(_) => (CLOSE, &[]),
    }
}

fn text(text: &str) -> Event {
    text_event(text.to_owned())
}

fn binary(payload: &[u8]) -> Event {
    binary_event(Bytes::copy_from_slice(payload))
}

fn ping(payload: &str) -> Event {
    Event::Ping(Bytes::from(payload.to_owned()))
}

const fn limits(max_message: usize, max_fragments: u32) -> AssemblerLimits {
    AssemblerLimits { max_message, max_fragments }
}
