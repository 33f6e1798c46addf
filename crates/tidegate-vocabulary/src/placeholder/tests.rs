//! Every placeholder with its value, and texts that are not placeholders.

use super::*;

/// Some values.
struct Values(Vec<(Source, SourceValue<'static>)>);

impl Resolve for Values {
    fn value(&self, source: &Source) -> Option<SourceValue<'_>> {
        self.0.iter().find(|(of, _)| of == source).map(|(_, value)| value.clone())
    }
}

fn at() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_728_124_200_123)
}

fn values() -> Values {
    let message = r#"{"symbols":["aapl","MSFT"],"n":1.50,"s":"a \"b\"","z":null,"digits":"7"}"#;
    Values(vec![
        (Source::User, SourceValue::Value(Value::Text("Zoë".into()))),
        (Source::Message, SourceValue::Value(Value::Json(message.into()))),
        (Source::Time, SourceValue::Time(at())),
        // Not all JSON values are borrowed.
        (Source::List, SourceValue::Value(Value::Json(String::from("[1,2]").into()))),
        (Source::Reply, SourceValue::Value(Value::Json(String::from(r#"{"a":[true]}"#).into()))),
    ])
}

/// A placeholder's value: text in quotes, JSON unchanged, `-` for no value.
fn shown(text: &str) -> String {
    let placeholder = Placeholder::parse(text, TimeFormat::Rfc3339).unwrap();
    match placeholder.value(&values()) {
        Some(Value::Text(text)) => format!("{text:?}"),
        Some(Value::Json(json)) => json.into_owned(),
        None => "-".to_owned(),
    }
}

#[test]
fn holes_have_values() {
    for (placeholder, value) in [
        ("user", "\"Zoë\""),
        ("user|upper", "\"ZOË\""),
        (" user | lower ", "\"zoë\""),
        ("msg.n", "1.50"),
        ("msg.n|string", "\"1.50\""),
        ("msg.s", r#""a \"b\"""#),
        ("msg.symbols", r#"["aapl","MSFT"]"#),
        ("msg.symbols.0|upper", "\"AAPL\""),
        ("msg.symbols.2", "-"),
        ("msg.z", "null"),
        ("msg.z|default:1", "-"),
        ("msg.z|optional", "-"),
        ("msg.digits|number", "7"),
        ("msg.s|number", "-"),
        ("msg.digits|json", "7"),
        ("msg.s|split", r#"["a \"b\""]"#),
        ("list", "[1,2]"),
        ("reply.a.0", "true"),
        ("list|string", "\"[1,2]\""),
        ("time", "\"2024-10-05T10:30:00Z\""),
        ("time|rfc3339_ms", "\"2024-10-05T10:30:00.123Z\""),
        ("time|naive", "\"2024-10-05T10:30:00\""),
        ("time|unix", "1728124200"),
        ("time|unix_ms", "1728124200123"),
        ("time|unix_ms|string", "\"1728124200123\""),
        ("now", "-"),
    ] {
        assert_eq!(shown(placeholder), value, "{placeholder}");
    }
}

#[test]
fn to_split_takes_nothing_away_but_blanks() {
    struct SourceValue(&'static str);
    impl Resolve for SourceValue {
        fn value(&self, _: &Source) -> Option<super::SourceValue<'_>> {
            Some(super::SourceValue::Value(Value::Text(self.0.into())))
        }
    }
    let placeholder = Placeholder::parse("query.symbols|split", TimeFormat::Rfc3339).unwrap();
    for (text, list) in [
        ("AAPL, MSFT ,", r#"["AAPL","MSFT",""]"#),
        ("AAPL\r\n,\tMSFT", r#"["AAPL\r\n","\tMSFT"]"#),
        ("\u{2028}AAPL\u{a0}", "[\"\u{2028}AAPL\u{a0}\"]"),
    ] {
        assert_eq!(placeholder.value(&SourceValue(text)).unwrap().to_json(), list);
    }
}

#[test]
fn what_is_no_hole_says_why() {
    for (text, error) in [
        ("", "there is no placeholder {}"),
        ("mgs.symbol", "there is no placeholder {mgs.symbol}"),
        ("user.x", "{user.x} is written {user}"),
        ("claims", "{claims} is written {claims.name}"),
        ("path", "{path} is written {path.name}"),
        ("path.a.b", "{path.a.b} is written {path.name}"),
        ("msg.", "{msg.} is written {msg.field}"),
        ("msg..a", "{msg..a} is written {msg.field}"),
        ("subject.x", "{subject.x} is written {subject.0}"),
        ("capture", "{capture} is written {capture.0}"),
        ("user|uper", "there is no filter \"uper\""),
        ("user|unix", "{user} is not a time, so \"unix\" means nothing"),
        ("user|default:1|optional", "\"default\" and \"optional\" exclude each other in {user}"),
    ] {
        let found = Placeholder::parse(text, TimeFormat::default()).unwrap_err();
        assert_eq!(found.to_string(), error, "{text}");
    }
}

#[test]
fn every_source_can_be_written_and_is_known_at_some_time() {
    for (name, form, _) in SOURCES {
        let placeholder = Placeholder::parse(form, TimeFormat::default()).unwrap();
        assert!(form.starts_with(name), "{name}");
        assert_eq!(placeholder.source.is_instant(), placeholder.time.is_some(), "{name}");
        let _: Scope = placeholder.source.scope();
    }
    assert_eq!(known_placeholders().count(), SOURCES.len());
    for filter in known_filters() {
        let placeholder = Placeholder::parse(&format!("time|{filter}:1"), TimeFormat::default());
        let bare = Placeholder::parse(&format!("time|{filter}"), TimeFormat::default());
        assert!(bare.is_ok() || placeholder.is_ok(), "{filter}");
    }
}
