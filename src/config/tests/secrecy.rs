//! No secret is ever printed: not in an error, not in a warning, not in `Debug`.

use super::*;
use crate::config::auth::key::SAMPLE_SECRETS;

/// Unlikely enough to be found by search, and short enough to be refused as a key.
const SENTINEL: &str = "hunter2-s3ntinel";

fn printed(result: Result<Loaded, InvalidConfig>) -> String {
    match result {
        Ok(loaded) => {
            let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
            format!("{loaded:?} {loaded:#?} {warnings:?}")
        }
        Err(errors) => format!("{errors} {errors:?} {errors:#?}"),
    }
}

#[test]
fn a_configuration_that_is_right_prints_none() {
    let file = Scratch::new(format!("{SENTINEL}-{SECRET}"));
    let path = file.path();
    let long = format!("{SENTINEL}-{SECRET}");
    let files = [
        format!("[nats]\nuser = \"ann\"\npassword = \"{SENTINEL}\""),
        format!("[nats]\ntoken = \"{SENTINEL}\""),
        format!("[nats]\ntoken_file = \"{path}\""),
        format!("[nats]\nurl = \"nats://ann:{SENTINEL}@host\""),
        format!("[nats]\nurl = [\"nats://{SENTINEL}@host\"]"),
        format!("[auth]\nhmac_secret = \"{long}\""),
        format!("[[auth.key]]\nsecret = \"{long}\""),
        format!("[[auth.key]]\nsecret_file = \"{path}\""),
        format!("[traces]\nheaders = \"Authorization={SENTINEL}\""),
    ];
    for file in files {
        let printed = printed(Ok(load_file(&file).expect(&file)));
        assert!(printed.contains("***"), "{printed}");
        assert!(!printed.contains(SENTINEL), "{printed}");
    }
}

#[test]
fn jwt_09_a_mistake_prints_none() {
    let file = Scratch::new(SENTINEL);
    let path = file.path();
    let files = [
        format!("[nats]\npassword = \"{SENTINEL}\""),
        format!("[nats]\npasword = \"{SENTINEL}\""),
        format!("[nats]\npassword = [\"{SENTINEL}\"]"),
        format!("[nats]\nuser = \"ann\"\npassword = \"{SENTINEL}\"\ntoken = \"{SENTINEL}\""),
        format!("[nats]\nurl = \"nats://ann:{SENTINEL}@host:port\""),
        format!("[nats]\nurl = \"nats://ann:{SENTINEL},{SENTINEL}@host\""),
        format!("[nats]\nurl = \"nats://ann:{SENTINEL}/%zz@host\""),
        format!("[nats]\nurl = [\"http://ann:{SENTINEL}@host\", \"{SENTINEL} \"]"),
        format!("[auth]\nhmac_secret = \"{SENTINEL}\""),
        format!("[auth]\nhmac_secret = {{ a = \"{SENTINEL}\" }}"),
        format!("[[auth.key]]\nsecret = \"{SENTINEL}\""),
        format!("[[auth.key]]\nsecret_file = \"{path}\""),
        format!("[[auth.key]]\nsecrets = \"{SENTINEL}\""),
        format!("[[auth.key]]\nsecret = \"{SENTINEL}"),
        format!("[[auth.key]]\nsecret = {SENTINEL}"),
        format!("[[auth.key]]\nsecret = \"\\q{SENTINEL}\""),
        format!("[[auth.key]]\nsecret = \"{SENTINEL}\"\nsecret = \"{SENTINEL}\""),
        format!("[[auth.key]]\nsecret = '''\n{SENTINEL}\n"),
        format!("hmac_secret = \"{SENTINEL}\""),
        format!("[traces]\nheaders = \"{SENTINEL}\""),
        format!("[traces]\nendpoint = \"http://ann:{SENTINEL}@collector\""),
    ];
    for file in files {
        let errors = load_file(&file).expect_err(&file);
        let printed = printed(Err(errors));
        assert!(!printed.contains("hunter2") && !printed.contains("s3ntinel"), "{file}: {printed}");
    }
    let variables =
        ["TIDEGATE_NATS__PASSWORD", "TIDEGATE_NATS__PASWORD", "TIDEGATE_AUTH__HMAC_SECRET", "NATS_PASSWORD"];
    for name in variables {
        for value in [SENTINEL.to_owned(), format!("{SENTINEL}\u{fffd}")] {
            let printed = printed(load_all("", &[(name, &value)], &[]));
            assert!(printed.contains(name) && !printed.contains(SENTINEL), "{printed}");
        }
    }
    let printed = printed(load_all("", &[], &[("nats.password", SENTINEL), ("nats.pass", SENTINEL)]));
    assert!(printed.contains("--set nats.pass") && !printed.contains(SENTINEL), "{printed}");
}

#[test]
fn jwt_09_weak_and_documented_secrets_are_refused() {
    let with = |secret: &str| load_all("", &[("TIDEGATE_AUTH__HMAC_SECRET", secret)], &[]);
    for sample in SAMPLE_SECRETS {
        let found = with(sample).expect_err(sample).0;
        assert!(found[0].message.contains("sample"), "{found:?}");
        assert!(sample.len() >= 32, "a shorter one is refused for its length");
    }
    let found = with(&"x".repeat(31)).unwrap_err().0;
    assert_eq!(
        (found[0].key.as_str(), found[0].origin.as_str()),
        ("auth.hmac_secret", "TIDEGATE_AUTH__HMAC_SECRET")
    );
    assert!(found[0].message.contains("31 bytes") && found[0].help.contains("openssl rand"), "{found:?}");
    with(&"x".repeat(32)).unwrap();
    with(&"é".repeat(16)).unwrap();
    assert_eq!(with("").unwrap().config.auth.keys, [], "an empty one is none");
}

#[test]
fn files_of_secrets_that_are_no_such_files() {
    let empty = Scratch::new("\n");
    let binary = Scratch::new([0xff, 0xfe, 0x00]);
    let long = Scratch::new(vec![b'x'; 65_537]);
    let directory = std::env::temp_dir();
    let cases = [
        (empty.path(), "the file is empty"),
        (binary.path(), "the file is not UTF-8 text"),
        (long.path(), "too long for a secret"),
        ("/dev/zero", "too long for a secret"),
        ("/nowhere/secret", "No such file"),
        (directory.to_str().unwrap(), "directory"),
    ];
    for (path, problem) in cases {
        for (file, key) in [
            (format!("[[auth.key]]\nsecret_file = \"{path}\""), "auth.key[0].secret_file"),
            (format!("[nats]\ntoken_file = \"{path}\""), "nats.token_file"),
        ] {
            let error = error_in(&file);
            assert_eq!(error.key, key, "{error}");
            assert!(error.message.contains(problem), "{error}");
        }
    }
    let creds = error_in(&format!("[nats]\ncreds_file = \"{}\"", directory.display()));
    assert!(creds.message.contains("directory"), "{creds}");
}
