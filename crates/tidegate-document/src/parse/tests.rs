//! Parsing files: the values, and the places of their keys.

use super::*;

fn at(text: &str, key: &str) -> Option<(usize, usize)> {
    parse(text).unwrap().place_of(key).map(|place| (place.line, place.column))
}

const FILE: &str = "\
# A file.
[http]
listen = \"x\"
console = 7
[auth]
\"role_claim\" = 1
[[role]]
name = \"a\"
subscribe = { allow = [\"a\", \"é\", \"c\"] }
[[role]]
 name = \"b\"
[role.publish]
allow = [
  \"a\",
  \"b\",
]
[[auth.key]]
kid = 1
";

#[test]
fn keys_are_found_where_they_are() {
    for (key, place) in [
        ("http", (2, 2)),
        ("http.listen", (3, 1)),
        ("http.console", (4, 1)),
        ("auth.role_claim", (6, 1)),
        ("role[0].name", (8, 1)),
        ("role[0].subscribe.allow", (9, 15)),
        ("role[0].subscribe.allow[1]", (9, 29)),
        ("role[0].subscribe.allow[2]", (9, 34)),
        ("role[1].name", (11, 2)),
        ("role[1].publish.allow[1]", (15, 3)),
        ("auth.key[0].kid (when {\"a\":1})", (18, 1)),
    ] {
        assert_eq!(at(FILE, key), Some(place), "{key}");
        assert!(parse(FILE).unwrap().find(key).is_some(), "{key}");
    }
}

#[test]
fn a_missing_key_has_the_place_of_its_table() {
    for (key, place) in [
        ("http.port", (2, 2)),
        ("role[0].nmae", (7, 1)),
        ("role[1].subscribe.allow[0]", (10, 1)),
        ("role[1].publish.deny[0]", (12, 7)),
        ("auth.key[0].secret", (17, 1)),
        ("auth.key[7].secret", (17, 8)),
    ] {
        assert_eq!(at(FILE, key), Some(place), "{key}");
        assert_eq!(parse(FILE).unwrap().find(key), None, "{key}");
    }
    for key in ["nats.url", "", "x", "[", "]."] {
        assert_eq!(at(FILE, key), None, "{key}");
    }
}

#[test]
fn invalid_toml_has_the_place_of_the_error() {
    let broken = parse("[http]\nlisten = \"a\"\nconsole = \n").unwrap_err();
    assert_eq!(broken.place, Place { line: 3, column: 11 });
    assert!(broken.message.starts_with("it is not TOML: "), "{broken:?}");
    for (text, column) in [("a = 9223372036854775808", 5), ("a = [1e999]", 6)] {
        let broken = parse(text).unwrap_err();
        assert_eq!(broken.place, Place { line: 1, column }, "{text}");
        assert!(broken.message.contains("the number is too large"), "{broken:?}");
    }
}

#[test]
fn values_keep_their_kinds_and_keys_their_order() {
    let text =
        "z = 'a'\ny = 0x1F\nx = 1.5\nw = true\nv = 1979-05-27\nu = [1, [2]]\nt = { b = 1, a = 2 }\ns = inf\n";
    let file = parse(text).unwrap();
    let shown: Vec<_> =
        file.table().unwrap().iter().map(|(key, node)| (key.to_owned(), node.describe())).collect();
    let expected = [
        ("z", "\"a\""),
        ("y", "31"),
        ("x", "1.5"),
        ("w", "true"),
        ("v", "1979-05-27"),
        ("u", "a list"),
        ("t", "a table"),
        ("s", "inf"),
    ];
    assert_eq!(shown, expected.map(|(key, shown)| (key.to_owned(), shown.to_owned())));
    let inner: Vec<_> = file.find("t").unwrap().table().unwrap().iter().map(|(key, _)| key).collect();
    assert_eq!(inner, ["b", "a"]);
}
