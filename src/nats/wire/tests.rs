//! Operations split anywhere, and bytes that are not the protocol.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::nats::message::HeaderLine;
use crate::nats::message::Malformed;

fn describe(op: ServerOp) -> String {
    match op {
        ServerOp::Info(json) => format!("info {}", String::from_utf8_lossy(&json)),
        ServerOp::Message(sid, message) => {
            let payload = message.payload();
            let read = |line: HeaderLine<'_>| {
                let (name, value) = line.parts().ok_or(Malformed)?;
                Ok((name.to_owned(), value.read()?.into_owned()))
            };
            let headers: Result<Vec<_>, Malformed> = message.header_lines().map(read).collect();
            format!("{sid} {} {} {headers:?}", message.subject(), String::from_utf8_lossy(&payload))
        }
        ServerOp::Malformed(sid) => format!("{sid} malformed"),
        ServerOp::Ping => "ping".to_owned(),
        ServerOp::Pong => "pong".to_owned(),
        ServerOp::Error(message) => format!("error {message}"),
        ServerOp::Ok => "ok".to_owned(),
    }
}

/// The operations in these chunks of bytes, and the error at the end.
fn parse<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> (Vec<String>, Option<WireError>) {
    let (mut wire, mut buffer, mut ops) = (WireParser::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match wire.next(&mut buffer) {
                Ok(Some(op)) => ops.push(describe(op)),
                Ok(None) => break,
                Err(error) => return (ops, Some(error)),
            }
        }
    }
    (ops, None)
}

fn whole(bytes: &[u8]) -> (Vec<String>, Option<WireError>) {
    parse([bytes])
}

#[test]
fn it_parses_all_operations_of_a_server() {
    let bytes =
        b"INFO {\"a\":1} \r\nPING\r\npong\r\n+OK\r\n-ERR 'Stale Connection'\r\nMSG a.b 7 5\r\nhello\r\n\
        msg a 18446744073709551615 _INBOX.x  0\r\n\r\nHMSG\ta 2 14 16\r\nNATS/1.0\r\n\r\n\r\nhi\r\n\
        HMSG a 2 reply 20 20\r\nNATS/1.0\r\nb: 1\r\n\r\n\r\n\r\nPONG\n";
    let (ops, error) = whole(bytes);
    assert_eq!(error, None);
    assert_eq!(
        ops,
        [
            "info  {\"a\":1} ",
            "ping",
            "pong",
            "ok",
            "error Stale Connection",
            "7 a.b hello Ok([])",
            "18446744073709551615 a  Ok([])",
            "2 a hi Ok([])",
            "2 a  Ok([(\"b\", \"1\")])",
            "pong",
        ]
    );
}

#[test]
fn bytes_outside_the_protocol_are_errors() {
    for (bytes, error) in [
        (&b"HELLO\r\n"[..], WireError::UnknownOp),
        (b"\r\n", WireError::UnknownOp),
        (b"PINGPONG\r\n", WireError::UnknownOp),
        (b"MSG a 1\r\n", WireError::BadArguments),
        (b"MSG a b 1\r\n", WireError::BadArguments),
        (b"MSG a 1 -1\r\n", WireError::BadArguments),
        (b"MSG a 1 r 2 3\r\n", WireError::BadArguments),
        (b"MSG a 18446744073709551616 0\r\n", WireError::BadArguments),
        (b"HMSG a 1 5\r\n", WireError::BadArguments),
        (b"HMSG a 1 5 4\r\n", WireError::BadArguments),
        (b"MSG a 1 99999999999\r\n", WireError::MessageTooLarge),
        (b"MSG a 1 2\r\nhello\r\n", WireError::MissingLineEnd),
    ] {
        assert_eq!(whole(bytes), (Vec::new(), Some(error)), "{}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(whole(&vec![b'a'; MAX_LINE_BYTES + 1]).1, Some(WireError::LineTooLong));
}

#[test]
fn a_long_subject_is_not_an_error() {
    let subject = "a".repeat(MAX_LINE_BYTES - 20);
    let (ops, error) = whole(format!("MSG {subject} 1 2\r\nhi\r\n").as_bytes());
    assert_eq!((ops.len(), error), (1, None));
}

#[test]
fn nat_09_an_invalid_subject_skips_only_its_own_message() {
    let (ops, error) = whole(b"MSG a.\xff\xfe 3 2\r\nhi\r\nMSG a.\xc3\xa9 3 2\r\nhi\r\n");
    assert_eq!((ops, error), (vec!["3 malformed".to_owned(), "3 a.é hi Ok([])".to_owned()], None));
}

#[test]
fn an_announced_message_takes_no_memory_before_it_arrives() {
    let (mut wire, mut buffer) = (WireParser::default(), BytesMut::new());
    buffer.extend_from_slice(b"MSG a 1 60000000\r\n");
    let before = buffer.capacity();
    assert!(wire.next(&mut buffer).unwrap().is_none());
    assert_eq!((buffer.capacity(), wire.missing_bytes(&buffer)), (before, 60_000_002));
}

/// One operation of a server, malformed messages included.
fn operation() -> impl Strategy<Value = Vec<u8>> {
    let message = (vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..30), 0_u64..5, any::<bool>(), any::<bool>());
    let message = message.prop_map(|(payload, headers, sid, with_headers, poison)| {
        let subject: &[u8] = if poison { b"a.\xff" } else { b"a.b" };
        let sizes = match with_headers {
            true => format!("{} {}", headers.len(), headers.len() + payload.len()),
            false => payload.len().to_string(),
        };
        let verb: &[u8] = if with_headers { b"HMSG " } else { b"MSG " };
        let headers = if with_headers { headers } else { Vec::new() };
        [verb, subject, format!(" {sid} {sizes}\r\n").as_bytes(), &headers, &payload, END].concat()
    });
    prop_oneof![
        4 => message,
        1 => Just(b"PING\r\n".to_vec()),
        1 => Just(b"PONG\r\n".to_vec()),
        1 => Just(b"INFO {\"version\":\"2.15.1\"}\r\n".to_vec()),
        1 => Just(b"-ERR 'Permissions Violation for Subscription to \"a\"'\r\n".to_vec()),
    ]
}

proptest! {
    #[test]
    fn operations_are_the_same_wherever_the_bytes_are_split(operations in vec(operation(), 1..8)) {
        let bytes = operations.concat();
        let together = whole(&bytes);
        prop_assert_eq!(together.0.len(), operations.len());
        for at in 0..bytes.len() {
            let (one, other) = bytes.split_at(at);
            prop_assert_eq!(&parse([one, other]), &together);
        }
        prop_assert_eq!(&parse(bytes.chunks(1)), &together);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..200), cut in 1_usize..20) {
        prop_assert_eq!(whole(&bytes), parse(bytes.chunks(cut)));
    }

    #[test]
    fn nearly_valid_bytes_are_read_without_a_panic(
        operations in vec(operation(), 1..5),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        cut in 1_usize..20,
    ) {
        let mut bytes = operations.concat();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(whole(&bytes), parse(bytes.chunks(cut)));
    }
}

/// A line in the form that nats-server writes, or almost, and what follows it.
fn almost_plain_line() -> impl Strategy<Value = Vec<u8>> {
    let part = |usual: &'static str| prop_oneof![6 => Just(usual.to_owned()), 1 => "[ \t\r\n.a0\u{7f}]{0,3}"];
    let subject = prop_oneof![6 => "[a-z.]{1,9}", 1 => "[a-z]{250,262}", 1 => "[a\u{e9}\t ]{0,3}"];
    let number = prop_oneof![4 => "[0-9]{1,2}", 1 => "[0-9]{17,21}", 1 => "[0-9a]{0,3}"];
    (part("MSG "), subject, part(" "), number.clone(), part(" "), number, part("\r\n")).prop_map(
        |(verb, subject, one, sid, two, size, end)| [verb, subject, one, sid, two, size, end].concat().into(),
    )
}

proptest! {
    /// The fast path for `MSG` parses what the general parser does: a verb in small letters takes the latter.
    #[test]
    fn both_ways_to_parse_a_message_agree(line in almost_plain_line(), body in "[a-z\r\n]{0,120}") {
        let in_general = line.strip_prefix(b"MSG").map(|rest| [b"msg", rest].concat());
        let bytes = [&line[..], body.as_bytes()].concat();
        let bytes_in_general = [&in_general.unwrap_or(line)[..], body.as_bytes()].concat();
        prop_assert_eq!(whole(&bytes), whole(&bytes_in_general));
    }
}

#[test]
fn a_plain_message_takes_the_fast_path_only_if_its_line_is_complete_and_within_limits() {
    let head = |line: &str| plain_message_head(line.as_bytes()).map(|head| (head.sid, head.size));
    assert_eq!(head("MSG a.b 7 5\r\n"), Some((7, 13 + 5 + 2)));
    assert_eq!(head("MSG a.b 123456789012345678 0\r\n"), Some((123_456_789_012_345_678, 30 + 2)));
    let longest = format!("MSG {} 1 0\r\n", "a".repeat(MAX_PLAIN_SUBJECT - 1));
    let too_long = format!("MSG {} 1 0\r\n", "a".repeat(MAX_PLAIN_SUBJECT));
    assert!(head(&longest).is_some() && head(&too_long).is_none());
    let too_large = format!("MSG a 1 {}\r\n", MAX_MESSAGE_BYTES + 1);
    for line in [
        "",
        "MSG ",
        "MSG a",
        "MSG a ",
        "MSG a 1",
        "MSG a 1 ",
        "MSG a 1 5",
        "MSG a 1 5\r",
        "MSG a 1 5\n",
        "MSG a 1 reply 5\r\n",
        "MSG  a 1 5\r\n",
        "MSG a\t1 5\r\n",
        "MSG a 1234567890123456789 5\r\n",
        "msg a 1 5\r\n",
        &too_large,
    ] {
        assert_eq!(head(line), None, "{line:?}");
    }
}
