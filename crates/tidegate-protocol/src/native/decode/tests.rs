//! Valid, invalid and hostile messages of clients.

use proptest::prelude::*;

use super::*;

fn decode(text: &str) -> Result<Command, DecodeError> {
    command(&ClientMessage::Text(text.to_owned()))
}

fn refused(text: &str) -> (ErrorCode, String) {
    let error = decode(text).expect_err(text).error;
    (error.code, error.message)
}

#[test]
fn commands_are_decoded() {
    let request_context = Some(RequestContext::Id("1".into()));
    assert_eq!(
        decode(r#"{"type":"auth","token":"t"}"#).unwrap(),
        Command::Auth { request_context: None, token: "t".into() }
    );
    assert_eq!(
        decode(r#"{"type":"subscribe","id":1,"channel":"prices.AAPL","max_rate_ms":250,"future":true}"#)
            .unwrap(),
        Command::Subscribe {
            request_context: request_context.clone(),
            wanted: SubscribeRequest {
                channels: vec![Ok("prices.AAPL".into())],
                max_rate: Some(Duration::from_millis(250)),
                ..SubscribeRequest::default()
            },
        }
    );
    assert_eq!(
        decode(r#"{"type":"unsubscribe","id":"x","channels":["a","b"]}"#).unwrap(),
        Command::Unsubscribe {
            request_context: Some(RequestContext::Id("\"x\"".into())),
            channels: Some(vec![Ok("a".into()), Ok("b".into())]),
            group: Box::default(),
        }
    );
    assert_eq!(
        decode(r#"{"type":"publish","id":1,"channel":"c","data": {"a": 1} ,"headers":{"Nats-Msg-Id":"7"}}"#)
            .unwrap(),
        Command::Publish {
            request_context: request_context.clone(),
            channel: "c".into(),
            data: Bytes::from_static(b"{\"a\": 1}"),
            headers: vec![("Nats-Msg-Id".into(), "7".into())]
        }
    );
    assert_eq!(
        decode(r#"{"type":"request","id":1,"channel":"c","data":null,"headers":{"Content-Type":"a"},"timeout_ms":5}"#).unwrap(),
        Command::Request {
            request_context,
            channel: "c".into(),
            data: Bytes::from_static(b"null"),
            headers: vec![("Content-Type".into(), "a".into())],
            timeout: Some(Duration::from_millis(5))
        }
    );
    assert_eq!(
        decode(r#"{"type":"publish","channel":"c","data_base64":"AP8="}"#).unwrap(),
        Command::Publish {
            request_context: None,
            channel: "c".into(),
            data: Bytes::from_static(&[0, 255]),
            headers: vec![]
        }
    );
    assert_eq!(decode(r#"{"type":"ping"}"#).unwrap(), Command::Ping { request_context: None });
    assert_eq!(decode(r#"{"type":"pong"}"#).unwrap(), Command::Pong);
}

#[test]
fn errors_name_what_is_wrong() {
    for (text, words) in [
        ("", "not one JSON object"),
        ("[]", "not one JSON object"),
        ("{", "not one JSON object"),
        ("{} {}", "not one JSON object"),
        ("{}", "`type` is missing"),
        (r#"{"type":7}"#, "`type` must be a string"),
        (r#"{"type":"auth"}"#, "`token` is missing"),
        (r#"{"type":"subscribe"}"#, "`channel` or `channels` is missing"),
        (r#"{"type":"subscribe","channel":5}"#, "`channel` must be a string"),
        (r#"{"type":"subscribe","channels":[]}"#, "`channels` is empty"),
        (r#"{"type":"subscribe","channels":"a"}"#, "`channels` must be an array"),
        (r#"{"type":"subscribe","channel":"a","channels":["b"]}"#, "not both"),
        (r#"{"type":"subscribe","channel":"a","max_rate_ms":-1}"#, "`max_rate_ms` must be"),
        (r#"{"type":"subscribe","channel":"a","max_rate_ms":1e400}"#, "`max_rate_ms` must be"),
        (r#"{"type":"subscribe","channel":"a","max_rate_ms":60001}"#, "`max_rate_ms` must be at most 60000"),
        (
            r#"{"type":"subscribe","channel":"a","max_rate_ms":4294967295}"#,
            "`max_rate_ms` must be at most 60000",
        ),
        (r#"{"type":"subscribe","id":{},"channel":"a"}"#, "`id` must be"),
        (r#"{"type":"publish","channel":"a"}"#, "`data` is missing"),
        (r#"{"type":"publish","channel":"a","data_base64":"?"}"#, "not base64"),
        (r#"{"type":"publish","channel":"a","data":1,"headers":[]}"#, "`headers` must be"),
        (r#"{"type":"subscribe","channel":"a","since":7}"#, "`since` must be an object"),
        (r#"{"type":"subscribe","channel":"a","since":{"epoch":"e"}}"#, "`since` must be an object"),
        (r#"{"type":"subscribe","channel":"a","since":{"epoch":"","seq":1}}"#, "1 to 64 bytes"),
        (r#"{"type":"subscribe","channels":["a"],"since":{"epoch":"e","seq":1}}"#, "one `channel`"),
        (r#"{"type":"publish","channel":"a","data":1,"headers":{"a":1}}"#, "`headers` must be"),
    ] {
        let (code, message) = refused(text);
        assert_eq!(code, ErrorCode::BadRequest, "{text}");
        assert!(message.contains(words), "{text}: {message}");
    }
    assert_eq!(refused(r#"{"type":"nonsense"}"#).0, ErrorCode::UnknownType);
    for later in ["ack", "presence", "history"] {
        assert_eq!(refused(&format!(r#"{{"type":"{later}"}}"#)).0, ErrorCode::Unsupported);
    }
    for option in ["filter", "presence"] {
        let text = format!(r#"{{"type":"subscribe","channel":"a","{option}":{{}}}}"#);
        assert_eq!(refused(&text).0, ErrorCode::Unsupported);
    }
}

#[test]
fn the_id_of_a_bad_request_is_echoed() {
    let undecodable = decode(r#"{"type":"nonsense","id":"a\"b"}"#).unwrap_err();
    assert_eq!(undecodable.request_context, Some(RequestContext::Id(r#""a\"b""#.into())));
}

#[test]
fn ws_07_hostile_json() {
    let deep = format!(r#"{{"type":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let keys: String = (0..5_000).map(|n| format!(r#","k{n}":0"#)).collect();
    for text in [
        deep.as_str(),
        &format!(r#"{{"type":"ping"{keys}}}"#),
        r#"{"type":"ping","type":"pong"}"#,
        r#"{"type":"\ud800"}"#,
        "\u{feff}{\"type\":\"ping\"}",
        r#"{"type":"ping","id":1e}"#,
        r#"{"type":"ping","__proto__"}"#,
    ] {
        assert_eq!(refused(text).0, ErrorCode::BadRequest, "{}", &text[..text.len().min(60)]);
    }
    // Unknown members are ignored, whatever their names and values.
    assert!(decode(r#"{"type":"ping","__proto__":{"a":1},"n":1e400}"#).is_ok());
}

proptest! {
    #[test]
    fn decoding_never_panics(text in ".{0,200}") {
        let _ = decode(&text);
    }

    #[test]
    fn decoding_never_panics_on_json(text in r#"\{("(type|id|channel|channels|data|headers)":("[a-z.*>]{0,9}"|[0-9]{1,3}|null|\[\]|\{\}),?){0,6}\}"#) {
        let _ = decode(&text);
    }
}
