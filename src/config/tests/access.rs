//! How clients may connect to an endpoint without a token. The warnings are in `tests/config/mistakes/access.txt`.

use std::collections::BTreeSet;

use super::*;
use crate::config::endpoint::access::AccessConfig;
use crate::config::endpoint::access::HintSource;
use crate::config::endpoint::access::IdentityHint;
use crate::config::endpoint::access::TrustClientIdentityConfig;
use tidegate_protocol::permissions::StatsAccess;

const ROLES: &str = r#"
[[role]]
name = "guest"
subscribe = { allow = ["prices.*", "news.>"] }
request = { allow = ["quotes.get"] }
[[role]]
name = "unverified"
subscribe = { allow = ["user.{sub}.>"] }
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
fn an_absent_role_is_that_of_auth_and_an_empty_one_rejects_clients() {
    assert_eq!(access(""), AccessConfig::default());
    let guest = |role: &str| Some(role.to_owned());
    let written = access("anonymous_role = \"guest\"\nanonymous_http_role = \"\"\napi_keys = false");
    assert_eq!((written.anonymous_role, written.anonymous_http_role), (guest("guest"), guest("")));
    assert_eq!(access("trust_client_identity = { user = \"\", role = \"\" }").trust_client_identity, None);
    assert_eq!(access("trust_client_identity = {}").trust_client_identity, None);
}

#[test]
fn a_trusted_client_names_its_user_in_one_of_three_places() {
    for (text, source, name) in [
        ("path.user_id", HintSource::Path, "user_id"),
        ("query.u-1", HintSource::Query, "u-1"),
        ("msg.user", HintSource::Message, "user"),
        ("msg.params.user.id", HintSource::Message, "params.user.id"),
    ] {
        let user = IdentityHint { source, name: name.to_owned() };
        assert_eq!(user.to_string(), text);
        let trust_client_identity =
            access(&format!("trust_client_identity = {{ user = \"{text}\", role = \"unverified\" }}"))
                .trust_client_identity;
        assert_eq!(
            trust_client_identity,
            Some(TrustClientIdentityConfig { user, http_user: None, role: "unverified".to_owned() })
        );
    }
}

#[test]
fn statistics_are_not_allowed_by_default() {
    let stats = |word: &str| format!("[[role]]\nname = \"a\"\nstats = \"{word}\"");
    for (word, access) in
        [("none", StatsAccess::None), ("counts", StatsAccess::Counts), ("all", StatsAccess::All)]
    {
        assert_eq!(load_file(&stats(word)).unwrap().config.roles[0].stats, access);
    }
    assert_eq!(load_file("[[role]]\nname = \"a\"").unwrap().config.roles[0].stats, StatsAccess::None);
}

#[test]
fn calls_for_last_values_that_no_class_keeps_cause_a_warning() {
    let file = endpoint("vocabulary = \"vocabularies/sentio.toml\"").replace("path = \"/ws\"\n", "");
    let without_values = |classes: &[(&str, bool)]| -> BTreeSet<String> {
        let class = |(pattern, keeps): &(&str, bool)| {
            format!("[[class]]\npattern = \"{pattern}\"\nkind = \"latest\"\nsnapshot = {keeps}\n")
        };
        let classes: String = classes.iter().map(class).collect();
        let warnings = warnings(&format!("{classes}{file}"));
        let ends = |warning: &String| {
            let (_, channels) = warning.split_once(" returns no last values, because the class of ")?;
            let (channels, _) = channels.split_once(" keeps none; add a [[class]] with this pattern and")?;
            Some(channels.to_owned())
        };
        warnings.iter().filter_map(ends).collect()
    };
    let none = without_values(&[]);
    assert!(none.contains("admin.*") && none.contains("user.*.earnings"), "{none:?}");
    let has_warning = |classes: &[(&str, bool)]| without_values(classes).contains("admin.*");
    assert!(!has_warning(&[("admin.*", true)]));
    assert!(has_warning(&[("admin.*", false)]));
    assert!(!has_warning(&[("admin.>", true)]));
    assert!(has_warning(&[("admin.>", true), ("admin.*", false)]), "the narrower class applies");
    assert!(!has_warning(&[("admin.users", true)]), "it keeps the values of one subject");
    assert!(has_warning(&[("user.>", true)]));
}

#[test]
fn adm_01_no_role_for_everyone_may_use_the_admin_listener() {
    let roles = "[[role]]\nname = \"user\"\n[[role]]\nname = \"operator\"\nadmin = true\n";
    let loaded = load_file(roles).unwrap().config;
    assert_eq!(loaded.roles.iter().map(|role| role.admin).collect::<Vec<_>>(), [false, true]);
    assert!(Config::default().roles.iter().all(|role| !role.admin));
    for (key, role) in [
        ("auth.anonymous_role", "[auth]\nanonymous_role = \"operator\"\n"),
        (
            "auth.default_role",
            "[auth]\ndefault_role = \"operator\"\nissuer = \"https://a\"\naudience = \"b\"\n",
        ),
        ("endpoint[0].anonymous_role", "[[endpoint]]\npath = \"/ws\"\nanonymous_role = \"operator\"\n"),
        (
            "endpoint[0].anonymous_http_role",
            "[[endpoint]]\npath = \"/ws\"\nanonymous_http_role = \"operator\"\n",
        ),
    ] {
        let InvalidConfig(errors) = load_file(&format!("{roles}{role}")).unwrap_err();
        let at_key: Vec<_> = errors.iter().filter(|error| error.key == key).collect();
        assert!(at_key.iter().any(|error| error.message.contains("admin listener")), "{key}: {errors:?}");
    }
}
