//! Mistakes in vocabularies, and what is said of them.

use super::*;

/// What is said of a file: keys and problems.
fn mistakes(text: &str) -> Vec<(String, String)> {
    let mistakes = compile(text).expect_err(text);
    mistakes.into_iter().map(|mistake| (mistake.key, mistake.problem)).collect()
}

#[test]
fn all_mistakes_of_a_file_are_said_at_once() {
    let text = r#"
        name = "Bad Name"
        [[path]]
        name = "a"
        path = "/ws/{b}"
        [[receive]]
        when = { type = "x" }
        do = "subscribe"
        channel = "c.{path.nobody}"
        sned = 1
        [[receive]]
        do = "jump"
    "#;
    let keys: Vec<String> = mistakes(text).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["name", "receive[0].channel", "receive[0].sned", "receive[1].do"]);
}
