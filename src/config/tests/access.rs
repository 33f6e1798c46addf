//! Who comes in at an endpoint without a token, and what is said of each switch that opens something.

use std::collections::BTreeSet;

use super::*;
use crate::config::endpoint::access::AccessConfig;
use crate::config::endpoint::access::BelieveConfig;
use crate::config::endpoint::access::HintSource;
use crate::config::endpoint::access::IdentityHint;
use tidegate_protocol::permissions::StatsAccess;

const ROLES: &str = r#"
[[role]]
name = "guest"
subscribe = { allow = ["prices.*", "news.>"] }
request = { allow = ["quotes.get"] }
[[role]]
name = "hooks"
publish = { allow = ["user.*.notifications"] }
[[role]]
name = "believed"
subscribe = { allow = ["user.{sub}.>"] }
[[role]]
name = "member"
subscribe = { allow = ["org.{org}.>"] }
[[role]]
name = "nothing"
"#;

fn endpoint(lines: &str) -> String {
    format!("{ROLES}[[auth.key]]\nsecret = \"{SECRET}\"\n[[endpoint]]\npath = \"/ws\"\n{lines}\n")
}

fn access(lines: &str) -> AccessConfig {
    load_file(&endpoint(lines)).expect(lines).config.endpoints.remove(0).access
}

fn warnings(file: &str) -> Vec<String> {
    let loaded = load_file(file).expect(file);
    loaded.warnings.into_iter().map(|warning| format!("{}: {}", warning.key, warning.message)).collect()
}

#[test]
fn absent_is_as_auth_says_and_empty_is_nobody() {
    assert_eq!(access(""), AccessConfig::default());
    let guest = |role: &str| Some(role.to_owned());
    let written = access("anonymous_role = \"guest\"\nhttp_role = \"\"\napi_keys = false");
    assert_eq!((written.anonymous_role, written.http_role), (guest("guest"), guest("")));
    assert_eq!(access("believe = { user = \"\", role = \"\" }").believe, None);
    assert_eq!(access("believe = {}").believe, None);
}

#[test]
fn those_who_are_believed_name_themselves_in_one_of_three_places() {
    for (text, place, name) in [
        ("path.user_id", HintSource::Path, "user_id"),
        ("query.u-1", HintSource::Query, "u-1"),
        ("msg.user", HintSource::Message, "user"),
        ("msg.params.user.id", HintSource::Message, "params.user.id"),
    ] {
        let user = IdentityHint { place, name: name.to_owned() };
        assert_eq!(user.to_string(), text);
        let believe = access(&format!("believe = {{ user = \"{text}\", role = \"believed\" }}")).believe;
        assert_eq!(believe, Some(BelieveConfig { user, call: None, role: "believed".to_owned() }));
    }
    for text in [
        "user_id",
        "path",
        "path.",
        "path.a.b",
        "query.a.b",
        "msg.a..b",
        "msg.",
        "header.x",
        "claims.sub",
        "path.{a}",
        "Path.a",
        "msg.a b",
    ] {
        let mistake =
            mistake_in(&endpoint(&format!("believe = {{ user = \"{text}\", role = \"believed\" }}")));
        assert_eq!(mistake.key, "endpoint[0].believe.user", "{text}");
        assert!(
            mistake.message.contains("no place") && mistake.help.contains("\"path.user_id\""),
            "{mistake}"
        );
    }
}

#[test]
fn every_role_must_exist_and_be_one_that_can_be_filled() {
    for (lines, key, problem, cure) in [
        (
            "anonymous_role = \"gest\"",
            "anonymous_role",
            "\"gest\" is not the name",
            "did you mean \"guest\"?",
        ),
        (
            "anonymous_role = \"believed\"",
            "anonymous_role",
            "has the placeholder {sub}",
            "without placeholders",
        ),
        ("http_role = \"member\"", "http_role", "has the placeholder {org}", "without placeholders"),
        ("http_role = 7", "http_role", "7 is not a text", "quotation marks"),
        ("api_keys = \"yes\"", "api_keys", "\"yes\" is neither true nor false", "true or false"),
        ("believe = true", "believe", "is not a table", "as a table"),
        ("believe = { role = \"believed\" }", "believe.user", "is missing or empty", "\"path.user_id\""),
        ("believe = { user = \"path.a\" }", "believe.role", "is missing or empty", "[[role]]"),
        (
            "believe = { user = \"path.a\", role = \"member\" }",
            "believe.role",
            "\"member\" has the placeholder {org}",
            "other than {sub}",
        ),
        (
            "believe = { user = \"path.a\", role = \"x\" }",
            "believe.role",
            "\"x\" is not the name of a role",
            "[[role]]",
        ),
        (
            "believe = { user = \"path.a\", call = \"msg.a\", role = \"believed\" }",
            "believe.call",
            "no place in an HTTP call",
            "query.user_id",
        ),
        ("believe = { users = \"path.a\" }", "believe.users", "no such key", "believe.user"),
    ] {
        let mistake = mistake_in(&endpoint(lines));
        assert_eq!(mistake.key, format!("endpoint[0].{key}"), "{lines}");
        assert!(mistake.message.contains(problem) && mistake.help.contains(cure), "{mistake}");
    }
    let both = mistakes_in(&endpoint("believe = { user = \"a\", role = \"b\" }"));
    assert_eq!(both.len(), 2, "both at once: {both:#?}");
    let whole =
        mistake_in(&endpoint("").replace("path = \"/ws\"", "path = \"ws\"\nanonymous_role = \"guest\""));
    assert_eq!(whole.key, "endpoint[0].path");
}

#[test]
fn every_switch_says_what_it_opens() {
    let key = "[[auth.api_key]]\nname = \"a\"\nuser = \"a\"\nrole = \"guest\"\nsha256 = \"";
    let key = format!("{key}{}\"", "0".repeat(64));
    for (lines, said) in [
        ("", &[][..]),
        ("anonymous_role = \"nothing\"", &[]),
        ("anonymous_role = \"\"\nhttp_role = \"\"", &[]),
        ("api_keys = true", &["endpoint[0].api_keys: API keys do not expire"]),
        (
            "anonymous_role = \"guest\"",
            &[
                "endpoint[0].anonymous_role: clients without a credential may subscribe to prices.*, news.>; request \
               quotes.get",
            ],
        ),
        (
            "http_role = \"hooks\"",
            &["endpoint[0].http_role: HTTP calls without a credential may publish on user.*.notifications"],
        ),
        (
            "believe = { user = \"path.user_id\", role = \"believed\" }",
            &["endpoint[0].believe: whoever connects without a credential is taken for the user that \
               `path.user_id` names, with the role \"believed\": anybody can read anybody's channels. Keep it to a \
               closed network."],
        ),
    ] {
        assert_eq!(warnings(&format!("{}{key}", endpoint(lines))), said, "{lines}");
    }
    let without_keys = warnings(&endpoint("api_keys = true"));
    assert_eq!(without_keys.len(), 2);
    assert!(without_keys[1].contains("there is no [[auth.api_key]]"), "{without_keys:?}");
}

#[test]
fn figures_are_for_nobody_unless_a_role_says_so() {
    let stats = |word: &str| format!("[[role]]\nname = \"a\"\nstats = \"{word}\"");
    for (word, access) in
        [("none", StatsAccess::None), ("counts", StatsAccess::Counts), ("all", StatsAccess::All)]
    {
        assert_eq!(load_file(&stats(word)).unwrap().config.roles[0].stats, access);
    }
    assert_eq!(load_file("[[role]]\nname = \"a\"").unwrap().config.roles[0].stats, StatsAccess::None);
    let mistake = mistake_in(&stats("count"));
    assert_eq!(mistake.key, "role[0].stats");
    assert!(mistake.help.starts_with("did you mean \"counts\"?"), "{mistake}");
}

#[test]
fn a_role_that_everybody_has_and_that_sees_everybody_is_said_aloud() {
    let all = |lines: &str| {
        let file = endpoint(lines).replacen("name = \"nothing\"", "name = \"watcher\"\nstats = \"all\"", 1);
        let said = "role[4].stats: everybody is told every client's id and channels".to_owned();
        warnings(&file).contains(&said)
    };
    assert!(!all("") && !all("anonymous_role = \"guest\""));
    for lines in [
        "anonymous_role = \"watcher\"",
        "http_role = \"watcher\"",
        "believe = { user = \"path.a\", role = \"watcher\" }",
    ] {
        assert!(all(lines), "{lines}");
    }
    let of_all = "[auth]\nanonymous_role = \"a\"\n[[role]]\nname = \"a\"\nstats = \"all\"";
    assert_eq!(warnings(of_all), ["role[0].stats: everybody is told every client's id and channels"]);
    let opens = of_all.replace("stats = \"all\"", "publish = { allow = [\"chat.*\"] }");
    let said = "auth.anonymous_role: clients without a credential may publish on chat.*";
    assert_eq!(warnings(&opens), [said]);
    let closed = warnings(&format!("{opens}\n[[endpoint]]\npath = \"/ws\"\nanonymous_role = \"\""));
    assert!(!closed.contains(&said.to_owned()), "no endpoint lets them in: {closed:?}");
}

#[test]
fn a_node_that_lets_nobody_in_says_so() {
    let nobody = |lines: &str| {
        let file = endpoint(lines).replace(&format!("[[auth.key]]\nsecret = \"{SECRET}\"\n"), "");
        warnings(&file).iter().any(|warning| warning.starts_with("auth.key: there is neither a key"))
    };
    for lines in ["", "api_keys = true", "http_role = \"guest\"", "anonymous_role = \"\""] {
        assert!(nobody(lines), "{lines}");
    }
    for lines in ["anonymous_role = \"guest\"", "believe = { user = \"path.a\", role = \"believed\" }"] {
        assert!(!nobody(lines), "{lines}");
    }
}

#[test]
fn calls_for_last_values_that_no_class_keeps_are_told_of() {
    let file = endpoint("vocabulary = \"vocabularies/sentio.toml\"").replace("path = \"/ws\"\n", "");
    let outgoing = |classes: &[(&str, bool)]| -> BTreeSet<String> {
        let class = |(pattern, keeps): &(&str, bool)| {
            format!("[[class]]\npattern = \"{pattern}\"\nkind = \"latest\"\nsnapshot = {keeps}\n")
        };
        let classes: String = classes.iter().map(class).collect();
        let warnings = warnings(&format!("{classes}{file}"));
        let ends = |warning: &String| {
            let (_, channels) = warning.split_once(" find no last values, because the class of ")?;
            let (channels, _) =
                channels.split_once(" keeps none; write a [[class]] with this pattern and")?;
            Some(channels.to_owned())
        };
        warnings.iter().filter_map(ends).collect()
    };
    let none = outgoing(&[]);
    assert!(none.contains("signals.*") && none.contains("user.*.earnings"), "{none:?}");
    let is_told = |classes: &[(&str, bool)]| outgoing(classes).contains("signals.*");
    assert!(!is_told(&[("signals.*", true)]));
    assert!(is_told(&[("signals.*", false)]));
    assert!(!is_told(&[("signals.>", true)]));
    assert!(is_told(&[("signals.>", true), ("signals.*", false)]), "the narrower one counts");
    assert!(!is_told(&[("signals.AAPL", true)]), "it keeps those of one symbol");
    assert!(is_told(&[("user.>", true)]));
}
