//! The shipped `config.toml` lists every key with its default and its range.

use super::*;
use std::collections::BTreeSet;

use ::config::File;
use ::config::FileFormat;
use ::config::Source;
use ::config::Value;
use ::config::ValueKind;

use crate::config::allowed_origins::AllowedOrigins;
use crate::config::auth::key::SAMPLE_SECRETS;
use crate::config::endpoint::access::AccessConfig;

/// The file with its examples, but for the issuers: `auth.issuer` is either a text or a list.
fn with_examples() -> String {
    let text = all_examples();
    let (before, rest) = text.split_once("[[auth.issuer]]\n").unwrap();
    format!("{before}{}", rest.split_once("\n\n").unwrap().1)
}

/// The file with its examples of issuers, without what excludes them.
fn with_issuers() -> String {
    let text = all_examples().replace("\nissuer = \"\"\n", "\n");
    let text = text
        .replace("\nhmac_secret = \"\"\nhmac_secret_file = \"\"\njwks_url = \"\"\ndiscovery = false\n", "\n");
    let (before, rest) = text.split_once("[[auth.key]]\n").unwrap();
    format!("{before}{}", rest.split_once("\n\n").unwrap().1)
}

/// A line with a key directly after the `#` is an example.
fn all_examples() -> String {
    let uncommented = |line: &'static str| match line.strip_prefix('#') {
        Some(example) if !example.is_empty() && !example.starts_with(' ') => example,
        Some(_) | None => line,
    };
    shipped().lines().map(uncommented).collect::<Vec<&str>>().join("\n")
}

fn leaves(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    if let ValueKind::Table(entries) = &value.kind
        && (!entries.is_empty() || path.is_empty())
    {
        for (key, value) in entries {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            leaves(&path, value, found);
        }
    } else if let ValueKind::Array(elements) = &value.kind
        && elements.iter().any(|element| matches!(element.kind, ValueKind::Table(_)))
    {
        elements.iter().for_each(|element| leaves(&format!("{path}[]"), element, found));
    } else {
        found.insert(path.to_owned());
    }
}

#[test]
fn it_equals_the_defaults() {
    let loaded = load(&Sources { file: Some(PathBuf::from("config.toml")), ..Sources::default() }).unwrap();
    let without_file = load_file("").unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(without_file.config, Config::default());
    assert_eq!(loaded.origin, "config.toml");
    let about =
        |loaded: &Loaded| loaded.warnings.iter().map(|warning| warning.key.clone()).collect::<Vec<_>>();
    assert_eq!(about(&loaded), ["auth.key"], "no client can connect until the operator adds a key");
    assert_eq!(about(&loaded), about(&without_file));
}

#[test]
fn its_examples_are_right_once_the_sample_secret_is_replaced() {
    let text = with_examples();
    let error = error_in(&text);
    assert_eq!(error.key, "auth.key[0].secret");
    assert!(error.message.contains("sample"), "{error}");

    let loaded = load_file(&text.replace(SAMPLE_SECRETS[0], SECRET)).unwrap();
    assert_eq!(loaded.warnings, []);
    let access = AccessConfig {
        anonymous_role: Some(String::new()),
        anonymous_http_role: Some(String::new()),
        ..AccessConfig::default()
    };
    let allowed_origins = Some(AllowedOrigins::Listed(Vec::new()));
    let endpoint = EndpointConfig { access, allowed_origins, ..EndpointConfig::default() };
    assert_eq!(loaded.config.endpoints, [endpoint]);
    let names: Vec<&str> = loaded.config.roles.iter().map(|role| role.name.as_str()).collect();
    assert_eq!(names, ["user", "admin", "trader"]);
    let class = loaded.config.classes.into_iter().next().unwrap();
    let pattern = class.pattern.clone();
    let with_defaults = Class { kind: class.kind, ..Class::plain(pattern) };
    assert_eq!(class, with_defaults);
    assert_eq!(loaded.config.auth.keys[0].kid, "main");
}

#[test]
fn its_example_of_an_issuer_is_right() {
    let error = error_in(&with_issuers());
    assert_eq!(error.key, "auth.issuer[0].key[0].secret");
    let loaded = load_file(&with_issuers().replace(SAMPLE_SECRETS[0], SECRET)).unwrap();
    assert_eq!(loaded.warnings, []);
    let [issuer] = loaded.config.auth.issuers.as_slice() else { panic!("{:?}", loaded.config.auth) };
    assert_eq!((issuer.issuer.as_str(), issuer.keys.len()), ("https://login.example.com/", 1));
    assert!(issuer.remote_keys.is_some() && loaded.config.auth.keys.is_empty());
}

#[test]
fn it_names_every_key_and_no_other() {
    let mut written = BTreeSet::new();
    for text in [with_examples(), with_issuers()] {
        let entries = File::from_str(&text, FileFormat::Toml).collect().unwrap();
        leaves("", &Value::new(None, entries), &mut written);
    }
    let keys = known_keys();
    let known: BTreeSet<String> = keys.names().into_iter().map(str::to_owned).collect();
    assert!(known.len() > 80, "{known:?}");
    assert_eq!(written, known);
}

#[test]
fn it_names_the_range_of_every_number() {
    let ranges = known_keys().ranges();
    assert!(ranges.len() > 40, "{ranges:?}");
    for (key, range) in ranges {
        let (section, name) = key.rsplit_once('.').unwrap();
        let head = match section.strip_suffix("[]") {
            Some(list) => format!("\n#[[{list}]]\n"),
            None => format!("\n[{section}]\n"),
        };
        let (_, part) = shipped().split_once(&head).expect(&head);
        let line = part.lines().position(|line| {
            line.trim_start_matches('#').strip_prefix(name).is_some_and(|rest| rest.starts_with(" = "))
        });
        let above: Vec<&str> = part.lines().take(line.expect(&key)).collect();
        let comment = above.iter().rev().take_while(|line| line.starts_with("# ")).copied();
        let comment: String = comment.collect::<Vec<&str>>().into_iter().rev().collect();
        let expected = format!("{} to {}.", range.start(), range.end());
        assert!(comment.contains(&expected), "{key}: {expected} is missing in {comment}");
    }
}

#[test]
fn every_sample_secret_of_ours_is_known_as_one() {
    let secrets = shipped().lines().filter_map(|line| line.trim_start_matches('#').strip_prefix("secret = "));
    let secrets: Vec<&str> = secrets.map(|secret| secret.trim_matches('"')).collect();
    assert!(!secrets.is_empty());
    for secret in secrets {
        assert!(SAMPLE_SECRETS.contains(&secret), "{secret}");
    }
}
