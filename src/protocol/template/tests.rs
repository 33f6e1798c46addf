//! Tests of templates: what parses, what fills, and that no value can change a pattern's shape.

use std::borrow::Cow;

use proptest::prelude::*;

use super::Template;
use super::TemplateError;
use crate::protocol::subject::SubjectError;

fn fill(template: &str, value: &str) -> Result<String, TemplateError> {
    let filled = Template::parse(template)?.fill(|_| Some(Cow::Borrowed(value)))?;
    Ok(filled.as_str().to_owned())
}

#[test]
fn holes_are_filled_by_their_path() {
    let template = Template::parse("org.{claims.org.id}.u-{sub}.*.>").unwrap();
    assert_eq!(template.holes().collect::<Vec<_>>(), ["claims.org.id", "sub"]);
    assert!(!template.is_static());
    assert_eq!(template.to_string(), template.as_str());
    let filled = template.fill(|hole| match hole {
        "sub" => Some(Cow::Borrowed("alice")),
        "claims.org.id" => Some(Cow::Owned("7".to_owned())),
        other => panic!("unknown hole {other}"),
    });
    assert_eq!(filled.unwrap().as_str(), "org.7.u-alice.*.>");
}

#[test]
fn a_template_without_holes_is_static() {
    let template = Template::parse("prices.*").unwrap();
    assert!(template.is_static());
    assert_eq!(template.fill(|_| None).unwrap().as_str(), "prices.*");
}

#[test]
fn a_hole_without_a_value_is_an_error() {
    let template = Template::parse("user.{sub}.>").unwrap();
    assert_eq!(template.fill(|_| None), Err(TemplateError::Missing { hole: "sub".to_owned() }));
}

#[test]
fn malformed_templates() {
    let hole = |hole: &str| hole.to_owned();
    let cases = [
        ("user.{sub", TemplateError::Unclosed),
        ("user.sub}", TemplateError::Unopened),
        ("user.{sub}}", TemplateError::Unopened),
        ("user.{}", TemplateError::BadHole { hole: hole("") }),
        ("user.{{sub}}", TemplateError::BadHole { hole: hole("{sub") }),
        ("user.{a..b}", TemplateError::BadHole { hole: hole("a..b") }),
        ("user.{a b}", TemplateError::BadHole { hole: hole("a b") }),
        ("user.{*}", TemplateError::BadHole { hole: hole("*") }),
        ("user.{sub|lower}", TemplateError::BadHole { hole: hole("sub|lower") }),
        ("{a}{b}", TemplateError::TwoHoles { hole: hole("b") }),
        ("{a}-{b}.c", TemplateError::TwoHoles { hole: hole("b") }),
        ("", TemplateError::Pattern(SubjectError::Empty)),
        ("user..{sub}", TemplateError::Pattern(SubjectError::EmptyToken { position: 2 })),
        ("user.*{sub}", TemplateError::Pattern(SubjectError::WildcardInToken { position: 2 })),
        ("user.>.{sub}", TemplateError::Pattern(SubjectError::TailNotLast)),
        ("user. {sub}", TemplateError::Pattern(SubjectError::BadCharacter { character: ' ' })),
    ];
    for (text, error) in cases {
        assert_eq!(Template::parse(text), Err(error), "{text}");
    }
}

#[test]
fn messages_show_the_hole_as_it_is_written() {
    let missing = TemplateError::Missing { hole: "sub".to_owned() };
    assert!(missing.to_string().contains("\"{sub}\""), "{missing}");
    let bad = fill("user.{sub}", "a.b").unwrap_err().to_string();
    assert!(bad.contains("\"{sub}\"") && bad.contains("128") && !bad.contains("a.b"), "{bad}");
}

#[test]
fn sub_01_a_value_becomes_one_token_or_is_refused() {
    let long = "a".repeat(300);
    let just_too_long = "a".repeat(129);
    let hostile = [
        "*",
        ">",
        "a.b",
        "a.>",
        "",
        " ",
        "a b",
        " a",
        "a ",
        "\t",
        "a\r\nPUB x 1",
        "%2E",
        "\0",
        "a\0",
        "＊",
        "．",
        "..",
        ".",
        "a\u{2028}",
        "é",
        "{sub}",
        "$JS",
        "a/b",
        "a|b",
        "a,b",
        &long,
        &just_too_long,
    ];
    for value in hostile {
        for template in ["user.{sub}.notifications", "u-{sub}"] {
            let refused = Err(TemplateError::BadToken { hole: "sub".to_owned() });
            assert_eq!(fill(template, value), refused, "{value:?}");
        }
    }
    let longest = "a".repeat(128);
    for value in ["7", "alice", "a_b-c=d@e:f", "AAPL", "_", "-", &longest] {
        assert_eq!(fill("user.{sub}.notifications", value), Ok(format!("user.{value}.notifications")));
        assert_eq!(fill("u-{sub}", value), Ok(format!("u-{value}")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sub_01_no_value_changes_the_shape(value in prop_oneof![any::<String>(), "[a-z0-9_=@:.*>-]{0,6}"]) {
        for template in ["user.{sub}.notifications", "u-{sub}", "*.{sub}.>"] {
            let wildcards = |text: &str| text.matches(['*', '>']).count();
            let tokens = |text: &str| text.split('.').count();
            if let Ok(filled) = fill(template, &value) {
                prop_assert_eq!(tokens(&filled), tokens(template));
                prop_assert_eq!(wildcards(&filled), wildcards(template));
                prop_assert!(filled.contains(&value));
            }
        }
    }

    #[test]
    fn parsing_never_panics(text in "[a{}.*>|\\PC]{0,12}") {
        if let Ok(template) = Template::parse(&text) {
            prop_assert!(template.fill(|_| Some(Cow::Borrowed("x"))).is_ok());
        }
    }
}
