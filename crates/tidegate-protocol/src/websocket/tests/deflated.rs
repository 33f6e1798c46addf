//! Tests with permessage-deflate (RFC 7692).

use super::*;

use flate2::Compress;
use flate2::Compression;
use flate2::FlushCompress;

const RSV1: u8 = 0x40;

/// A compressed payload as a client sends it.
fn packed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() * 2 + 100);
    let mut compress = Compress::new(Compression::new(6), false);
    compress.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
    out.truncate(out.len() - 4);
    out
}

/// The events from all bytes at once, which must be the same byte by byte.
fn receive(sent: &[u8], limits: AssemblerLimits) -> Received {
    let mut inflater = Inflater::default();
    let received = receive_with([sent], limits, Some(&mut inflater));
    assert_eq!(receive_with(sent.chunks(1), limits, Some(&mut inflater)), received);
    received
}

/// Asserts that the bytes are rejected with this code.
fn assert_refused(name: &str, sent: &[u8], code: u16) {
    let Received(events, end) = receive(sent, LIMITS);
    assert_eq!(events, [], "{name}");
    assert_eq!(end.map_err(|end| end.close_code()), Err(code), "{name}");
}

/// RFC 7692 §6.2: the fragments of a compressed message are joined, then decompressed.
#[test]
fn ws_04_compressed_messages_whole_and_in_fragments() {
    let words = "😀 is a word, and is a word, and is a word".repeat(100);
    let deflated = packed(words.as_bytes());
    for (first, event) in [(TEXT, text(&words)), (BINARY, binary(words.as_bytes()))] {
        let whole = frame(FIN | RSV1 | first, &deflated);
        assert_eq!(receive(&whole, LIMITS), Received(vec![event.clone()], Ok(false)));
        for cut in 0..=deflated.len() {
            let (begin, end) = deflated.split_at(cut);
            let parts = [
                frame(RSV1 | first, begin),
                frames("ping.between more+"),
                frame(FIN | CONTINUE, end),
                frames("text.plain"),
            ];
            let events = vec![ping("between"), event.clone(), text("plain")];
            assert_eq!(receive(&parts.concat(), LIMITS), Received(events, Ok(false)), "cut at {cut}");
        }
    }
}

#[test]
fn ws_04_compressed_sequential_frames_remain_responsive() {
    let hello = frame(FIN | RSV1 | TEXT, &packed(b"hello hello hello"));
    let sent = [&hello[..], &frames("text.plain ping.2"), &hello, &hello].concat();
    let messages = || text("hello hello hello");
    assert_eq!(
        receive(&sent, LIMITS),
        Received(vec![messages(), text("plain"), ping("2"), messages(), messages()], Ok(false))
    );
}

/// RFC 7692 §6.1: RSV1 marks a compressed message on its first frame, and is not set on any other frame.
/// RFC 6455 §5.2: reserved bits are 0 unless an extension defines them.
#[test]
fn ws_04_rsv1_where_it_may_not_be() {
    let deflated = packed(b"hello");
    let agreed = frame(FIN | RSV1 | TEXT, &deflated);
    assert_eq!(receive_with([&agreed[..]], LIMITS, None).1.map_err(|end| end.close_code()), Err(1002));
    for opcode in [PING, PONG, CLOSE] {
        assert_refused("on a control frame", &frame(FIN | RSV1 | opcode, b""), 1002);
    }
    for begin in [RSV1 | TEXT, TEXT] {
        let sent = [frame(begin, b""), frame(FIN | RSV1 | CONTINUE, b"")].concat();
        assert_refused("on a continuation", &sent, 1002);
    }
    for bits in [0x20, 0x10, 0x60, 0x50, 0x70] {
        assert_refused("a bit of another extension", &frame(FIN | bits | TEXT, &deflated), 1002);
    }
}

/// RFC 7692 §7.2.3.6: an empty message is one zero byte. Some clients send no byte at all.
#[test]
fn ws_04_empty_compressed_frames() {
    for payload in [&b""[..], b"\0"] {
        let whole = frame(FIN | RSV1 | TEXT, payload);
        assert_eq!(receive(&whole, LIMITS), Received(vec![text("")], Ok(false)));
        let parts = [frame(RSV1 | TEXT, b""), frame(CONTINUE, payload), frame(FIN | CONTINUE, b"")].concat();
        assert_eq!(receive(&parts, LIMITS), Received(vec![text("")], Ok(false)));
    }
}

#[test]
fn ws_04_bombs_and_bad_blocks_end_with_a_code() {
    let zeros = packed(&vec![0; 70_000]);
    let limit = packed(&vec![b'0'; 65_536]);
    let (begin, end) = zeros.split_at(zeros.len() / 2);
    let parts = [frame(RSV1 | TEXT, begin), frame(FIN | CONTINUE, end)].concat();
    assert_refused("a bomb", &frame(FIN | RSV1 | TEXT, &zeros), 1009);
    assert_refused("a bomb in two parts", &parts, 1009);
    assert_refused("a header of a longer message", &header_of(FIN | RSV1 | TEXT, 65_537), 1009);
    let (begin, end) = limit.split_at(9);
    let parts = [frame(RSV1 | BINARY, begin), frame(FIN | CONTINUE, end)].concat();
    assert_eq!(receive(&parts, LIMITS), Received(vec![binary(&[b'0'; 65_536])], Ok(false)));
    assert_refused("a bad block", &frame(FIN | RSV1 | TEXT, b"\x06"), 1002);
    assert_refused("half a message", &frame(FIN | RSV1 | TEXT, begin), 1002);
    assert_refused("trailing garbage", &frame(FIN | RSV1 | TEXT, &[&limit[..], b"garbage"].concat()), 1002);
    assert_refused("text that is none", &frame(FIN | RSV1 | TEXT, &packed(b"a\xff")), 1007);
    let none = [frame(RSV1 | TEXT, &packed(b"a\xff")), frames("more.")].concat();
    assert_refused("text that is none, in parts", &none, 1007);
    assert_eq!(receive(&frame(FIN | RSV1 | BINARY, &packed(b"a\xff")), LIMITS).1, Ok(false));
}

#[test]
fn ws_04_a_message_is_kept_as_it_came_until_it_is_whole() {
    let zeros = packed(&vec![0; 60_000]);
    let mut assembler = Assembler::new();
    let mut inflater = Inflater::default();
    let mut bytes = frame(RSV1 | BINARY, &zeros);
    let mut at = 0;
    assert_eq!(assembler.next_event(&mut bytes, &mut at, LIMITS, Some(&mut inflater)), Ok(None));
    assert!(assembler.is_unfinished());
    assert!(heap_bytes(&assembler) <= zeros.len() + MAX_AHEAD + SMALL);
    let mut bytes = frames("more.");
    let event = assembler.next_event(&mut bytes, &mut 0, LIMITS, Some(&mut inflater));
    assert_eq!(event, Ok(Some(binary(&[0; 60_000]))));
    assert_eq!(heap_bytes(&assembler), 0);
}

proptest! {
    #[test]
    fn ws_04_any_compressed_bytes_give_the_same_events_however_they_are_cut(
        sent in vec((any_frame(), vec(any::<char>(), 0..60), any::<u8>()), 0..8),
        cuts in vec(any::<Index>(), 0..12),
        limits in (0..300_usize, 0..6_u32).prop_map(|(bytes, frames)| limits(bytes, frames)),
    ) {
        let one = |(mut any, words, choice): (Vec<u8>, Vec<char>, u8)| match choice % 4 {
            0 => any,
            1 => {
                any.first_mut().into_iter().for_each(|first| *first |= RSV1);
                any
            }
            _ => {
                let deflated = packed(String::from_iter(words).as_bytes());
                let (begin, end) = deflated.split_at(usize::from(choice) % deflated.len());
                [frame(RSV1 | TEXT, begin), frame(FIN | CONTINUE, end)].concat()
            }
        };
        let sent: Vec<u8> = sent.into_iter().flat_map(one).collect();
        let mut inflater = Inflater::default();
        let whole = receive_with([&sent[..]], limits, Some(&mut inflater));
        prop_assert_eq!(receive_with(cut(&sent, &cuts), limits, Some(&mut inflater)), whole);
    }
}
