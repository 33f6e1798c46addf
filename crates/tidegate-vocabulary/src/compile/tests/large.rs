//! Files that are too large, and values that are too long for a diagnostic: these are written by the test.

use super::*;
use crate::language::rules::MAX_ON_CONNECT;
use crate::language::rules::MAX_TABLES;

/// Two paths, the second with a parameter.
const HEAD: &str = r#"
name = "test"

[[path]]
name = "main"
path = "/ws"

[[path]]
name = "one"
path = "/ws/{symbol}"
"#;

/// The mistakes in a file with these sections after the paths.
fn mistakes(sections: &str) -> Vec<Diagnostic> {
    compile(&format!("{HEAD}{sections}")).unwrap_err()
}

/// The only diagnostic is this one.
fn check(found: &[Diagnostic], key: &str, message: &str, help: &str) {
    let [only] = found else { panic!("{found:#?}") };
    assert_eq!([&*only.key, &*only.message, &*only.help], [key, message, help]);
}

#[test]
fn a_section_may_not_be_repeated_without_limit() {
    let rules: String = (0..=MAX_TABLES)
        .map(|at| format!("[[receive]]\nwhen = {{ type = \"{at}\" }}\ndo = \"ignore\"\n"))
        .collect();
    let help = "split the frontend into two endpoints";
    check(&mistakes(&rules), "receive", "there are more than 256 [[receive]]", help);
    let endless = mistakes(&"[[deliver]]\n".repeat(10_000));
    assert_eq!(endless.len(), 1 + 2 * MAX_TABLES as usize, "the rest is not read");
}

#[test]
fn a_path_has_at_most_16_actions_on_connect() {
    let action = "[[path.on_connect]]\ndo = \"subscribe\"\nchannel = \"a\"\n";
    let deliver = "[[deliver]]\npattern = \"a\"\nsend = 1";
    let most = action.repeat(MAX_ON_CONNECT as usize);
    compile(&format!("{HEAD}{most}{deliver}")).unwrap();
    let found = mistakes(&format!("{most}{action}{deliver}"));
    check(&found, "path[1].on_connect", "has more than 16 actions", "use `each` or `channels`");
}

#[test]
fn a_template_has_a_limited_size() {
    let message = "a message may have 64 placeholders, 16 KiB of text and 32 levels";
    for send in [format!("[{}]", "\"{user}\",".repeat(65)), format!("\"{}\"", "x".repeat(17_000))] {
        let found = mistakes(&format!("[greeting]\nsend = {send}"));
        check(&found, "greeting.send", message, "make the message smaller, or split it into several");
    }
}

#[test]
fn a_long_when_is_cut_in_the_key_of_a_diagnostic() {
    let when = format!("{{ type = \"{}\" }}", "é".repeat(400));
    let found = mistakes(&format!("[[receive]]\nwhen = {when}\ndo = 1"));
    assert!(found[0].key.starts_with("receive[0].do (when {\"type\":\"éé"), "{found:?}");
    assert!(found[0].key.ends_with("é…)") && found[0].key.chars().count() < 190, "{found:?}");
}
