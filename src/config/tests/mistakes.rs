//! Every mistake is found, all in one run, each with its key, its origin and its cure.

use super::*;

/// What a mistake must say: its key, and parts of its problem and of its cure.
struct Said(&'static str, &'static str, &'static str);

fn check(found: &[Diagnostic], origin: &str, expected: &[Said]) {
    for Said(key, problem, cure) in expected {
        let said = found.iter().find(|mistake| mistake.key == *key && mistake.message.contains(problem));
        let said = said.unwrap_or_else(|| panic!("no mistake about {key} says {problem}: {found:#?}"));
        assert!(said.help.contains(cure), "{said:#?}");
        assert_eq!(said.origin, origin, "{said:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

/// What is wrong in `mistakes.toml`.
const IN_THE_FILE: [Said; 26] = [
    Said("shards", "no such key", "did you mean `server.shards`?"),
    Said("http.listen", "\"localhost\" is not an IP address with a port", "\"127.0.0.1:8080\""),
    Said("http.consle", "no such key", "did you mean `http.console`?"),
    Said("nats.servers", "no such key", "did you mean `nats.url`?"),
    Said("nats.user", "without a password", "nats.token"),
    Said("auth.anonymous_role", "\"usr\" is not the name of a role", "did you mean \"user\"?"),
    Said("auth.max_token_bytes", "\"8192\" is not a whole number", "from 256 to 65536 (default: 8192)"),
    Said("auth.key[0].algorithm", "\"RS256\" is not supported yet", "HS256"),
    Said("auth.key[0].secret", "has 5 bytes", "openssl rand"),
    Said("role[0].subscribe.allow[0]", "\"a..b\" is not a template", "user.{sub}.>"),
    Said("role[0].subscribe.allow[1]", "\"$SYS.>\" is in the system's own part", "remove it"),
    Said("role[0].subscribe.allow[2]", "7 is not a text", "quotation marks"),
    Said("role[1].name", "\"user\" is that of role[0] too", "under one [[role]]"),
    Said("class[0].pattern", "is missing", "pattern = \"prices.>\""),
    Said("class[0].kind", "\"latets\" is not an allowed value", "did you mean \"latest\"?"),
    Said("class[1].kind", "\"reliable\" needs stored subjects", "\"buffer\""),
    Said("class[1].history", "`history` needs stored subjects", "remove the key"),
    Said("class[2].max_rate_ms", "only the kind \"latest\"", "kind = \"latest\""),
    Said("class[2].pattern", "\"prices.>\" is that of class[1] too", "under one [[class]]"),
    Said("endpoint[0].path", "\"/healthz\" is a path of Tidegate's own", "choose another"),
    Said("endpoint[0].vocabulary", "\"natvie\" is not a word", "did you mean \"native\"?"),
    Said("server.drain_s", "-1 is out of range", "of seconds from 0 to 600 (default: 10)"),
    Said("limits.max_headers", "1000000 is out of range", "from 16 to 1024"),
    Said("limits.inbound_burst_bytes", "(2048) is less than limits.max_message_bytes", "raise the first"),
    Said("limits.write_timeout_s", "1.5 is not a whole number", "from 1 to 60"),
    Said("log.format", "true is not a text", "quotation marks"),
];

#[test]
fn a_file_with_many_mistakes_yields_them_all() {
    let file = Scratch::new(include_str!("mistakes.toml"));
    let found = load(&Sources { file: Some(file.0.clone()), ..Sources::default() }).unwrap_err();
    check(&found.0, file.path(), &IN_THE_FILE);
    let said = found.to_string();
    assert_eq!(said.lines().count(), 2 * found.0.len());
    assert!(said.ends_with('\n'));
    let text: Vec<&str> = include_str!("mistakes.toml").lines().collect();
    for mistake in &found.0 {
        let place = mistake.place.unwrap_or_else(|| panic!("{mistake}"));
        assert!(said.contains(&format!("error: {}:{place}: {}: ", file.path(), mistake.key)), "{said}");
        // The line has the key, or is that of the table that lacks it.
        let name = mistake.key.rsplit('.').next().unwrap().split('[').next().unwrap();
        let line = text[place.line - 1];
        assert!(line.contains(name) || line.starts_with("[["), "{mistake}: {line}");
    }
}

/// Variables with mistakes.
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

/// What is wrong in them and in the flags: key, origin, and parts of the problem and of the cure.
const IN_THE_ENVIRONMENT: [(&str, &str, &str, &str); 13] = [
    ("http.listen", "TIDEGATE_HTTP__LISTEN", "\"here\"", "both"),
    ("http.console", "TIDEGATE_HTTP__CONSOLE", "\"perhaps\"", "true or false"),
    ("server.shards", "TIDEGATE_SERVER__SHARDS", "\"\" is not a whole number", "from 0 to 1024"),
    (
        "TIDEGATE_HTTP_LISTEN",
        "environment",
        "no key for this variable",
        "did you mean TIDEGATE_HTTP__LISTEN?",
    ),
    ("TIDEGATE_NATS__URI", "environment", "no key for this variable", "did you mean TIDEGATE_NATS__URL?"),
    ("TIDEGATE_ROLE__NAME", "environment", "no key for this variable", "in the file only"),
    ("TIDEGATE_CLASS[]__PATTERN", "environment", "no key for this variable", "in the file only"),
    ("log.filter", "RUST_LOG", "\"a=b=c\" is not a log filter", "debug"),
    ("nats.creds_file", "NATS_CREDS", "No such file", "name a file"),
    ("http.listen", "PORT", "\"http\" is not a port", "from 0 to 65535"),
    ("limits.max_errors", "--set limits.max_errors", "\"0\" is out of range", "from 1 to 10000"),
    ("--set server.drain", "command line", "no key for this flag", "did you mean --set server.drain_s?"),
    ("--set role[].name", "command line", "no key for this flag", "remove it"),
];

#[test]
fn variables_and_flags_are_named_as_origins() {
    let flags = [("limits.max_errors", "0"), ("server.drain", "5"), ("role[].name", "x")];
    let found = load_all("", &ENVIRONMENT, &flags).unwrap_err().0;
    for (key, origin, problem, cure) in IN_THE_ENVIRONMENT {
        let said = found.iter().find(|mistake| mistake.key == key && mistake.origin == origin);
        let said = said.unwrap_or_else(|| panic!("nothing about {key} from {origin}: {found:#?}"));
        assert!(said.message.contains(problem) && said.help.contains(cure), "{said:#?}");
    }
    assert_eq!(found.len(), IN_THE_ENVIRONMENT.len(), "{found:#?}");
}

#[test]
fn words_that_come_later_say_so() {
    for (key, need) in [
        ("history", "stored subjects"),
        ("ack", "stored subjects"),
        ("stream", "stored subjects"),
        ("live", "stored subjects"),
        ("presence", "presence"),
        ("filter", "filters"),
    ] {
        let mistake = mistake_in(&format!("[[class]]\npattern = \"a\"\n{key} = \"x\""));
        assert_eq!(mistake.key, format!("class[0].{key}"));
        let expected = format!("`{key}` needs {need}, which this version does not have yet");
        assert_eq!((mistake.message.as_str(), mistake.help.as_str()), (expected.as_str(), "remove the key"));
    }
    for algorithm in ["HS512", "RS256", "PS384", "ES256", "EdDSA"] {
        let mistake =
            mistake_in(&format!("[[auth.key]]\nalgorithm = \"{algorithm}\"\nsecret = \"{SECRET}\""));
        assert_eq!(mistake.message, format!("\"{algorithm}\" is not supported yet"));
    }
}

#[test]
fn a_feed_is_by_subject_or_by_a_pattern_that_names_something() {
    let class = |pattern, feed| format!("[[class]]\npattern = \"{pattern}\"\nfeed = \"{feed}\"");
    let unknown = mistake_in(&class("user.*", "wildcard"));
    assert_eq!(
        (unknown.key.as_str(), unknown.message.as_str()),
        ("class[0].feed", "\"wildcard\" is not an allowed value")
    );
    assert!(unknown.help.ends_with("write \"subject\" or \"pattern\""), "{}", unknown.help);
    let near = mistake_in(&class("user.*", "patern"));
    assert!(near.help.starts_with("did you mean"), "{}", near.help);
    for everywhere in [">", "*", "*.>", "*.*"] {
        let mistake = mistake_in(&class(everywhere, "pattern"));
        assert_eq!(mistake.key, "class[0].feed");
        assert!(
            mistake.message.contains("nearly all that NATS carries"),
            "{everywhere}: {}",
            mistake.message
        );
        assert!(mistake.help.contains("feed = \"subject\""), "{}", mistake.help);
    }
}

#[test]
fn acl_01_and_sub_05_system_subjects_are_never_allowed() {
    for subject in [
        "$SYS.>",
        "$JS.API.>",
        "$KV.a",
        "_INBOX.>",
        "_INBOX_tidegate.x",
        "_live.a",
        "tidegate.control",
        "_R_.a",
    ] {
        for operation in ["subscribe", "publish", "request"] {
            let mistake =
                mistake_in(&format!("[[role]]\nname = \"a\"\n{operation} = {{ allow = [\"{subject}\"] }}"));
            assert_eq!(mistake.key, format!("role[0].{operation}.allow[0]"), "{subject}");
        }
        load_file(&format!("[[role]]\nname = \"a\"\nsubscribe = {{ deny = [\"{subject}\"] }}"))
            .expect(subject);
    }
    load_file("[[role]]\nname = \"a\"\nsubscribe = { allow = [\">\", \"live.a\", \"tidegates.a\"] }")
        .unwrap();
}

#[test]
fn tables_and_lists_in_the_wrong_places() {
    let cases = [
        ("http = 5", "http", "5 is not a table"),
        ("[[http]]\nlisten = \"1.2.3.4:5\"", "http", "a list is not a table"),
        ("[role]\nname = \"a\"", "role", "a table is not a list of tables"),
        ("role = [1]", "role[0]", "1 is not a table"),
        ("[[role]]\nname = \"a\"\nsubscribe = [\"a\"]", "role[0].subscribe", "a list is not a table"),
        (
            "[[role]]\nname = \"a\"\nsubscribe = { allow = { a = 1 } }",
            "role[0].subscribe.allow",
            "a table is not a list",
        ),
        ("[nats]\nurl = []", "nats.url", "there is no address"),
        ("[nats]\nurl = [\"a\", [\"b\"]]", "nats.url[1]", "a list is not a text"),
        ("[nats]\nurl = [\"a\", \"http://b\"]", "nats.url[1]", "\"http://b\" has a scheme"),
        ("[http.listen]\nport = 1", "http.listen", "a table is not a text"),
        ("[http]\nlisten = 1979-05-27", "http.listen", "\"1979-05-27\" is not an IP address"),
        ("\"http.listen\" = \"1.2.3.4:5\"", "http.listen", "a section is not a part of its keys"),
        ("[limits]\nmax_errors = nan", "limits.max_errors", "NaN is not a whole number"),
    ];
    for (file, key, problem) in cases {
        let mistake = mistake_in(file);
        assert_eq!(mistake.key, key, "{file}");
        assert!(mistake.message.contains(problem), "{file}: {mistake}");
    }
}

#[test]
fn a_section_that_is_no_table_is_a_mistake_even_where_a_variable_would_replace_it() {
    let found = load_all("http = 5", &[("TIDEGATE_HTTP__LISTEN", "1.2.3.4:5")], &[]).unwrap_err().0;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].key.as_str(), found[0].message.as_str()), ("http", "5 is not a table"));
}

#[test]
fn paths_of_endpoints() {
    let with = |path: &str| format!("[[endpoint]]\npath = \"{path}\"");
    for path in ["/ws", "/a/b", "/ws/v1.0", "/~x", "/health"] {
        assert_eq!(load_file(&with(path)).expect(path).config.endpoints[0].path, path);
    }
    for path in [
        "", "ws", "/", "/healthz", "/readyz", "//", "/a//b", "/a/", "/../a", "/a?b", "/a#b", "/ü", "/%61",
        "/a b",
    ] {
        assert_eq!(mistake_in(&with(path)).key, "endpoint[0].path", "{path}");
    }
    assert_eq!(load_file("endpoint = []").unwrap().config.endpoints, Config::default().endpoints);
    let twice = mistake_in(&format!("{}\n{}", with("/ws"), with("/ws")));
    assert_eq!(
        (twice.key.as_str(), twice.message.as_str()),
        ("endpoint[1].path", "\"/ws\" is that of endpoint[0] too")
    );
}

#[test]
fn a_file_that_cannot_be_read_is_the_only_thing_said_about_it() {
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
fn rules_between_keys() {
    let file = "[nats]\nrequest_timeout_ms = 500\n[limits]\nrequest_timeout_max_ms = 499";
    let mistake = mistake_in(file);
    assert_eq!(mistake.key, "nats.request_timeout_ms");
    assert!(mistake.message.contains("limits.request_timeout_max_ms (499)"), "{mistake}");
    load_file(&file.replace("499", "500")).unwrap();

    let message = mistake_in("[limits]\nmax_message_bytes = 131073");
    assert_eq!(message.key, "limits.max_message_bytes", "what was written is named, not our default");
    let longest = load_all("", &[("TIDEGATE_LIMITS__REQUEST_TIMEOUT_MAX_MS", "1999")], &[]).unwrap_err().0;
    assert_eq!(longest[0].origin, "TIDEGATE_LIMITS__REQUEST_TIMEOUT_MAX_MS");

    let keys = format!("[[auth.key]]\nsecret = \"{SECRET}\"\n[[auth.key]]\nsecret = \"{SECRET}\"");
    assert_eq!(mistake_in(&keys).message, "\"main\" is that of auth.key[0] too");

    let prefix = |prefix: &str| format!("[nats]\ninbox_prefix = \"{prefix}\"");
    for wrong in ["", "inbox", "_INBOX.*", "_INBOX.>", "_INBOX.", "_INBOX a"] {
        assert_eq!(mistake_in(&prefix(wrong)).key, "nats.inbox_prefix", "{wrong}");
    }
    assert_eq!(load_file(&prefix("_INBOX.edge")).unwrap().config.nats.inbox_prefix, "_INBOX.edge");
}

#[test]
fn a_message_says_file_line_and_column_and_nothing_twice() {
    let file = Scratch::new("[http]\n  listen = \"here\"\n");
    let said = load(&Sources { file: Some(file.0.clone()), ..Sources::default() }).unwrap_err().to_string();
    let expected = format!(
        "error: {}:2:3: http.listen: \"here\" is not an IP address with a port\n  help: write both, such as",
        file.path()
    );
    assert!(said.starts_with(&expected), "{said}");
    let missing = Sources { file: Some(PathBuf::from("/nowhere/config.toml")), ..Sources::default() };
    let said = load(&missing).unwrap_err().to_string();
    assert!(said.starts_with("error: /nowhere/config.toml: it cannot be read: No such file"), "{said}");
    let said = load_all("", &[("TIDEGATE_HTTP__LISTEN", "here")], &[]).unwrap_err().to_string();
    assert!(said.starts_with("error: TIDEGATE_HTTP__LISTEN: http.listen: \"here\""), "{said}");
    let loaded = load_file("").unwrap();
    assert!(
        loaded.warnings[0].to_string().starts_with("auth.key: there is neither"),
        "{}",
        loaded.warnings[0]
    );
}

#[test]
fn mistakes_come_in_the_order_of_the_file() {
    let found = load_all("[log]\nformat = 1\n[[role]]\n[http]\nlisten = 1\n", &[("TIDEGATE_X", "1")], &[])
        .unwrap_err()
        .0;
    let keys: Vec<&str> = found.iter().map(|mistake| mistake.key.as_str()).collect();
    assert_eq!(keys, ["TIDEGATE_X", "log.format", "role[0].name", "http.listen"]);
}

#[test]
fn a_vocabulary_in_place_of_a_configuration_is_recognised() {
    let said = mistakes_in("[[receive]]\ndo = \"ignore\"\n[[deliver]]\npattern = \"a\"");
    assert!(
        said.len() == 2 && said.iter().all(|mistake| mistake.help.contains("key of a vocabulary")),
        "{said:#?}"
    );
}
