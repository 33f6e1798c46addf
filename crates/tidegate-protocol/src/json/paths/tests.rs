//! One pass finds the same parts as [`find`] finds path by path, in any text.

use proptest::prelude::*;

use super::*;

fn path(text: &str) -> Vec<Step> {
    text.split('.').map(Step::read).collect()
}

fn set(paths: &[Vec<Step>]) -> JsonPaths {
    JsonPaths::new(paths.iter().map(Vec::as_slice))
}

/// Compares the results of one pass with those of [`find`].
fn compare(json: &str, paths: &[Vec<Step>]) -> Result<(), TestCaseError> {
    let set = set(paths);
    let spans = JsonSpans::default();
    let parts = JsonParts::new(json, &set, &spans);
    for path in paths {
        prop_assert_eq!(parts.at(path), find(json, path), "{:?} in {}", path, json);
    }
    Ok(())
}

/// Names that are equal, spelled in several ways, numeric, or invalid strings.
fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a",
        "b",
        "ab",
        "",
        "0",
        "1",
        "00",
        "+1",
        "é",
        "\\u0061",
        "\\u00e9",
        "a\\u0062",
        "\\n",
        "\\\"",
        "\\\\",
        "\\ud83d\\ude00",
        "\\ud83d",
        "\\ude00",
        "\\ud83d\\u0061",
        "\\ud83da",
        "\\u00",
        "\\x",
    ])
}

fn scalar() -> impl Strategy<Value = String> {
    let scalars = [
        "1",
        "-0.5e+3",
        "0",
        "null",
        "true",
        "false",
        "\"\"",
        "\"a\\\"b\"",
        "\"]}\"",
        "\"\\ud83d\"",
        "01",
        "1.",
        "1e",
        "-",
        "nul",
        "tru",
        "\"\n\"",
        "\"a",
    ];
    // Most are valid JSON.
    prop_oneof![8 => prop::sample::select(scalars[..10].to_vec()), 1 => prop::sample::select(scalars.to_vec())]
        .prop_map(str::to_owned)
}

/// JSON, with few exceptions.
fn json() -> impl Strategy<Value = String> {
    scalar().prop_recursive(5, 60, 6, |inner| {
        let blank = || prop::sample::select(vec!["", "", "", " ", "\n\t"]);
        let member = (name(), blank(), inner.clone())
            .prop_map(|(name, blank, value)| format!("{blank}\"{name}\"{blank}:{blank}{value}{blank}"));
        prop_oneof![
            3 => prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(","))),
            1 => prop::collection::vec(inner, 0..4).prop_map(|elements| format!("[{}]", elements.join(","))),
        ]
    })
}

/// Paths, some of which extend others.
fn paths() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let names = vec!["a", "b", "ab", "", "0", "1", "00", "+1", "é", "\n", "\"", "\\", "😀", "c"];
    let step = prop::sample::select(names).prop_map(Step::read);
    prop::collection::vec(prop::collection::vec(step, 0..4), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn one_pass_finds_what_single_walks_find(json in json(), paths in paths()) {
        compare(&json, &paths)?;
    }

    #[test]
    fn it_finds_the_same_in_what_is_no_json(
        json in json(),
        cut in any::<prop::sample::Index>(),
        put in prop::sample::select(vec!["", "{", "}", "[", "]", ",", ":", "\"", "\\", "x", "é", " ", "0"]),
        is_replaced in any::<bool>(),
        paths in paths(),
    ) {
        let chars: Vec<char> = json.chars().collect();
        let cut = cut.index(chars.len() + 1);
        let after = (cut + usize::from(is_replaced)).min(chars.len());
        let broken: String = chars[..cut].iter().copied().chain(put.chars()).chain(chars[after..].iter().copied()).collect();
        compare(&broken, &paths)?;
        compare(&json[..json.floor_char_boundary(cut)], &paths)?;
    }

    #[test]
    fn it_finds_the_same_in_any_text(text in "[\\[\\]{}:,\"a0 \\\\u]{0,40}", paths in paths()) {
        compare(&text, &paths)?;
    }
}

#[test]
fn the_last_member_of_a_name_counts_with_all_that_is_in_it() {
    let paths = ["a", "a.b", "a.b.c", "a.d"].map(path);
    for json in [
        r#"{"a":{"b":{"c":1},"d":2},"a":3}"#,
        r#"{"a":{"b":{"c":1},"d":2},"a":{"b":4}}"#,
        r#"{"a":3,"a":{"b":{"c":1}}}"#,
        r#"{"a":{"b":{"c":1},"b":2,"\u0062":{"c":5}}}"#,
        r#"{"a":{"b":{"c":1},"\ud800":2,"d":3},"e":4}"#,
        r#"{"a":{"b":{"c":1,"\ud800":2}},"d":4}"#,
    ] {
        compare(json, &paths).unwrap();
    }
}

#[test]
fn deep_texts_need_no_deep_stack() {
    let deep = 100_000;
    let lists = format!("{}1{}", "[".repeat(deep), "]".repeat(deep));
    let objects = format!("{}1{}", "{\"a\":".repeat(deep), "}".repeat(deep));
    let paths = ["0", "0.0.0", "a", "a.a.a", "b"].map(path);
    for json in [
        &*lists,
        &objects,
        &format!("{{\"b\":{lists},\"a\":{objects}}}"),
        &"[".repeat(deep),
        &"{\"a\":".repeat(deep),
    ] {
        compare(json, &paths).unwrap();
    }
    let long: Vec<_> = (1..200).map(|steps| path(&vec!["a"; steps].join("."))).collect();
    compare(&format!("{}1{}", "{\"a\":".repeat(150), "}".repeat(150)), &long).unwrap();
}

#[test]
fn paths_that_are_too_many_are_followed_all_the_same() {
    let paths: Vec<_> = (0..MAX_NODES + 100).map(|number| path(&format!("n{number}.x"))).collect();
    let members: Vec<_> =
        (0..MAX_NODES + 100).map(|number| format!("\"n{number}\":{{\"x\":{number}}}")).collect();
    let set = set(&paths);
    assert_eq!(set.nodes.len(), MAX_NODES);
    compare(&format!("{{{}}}", members.join(",")), &paths).unwrap();
}

#[test]
fn a_set_of_no_paths_follows_each() {
    let (none, spans) = (JsonPaths::default(), JsonSpans::default());
    assert_eq!(JsonParts::new(r#"{"a":1}"#, &none, &spans).at(&path("a")), Some("1"));
}
