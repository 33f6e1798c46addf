//! Values with dots in every place that may have them: messages, lists, paths, queries and HTTP subjects. The
//! vocabulary is that of `tests/transcripts/dotted`.

use std::sync::LazyLock;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::fuzz::Target;
use crate::route::PathIndex;
use crate::transcript::Transcript;
use crate::transcript::play::play;
use tidegate_protocol::headers::PublicationHeaders;
use tidegate_protocol::message::Command;
use tidegate_protocol::scratch::Scratch;

static FILE: LazyLock<String> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/transcripts/dotted/vocabulary.toml");
    std::fs::read_to_string(path).unwrap()
});

static DOTTED: LazyLock<Arc<CompiledVocabulary>> =
    LazyLock::new(|| Arc::new(compile(&FILE).unwrap().vocabulary));

/// Values in paths, percent-encoded, that are no list of tokens.
const HOSTILE: [&str; 18] = [
    "a..b",
    ".a",
    "a.",
    "..",
    ".",
    "*",
    ">",
    "a.*",
    "a.%2A",
    "a.%3E",
    "a%2E%2Eb",
    "%2Ea",
    "a.%252E",
    "a.%20",
    "a.%00",
    "a.%EF%BC%8A",
    "$SYS.x",
    "1.2.3.4.5.6.7.8.9",
];

fn is_accepted(path: &str) -> bool {
    DOTTED.bind(VocabularyId(1), path, None, |_| None).is_ok()
}

fn many_tokens(count: usize) -> String {
    vec!["x"; count].join(".")
}

#[test]
fn sub_02_a_dotted_parameter_is_refused_at_the_handshake_unless_each_token_is_valid() {
    for value in ["AAPL", "BRK.B", "brk%2Eb", "1.2.3.4.5.6.7.8", "BTC%2FUSD.x", "%5EGSPC"] {
        assert!(is_accepted(&format!("/symbol/{value}")), "{value}");
    }
    let long = format!("a.{}", "x".repeat(129));
    for value in HOSTILE.iter().copied().chain([&*long, &*many_tokens(300)]) {
        assert!(!is_accepted(&format!("/symbol/{value}")), "{value}");
        let matched = DOTTED.lookup(VocabularyId(1), "GET", &format!("/last/{value}"), None, |_| None);
        assert!(matches!(matched, Lookup::BadValue), "{value}");
        let matched = DOTTED.lookup(VocabularyId(1), "POST", &format!("/orders/{value}"), None, |_| None);
        assert!(matches!(matched, Lookup::BadValue), "{value}");
    }
    let matched = DOTTED.lookup(VocabularyId(1), "GET", "/last/BRK.B", None, |_| None);
    assert!(matches!(matched, Lookup::Found(_)));
}

#[test]
fn sub_02_a_parameter_that_is_one_token_elsewhere_or_compared_may_have_no_dots() {
    for path in ["/both", "/compared"] {
        assert!(is_accepted(&format!("{path}/AAPL")), "{path}");
        assert!(!is_accepted(&format!("{path}/BRK.B")), "{path}");
    }
    // A parameter of no subject is no token, and is free.
    assert!(is_accepted("/test/any.page"));
}

fn alice() -> Identity {
    Identity { user: "alice".into(), ..Identity::default() }
}

/// The channels that a list of symbols names.
fn named(symbols: &[String]) -> Vec<Result<String, ClientError>> {
    let binding = DOTTED.bind(VocabularyId(1), "/test/page", None, |_| None).unwrap();
    let (identity, elements) = (alice(), symbols.join(","));
    let scope = SessionScope { identity: Some(&identity), ..SessionScope::default() };
    let message = ClientMessage::Text(format!(r#"{{"do":"add","symbols":[{elements}]}}"#));
    match binding.decode(scope, &message) {
        Ok(Command::Subscribe { wanted, .. }) => wanted.channels,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sub_01_each_wrong_element_of_a_long_list_is_one_short_error() {
    let hostile = |at: usize| match at % 6 {
        0 => format!("\"a..{at}\""),
        1 => format!("\"{at}.*\""),
        2 => format!("\"{at}.>\""),
        3 => format!("\"$SYS.{at}\""),
        4 => format!("[{at}]"),
        _ => format!("\"BRK.{at}\""),
    };
    let symbols: Vec<String> = (0..10_000).map(hostile).collect();
    let channels = named(&symbols);
    assert_eq!(channels.len(), 10_000);
    for (at, channel) in channels.iter().enumerate() {
        match channel {
            Ok(channel) => assert_eq!((at % 6, &**channel), (5, &*format!("prices.BRK.{at}"))),
            Err(error) => {
                let element = format!("`symbols` has {} as element {}: each must be", symbols[at], at + 1);
                assert!(error.message.starts_with(&element), "{error:?}");
                assert!(error.message.len() < 200, "{error:?}");
            }
        }
    }
    let long = named(&[format!("\"{}\"", "a..".repeat(10_000)), format!("\"{}\"", many_tokens(300))]);
    for error in long.into_iter().map(Result::unwrap_err) {
        assert!(error.message.contains("…") && error.message.chars().count() < 400, "{error:?}");
    }
}

#[test]
fn voc_01_dotted_values_cannot_exceed_permissions() {
    let head = "# Title\npath: /test/page\nconnect: ann\n\
                identity ann: subscribe prices.* prices.*.*; deny-subscribe prices.NO.*; publish orders.ann.*\n";
    let forbidden = |message: &str, of: &str| {
        format!("> {message}\n< {{\"error\":\"forbidden\",\"of\":\"{of}\",\"text\":\"$text\"}}\n")
    };
    let lines = [
        forbidden(r#"{"do":"add","symbol":"no.x"}"#, "prices.NO.X"),
        forbidden(r#"{"do":"add","symbol":"a.b.c"}"#, "prices.A.B.C"),
        forbidden(r#"{"do":"order","symbol":"BRK.B","amount":1}"#, "orders.ann.BRK.B"),
        "> {\"do\":\"add\",\"symbol\":\"a.b\"}\n! join prices.A.B\n".to_owned(),
    ];
    let transcript = Transcript::parse(&format!("{head}{}", lines.concat())).unwrap();
    play(&transcript, Some(&DOTTED), Instant::now()).unwrap();
}

#[test]
fn the_item_of_a_channel_is_all_that_its_wildcard_covers() {
    for (channel, item) in [
        ("prices.AAPL", Some("AAPL")),
        ("prices.BRK.B", Some("BRK.B")),
        ("prices.*", Some("*")),
        ("prices.*.*", Some("*.*")),
        ("prices.>", Some(">")),
        ("notes.AAPL.all", Some("AAPL")),
        ("prices", None),
        ("other.x", None),
    ] {
        let found = DOTTED.item(PathIndex(0), &Pattern::parse(channel).unwrap());
        assert_eq!(found.as_deref(), item, "{channel}");
    }
}

#[test]
fn the_tokens_of_a_subject_are_shown_from_any_place_to_the_end() {
    let forms = ["0..", "1..", "3..", "4..", "18446744073709551615.."];
    let send = forms.map(|form| format!("\"{{subject.{form}}}\"")).join(",");
    let file = format!(
        "name = \"x\"\n[[path]]\nname = \"x\"\npath = \"/x\"\n[[deliver]]\npattern = \"a.>\"\nsend = [{send}]"
    );
    let vocabulary = compile(&file).unwrap().vocabulary;
    let publication = Publication {
        key: "k".into(),
        subject: "a.b.c.d".into(),
        payload: Payload::classify(Bytes::new()),
        headers: PublicationHeaders::default(),
        time: std::time::SystemTime::UNIX_EPOCH,
        seq: 0,
    };
    let Rendered::Frame(frame) =
        vocabulary.render(Route::Deliver(DeliverIndex(0)), &publication, &mut Scratch::default())
    else {
        panic!("the rule matches")
    };
    assert_eq!(frame.message(), br#"["a.b.c.d","b.c.d","d",null,null]"#);
}

/// Values that may have dots, wildcards and other characters in any place.
fn symbol() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec!["a", "BRK", "7", "^x=@"]).prop_map(String::from),
        5 => Just(".".to_owned()),
        1 => prop::sample::select(vec!["*", ">", "$SYS", "_INBOX", " ", "%2E", "%2A", "\u{ff0a}", ","])
            .prop_map(String::from),
        2 => (2_usize..10).prop_map(many_tokens),
        1 => hostile(),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The target panics if a subject is outside of its template, has a wildcard, or more than eight tokens in a place.
    #[test]
    fn sub_01_no_dotted_value_leaves_its_place(symbol in symbol(), other in symbol()) {
        let target = Target::new(&DOTTED);
        for message in [
            Json::from_iter([("do", Json::from("add")), ("symbols", vec![&*symbol, &*other].into())]),
            Json::from_iter([("do", "add"), ("symbol", &*symbol)]),
            Json::from_iter([("do", "watch"), ("symbol", &*symbol)]),
            Json::from_iter([("do", "order"), ("symbol", &*symbol), ("amount", "1")]),
            Json::from_iter([("do", "note"), ("symbols", &*symbol)]),
        ] {
            target.run(message.to_string().as_bytes(), true);
        }
        for text in [format!("/symbol/{symbol}"), format!("/both/{symbol}"), format!("symbols={symbol},{other}")] {
            target.run(text.as_bytes(), true);
        }
    }
}
