//! Errors of variables, flags and unreadable files, the order of errors, and how they are printed.

use super::*;
use crate::config::keys::RENAMED_KEYS;

/// Variables with wrong values or names.
const ENVIRONMENT: [(&str, &str); 10] = [
    ("TIDEGATE_HTTP__LISTEN", "here"),
    ("TIDEGATE_HTTP__CONSOLE", "perhaps"),
    ("TIDEGATE_SERVER__SHARDS", ""),
    ("TIDEGATE_HTTP_LISTEN", "0.0.0.0:80"),
    ("TIDEGATE_NATS__URI", "nats://a"),
    ("TIDEGATE_ROLE__NAME", "user"),
    ("TIDEGATE_CLASS[]__PATTERN", ">"),
    ("RUST_LOG", "a=b=c"),
    ("NATS_CREDS", "/nowhere/at/all.creds"),
    ("PORT", "http"),
];

/// The errors in them and in the flags: key, origin, and parts of the message and the help.
const IN_THE_ENVIRONMENT: [(&str, &str, &str, &str); 13] = [
    ("http.listen", "TIDEGATE_HTTP__LISTEN", "\"here\"", "both"),
    ("http.console", "TIDEGATE_HTTP__CONSOLE", "\"perhaps\"", "true or false"),
    ("server.shards", "TIDEGATE_SERVER__SHARDS", "\"\" is not a whole number", "from 0 to 1024"),
    (
        "TIDEGATE_HTTP_LISTEN",
        "environment",
        "no key belongs to this variable",
        "did you mean TIDEGATE_HTTP__LISTEN?",
    ),
    (
        "TIDEGATE_NATS__URI",
        "environment",
        "no key belongs to this variable",
        "did you mean TIDEGATE_NATS__URL?",
    ),
    ("TIDEGATE_ROLE__NAME", "environment", "no key belongs to this variable", "only the file can have lists"),
    (
        "TIDEGATE_CLASS[]__PATTERN",
        "environment",
        "no key belongs to this variable",
        "only the file can have lists",
    ),
    ("log.filter", "RUST_LOG", "\"a=b=c\" is not a log filter", "debug"),
    ("nats.creds_file", "NATS_CREDS", "No such file", "name a file"),
    ("http.listen", "PORT", "\"http\" is not a port", "from 0 to 65535"),
    ("limits.max_errors", "--set limits.max_errors", "\"0\" is out of range", "from 1 to 10000"),
    ("--set server.drain", "command line", "there is no such key", "did you mean --set server.drain_s?"),
    ("--set role[].name", "command line", "there is no such key", "remove it"),
];

#[test]
fn variables_and_flags_are_named_as_origins() {
    let flags = [("limits.max_errors", "0"), ("server.drain", "5"), ("role[].name", "x")];
    let found = load_all("", &ENVIRONMENT, &flags).unwrap_err().0;
    for (key, origin, message, help) in IN_THE_ENVIRONMENT {
        let error = found.iter().find(|error| error.key == key && error.origin == origin);
        let error = error.unwrap_or_else(|| panic!("no error about {key} from {origin}: {found:#?}"));
        assert!(error.message.contains(message) && error.help.contains(help), "{error:#?}");
    }
    assert_eq!(found.len(), IN_THE_ENVIRONMENT.len(), "{found:#?}");
}

#[test]
fn a_rule_between_keys_names_the_variable_that_broke_it() {
    let found = load_all("", &[("TIDEGATE_LIMITS__REQUEST_TIMEOUT_MAX_MS", "1999")], &[]).unwrap_err().0;
    assert_eq!((found.len(), found[0].origin.as_str()), (1, "TIDEGATE_LIMITS__REQUEST_TIMEOUT_MAX_MS"));
}

#[test]
fn a_section_that_is_not_a_table_is_an_error_even_if_a_variable_sets_its_key() {
    let found = load_all("http = 5", &[("TIDEGATE_HTTP__LISTEN", "1.2.3.4:5")], &[]).unwrap_err().0;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].key.as_str(), found[0].message.as_str()), ("http", "5 is not a table"));
}

#[test]
fn a_file_that_cannot_be_read_has_no_other_error() {
    let missing = Sources { file: Some(PathBuf::from("/nowhere/config.toml")), ..Sources::default() };
    let found = load(&missing).unwrap_err().0;
    assert_eq!((found.len(), found[0].origin.as_str()), (1, "/nowhere/config.toml"));
    assert!(found[0].message.contains("No such file"), "{found:#?}");

    let directory = Sources { file: Some(std::env::temp_dir()), ..Sources::default() };
    assert!(load(&directory).unwrap_err().0[0].message.contains("directory"));

    let environment = [("TIDEGATE_HTTP__LISTEN", "1.2.3.4:5"), ("TIDEGATE_X", "1")];
    let found = load_all("[http\nlisten = 1", &environment, &[]).unwrap_err().0;
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].message.starts_with("it is not TOML"), "{found:#?}");
    assert_eq!(found[0].place.map(|place| (place.line, place.column)), Some((1, 6)));
    assert_eq!(found[1].key, "TIDEGATE_X");
}

#[test]
fn an_error_starts_with_file_line_and_column() {
    let file = Scratch::new("[http]\n  listen = \"here\"\n");
    let printed =
        load(&Sources { file: Some(file.0.clone()), ..Sources::default() }).unwrap_err().to_string();
    let expected = format!(
        "error: {}:2:3: http.listen: \"here\" is not an IP address with a port\n  help: write both, such as",
        file.path()
    );
    assert!(printed.starts_with(&expected), "{printed}");
    let missing = Sources { file: Some(PathBuf::from("/nowhere/config.toml")), ..Sources::default() };
    let printed = load(&missing).unwrap_err().to_string();
    assert!(
        printed.starts_with("error: /nowhere/config.toml: the file cannot be read: No such file"),
        "{printed}"
    );
    let printed = load_all("", &[("TIDEGATE_HTTP__LISTEN", "here")], &[]).unwrap_err().to_string();
    assert!(printed.starts_with("error: TIDEGATE_HTTP__LISTEN: http.listen: \"here\""), "{printed}");
    let loaded = load_file("").unwrap();
    assert!(
        loaded.warnings[0].to_string().starts_with("auth.key: every WebSocket client will be rejected"),
        "{}",
        loaded.warnings[0]
    );
}

#[test]
fn errors_are_in_the_order_of_the_file() {
    let found = load_all("[log]\nformat = 1\n[[role]]\n[http]\nlisten = 1\n", &[("TIDEGATE_X", "1")], &[])
        .unwrap_err()
        .0;
    let keys: Vec<&str> = found.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["TIDEGATE_X", "log.format", "role[0].name", "http.listen"]);
}

#[test]
fn every_renamed_key_is_an_error_that_names_the_new_key() {
    let keys = known_keys();
    for (old, new) in RENAMED_KEYS {
        let is_known = |key: &str| keys.names().iter().any(|name| name.starts_with(key));
        assert!(is_known(new) && !is_known(old), "{old} {new}");
        let (section, name) = old.rsplit_once('.').unwrap();
        let file = match section.split_once("[]") {
            Some((list, rest)) => {
                format!("[[{list}]]\n{}.{name} = 1", rest.trim_start_matches('.')).replace("\n.", "\n")
            }
            None => format!("[{section}]\n{name} = 1"),
        };
        let found = load_file(&file).expect_err(old).0;
        let error = found.iter().find(|error| error.key == old.replace("[]", "[0]"));
        let error = error.unwrap_or_else(|| panic!("{file}: {found:#?}"));
        let new_name = new.rsplit('.').next().unwrap();
        assert_eq!(error.message, format!("`{name}` is called `{new_name}` now"));
        assert_eq!(error.help, format!("rename it to `{new_name}`"));
        if keys.can_be_set(new) {
            let variable = |key: &str| format!("TIDEGATE_{}", key.to_uppercase().replace('.', "__"));
            let found = load_all("", &[(&variable(old), "1")], &[(old, "1")]).expect_err(old).0;
            let message = format!("`{old}` is called `{new}` now");
            let [of_variable, of_flag] = &found[..] else { panic!("{found:#?}") };
            assert_eq!((&of_variable.key, &of_variable.message), (&variable(old), &message));
            assert_eq!(of_variable.help, format!("rename the variable to {}", variable(new)));
            assert_eq!((of_flag.key.as_str(), &of_flag.message), (format!("--set {old}").as_str(), &message));
            assert_eq!(of_flag.help, format!("write --set {new}"));
        }
    }
}
