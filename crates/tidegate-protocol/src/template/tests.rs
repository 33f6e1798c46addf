//! Tests of templates: what parses, what fills, and that no value can change a pattern's shape.

use std::borrow::Cow;

use proptest::prelude::*;

use super::PlaceholderValue;
use super::Template;
use super::TemplateError;
use crate::subject::SubjectError;

fn fill(template: &str, value: &str) -> Result<String, TemplateError> {
    let filled = Template::parse(template)?.fill(|_| Some(Cow::Borrowed(value)))?;
    Ok(filled.as_str().to_owned())
}

#[test]
fn placeholders_are_filled_by_their_path() {
    let template = Template::parse("org.{claims.org.id}.u-{sub}.*.>").unwrap();
    assert_eq!(template.placeholders().collect::<Vec<_>>(), ["claims.org.id", "sub"]);
    assert!(!template.is_static());
    assert_eq!(template.to_string(), template.as_str());
    let filled = template.fill(|placeholder| match placeholder {
        "sub" => Some(Cow::Borrowed("alice")),
        "claims.org.id" => Some(Cow::Owned("7".to_owned())),
        other => panic!("unknown placeholder {other}"),
    });
    assert_eq!(filled.unwrap().as_str(), "org.7.u-alice.*.>");
}

#[test]
fn a_template_without_placeholders_is_static() {
    let template = Template::parse("prices.*").unwrap();
    assert!(template.is_static());
    assert_eq!(template.fill(|_| None).unwrap().as_str(), "prices.*");
}

#[test]
fn a_placeholder_without_a_value_is_an_error() {
    let template = Template::parse("user.{sub}.>").unwrap();
    assert_eq!(template.fill(|_| None), Err(TemplateError::Missing { placeholder: "sub".to_owned() }));
}

/// Fills a template: `id` has these values, and most other placeholders their own name.
fn fill_each(template: &str, values: &[&str]) -> Result<Vec<String>, TemplateError> {
    let each = || PlaceholderValue::Each(values.iter().map(|value| Cow::Borrowed(*value)).collect());
    let lookup = |placeholder: &str| match placeholder {
        "id" => Some(each()),
        "none" => None,
        "no" => Some(PlaceholderValue::Each(Vec::new())),
        "xy" => Some(PlaceholderValue::Each(vec![Cow::Borrowed("x"), Cow::Borrowed("y")])),
        one => Some(PlaceholderValue::One(Cow::Owned(one.to_owned()))),
    };
    let filled = Template::parse(template)?.fill_each(lookup)?;
    Ok(filled.iter().map(|pattern| pattern.as_str().to_owned()).collect())
}

#[test]
fn a_list_makes_a_pattern_of_each_of_its_values() {
    for (template, values, patterns) in [
        ("prices.*", &["a"][..], &["prices.*"][..]),
        ("account.{id}.updates", &["a"], &["account.a.updates"]),
        ("account.{id}.updates", &["a", "7"], &["account.a.updates", "account.7.updates"]),
        ("account.{id}.updates", &[], &[]),
        ("account.{id}.{sub}", &["a", "b"], &["account.a.sub", "account.b.sub"]),
        ("{id}.x.{id}", &["a", "b"], &["a.x.a", "b.x.b"]),
        ("{id}.{xy}", &["a", "b"], &["a.x", "a.y", "b.x", "b.y"]),
        ("{id}.{no}", &["a"], &[]),
        ("u-{id}.>", &["a", "b"], &["u-a.>", "u-b.>"]),
    ] {
        assert_eq!(fill_each(template, values).unwrap(), patterns, "{template} {values:?}");
    }
    let missing = TemplateError::Missing { placeholder: "none".to_owned() };
    assert_eq!(fill_each("{id}.{none}", &[]), Err(missing));
}

#[test]
fn a_default_is_the_value_of_an_absent_placeholder_only() {
    for (template, values, patterns) in [
        ("account.{none|default:[]}.updates", &[][..], &[][..]),
        ("{id}.{none|default:[]}", &["a"], &[]),
        ("team.{none|default:all}.>", &[], &["team.all.>"]),
        ("u-{none|default:x}.{id}.{none|default:x}", &["a", "b"], &["u-x.a.x", "u-x.b.x"]),
        ("account.{id|default:[]}.updates", &["a", "b"], &["account.a.updates", "account.b.updates"]),
        ("team.{sub|default:all}.>", &[], &["team.sub.>"]),
    ] {
        assert_eq!(fill_each(template, values).unwrap(), patterns, "{template} {values:?}");
    }
    let bad = TemplateError::BadToken { placeholder: "id".to_owned() };
    assert_eq!(fill_each("account.{id|default:[]}", &["a.b"]), Err(bad), "a bad value is not absent");
    for template in ["account.{a|default:[]}", "team.{a|default:all}"] {
        let unusable = Template::parse(template).unwrap().fill_each(|_| Some(PlaceholderValue::Unusable));
        assert_eq!(unusable, Err(TemplateError::Missing { placeholder: "a".to_owned() }), "{template}");
    }
    let template = Template::parse("org.{org}.{accounts|default:[]}").unwrap();
    assert_eq!(template.placeholders().collect::<Vec<_>>(), ["org", "accounts"]);
    assert_eq!(template.required_placeholders().collect::<Vec<_>>(), ["org"]);
    assert_eq!(template.covering_pattern().as_str(), "org.*.*");
}

#[test]
fn sub_01_one_hostile_value_in_a_list_refuses_all_of_it() {
    let refused = Err(TemplateError::BadToken { placeholder: "id".to_owned() });
    for hostile in ["*", ">", "a.b", "", " ", "a\r\n", "\0", "é"] {
        for values in [&[hostile][..], &["a", hostile], &[hostile, "a"]] {
            assert_eq!(fill_each("account.{id}.updates", values), refused, "{values:?}");
        }
        assert_eq!(fill_each("{no}.{id}", &[hostile]), refused, "even where nothing would come of it");
    }
}

#[test]
fn lists_make_no_more_patterns_than_they_may() {
    let names: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let too_many =
        |placeholder: &str| Err(TemplateError::TooManyValues { placeholder: placeholder.to_owned() });
    assert_eq!(fill_each("{id}.a", &names[..64]).unwrap().len(), 64);
    assert_eq!(fill_each("{id}.a", &names), too_many("id"));
    assert_eq!(fill_each("{id}.{xy}", &names[..32]).unwrap().len(), 64);
    assert_eq!(fill_each("{id}.{xy}", &names[..33]), too_many("xy"));
    assert_eq!(fill_each("{no}.{id}", &names), too_many("id"));
}

#[test]
fn malformed_templates() {
    let placeholder = |placeholder: &str| placeholder.to_owned();
    let cases = [
        ("user.{sub", TemplateError::Unclosed),
        ("user.sub}", TemplateError::Unopened),
        ("user.{sub}}", TemplateError::Unopened),
        ("user.{}", TemplateError::BadPlaceholder { placeholder: placeholder("") }),
        ("user.{{sub}}", TemplateError::BadPlaceholder { placeholder: placeholder("{sub") }),
        ("user.{a..b}", TemplateError::BadPlaceholder { placeholder: placeholder("a..b") }),
        ("user.{a b}", TemplateError::BadPlaceholder { placeholder: placeholder("a b") }),
        ("user.{*}", TemplateError::BadPlaceholder { placeholder: placeholder("*") }),
        ("user.{sub|lower}", TemplateError::BadPlaceholder { placeholder: placeholder("sub|lower") }),
        ("user.{a|default}", TemplateError::BadPlaceholder { placeholder: placeholder("a|default") }),
        ("user.{a|default:}", TemplateError::BadPlaceholder { placeholder: placeholder("a|default:") }),
        ("user.{a|default:*}", TemplateError::BadPlaceholder { placeholder: placeholder("a|default:*") }),
        ("user.{a|default:x.y}", TemplateError::BadPlaceholder { placeholder: placeholder("a|default:x.y") }),
        ("user.{a|default:[x]}", TemplateError::BadPlaceholder { placeholder: placeholder("a|default:[x]") }),
        ("user.{|default:[]}", TemplateError::BadPlaceholder { placeholder: placeholder("|default:[]") }),
        ("{a|default:[]}.{a}", TemplateError::TwoDefaults { placeholder: placeholder("a") }),
        ("{a|default:x}.{b}.{a|default:y}", TemplateError::TwoDefaults { placeholder: placeholder("a") }),
        ("{a}{b}", TemplateError::TwoPlaceholders { placeholder: placeholder("b") }),
        ("{a}-{b}.c", TemplateError::TwoPlaceholders { placeholder: placeholder("b") }),
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
fn messages_show_the_placeholder_as_it_is_written() {
    let missing = TemplateError::Missing { placeholder: "sub".to_owned() };
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
            let refused = Err(TemplateError::BadToken { placeholder: "sub".to_owned() });
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
