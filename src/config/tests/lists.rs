//! Lists of tables are read completely, in the order of the file.

use super::*;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;
use tidegate_protocol::class::fields::PayloadFields;
use tidegate_protocol::class::fields::parse_key;
use tidegate_protocol::class::fields::parse_path;
use tidegate_protocol::permissions::RuleTemplates;
use tidegate_protocol::permissions::StatsAccess;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::template::Template;

const FILE: &str = r#"
[auth]
anonymous_role = "guest"
[[auth.key]]
kid = "2026"
secret = "wJ8x2Qm5kP0vR7tY3uI6oL9aS4dF1gHz"
[[role]]
name = "guest"
subscribe = { allow = ["prices.*"], deny = ["prices.secret", "$SYS.>"] }
[[role]]
name = "user"
publish.allow = "chat.a, chat.b"
request.allow = ["quotes.get"]
stats = "counts"
[[class]]
pattern = "prices.>"
kind = "latest"
snapshot = true
priority = "low"
headers = ["traceparent", "*"]
[[class]]
pattern = "alerts.*"
priority = "high"
feed = "pattern"
[[class]]
pattern = "room.*"
snapshot = "always"
key = "data.symbol"
priority = "data.priority"
[[endpoint]]
path = "/stream"
[[endpoint]]
path = "/ws"
vocabulary = "native"
replace_connections = true
"#;

#[test]
fn roles_and_keys() {
    let config = load_file(FILE).unwrap().config;
    let templates =
        |texts: &[&str]| texts.iter().map(|text| Template::parse(text).unwrap()).collect::<Vec<_>>();
    let role = |name: &str| Role { name: name.to_owned(), ..Role::default() };
    let rules =
        |allow: &[&str], deny: &[&str]| RuleTemplates { allow: templates(allow), deny: templates(deny) };
    let guest = Role { subscribe: rules(&["prices.*"], &["prices.secret", "$SYS.>"]), ..role("guest") };
    let publish = rules(&["chat.a", "chat.b"], &[]);
    let stats = StatsAccess::Counts;
    let user = Role { publish, request: rules(&["quotes.get"], &[]), stats, ..role("user") };
    assert_eq!(config.roles, [guest, user]);
    assert_eq!(config.auth.anonymous_role, "guest");
    assert_eq!((config.auth.keys.len(), config.auth.keys[0].kid.as_str()), (1, "2026"));
}

#[test]
fn classes_and_endpoints() {
    let config = load_file(FILE).unwrap().config;
    let plain = |pattern: &str| Class::plain(Pattern::parse(pattern).unwrap());
    let prices = Class {
        kind: Kind::Latest,
        snapshot: true,
        priority: Priority::Low,
        headers: vec!["traceparent".to_owned(), "*".to_owned()],
        ..plain("prices.>")
    };
    let alerts = Class { priority: Priority::High, feed: FeedBy::Pattern, ..plain("alerts.*") };
    let fields = PayloadFields::new(parse_key("data.symbol"), parse_path("data.priority"));
    let rooms = Class { snapshot: true, feed: FeedBy::Always, fields, ..plain("room.*") };
    assert_eq!(config.classes, [prices, alerts, rooms]);
    let endpoint = |path: &str| EndpointConfig { path: path.to_owned(), ..EndpointConfig::default() };
    let one_each = EndpointConfig { replace_connections: true, ..endpoint("/ws") };
    assert_eq!(config.endpoints, [endpoint("/stream"), one_each]);
}
