//! What roles close stays closed, whatever a vocabulary names: to less than a rule asks for, to what is denied, and to what
//! belongs to NATS and Tidegate.

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
use crate::vocabularies::stage::EVERYBODY;
use crate::vocabularies::stage::MARK;
use crate::vocabularies::stage::Stage;
use crate::vocabularies::table::Does;
use crate::vocabularies::table::FIXED;
use crate::vocabularies::table::PLACES;
use crate::vocabularies::table::Place;
use crate::vocabularies::table::SYSTEM;

/// All messages that do something with a subject.
fn places() -> Vec<Place> {
    let does = |place: &Place| !matches!(place.does, Does::Leaves);
    PLACES.into_iter().chain(FIXED).filter(does).collect()
}

/// A role with these rules for what a message does, and none else.
fn rules(name: &str, does: Does, allow: &[&str], deny: &[&str]) -> Role {
    let mut all = role(name, &[], &[], &[]);
    let of_it = match does {
        Does::Joins(_) => &mut all.subscribe,
        Does::Asks(_) => &mut all.request,
        Does::Publishes(_) | Does::Leaves => &mut all.publish,
    };
    *of_it = role("", allow, &[], &[]).subscribe;
    of_it.deny = role("", deny, &[], &[]).subscribe.allow;
    all
}

fn subject(does: Does) -> &'static str {
    match does {
        Does::Joins(subject) | Does::Asks(subject) | Does::Publishes(subject) => subject,
        Does::Leaves => "",
    }
}

/// That no message is obeyed where each place has a role made by `closed`.
async fn all_are_refused(closed: impl Fn(&str, &str, Does) -> Role) {
    for (vocabulary, places) in by_vocabulary(&places()) {
        let roles: Vec<Role> = places
            .iter()
            .enumerate()
            .map(|(at, place)| closed(&format!("closed-{at}"), subject(place.does), place.does))
            .collect();
        let mut stage = Stage::changed(vocabulary, |config| config.roles = roles).await;
        for (at, place) in places.iter().enumerate() {
            let claims = json!({ "sub": "alice", "role": format!("closed-{at}") });
            let mut page = stage.page(place.target, &claims, 0).await;
            page.is_refused(&place.good()).await;
        }
        assert_eq!(stage.joined(), 0, "{vocabulary}");
        stage.keeps_to(&[]).await;
        assert_eq!(stage.subscribed().await, [""; 0], "{vocabulary}");
    }
}

#[tokio::test]
async fn sub_03_what_is_allowed_must_cover_what_is_asked_for() {
    all_are_refused(|name, subject, does| {
        // A part of a wildcard; next to a literal, its neighbours and what only looks like it.
        let (first, _) = subject.rsplit_once('.').unwrap_or((subject, ""));
        let near = format!("{first}.neighbour");
        let (part, longer, upper) =
            (subject.replace('*', "part"), format!("{subject}.>"), subject.to_uppercase());
        let allow =
            if subject.contains('*') { vec![&*part, &*near] } else { vec![&*near, &*longer, &*upper] };
        let allow: Vec<&str> = allow.into_iter().filter(|allow| *allow != subject).collect();
        rules(name, does, &allow, &[])
    })
    .await;
}

#[tokio::test]
async fn sub_04_a_wildcard_that_touches_what_is_denied_is_refused() {
    all_are_refused(|name, subject, does| {
        let denied = subject.replace('*', "secret");
        let first = subject.split('.').next().unwrap();
        // What everybody is joined to is denied too, so that nothing at all may be joined.
        let denied: Vec<&str> = EVERYBODY.into_iter().chain([&*denied]).collect();
        rules(name, does, &[subject, &format!("{first}.>"), first], &denied)
    })
    .await;
}

#[tokio::test]
async fn sub_05_no_value_leads_any_vocabulary_into_system_space() {
    for (vocabulary, places) in by_vocabulary(&PLACES) {
        let everything = |config: &mut tidegate::config::Config| {
            config.roles = vec![role("user", &[">"], &[">"], &[">"])];
        };
        let mut stage = Stage::changed(vocabulary, everything).await;
        for place in &places {
            for root in SYSTEM {
                for value in [root.to_owned(), format!("{root}.x"), format!("{root}.>"), format!(".{root}")] {
                    let mut page = stage.page_for(&Place { target: place.target, ..*place }).await;
                    page.send(&place.with(&json!(value).to_string())).await;
                    page.heard().await;
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

/// A vocabulary whose clients choose every token but the first, in messages and calls.
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
fn sub_05_and_voc_01_a_vocabulary_that_names_any_subject_does_not_start() {
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
async fn voc_01_a_vocabulary_whose_clients_choose_opens_nothing_that_is_closed() {
    let one = |config: &mut tidegate::config::Config| {
        config.roles = vec![role("user", &["open.a.b"], &["open.a.b"], &["open.a.b"])];
    };
    let mut stage = Stage::start("open", OPEN, one).await;
    let claims = json!({ "sub": "alice", "role": "user" });
    for token in ["c", "A", "a-b"] {
        let mut page = stage.page("/open", &claims, 0).await;
        for what in ["join", "say", "ask"] {
            page.is_refused(&json!({ "do": what, "a": token, "b": "b" }).to_string()).await;
        }
        for what in ["say", "ask", "last"] {
            let body = json!({ "a": token, "b": "b" }).to_string();
            let answer = stage.call("POST", &format!("/{what}"), &claims, &body).await;
            assert_eq!(answer.status, 403, "{what} {token}: {answer:?}");
        }
    }
    assert_eq!(stage.joined(), 0);
    stage.keeps_to(&[]).await;
}

/// Everything has a last value that comes with a subscription.
fn with_last_values(config: &mut tidegate::config::Config, subjects: &[&str]) {
    let latest = |subject: &&str| Class { kind: Kind::Latest, snapshot: true, ..class(subject) };
    config.classes = subjects.iter().map(latest).collect();
    config.roles =
        vec![role("all", subjects, &[], &[]), role("none", &["other.x"], &["other.x"], &["other.x"])];
}

#[tokio::test]
async fn sub_09_a_last_value_is_shown_to_nobody_who_may_not_subscribe() {
    let joins: Vec<Place> =
        places().into_iter().filter(|place| matches!(place.does, Does::Joins(_))).collect();
    for (vocabulary, places) in by_vocabulary(&joins) {
        let subjects: Vec<&str> = places.iter().map(|place| subject(place.does)).collect();
        let stage = Stage::changed(vocabulary, |config| with_last_values(config, &subjects)).await;
        for place in &places {
            let all = json!({ "sub": "alice", "role": "all" });
            let mut warm = stage.page(place.target, &all, 0).await;
            let before = stage.joined();
            warm.send(&place.good()).await;
            eventually("alice has joined", || async { stage.joined() > before }).await;
            let value = json!({ "symbol": MARK }).to_string();
            stage.edge.publish(&subject(place.does).replace('*', "x"), value).await;
            warm.until(MARK).await;
            let mut cold = stage.page(place.target, &json!({ "sub": "alice", "role": "none" }), 0).await;
            let heard = cold.is_refused(&place.good()).await;
            assert!(!json!(heard).to_string().contains(MARK), "{place:?}: {heard:?}");
        }
    }
}

#[tokio::test]
async fn sub_09_calls_show_last_values_to_nobody_who_may_not_subscribe() {
    let subjects = ["signals.*", "user.alice.earnings", "user.bob.earnings"];
    let stage = Stage::changed("sentio", |config| with_last_values(config, &subjects)).await;
    let all = json!({ "sub": "alice", "role": "all" });
    for (target, subject) in [("/ws/trade-signals", "signals.AAPL"), ("/ws/earnings", "user.alice.earnings")]
    {
        let mut page = stage.page(target, &all, 0).await;
        let before = stage.joined();
        page.send(r#"{"action":"subscribe","symbols":["AAPL"]}"#).await;
        eventually("alice has joined", || async { stage.joined() > before }).await;
        stage.edge.publish(subject, json!({ "symbol": MARK }).to_string()).await;
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
    // Who may see somebody's earnings and asks still sees only those of its own.
    let answer = stage.call("GET", earnings, &json!({ "sub": "bob", "role": "all" }), "").await;
    assert!(answer.status == 404 && !answer.body.contains(MARK), "{answer:?}");
}

#[tokio::test]
async fn sub_10_figures_name_nobody_to_whom_they_are_not_for() {
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
        let subscribe = ["predictions.*", "room.*", "prices.*"];
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
        page.heard().await;
        eventually("something is joined", || async { stage.joined() > before }).await;
        for (role, status) in [("none", 403), ("counts", 200), ("all", 200)] {
            let answer = stage.call("GET", "/ws/stats", &json!({ "sub": "bob", "role": role }), "").await;
            assert_eq!(answer.status, status, "{vocabulary} {role}: {answer:?}");
            let outgoing = secrets.iter().filter(|secret| answer.body.contains(**secret));
            let (outgoing, is_all) = (outgoing.count(), role == "all");
            assert!(is_all || outgoing == 0, "{vocabulary} {role}: {answer:?}");
            assert!(!answer.body.contains("alice"), "{vocabulary} {role}: {answer:?}");
            if role == "counts" {
                assert_eq!(answer.json()["total_connections"], 1, "{answer:?}");
            }
        }
        let nobody = stage.call("GET", "/ws/stats", &Value::Null, "").await;
        assert_eq!(nobody.status, 401, "{vocabulary}: {nobody:?}");
    }
    // The others have no figures.
    for vocabulary in ["financegpt", "financegpt-mcp", "graphql-ws", "sentio"] {
        let stage = Stage::shipped(vocabulary).await;
        for target in ["/ws/stats", "/stats"] {
            let answer = stage.call("GET", target, &json!({ "sub": "bob", "role": "user" }), "").await;
            assert!(matches!(answer.status, 404 | 426), "{vocabulary} {target}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn id_01_calls_name_their_user_only_where_a_switch_says_so() {
    let claimed = |source, name: &str| IdentityHint { source, name: name.to_owned() };
    let stage = |http_user: Option<IdentityHint>| {
        Stage::changed("sentio", |config| {
            let user = claimed(HintSource::Message, "user_id");
            config.endpoints[0].access.trust_client_identity =
                Some(TrustClientIdentityConfig { user, http_user, role: "user".to_owned() });
            config.server.feed_linger = Duration::from_mins(1);
        })
    };
    let earnings = "/api/v1/dashboard/earnings";
    let trusting = stage(Some(claimed(HintSource::Query, "user_id"))).await;
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
    // A token counts for more than a name, and who names no one is no one.
    let bob = json!({ "sub": "bob", "role": "user" });
    assert_eq!(call(&mine, &bob).await.status, 403);
    assert_eq!(call(earnings, &Value::Null).await.status, 401);
    assert_eq!(call(&format!("{earnings}?user_id=*"), &Value::Null).await.status, 400);
    // Without `http_user`, only WebSocket clients name their user.
    let strict = stage(None).await;
    assert_eq!(strict.call("GET", &mine, &Value::Null, "").await.status, 401);
}
