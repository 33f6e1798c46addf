//! Tests that frames and operations are found wherever the stream is cut.

use super::*;

/// A stream of frames with all three header lengths, and the first byte and payload of each frame.
fn stream() -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
    let frames = vec![(0x81, b"short".to_vec()), (0xc2, vec![7; 300]), (0x89, Vec::new())];
    let mut bytes = Vec::new();
    for (first, payload) in &frames {
        put_plain(*first, payload, &mut bytes);
    }
    bytes.extend_from_slice(&[0x82, 127, 0, 0, 0, 0, 0, 0, 0, 3, b'a', b'b', b'c']);
    let mut expected = frames;
    expected.push((0x82, b"abc".to_vec()));
    (bytes, expected)
}

#[test]
fn frames_are_found_wherever_the_stream_is_cut() {
    let (bytes, expected) = stream();
    for cut in 0..=bytes.len() {
        let (mut frames, mut seen) = (FrameReader::default(), Vec::new());
        for part in [&bytes[..cut], &bytes[cut..]] {
            frames.parse(part, |frame| seen.push((frame.first, frame.payload.to_vec())));
        }
        assert_eq!(seen, expected, "cut at {cut}");
        assert!(frames.buffered.is_empty());
    }
}

#[test]
fn frames_are_found_byte_by_byte() {
    let (bytes, expected) = stream();
    let (mut frames, mut seen) = (FrameReader::default(), Vec::new());
    for byte in &bytes {
        frames.parse(&[*byte], |frame| seen.push((frame.first, frame.payload.to_vec())));
    }
    assert_eq!(seen, expected);
}

#[test]
fn the_first_byte_has_the_opcode_and_the_compression_bit() {
    let compressed = Frame { first: 0xc1, payload: b"" };
    assert_eq!((compressed.opcode(), compressed.is_compressed()), (1, true));
    let plain = Frame { first: 0x8a, payload: b"" };
    assert_eq!((plain.opcode(), plain.is_compressed()), (10, false));
}

#[test]
fn operations_are_found_wherever_the_stream_is_cut() {
    let stream =
        b"INFO {\"max\":1}\r\nPING\r\nMSG a.b 1 5\r\nhi\r\n!\r\nMSG a 12 _INBOX.x 0\r\n\r\n+OK\r\nPONG\r\n\
                   -ERR 'no'\r\n";
    let expected = ["ping", "hi\r\n!", "", "pong", "-ERR 'no'"];
    for cut in 0..=stream.len() {
        let (mut nats_parser, mut seen) = (NatsParser::default(), Vec::new());
        for part in [&stream[..cut], &stream[cut..]] {
            nats_parser.parse(part, |op| {
                seen.push(match op {
                    NatsOp::Message(payload) | NatsOp::Error(payload) => {
                        String::from_utf8(payload.to_vec()).unwrap()
                    }
                    NatsOp::Ping => "ping".to_owned(),
                    NatsOp::Pong => "pong".to_owned(),
                });
            });
        }
        assert_eq!(seen, expected, "cut at {cut}");
        assert!(nats_parser.buffered.is_empty());
    }
}

#[test]
fn a_size_that_overflows_is_the_largest_number() {
    let mut nats_parser = NatsParser::default();
    nats_parser.parse(b"MSG a 1 99999999999999999999999\r\n", |op| panic!("{op:?}"));
    assert_eq!(payload_size(b"MSG a 1 99999999999999999999999"), usize::MAX);
}

#[test]
fn a_client_s_frame_is_masked_with_zeros() {
    let mut out = Vec::new();
    put_masked(0x81, b"hi", &mut out);
    assert_eq!(out, [0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    out.clear();
    put_masked(0x81, &[1; 200], &mut out);
    assert_eq!(out[..8], [0x81, 0xfe, 0, 200, 0, 0, 0, 0]);
}
