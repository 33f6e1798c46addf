//! What is said about each setting: its value, where that is from, and no secret.

use tidegate_document::node::Node;
use tidegate_document::node::Value;

use super::*;
use crate::config::report::ConfigReport;
use crate::config::report::Setting;
use crate::config::report::SettingOrigin;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn setting<'r>(report: &'r ConfigReport, key: &str) -> (&'r Value, &'r SettingOrigin) {
    let Setting { value, origin } = report.settings.get(key).unwrap_or_else(|| panic!("{key} is missing"));
    (value, origin)
}

#[test]
fn every_key_has_its_value_and_the_source_that_decides() {
    let file = "[http]\nlisten = \"127.0.0.1:1\"\nkeep_alive_s = 9\n[limits]\nsubscriptions = 7\n[server]\nshards = 1";
    let environment = [
        ("TIDEGATE_LIMITS__SUBSCRIPTIONS", "8"),
        ("TIDEGATE_SERVER__COMPRESSION", "off"),
        ("TIDEGATE_HTTP__TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1"),
        ("PORT", "81"),
    ];
    let report = load_all(file, &environment, &[("server.shards", "2")]).unwrap().report;
    let variable = |name: &str| SettingOrigin::Environment(name.to_owned());
    for (key, value, origin) in [
        ("http.keep_alive_s", Value::Whole(9), SettingOrigin::File { line: Some(3) }),
        ("limits.subscriptions", Value::Whole(8), variable("TIDEGATE_LIMITS__SUBSCRIPTIONS")),
        ("server.compression", Value::Boolean(false), variable("TIDEGATE_SERVER__COMPRESSION")),
        ("http.listen", text("127.0.0.1:81"), variable("PORT")),
        ("server.shards", Value::Whole(2), SettingOrigin::Flag("--set server.shards".to_owned())),
        ("limits.outbox_frames", Value::Whole(8192), SettingOrigin::Default),
        ("class", Value::List(Vec::new()), SettingOrigin::Default),
    ] {
        assert_eq!(setting(&report, key), (&value, &origin), "{key}");
    }
    let (Value::List(proxies), _) = setting(&report, "http.trusted_proxies") else { panic!("no list") };
    assert_eq!(proxies.iter().filter_map(Node::text).collect::<Vec<_>>(), ["10.0.0.0/8", "192.0.2.1"]);
    let (Value::List(roles), SettingOrigin::Default) = setting(&report, "role") else { panic!("no roles") };
    assert_eq!(roles.len(), Config::default().roles.len());
    let known = known_keys();
    let is_shown = |key: &&str| report.settings.contains_key(key.split("[]").next().unwrap_or_default());
    assert_eq!(
        known.names().into_iter().filter(|key| !is_shown(key)).collect::<Vec<_>>(),
        Vec::<&str>::new()
    );
}

#[test]
fn secrets_are_masked_wherever_they_are_from() {
    let sentinel = format!("hunter2-{SECRET}");
    let file = format!(
        "[nats]\nurl = [\"nats://ann:{sentinel}@host\", \"nats://ann:{sentinel}@other:1\"]\n\
         [[auth.key]]\nkid = \"a\"\nsecret = \"{sentinel}\"\n\
         [[auth.api_key]]\nname = \"a\"\nsha256 = \"{}\"\nuser = \"a\"\nrole = \"user\"",
        "5e".repeat(32)
    );
    let report = load_file(&file).unwrap().report;
    let shown = format!("{report:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("5e5e"), "{shown}");
    assert!(shown.contains("nats://***@host:4222"), "{shown}");
    for (name, value) in [
        ("TIDEGATE_NATS__TOKEN", sentinel.clone()),
        ("TIDEGATE_AUTH__HMAC_SECRET", sentinel.clone()),
        ("NATS_URL", format!("nats://{sentinel}@host")),
        ("NATS_URL", format!("nats://ann:{sentinel}@a, nats://ann:{sentinel}@b")),
    ] {
        let report = load_all("", &[(name, &value)], &[]).expect(name).report;
        let shown = format!("{report:?}");
        assert!(!shown.contains("hunter2") && shown.contains("***"), "{name}: {shown}");
    }
}

#[test]
fn after_a_reload_what_needs_a_restart_is_as_it_was() {
    let report = |file: &str| load_file(file).unwrap().report;
    let old = report("limits.subscriptions = 1\nserver.shards = 1\nnats.user = \"a\"\nnats.password = \"b\"");
    let new = report(
        "limits.subscriptions = 2\nserver.shards = 2\nnats.token = \"c\"\nadmin.listen = \"127.0.0.1:9\"",
    );
    let names = ["server.shards", "[admin]", "the login of [nats]"];
    let merged = old.reloaded(new, &names);
    assert_eq!(setting(&merged, "limits.subscriptions").0, &Value::Whole(2));
    assert_eq!(setting(&merged, "server.shards").0, &Value::Whole(1));
    assert_eq!(setting(&merged, "admin.listen").0, &text(""));
    assert_eq!((setting(&merged, "nats.user").0, setting(&merged, "nats.token").0), (&text("a"), &text("")));
    assert_eq!(merged.needs_restart, names);
}
