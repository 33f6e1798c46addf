//! No file, variable or flag causes a panic, and every message is one line.

use super::*;
use proptest::prelude::*;

fn assert_one_line_each(invalid: &InvalidConfig) {
    for error in &invalid.0 {
        for text in [&error.key, &error.origin, &error.message, &error.help] {
            assert!(!text.chars().any(char::is_control), "{error:?}");
            assert!(text.len() < 2000, "{error:?}");
        }
        assert!(!error.key.is_empty() && !error.origin.is_empty(), "{error:?}");
        assert!(!error.message.is_empty() && !error.help.is_empty(), "{error:?}");
    }
}

#[test]
fn values_that_would_break_a_message() {
    let evil = "a\nb\r\u{1b}[2J\u{0}\u{2028}\u{202e}\"'\\ü";
    let long = "x".repeat(100_000);
    for value in [evil, &long] {
        let found = load_all("", &[("TIDEGATE_HTTP__LISTEN", value)], &[(value, value)]).unwrap_err();
        assert_one_line_each(&found);
        assert_eq!(found.0.len(), 2);
        assert!(!found.to_string().contains('\u{202e}') && !found.to_string().contains('\u{2028}'));
    }
    let key = format!("\"{}\" = 1", "k".repeat(100_000));
    assert_one_line_each(&load_file(&key).unwrap_err());
    assert_one_line_each(&load_file("\"a\\nb\\u001b\" = 1\n[http]\n\"c\\rd\" = 2").unwrap_err());
}

#[test]
fn files_that_are_not_a_configuration() {
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let tables = format!("a = {}1{}", "{ a = ".repeat(100_000), " }".repeat(100_000));
    let big = format!("# {}", "x".repeat(1_048_576));
    for text in [
        deep.as_str(),
        &tables,
        &big,
        "\u{0}",
        "=",
        "[",
        "\"role[-9999999]\" = 1",
        "x = 99999999999999999999",
    ] {
        assert_one_line_each(&load_file(text).expect_err("it is not a configuration"));
    }
    let latin1 = Scratch::new(b"[log]\nfilter = \"\xe9\"");
    let found = load(&Sources { file: Some(latin1.0.clone()), ..Sources::default() }).unwrap_err();
    assert!(found.0[0].message.contains("not UTF-8"), "{found}");
    let endless =
        load(&Sources { file: Some(PathBuf::from("/dev/zero")), ..Sources::default() }).unwrap_err();
    assert!(endless.0[0].message.contains("more than"), "{endless}");
    assert_eq!(load_file("\u{feff}[server]\ndrain_s = 3").unwrap().config.server.drain.as_secs(), 3);
}

proptest! {
    #[test]
    fn no_value_of_any_key_causes_a_panic(index in any::<prop::sample::Index>(), value in ".{0,40}", flag in any::<bool>()) {
        let keys = known_keys();
        let names: Vec<&str> = keys.names().into_iter().filter(|name| keys.can_be_set(name)).collect();
        let key = *index.get(&names);
        let variable = format!("TIDEGATE_{}", key.to_uppercase().replace('.', "__"));
        let result = if flag {
            load_all("", &[], &[(key, &value)])
        } else {
            load_all("", &[(&variable, &value)], &[])
        };
        if let Err(invalid) = result {
            assert_one_line_each(&invalid);
        }
    }

    #[test]
    fn no_file_causes_a_panic(
        lines in prop::collection::vec(
            prop_oneof!["\\[\\[?(http|nats|auth|role|class|auth\\.key)\\]?\\]", "[a-z_]{1,10} = [-0-9\"\\[\\]{}a-z.=, ]{0,12}", ".{0,20}"],
            0..12,
        ),
    ) {
        if let Err(invalid) = load_file(&lines.join("\n")) {
            assert_one_line_each(&invalid);
        }
    }
}
