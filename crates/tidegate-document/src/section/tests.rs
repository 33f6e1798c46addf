//! Reading sections: values, errors, their messages and their places.

use super::*;
use crate::diagnostics::Findings;
use crate::node::Value;
use crate::parse::parse;
use crate::section::lists::Commas;

/// The printed diagnostics of reading a file.
fn diagnostics_of(text: &str, read: impl FnOnce(&Section<'_>)) -> Vec<String> {
    let root = parse(text).unwrap();
    let diagnostics = Diagnostics::of_file(&root, "x.toml");
    let section = Section::root(&diagnostics);
    read(&section);
    section.end(|_| None);
    let Findings { errors, warnings } = diagnostics.finish();
    errors.iter().chain(&warnings).map(ToString::to_string).collect()
}

#[test]
fn each_error_of_a_file_is_reported_once_in_the_order_of_the_file() {
    let text = "lisen = 1\nname = 7\n\nallow = ['a', 5]\n[[rule]]\nafter_s = 99\n[rule.inner]\nx = 1\n[[rule]]\nword = 'opne'\n";
    let found = diagnostics_of(text, |root| {
        root.error("missing", "is missing", "write it");
        root.warning("allow", "is long");
        for _ in 0..2 {
            root.text("name");
        }
        root.texts("allow", Commas::Text);
        root.get("listen");
        for rule in root.tables("rule").unwrap_or_default() {
            let rule = rule.noted(" (when …)".to_owned());
            rule.duration("after_s", 1..=60, Some(Duration::from_secs(5)));
            rule.choice("word", &[("open", 1), ("shut", 2)]);
            rule.required("name", "name it");
            rule.table("inner").into_iter().for_each(|inner| inner.end(|_| None));
            rule.end(|_| None);
        }
    });
    assert_eq!(
        found,
        [
            "x.toml: missing: is missing\n  help: write it",
            "x.toml:1:1: lisen: there is no such key\n  help: did you mean \"listen\"? the known keys are allow, listen, name, rule",
            "x.toml:2:1: name: 7 is not a text\n  help: write it between quotation marks",
            "x.toml:4:15: allow[1]: 5 is not a text\n  help: write it between quotation marks",
            "x.toml:5:1: rule[0].name (when …): is missing\n  help: name it",
            "x.toml:6:1: rule[0].after_s (when …): 99 is out of range\n  help: write a whole number of seconds from 1 to 60 (default: 5)",
            "x.toml:8:1: rule[0].inner.x (when …): there is no such key\n  help: the known keys are ",
            "x.toml:9:1: rule[1].name (when …): is missing\n  help: name it",
            "x.toml:10:1: rule[1].word (when …): \"opne\" is not an allowed value\n  help: did you mean \"open\"? write \"open\" or \"shut\"",
            "x.toml:4:1: allow: is long",
        ]
    );
}

#[test]
fn values_of_another_kind_are_reported_in_one_way() {
    for (text, message) in [
        ("a = []", "a list is neither true nor false"),
        ("a = 'true'", "\"true\" is neither true nor false"),
        ("a = 1.5", "1.5 is neither true nor false"),
    ] {
        assert!(
            diagnostics_of(text, |root| assert_eq!(root.boolean("a"), None))[0].contains(message),
            "{text}"
        );
    }
    for (text, message) in [
        ("a = '5'", "\"5\" is not a whole number"),
        ("a = 1979-05-27", "1979-05-27 is not a whole number"),
        ("a = -1", "-1 is out of range"),
        ("a = 8", "8 is out of range"),
    ] {
        let found = diagnostics_of(text, |root| assert_eq!(root.whole("a", 0..=7, " of bytes", ""), None));
        assert!(found[0].contains(message), "{text}: {found:?}");
        assert!(found[0].ends_with("write a whole number of bytes from 0 to 7"), "{found:?}");
    }
    let found = diagnostics_of("a = { b = 1 }\nc = [1]\nd = 5", |root| {
        assert_eq!(root.texts("a", Commas::Text), None);
        assert!(root.tables("c").unwrap().is_empty());
        assert!(root.table("d").is_none());
    });
    let messages =
        ["a table is not a text or a list of texts", "c[0]: 1 is not a table", "d: 5 is not a table"];
    assert!(found.iter().zip(messages).all(|(found, message)| found.contains(message)), "{found:?}");
    assert_eq!(found.len(), 3);
}

#[test]
fn the_text_of_a_variable_can_be_a_value_of_any_kind() {
    let of_variable = |text: &str| Node {
        value: Value::Text(text.to_owned()),
        origin: Some("TIDEGATE_A".to_owned()),
        place: None,
    };
    let mut root = parse("a = 1\nb = 'x'\n[[list]]\n").unwrap();
    if let Value::Table(table) = &mut root.value {
        table.0[0].1 = of_variable(" 7 ");
        table.0.push(("on".to_owned(), of_variable("Yes")));
        table.0.push(("off".to_owned(), of_variable("perhaps")));
    }
    let diagnostics = Diagnostics::of_layers(&root, "x.toml");
    let section = Section::root(&diagnostics);
    assert_eq!(section.whole("a", 0..=9, "", ""), Some(7));
    assert_eq!((section.boolean("on"), section.boolean("off")), (Some(true), None));
    section.whole("b", 0..=9, "", "");
    section.error("gone", "is missing", "write it");
    section.tables("list").unwrap()[0].error("name", "is missing", "write it");
    let printed: Vec<_> = diagnostics.finish().errors.iter().map(ToString::to_string).collect();
    // A missing key has the origin of the defaults; in an element of a list, that of the file.
    assert_eq!(
        printed.iter().map(|printed| printed.lines().next().unwrap()).collect::<Vec<_>>(),
        [
            "TIDEGATE_A: off: \"perhaps\" is neither true nor false",
            "gone: is missing",
            "x.toml:2:1: b: \"x\" is not a whole number",
            "x.toml:3:1: list[0].name: is missing",
        ]
    );
}

#[test]
fn commas_separate_texts_only_on_request() {
    let root = parse("a = ' x, y,,'").unwrap();
    let diagnostics = Diagnostics::of_file(&root, "");
    let section = Section::root(&diagnostics);
    let texts = |commas| {
        section.texts("a", commas).unwrap().into_iter().map(|element| element.text).collect::<Vec<_>>()
    };
    assert_eq!(texts(Commas::Separate), ["x", "y"]);
    assert_eq!(texts(Commas::Text), [" x, y,,"]);
}

#[test]
fn an_unknown_key_is_reported_on_one_line_and_shortened() {
    let found = diagnostics_of(&format!("\"a\\nb\" = 1\n{} = 1", "k".repeat(1000)), |_| {});
    assert!(found[0].starts_with("x.toml:1:1: a\\nb: there is no such key"), "{found:?}");
    assert!(found[1].starts_with("x.toml:2:1: kkk") && found[1].len() < 200, "{found:?}");
}
