//! What values become in subjects: one token, up to eight tokens with `dotted`, or nothing.

use proptest::prelude::*;

use super::*;
use crate::placeholder::SourceValue;
use crate::tests::hostile::NO_LISTS_OF_TOKENS;

struct Said(&'static str);

impl Resolve for Said {
    fn value(&self, source: &Source) -> Option<SourceValue<'_>> {
        (*source == Source::Message).then(|| SourceValue::Value(Value::Json(self.0.into())))
    }
}

fn filled(template: &str, message: &'static str) -> String {
    let channel = Channel::compile(template).unwrap();
    channel.fill(&Said(message)).unwrap_or_else(|error| match error {
        FillError::Missing(placeholder) => format!("{} is missing", placeholder.name),
        FillError::NotAToken(placeholder, _) => format!("{} is no token", placeholder.name),
    })
}

#[test]
fn a_value_becomes_one_token() {
    assert_eq!(filled("prices.{msg.s}", r#"{"s":"AAPL"}"#), "prices.AAPL");
    assert_eq!(filled("prices.{msg.s|upper}.x", r#"{"s":"eur/usd"}"#), "prices.EUR/USD.x");
    assert_eq!(filled("u-{msg.s}", r#"{"s":7}"#), "u-7");
    assert_eq!(filled("r.{msg.s|default:all}", "{}"), "r.all");
    assert_eq!(filled("r.{msg.s}", "{}"), "msg.s is missing");
    assert_eq!(filled("r.{msg.s}", r#"{"s":null}"#), "msg.s is missing");
}

#[test]
fn sub_01_a_value_that_is_no_token_names_nothing() {
    let hostile = [
        r#""*""#,
        r#"">""#,
        r#""a.b""#,
        r#""""#,
        r#"" ""#,
        r#""a b""#,
        r#""\u0000""#,
        r#""a\u2028""#,
        r#""a\n""#,
        r#""a*""#,
        r#""\u002a""#,
        r#""\uff0a""#,
        r#""%2E""#,
        "1.5",
        "true",
        "[]",
        r#"["a"]"#,
        "{}",
        r#"{"a":1}"#,
        "-1e3",
    ];
    for value in hostile {
        let message: &'static str = format!("{{\"s\":{value}}}").leak();
        assert_eq!(filled("r.{msg.s}", message), "msg.s is no token", "{value}");
    }
    let long: &'static str = format!("{{\"s\":\"{}\"}}", "x".repeat(MAX_TOKEN_BYTES + 1)).leak();
    assert_eq!(filled("r.{msg.s}", long), "msg.s is no token");
}

#[test]
fn what_is_no_template_is_refused() {
    for text in
        ["", "a..b", "{msg.a}{msg.b}", "a.{msg.a}-{item}", "a.{msg.a|optional}", "a b", "a.{x", ">.{item}"]
    {
        assert!(Channel::compile(text).is_err(), "{text}");
    }
    assert_eq!(Channel::compile("a.b-{item}.*.{user}").unwrap().reach().as_str(), "a.*.*.*");
}

#[test]
fn sub_01_a_dotted_value_becomes_up_to_eight_tokens() {
    assert_eq!(filled("prices.{msg.s|dotted}", r#"{"s":"AAPL"}"#), "prices.AAPL");
    assert_eq!(filled("prices.{msg.s|upper|dotted}", r#"{"s":"brk.b"}"#), "prices.BRK.B");
    assert_eq!(filled("prices.{msg.s|dotted|upper}", r#"{"s":"brk.b"}"#), "prices.BRK.B");
    assert_eq!(filled("p.{msg.s|dotted}", r#"{"s":"1.2.3.4.5.6.7.8"}"#), "p.1.2.3.4.5.6.7.8");
    assert_eq!(filled("p.{msg.s|dotted}", r#"{"s":7}"#), "p.7");
    assert_eq!(filled("p.{msg.s|dotted|default:BRK.B}", "{}"), "p.BRK.B");
    assert_eq!(filled("p.{msg.s|dotted}", "{}"), "msg.s is missing");
    let longest: &'static str = format!("{{\"s\":\"{0}.{0}\"}}", "x".repeat(MAX_TOKEN_BYTES)).leak();
    assert_eq!(filled("p.{msg.s|dotted}", longest).len(), "p..".len() + 2 * MAX_TOKEN_BYTES);
}

#[test]
fn sub_01_a_dotted_value_that_is_no_list_of_tokens_names_nothing() {
    let long = format!("a.{}", "x".repeat(MAX_TOKEN_BYTES + 1));
    let many = vec!["x"; 300].join(".");
    let texts = NO_LISTS_OF_TOKENS.into_iter().chain(["", &long, &many]).map(json::string);
    // JSON has several ways to write a character.
    let values =
        [r#""a.\u002a""#, r#""a.\u0000""#, r#""a.\uff0a""#, "1.5", "-1e3", "true", "[]", r#"["a.b"]"#];
    let values = values.into_iter().chain([r#"{"a":1}"#]).map(str::to_owned);
    for value in texts.chain(values) {
        let message: &'static str = format!("{{\"s\":{value}}}").leak();
        assert_eq!(filled("r.{msg.s|dotted}", message), "msg.s is no token", "{value}");
        // Without the filter, a value with a dot is refused as ever.
        assert_eq!(filled("r.{msg.s}", message), "msg.s is no token", "{value}");
    }
}

#[test]
fn voc_01_only_a_whole_last_place_may_be_dotted() {
    for text in [
        "{msg.a|dotted}.x",
        "a.{msg.a|dotted}.>",
        "a.{msg.a|dotted}*",
        "a.{msg.a|dotted}.*.*",
        "a.{msg.a|dotted}.*.{msg.b}",
        "a.{msg.a|dotted}.{user}",
        "a.x{msg.a|dotted}",
        "a.{msg.a|dotted}x",
        "a.{msg.a|dotted|optional}",
        "a.{user|dotted}",
        "a.{claims.x|dotted}",
        "a.{header.x|dotted}",
        "a.{sub.x|dotted}",
        "a.{now|dotted}",
        "a.>.{msg.a|dotted}",
    ] {
        assert!(Channel::compile(text).is_err(), "{text}");
    }
    for (text, reach) in [
        ("a.{msg.a|dotted}", "a.>"),
        ("{msg.a|dotted}", ">"),
        ("a.{user}.{item|dotted}", "a.*.>"),
        ("a.*.{path.x|upper|dotted}", "a.*.>"),
        ("a.x-{msg.b}.{query.x|dotted}", "a.*.>"),
        ("a.{var.x|dotted}", "a.>"),
        ("a.{msg.a|dotted}.*", "a.>"),
    ] {
        let channel = Channel::compile(text).unwrap();
        assert_eq!(channel.reach().as_str(), reach);
        assert!(channel.dotted().is_some_and(|placeholder| placeholder.name.len() >= 4), "{text}");
        assert_eq!(channel.is_wild(), text.contains('*'), "{text}");
    }
    assert!(Channel::compile("a.{msg.a}").unwrap().dotted().is_none());
}

/// Texts of tokens, dots, wildcards and other characters.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec!["a", "BRK", "7", "_-=@:/+^&#~", "x-y"]).prop_map(String::from),
        6 => Just(".".to_owned()),
        1 => prop::sample::select(vec!["*", ">", "$", " ", "\0", "\u{ff0a}", "..", "{", "%2E"]).prop_map(String::from),
        1 => ".{0,3}",
        2 => (2_usize..10).prop_map(|tokens| vec!["a"; tokens].join(".")),
        1 => (120_usize..140).prop_map(|length| "x".repeat(length)),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// A client that sends one text.
struct Text(String);

impl Resolve for Text {
    fn value(&self, source: &Source) -> Option<SourceValue<'_>> {
        (*source == Source::Item).then(|| SourceValue::Value(Value::Text(self.0.as_str().into())))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn sub_01_whatever_a_client_sends_a_dotted_place_has_one_to_eight_tokens(text in any_text()) {
        for (template, before) in [("a.b.{item|dotted}", 2), ("a.{item|upper|dotted}", 1), ("{item|dotted}", 0)] {
            let channel = Channel::compile(template).unwrap();
            let one_token = Channel::compile(&template.replace("|dotted", "")).unwrap();
            let Ok(subject) = channel.fill(&Text(text.clone())) else {
                prop_assert!(one_token.fill(&Text(text.clone())).is_err(), "a token is dotted too");
                continue;
            };
            let pattern = Pattern::parse(&subject).unwrap();
            prop_assert!(pattern.is_literal() && channel.reach().covers(&pattern), "{subject}");
            let tokens: Vec<&str> = pattern.tokens().skip(before).collect();
            prop_assert!((1..=MAX_DOTTED_TOKENS).contains(&tokens.len()), "{subject}");
            prop_assert!(tokens.iter().all(|token| is_token(token)), "{subject}");
            // Only a value without a dot is the value of a placeholder without the filter.
            prop_assert_eq!(one_token.fill(&Text(text.clone())).is_ok(), tokens.len() == 1);
        }
    }
}
