//! The key and the priority that a class reads from payloads.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::class::Class;
use crate::class::DeliveryHeaders;
use crate::class::KeyScope;
use crate::class::Priority;
use crate::headers::PublicationHeaders;
use crate::publication::Publication;
use crate::subject::Pattern;

fn class() -> Class {
    let fields = PayloadFields::new(parse_key("data.item.symbol"), parse_path("data.priority"));
    Class { fields, priority: Priority::Low, ..Class::plain(Pattern::parse("room.*").unwrap()) }
}

fn terms(class: &Class, payload: &str, headers: DeliveryHeaders<'_>) -> (String, Priority) {
    let payload = Payload::classify(Bytes::copy_from_slice(payload.as_bytes()));
    let (key, priority) = class.key_and_priority(&Arc::from("room.a"), &payload, headers);
    (key.to_string(), priority)
}

#[test]
fn a_path_begins_with_data_and_names_a_field() {
    for path in ["", "data", "data.", "symbol", "msg.symbol", "data..symbol", "data.symbol.", "database.x"] {
        assert_eq!(parse_path(path), None, "{path}");
    }
    let steps = |count: usize| format!("data{}", ".a".repeat(count));
    assert_eq!(parse_path(&steps(MAX_STEPS)).unwrap().len(), MAX_STEPS);
    assert_eq!(parse_path(&steps(MAX_STEPS + 1)), None);
    assert_eq!(PayloadFields::new(None, None), None);
}

#[test]
fn a_text_or_a_number_is_the_key_within_the_subject() {
    let longest = "k".repeat(MAX_KEY_BYTES);
    let escaped = r"\u0041".repeat(MAX_KEY_BYTES);
    for (symbol, key) in [
        (r#""AAPL""#, Some("AAPL")),
        (r#""\u0041 B""#, Some("A B")),
        ("17", Some("17")),
        ("-1.50e3", Some("-1.50e3")),
        (&format!("\"{longest}\""), Some(&*longest)),
        (&format!("\"{escaped}\""), Some(&*"A".repeat(MAX_KEY_BYTES))),
        (&format!("\"{longest}k\""), None),
        (&format!("\"{}\"", "k".repeat(1_000_000)), None),
        (&"1".repeat(MAX_KEY_BYTES + 1), None),
        (r#""""#, None),
        ("null", None),
        ("true", None),
        (r#"["AAPL"]"#, None),
        (r#"{"a":"AAPL"}"#, None),
    ] {
        let payload = format!(r#"{{"price":1,"item":{{"symbol":{symbol}}}}}"#);
        let expected = key.map_or_else(|| "room.a".to_owned(), |key| format!("room.a {key}"));
        assert_eq!(terms(&class(), &payload, DeliveryHeaders::default()).0, expected, "{symbol:.40}");
    }
    for payload in ["{}", "text", "[]", "{\"item\":\"AAPL\"}", &"[".repeat(100_000)] {
        assert_eq!(terms(&class(), payload, DeliveryHeaders::default()).0, "room.a", "{payload:.40}");
    }
    let twice = r#"{"item":{"symbol":"A"},"item":{"symbol":"B"}}"#;
    assert_eq!(terms(&class(), twice, DeliveryHeaders::default()).0, "room.a B", "the last one counts");
    let by_channel = Class { key_scope: KeyScope::Channel, ..class() };
    assert_eq!(terms(&by_channel, twice, DeliveryHeaders::default()).0, "B");
}

#[test]
fn elements_of_a_list_have_keys_of_their_own() {
    let class = Class { fields: PayloadFields::new(parse_key("data[].symbol"), None), ..class() };
    let headers = DeliveryHeaders::default();
    let kept = |payload: &str, headers| {
        let subject: Arc<str> = "room.a".into();
        let payload = Payload::classify(Bytes::copy_from_slice(payload.as_bytes()));
        let (key, _) = class.key_and_priority(&subject, &payload, headers);
        let time = std::time::SystemTime::UNIX_EPOCH;
        let publication =
            Publication { subject, payload, headers: PublicationHeaders::default(), key, time, seq: 0 };
        let separate = publication.separate(&class);
        separate.map(|values| {
            let text = |value: &Publication| String::from_utf8_lossy(value.payload.bytes()).into_owned();
            values.iter().map(|value| (value.key.to_string(), text(value))).collect::<Vec<_>>()
        })
    };
    let of = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(key, json)| ((*key).to_owned(), (*json).to_owned())).collect::<Vec<_>>())
    };
    assert_eq!(
        kept(r#"[{"symbol":"A","n":1}, {"symbol":2},{"no":3},4]"#, headers),
        of(&[
            ("room.a A", r#"[{"symbol":"A","n":1}]"#),
            ("room.a 2", r#"[{"symbol":2}]"#),
            ("room.a", r#"[{"no":3}]"#),
            ("room.a", "[4]"),
        ])
    );
    assert_eq!(kept("[]", headers), of(&[]), "an empty list replaces nothing");
    for one in [r#"{"symbol":"A"}"#, "text", "7"] {
        assert_eq!(kept(one, headers), None, "{one}");
    }
    let list = |count: usize| format!("[{}]", vec![r#"{"symbol":"A"}"#; count].join(","));
    assert_eq!(kept(&list(MAX_KEYED_ELEMENTS), headers).unwrap().len(), MAX_KEYED_ELEMENTS);
    assert_eq!(kept(&list(MAX_KEYED_ELEMENTS + 1), headers), None);
    let given = DeliveryHeaders { key: Some("k"), priority: None };
    assert_eq!(kept(&list(2), given), None, "its producer gave it a key");
    assert_eq!(terms(&class, r#"{"symbol":"A"}"#, headers).0, "room.a A");
    assert_eq!(terms(&class, r#"[{"symbol":"A"},{"symbol":"B"}]"#, headers).0, "room.a [A,B]");
    let long = format!("[{}]", vec![r#"{"symbol":"AAPL"}"#; 100].join(","));
    assert_eq!(terms(&class, &long, headers).0, format!("room.a [{}]", ["AAPL"; 100].join(",")));
    for path in ["data[]", "data[].", "data[]symbol", "data[].a..b", "[].symbol", "data[].symbol."] {
        assert_eq!(parse_key(path), None, "{path}");
    }
}

#[test]
fn words_of_services_are_priorities_and_everything_else_is_normal() {
    for (priority, expected) in [
        (r#""urgent""#, Priority::High),
        (r#""HIGH""#, Priority::High),
        (r#""Critical""#, Priority::High),
        (r#""low""#, Priority::Low),
        (r#""normal""#, Priority::Normal),
        (r#""medium""#, Priority::Normal),
        ("1", Priority::Normal),
        ("null", Priority::Normal),
    ] {
        let payload = format!(r#"{{"priority":{priority}}}"#);
        assert_eq!(terms(&class(), &payload, DeliveryHeaders::default()).1, expected, "{priority}");
    }
    assert_eq!(terms(&class(), "{}", DeliveryHeaders::default()).1, Priority::Normal);
    let only_key = Class { fields: PayloadFields::new(parse_key("data.item.symbol"), None), ..class() };
    assert_eq!(terms(&only_key, r#"{"priority":"high"}"#, DeliveryHeaders::default()).1, Priority::Low);
}

#[test]
fn headers_win_unless_their_values_are_wrong() {
    let payload = r#"{"item":{"symbol":"AAPL"},"priority":"low"}"#;
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    for (key, priority, expected) in [
        (Some("mine"), Some("high"), ("room.a mine", Priority::High)),
        (None, Some("Normal"), ("room.a AAPL", Priority::Normal)),
        (Some(""), Some("urgent"), ("room.a AAPL", Priority::Low)),
        (Some(&*long), Some(""), ("room.a AAPL", Priority::Low)),
    ] {
        let found = terms(&class(), payload, DeliveryHeaders { key, priority });
        assert_eq!((found.0.as_str(), found.1), expected);
    }
    let plain = Class { fields: None, ..class() };
    let headers = DeliveryHeaders { key: Some("mine"), priority: Some("high") };
    assert_eq!(terms(&plain, payload, headers), ("room.a mine".to_owned(), Priority::High));
    assert_eq!(
        terms(&plain, payload, DeliveryHeaders::default()),
        ("room.a".to_owned(), Priority::Low),
        "that of the class"
    );
}
