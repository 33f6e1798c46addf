//! Permissions hold for every message of every vocabulary: a rule cannot exceed them, and cannot reach denied or
//! reserved subjects.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tidegate::config::endpoint::access::HintSource;
use tidegate::config::endpoint::access::IdentityHint;
use tidegate::config::endpoint::access::TrustClientIdentityConfig;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::StatsAccess;
use tidegate_vocabulary::compile::compile;

use crate::support::edge::class;
use crate::support::edge::role;
use crate::support::eventually;
use crate::vocabularies::names::by_vocabulary;
use crate::vocabularies::stage::MARK;
use crate::vocabularies::stage::ON_CONNECT;
use crate::vocabularies::stage::Stage;
use crate::vocabularies::table::Command;
use crate::vocabularies::table::Effect;
use crate::vocabularies::table::FIXED_COMMANDS;
use crate::vocabularies::table::SYSTEM;
use crate::vocabularies::table::VALUE_COMMANDS;

/// All commands that use a subject.
fn commands() -> Vec<Command> {
    let has_subject = |command: &Command| !matches!(command.effect, Effect::Unsubscribes);
    VALUE_COMMANDS.into_iter().chain(FIXED_COMMANDS).filter(has_subject).collect()
}

/// A role with these rules for the effect of a message, and no others.
fn rules(name: &str, effect: Effect, allow: &[&str], deny: &[&str]) -> Role {
    let mut all = role(name, &[], &[], &[]);
    let of_it = match effect {
        Effect::Subscribes(_) => &mut all.subscribe,
        Effect::Requests(_) => &mut all.request,
        Effect::Publishes(_) | Effect::Unsubscribes => &mut all.publish,
    };
    *of_it = role("", allow, &[], &[]).subscribe;
    of_it.deny = role("", deny, &[], &[]).subscribe.allow;
    all
}

/// Checks that every command is rejected with a role that `closed` makes for its subjects.
async fn assert_all_rejected(closed: impl Fn(&str, &[&str], Effect) -> Role) {
    for (vocabulary, commands) in by_vocabulary(&commands()) {
        let role = |(at, command): (usize, &Command)| {
            let subjects: Vec<&str> = command.effect.subjects().collect();
            closed(&format!("closed-{at}"), &subjects, command.effect)
        };
        let roles: Vec<Role> = commands.iter().enumerate().map(role).collect();
        let mut stage = Stage::changed(vocabulary, |config| config.roles = roles).await;
        for (at, command) in commands.iter().enumerate() {
            let claims = json!({ "sub": "alice", "role": format!("closed-{at}") });
            let mut page = stage.page(command.target, &claims, 0).await;
            page.assert_rejected(&command.good()).await;
        }
        assert_eq!(stage.joined(), 0, "{vocabulary}");
        stage.assert_no_subject_but(&[]).await;
        assert_eq!(stage.subscribed().await, [""; 0], "{vocabulary}");
    }
}

#[tokio::test]
async fn sub_03_permissions_must_cover_the_whole_request() {
    assert_all_rejected(|name, subjects, effect| {
        // For a wildcard, a part of it; for a literal, similar subjects. Other subjects of the command are not allowed.
        let subject = *subjects.last().unwrap();
        let (first, _) = subject.rsplit_once('.').unwrap_or((subject, ""));
        let near = format!("{first}.neighbour");
        let (part, longer, upper) =
            (subject.replace('*', "part"), format!("{subject}.>"), subject.to_uppercase());
        let allow =
            if subject.contains('*') { vec![&*part, &*near] } else { vec![&*near, &*longer, &*upper] };
        let allow: Vec<&str> = allow.into_iter().filter(|allow| *allow != subject).collect();
        rules(name, effect, &allow, &[])
    })
    .await;
}

#[tokio::test]
async fn sub_04_a_wildcard_that_overlaps_a_denied_subject_is_rejected() {
    assert_all_rejected(|name, subjects, effect| {
        let denied: Vec<String> = subjects.iter().map(|subject| subject.replace('*', "secret")).collect();
        let subject = *subjects.last().unwrap();
        let first = subject.split('.').next().unwrap();
        // The channels of `on_connect` are denied too, so that no subscription succeeds.
        let denied: Vec<&str> = ON_CONNECT.into_iter().chain(denied.iter().map(String::as_str)).collect();
        rules(name, effect, &[subject, &format!("{first}.>"), first], &denied)
    })
    .await;
}

#[tokio::test]
async fn sub_05_no_client_value_reaches_a_system_subject() {
    for (vocabulary, commands) in by_vocabulary(&VALUE_COMMANDS) {
        let everything = |config: &mut tidegate::config::Config| {
            config.roles = vec![role("user", &[">"], &[">"], &[">"])];
        };
        let mut stage = Stage::changed(vocabulary, everything).await;
        for command in &commands {
            for root in SYSTEM {
                for value in [root.to_owned(), format!("{root}.x"), format!("{root}.>"), format!(".{root}")] {
                    let mut page = stage.page_for(&Command { target: command.target, ..*command }).await;
                    page.send(&command.with(&json!(value).to_string())).await;
                    page.received().await;
                }
            }
        }
        let is_system = |subject: &str| {
            let first = subject.split('.').next().unwrap();
            SYSTEM.contains(&first)
        };
        let subjects = stage.subscribed().await;
        let published: Vec<String> =
            stage.published().await.iter().map(|message| message.subject.to_string()).collect();
        let reached: Vec<_> =
            subjects.iter().chain(&published).filter(|subject| is_system(subject)).collect();
        assert!(reached.is_empty(), "{vocabulary}: {reached:?}");
    }
}

/// A vocabulary whose clients choose every token except the first, in messages and HTTP calls.
const OPEN: &str = r#"
    name = "open"
    [[path]]
    name = "open"
    path = "/open"
    [[receive]]
    when = { do = "join" }
    do = "subscribe"
    channel = "open.{msg.a}.{msg.b}"
    [[receive]]
    when = { do = "say" }
    do = "publish"
    subject = "open.{msg.a}.{msg.b}"
    data = 1
    [[receive]]
    when = { do = "ask" }
    do = "request"
    subject = "open.{msg.a}.{msg.b}"
    data = 1
    send = { said = "{reply}" }
    [error]
    send = { type = "error", code = "{code}" }
    [[http]]
    method = "POST"
    path = "/say"
    do = "publish"
    subject = "open.{msg.a}.{msg.b}"
    data = 1
    [[http]]
    method = "POST"
    path = "/ask"
    do = "request"
    subject = "open.{msg.a}.{msg.b}"
    data = 1
    [[http]]
    method = "POST"
    path = "/last"
    do = "last"
    channel = "open.{msg.a}.{msg.b}"
    send = "{list}"
    [[deliver]]
    pattern = "open.*.*"
    send = "{data}"
"#;

#[test]
fn sub_05_and_voc_01_a_vocabulary_whose_clients_choose_the_first_token_is_rejected() {
    let any = OPEN.replace("open.{msg.a}", "{msg.a}");
    let mistakes = compile(&any).unwrap_err();
    let open = mistakes.iter().filter(|error| error.message.contains("which may be anything"));
    assert_eq!(open.count(), 6, "{mistakes:?}");
    for root in SYSTEM {
        let system = OPEN.replace("open.{msg.a}", &format!("{root}.{{msg.a}}"));
        assert!(compile(&system).is_err(), "{root}");
    }
}

#[tokio::test]
async fn voc_01_client_chosen_tokens_cannot_exceed_permissions() {
    let one = |config: &mut tidegate::config::Config| {
        config.roles = vec![role("user", &["open.a.b"], &["open.a.b"], &["open.a.b"])];
    };
    let mut stage = Stage::start("open", OPEN, one).await;
    let claims = json!({ "sub": "alice", "role": "user" });
    for token in ["c", "A", "a-b"] {
        let mut page = stage.page("/open", &claims, 0).await;
        for what in ["join", "say", "ask"] {
            page.assert_rejected(&json!({ "do": what, "a": token, "b": "b" }).to_string()).await;
        }
        for what in ["say", "ask", "last"] {
            let body = json!({ "a": token, "b": "b" }).to_string();
            let answer = stage.call("POST", &format!("/{what}"), &claims, &body).await;
            assert_eq!(answer.status, 403, "{what} {token}: {answer:?}");
        }
    }
    assert_eq!(stage.joined(), 0);
    stage.assert_no_subject_but(&[]).await;
}

/// Every channel has a snapshot. The role `all` may subscribe to these subjects, and `none` may not.
fn with_last_values(config: &mut tidegate::config::Config, subjects: &[&str]) {
    let latest = |subject: &&str| Class { kind: Kind::Latest, snapshot: true, ..class(subject) };
    config.classes = subjects.iter().map(latest).collect();
    config.roles =
        vec![role("all", subjects, &[], &[]), role("none", &["other.x"], &["other.x"], &["other.x"])];
}

#[tokio::test]
async fn sub_09_a_subscribe_without_permission_gets_no_last_value() {
    let joins: Vec<Command> =
        commands().into_iter().filter(|command| matches!(command.effect, Effect::Subscribes(_))).collect();
    for (vocabulary, commands) in by_vocabulary(&joins) {
        let subjects: Vec<&str> = commands.iter().flat_map(|command| command.effect.subjects()).collect();
        let stage = Stage::changed(vocabulary, |config| with_last_values(config, &subjects)).await;
        for command in &commands {
            let all = json!({ "sub": "alice", "role": "all" });
            let mut warm = stage.page(command.target, &all, 0).await;
            warm.send(&command.good()).await;
            stage.publish_mark_until_received(command, &mut warm).await;
            let mut cold = stage.page(command.target, &json!({ "sub": "alice", "role": "none" }), 0).await;
            let received = cold.assert_rejected(&command.good()).await;
            assert!(!json!(received).to_string().contains(MARK), "{command:?}: {received:?}");
        }
    }
}

#[tokio::test]
async fn sub_09_an_http_call_without_permission_gets_no_last_value() {
    let subjects = ["signals", "signals.*", "user.alice.earnings", "user.bob.earnings"];
    let stage = Stage::changed("sentio", |config| {
        with_last_values(config, &subjects);
        config.server.feed_linger = Duration::from_mins(1);
    })
    .await;
    let all = json!({ "sub": "alice", "role": "all" });
    for (target, subject) in [("/ws/trade-signals", "signals.AAPL"), ("/ws/earnings", "user.alice.earnings")]
    {
        let mut page = stage.page(target, &all, 0).await;
        let before = stage.joined();
        page.send(r#"{"action":"subscribe","symbols":["AAPL"]}"#).await;
        eventually("alice has joined", || async { stage.joined() > before }).await;
        stage.edge.publish(subject, json!({ "symbol": "AAPL", "mark": MARK }).to_string()).await;
        page.until(MARK).await;
    }
    let (signals, earnings) = ("/api/v1/dashboard/trade-signals?symbols=AAPL", "/api/v1/dashboard/earnings");
    for target in [signals, earnings] {
        let warm = || async { stage.call("GET", target, &all, "").await.body.contains(MARK) };
        eventually("alice sees the last value", warm).await;
        let answer = stage.call("GET", target, &json!({ "sub": "alice", "role": "none" }), "").await;
        assert!(answer.status == 403 && !answer.body.contains(MARK), "{target}: {answer:?}");
        let answer = stage.call("GET", target, &Value::Null, "").await;
        assert!(answer.status == 401 && !answer.body.contains(MARK), "{target}: {answer:?}");
    }
    // Even with permission for both, bob gets only the values of bob.
    let answer = stage.call("GET", earnings, &json!({ "sub": "bob", "role": "all" }), "").await;
    assert!(answer.status == 404 && !answer.body.contains(MARK), "{answer:?}");
}

#[tokio::test]
async fn sub_10_stats_contain_names_only_for_roles_that_may_see_them() {
    for (vocabulary, target, message, secrets) in [
        ("ara", "/ws/predictions/AAPL", "{}", &["alice", "AAPL"][..]),
        ("hoardrun", "/ws/notifications", r#"{"type":"join_room","room":"crypto"}"#, &["alice", "crypto"]),
        (
            "stock-agent",
            "/ws/page-7",
            r#"{"type":"subscribe","channel":"prices","symbols":["MSFT"]}"#,
            &["alice", "page-7", "MSFT", "prices"],
        ),
    ] {
        let subscribe = ["predictions.*", "room.*", "room.*.*", "prices.*"];
        let seer = |name: &str, stats| Role { stats, ..role(name, &subscribe, &[], &[]) };
        let roles = vec![
            seer("none", StatsAccess::None),
            seer("counts", StatsAccess::Counts),
            seer("all", StatsAccess::All),
        ];
        let stage = Stage::changed(vocabulary, |config| config.roles = roles).await;
        let before = stage.joined();
        let mut page = stage
            .page(target, &json!({ "sub": "alice", "role": "all" }), u64::from(vocabulary == "ara"))
            .await;
        page.send(message).await;
        page.received().await;
        eventually("a subscription is live", || async { stage.joined() > before }).await;
        for (role, status) in [("none", 403), ("counts", 200), ("all", 200)] {
            let answer = stage.call("GET", "/ws/stats", &json!({ "sub": "bob", "role": role }), "").await;
            assert_eq!(answer.status, status, "{vocabulary} {role}: {answer:?}");
            let outgoing = secrets.iter().filter(|secret| answer.body.contains(**secret));
            let (outgoing, is_all) = (outgoing.count(), role == "all");
            assert!(is_all || outgoing == 0, "{vocabulary} {role}: {answer:?}");
            assert!(!answer.body.contains("alice"), "{vocabulary} {role}: {answer:?}");
            if role == "counts" {
                let counts = answer.json();
                let counts = counts.get("data").unwrap_or(&counts);
                assert_eq!(counts["total_connections"], 1, "{answer:?}");
            }
        }
        let anonymous = stage.call("GET", "/ws/stats", &Value::Null, "").await;
        assert_eq!(anonymous.status, 401, "{vocabulary}: {anonymous:?}");
    }
    // The other vocabularies have no statistics.
    for vocabulary in ["financegpt", "financegpt-mcp", "financegpt-tools", "graphql-ws", "sentio"] {
        let stage = Stage::shipped(vocabulary).await;
        for target in ["/ws/stats", "/stats"] {
            let answer = stage.call("GET", target, &json!({ "sub": "bob", "role": "user" }), "").await;
            assert!(matches!(answer.status, 404 | 426), "{vocabulary} {target}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn id_01_http_calls_may_name_their_user_only_with_trust_client_identity() {
    let hint = |source, name: &str| IdentityHint { source, name: name.to_owned() };
    let stage = |http_user: Option<IdentityHint>| {
        Stage::changed("sentio", |config| {
            let user = hint(HintSource::Message, "user_id");
            config.endpoints[0].access.trust_client_identity =
                Some(TrustClientIdentityConfig { user, http_user, role: "user".to_owned() });
            config.server.feed_linger = Duration::from_mins(1);
        })
    };
    let earnings = "/api/v1/dashboard/earnings";
    let trusting = stage(Some(hint(HintSource::Query, "user_id"))).await;
    let mine = format!("{earnings}?user_id=alice");
    let call = async |target: &str, claims: &Value| trusting.call("GET", target, claims, "").await;
    eventually("a call that names alice gets her values", || async {
        trusting
            .nats
            .publish("user.alice.earnings", json!({ "mark": MARK }).to_string().into())
            .await
            .unwrap();
        call(&mine, &Value::Null).await.body.contains(MARK)
    })
    .await;
    // A token takes precedence over a name, and a caller without either is rejected.
    let bob = json!({ "sub": "bob", "role": "user" });
    assert_eq!(call(&mine, &bob).await.status, 403);
    assert_eq!(call(earnings, &Value::Null).await.status, 401);
    assert_eq!(call(&format!("{earnings}?user_id=*"), &Value::Null).await.status, 400);
    // Without `http_user`, only WebSocket clients name their user.
    let strict = stage(None).await;
    assert_eq!(strict.call("GET", &mine, &Value::Null, "").await.status, 401);
}
