//! Tests with the examples of RFC 7692, decompression bombs, garbage, and messages that are cut anywhere.

use fastrand::Rng;
use flate2::FlushCompress;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const MAX: usize = 65_536;

fn inflate(deflated: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    Inflater::default().inflate(deflated, max)
}

/// Compresses `message`, even if that saves nothing, without the code under test.
fn deflated(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() * 2 + 100);
    let mut compress = Compress::new(Compression::new(6), false);
    compress.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
    out.strip_suffix(&TAIL).unwrap().to_vec()
}

/// A message that ends with a final block, then `behind`.
fn finished(message: &[u8], behind: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() * 2 + 100);
    let mut compress = Compress::new(Compression::new(6), false);
    compress.compress_vec(message, &mut out, FlushCompress::Finish).unwrap();
    [&out, behind].concat()
}

fn json(number: usize) -> Vec<u8> {
    format!(r#"{{"type":"message","channel":"orders.{number}","data":{{"side":"buy","price":{number}}}}}"#)
        .repeat(8)
        .into_bytes()
}

/// RFC 7692 §7.2.1: another block may follow a block with BFINAL set to 1.
/// RFC 7692 §7.2.2: the receiver appends the tail again.
/// PROTOCOL.md: "A client must therefore start each compressed message with a fresh context"
#[test]
fn the_examples_of_rfc_7692() {
    for (name, deflated) in [
        ("§7.2.3.1, one block", &b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..]),
        ("§7.2.3.3, not compressed", b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"),
        ("§7.2.3.4, a block with BFINAL set to 1", b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"),
        ("§7.2.3.5, two blocks", b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"),
        ("a final block, and nothing after it", b"\xf3\x48\xcd\xc9\xc9\x07\x00"),
    ] {
        assert_eq!(inflate(deflated, 5).as_deref(), Ok(&b"Hello"[..]), "{name}");
        assert_eq!(inflate(deflated, 4), Err(InflateError::TooBig), "{name}");
    }
    // RFC 7692 §7.1.1.2: with `client_no_context_takeover`, no message refers to an earlier one. The second message of
    // the example in §7.2.3.2 does.
    let mut inflater = Inflater::default();
    inflater.inflate(b"\xf2\x48\xcd\xc9\xc9\x07\x00", MAX).unwrap();
    assert_eq!(inflater.inflate(b"\xf2\x00\x11\x00\x00", MAX), Err(InflateError::Corrupt));
}

/// RFC 7692 §7.2.3.6: an empty message is one zero byte. Some clients send no byte at all.
#[test]
fn ws_04_empty_compressed_buffer_does_not_panic() {
    assert_eq!(inflate(b"", 0).as_deref(), Ok(&b""[..]));
    assert_eq!(inflate(b"\0", 0).as_deref(), Ok(&b""[..]));
    assert_eq!(inflate(b"\x03\x00", 0).as_deref(), Ok(&b""[..]));
}

/// RFC 7692 §7.2.1: the sender removes the tail, so a message that has it is rejected.
#[test]
fn ws_04_corrupted_compressed_frame_is_rejected() {
    let whole = deflated(&json(1));
    for (name, deflated) in [
        ("an unknown kind of block", b"\x06".to_vec()),
        ("a stored block whose lengths differ", b"\x00\x05\x00\x00\x00hello\x00".to_vec()),
        ("a reference to before the message", b"\x4b\x04\x62\x00".to_vec()),
        ("trailing garbage", [&whole[..], b"garbage"].concat()),
        ("garbage after the final block", finished(&json(1), b"garbage")),
        ("an empty block where the tail belongs", [&whole[..], &TAIL].concat()),
        ("text", b"{\"type\":\"ping\"}".to_vec()),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00".to_vec()),
        ("zlib", b"\x78\x9c\x4b\x04\x00\x00\x62\x00\x62".to_vec()),
    ] {
        assert_eq!(inflate(&deflated, MAX), Err(InflateError::Corrupt), "{name}");
    }
    for end in 1..whole.len() {
        assert_eq!(inflate(&whole[..end], MAX), Err(InflateError::Corrupt), "cut after {end} bytes");
    }
}

#[test]
fn ws_04_decompress_limit() {
    let zeros = deflated(&vec![0; 64 << 20]);
    assert!(zeros.len() < 300_000, "{}", zeros.len());
    // Together, these blocks turn about 1 MiB into 1 GiB of zeros.
    let bomb = [&zeros[..], &TAIL].concat().repeat(16);
    for max in [0, 1, 63, 64, 65, 1000, MAX, 1 << 20] {
        let mut message = Vec::new();
        let mut inflater = Inflater::default();
        assert!(matches!(inflater.feed(&bomb, &mut message, max), Err(InflateError::TooBig)), "{max}");
        assert!(message.capacity() <= max.max(MIN_ROOM) + 1, "{max}: {}", message.capacity());
        assert_eq!(inflate(&bomb, max), Err(InflateError::TooBig));
    }
    // A compressed bomb is itself a harmless message.
    assert_eq!(inflate(&deflated(&bomb[..MAX]), MAX).as_deref(), Ok(&bomb[..MAX]));
    let mut inflater = Inflater::default();
    for _ in 0..1000 {
        assert_eq!(inflater.inflate(&bomb, MAX), Err(InflateError::TooBig));
    }
    assert_eq!(inflater.inflate(&deflated(b"still there"), MAX).as_deref(), Ok(&b"still there"[..]));
    assert_eq!(inflater.take_expanded_bytes(), 0, "rejected messages do not count");
}

#[test]
fn expanded_bytes_are_counted_until_they_are_taken() {
    let mut inflater = Inflater::default();
    let small = deflated(&[b'x'; 1000]);
    inflater.inflate(&small, MAX).unwrap();
    inflater.inflate(&small, MAX).unwrap();
    inflater.inflate(&deflated(b"x"), MAX).unwrap();
    assert_eq!(inflater.take_expanded_bytes(), 2 * (1000 - small.len()));
    assert_eq!(inflater.take_expanded_bytes(), 0);
}

#[test]
fn messages_are_compressed_only_if_it_saves_enough() {
    let mut deflater = Deflater::new(1);
    let mut noise = vec![0_u8; 10_000];
    Rng::with_seed(1).fill(&mut noise);
    for _ in 0..100 {
        for message in [&b""[..], b"a", b"{\"n\":1}", &noise] {
            assert_eq!(deflater.deflate(message), None);
        }
    }
    for repeats in [1, 3, 100, 10_000] {
        let message = json(1).repeat(repeats);
        let deflated = deflater.deflate(&message).unwrap();
        assert!(deflated.len() <= message.len() - message.len().div_ceil(MIN_SAVING));
        assert_eq!(inflate(deflated, message.len()), Ok(message));
    }
    deflater.deflate(&json(1)).unwrap();
    assert!(deflater.buffer.len() <= MAX_KEPT, "a long message leaves no long buffer");
}

/// RFC 7692 §7.1.1.1: with `server_no_context_takeover`, no message refers to an earlier one.
#[test]
fn ws_05_a_deflated_message_depends_on_itself_only() {
    let secret = br#"{"csrf":"7f3a9c1e5b2d","note":"7f3a9c1e5b2d 7f3a9c1e5b2d 7f3a9c1e5b2d"}"#.repeat(4);
    for level in 1..=9 {
        let alone = Deflater::new(level).deflate(&json(1)).unwrap().to_vec();
        let mut deflater = Deflater::new(level);
        for before in [&secret[..], &json(1), &json(2), b"", b"\xff\xfe", &json(3).repeat(1000)] {
            deflater.deflate(before);
            assert_eq!(deflater.deflate(&json(1)), Some(&alone[..]), "level {level}");
        }
    }
}

proptest! {
    /// RFC 7692 §7.2.1: the sender removes the tail from the end of each compressed message.
    /// RFC 7692 §7.2.2: the receiver appends the tail again.
    #[test]
    fn decompression_restores_each_message(
        words in vec(prop_oneof![vec(any::<u8>(), 0..20), Just(b"\"price\":190.1,".to_vec())], 0..200),
        level in 1..=9_u32,
    ) {
        let message = words.concat();
        let mut deflater = Deflater::new(level);
        if let Some(deflated) = deflater.deflate(&message) {
            prop_assert_eq!(inflate(deflated, message.len()).unwrap(), message.clone());
            if !message.is_empty() {
                prop_assert_eq!(inflate(deflated, message.len() - 1), Err(InflateError::TooBig));
            }
        }
        prop_assert_eq!(inflate(&deflated(&message), message.len()).unwrap(), message.clone());
        prop_assert_eq!(inflate(&finished(&message, b"\0"), message.len()).unwrap(), message);
    }

    #[test]
    fn ws_04_garbage_neither_panics_nor_takes_more_than_it_may(
        garbage in vec(any::<u8>(), 0..400),
        place in any::<Index>(),
        max in 0..5000_usize,
    ) {
        let mut damaged = deflated(&json(1));
        let at = place.index(damaged.len());
        damaged.splice(at.., garbage.iter().copied());
        let mut inflater = Inflater::default();
        for bytes in [&garbage, &damaged] {
            let mut message = Vec::new();
            if let Ok(message) = inflater.inflate(bytes, max) {
                prop_assert!(message.len() <= max);
            }
            inflater.decompress.reset(false);
            let _ = inflater.feed(bytes, &mut message, max);
            prop_assert!(message.capacity() <= max.max(MIN_ROOM) + 1);
        }
        prop_assert_eq!(inflater.inflate(&deflated(b"still there"), 11).unwrap(), b"still there");
    }
}
