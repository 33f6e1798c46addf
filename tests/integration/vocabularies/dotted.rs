//! Names with dots, such as `BRK.B`, in every place of a vocabulary that may have them: what the filter `dotted` lets
//! through, and what it does not.

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Kind;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::StatsAccess;

use crate::hostile::NO_LISTS_OF_TOKENS;
use crate::support::edge::class;
use crate::support::edge::role;
use crate::support::eventually;
use crate::vocabularies::names::escaped;
use crate::vocabularies::stage::MARK;
use crate::vocabularies::stage::Page;
use crate::vocabularies::stage::Stage;
use crate::vocabularies::table::SYSTEM;

const FILE: &str = include_str!("../../transcripts/dotted/vocabulary.toml");

async fn stage(roles: Vec<Role>) -> Stage {
    Stage::start("dotted", FILE, |config| {
        config.roles = roles;
        config.classes = vec![Class { kind: Kind::Latest, snapshot: true, ..class("prices.>") }];
    })
    .await
}

fn everything() -> Role {
    role("user", &[">"], &[">"], &[">"])
}

fn alice() -> Value {
    json!({ "sub": "alice", "role": "user" })
}

/// The messages with this symbol, as JSON, in each place.
fn messages(symbol: &Value) -> Vec<Value> {
    let message = |what: &str| json!({ "do": what, "symbol": symbol, "amount": 1, "of": [] });
    let list = |what: &str| json!({ "do": what, "symbols": [symbol] });
    vec![list("add"), list("note"), message("add"), message("watch"), message("order"), message("only")]
}

async fn assert_refused(page: &mut Page, message: &Value) {
    page.send(&message.to_string()).await;
    let received = page.received().await;
    let is_refused = received.iter().any(|message| message["error"].is_string());
    assert!(is_refused && page.is_open, "{message}: {received:?}");
}

#[tokio::test]
async fn sub_01_and_sub_06_dotted_values_that_are_no_tokens_reach_no_subject() {
    let mut stage = stage(vec![everything()]).await;
    let mut page = stage.page("/test/page", &alice(), 0).await;
    let many = vec!["x"; 300].join(".");
    let texts: Vec<&str> = NO_LISTS_OF_TOKENS.into_iter().chain([&*many]).collect();
    let others = [json!(true), json!({}), json!([]), json!(["a.b"]), json!({ "a": "b.c" })];
    for symbol in texts.iter().map(|text| json!(text)).chain(others) {
        for message in messages(&symbol) {
            assert_refused(&mut page, &message).await;
        }
        page.send(&json!({ "do": "set", "symbol": symbol }).to_string()).await;
        assert_refused(&mut page, &json!({ "do": "predict" })).await;
    }
    let list: Vec<String> = (0..5_000).map(|at| format!("a..{at}")).collect();
    assert_refused(&mut page, &json!({ "do": "add", "symbols": list })).await;
    for text in texts {
        let value = escaped(text);
        for (method, target) in [
            ("GET", format!("/last/{value}")),
            ("GET", format!("/last?symbols={value}")),
            ("GET", format!("/last?symbols=AAPL,{value}")),
            ("POST", format!("/orders/{value}")),
        ] {
            let answer = stage.call(method, &target, &alice(), "").await;
            assert_eq!(answer.status, 400, "{method} {target}: {answer:?}");
        }
    }
    assert_eq!(stage.joined(), 0);
    stage.assert_no_subject_but(&[]).await;
    page.send(r#"{"do":"add","symbols":["brk.b"]}"#).await;
    eventually("BRK.B has joined", || async { stage.joined() == 1 }).await;
    assert_eq!(stage.subscribed().await, ["prices.BRK.B"]);
}

#[tokio::test]
async fn sub_02_dotted_values_in_paths_are_checked_after_one_decoding() {
    let mut stage = stage(vec![everything()]).await;
    let many = vec!["x"; 60].join(".");
    for text in NO_LISTS_OF_TOKENS.into_iter().chain([&*many]) {
        for value in [escaped(text), escaped(&escaped(text))] {
            let answer = stage.handshake(&format!("/symbol/{value}"), &alice()).await;
            assert_eq!(answer.status, 400, "{text}: {answer:?}");
        }
    }
    for path in ["/both/BRK.B", "/compared/BRK.B"] {
        assert_eq!(stage.handshake(path, &alice()).await.status, 400, "{path}");
    }
    assert_eq!(stage.joined(), 0);
    stage.assert_no_subject_but(&[]).await;
    let _page = stage.page("/symbol/brk%2Eb", &alice(), 1).await;
    assert_eq!(stage.subscribed().await, ["prices.BRK.B"]);
}

#[tokio::test]
async fn sub_03_and_sub_04_dotted_values_stay_within_the_permissions() {
    let subscribe = ["prices.*", "prices.*.*"];
    let mut user = role("user", &subscribe, &["orders.alice.*"], &["predict.*"]);
    user.subscribe.deny = role("", &["prices.NO.*"], &[], &[]).subscribe.allow;
    let mut stage = stage(vec![user]).await;
    let mut page = stage.page("/test/page", &alice(), 0).await;
    page.send(r#"{"do":"set","symbol":"BRK.B"}"#).await;
    for message in [
        json!({ "do": "add", "symbols": ["no.x"] }),
        json!({ "do": "add", "symbol": "a.b.c" }),
        json!({ "do": "watch", "symbol": "NO.X" }),
        json!({ "do": "order", "symbol": "BRK.B", "amount": 1 }),
        json!({ "do": "predict" }),
    ] {
        assert_refused(&mut page, &message).await;
    }
    for (method, target) in [
        ("GET", "/last/NO.X"),
        ("GET", "/last/A.B.C"),
        ("GET", "/last?symbols=AAPL,NO.X"),
        ("POST", "/orders/BRK.B"),
    ] {
        let answer = stage.call(method, target, &alice(), "1").await;
        assert_eq!(answer.status, 403, "{method} {target}: {answer:?}");
    }
    assert_eq!(stage.joined(), 0);
    stage.assert_no_subject_but(&[]).await;
}

#[tokio::test]
async fn sub_05_dotted_values_reach_no_system_subject() {
    let mut stage = stage(vec![everything()]).await;
    let mut page = stage.page("/test/page", &alice(), 0).await;
    for root in SYSTEM {
        for symbol in [root.to_owned(), format!("{root}.x"), format!("x.{root}"), format!(".{root}")] {
            page.send(&json!({ "do": "add", "symbols": [symbol] }).to_string()).await;
            page.send(&json!({ "do": "order", "symbol": symbol, "amount": 1 }).to_string()).await;
        }
    }
    page.received().await;
    // What has no `$` is below the first token of the vocabulary, and harmless there.
    for subject in stage.subscribed().await {
        assert!(subject.starts_with("prices.") && !subject.contains('$'), "{subject}");
    }
    for message in stage.published().await {
        assert!(
            message.subject.starts_with("orders.alice.") && !message.subject.contains('$'),
            "{message:?}"
        );
    }
}

#[tokio::test]
async fn sub_08_the_reply_to_a_dotted_request_reaches_only_its_client() {
    let stage = stage(vec![everything()]).await;
    let mut asks = stage.page("/test/page", &alice(), 0).await;
    let mut silent = stage.page("/test/page", &alice(), 0).await;
    asks.send(r#"{"do":"set","symbol":"BRK.B"}"#).await;
    asks.send(r#"{"do":"predict"}"#).await;
    asks.until(MARK).await;
    assert_eq!(asks.received().await, Vec::<Value>::new(), "one request has one reply");
    assert_eq!(silent.received().await, Vec::<Value>::new());
}

#[tokio::test]
async fn sub_09_and_sub_10_last_values_and_statistics_of_dotted_names_need_permission() {
    let seer = |name: &str, subscribe: &[&str], stats| Role { stats, ..role(name, subscribe, &[], &[]) };
    let names = ["prices.*", "prices.*.*"];
    let stage =
        stage(vec![seer("user", &names, StatsAccess::All), seer("none", &["prices.*"], StatsAccess::Counts)])
            .await;
    let none = json!({ "sub": "bob", "role": "none" });
    let mut warm = stage.page("/test/page", &alice(), 0).await;
    warm.send(r#"{"do":"add","symbols":["BRK.B"]}"#).await;
    eventually("alice has joined", || async { stage.joined() == 1 }).await;
    stage.edge.publish("prices.BRK.B", json!(MARK).to_string()).await;
    warm.until(MARK).await;
    let seen = || async { stage.call("GET", "/last/BRK.B", &alice(), "").await.body.contains(MARK) };
    eventually("alice sees the last value", seen).await;
    for target in ["/last/BRK.B", "/last?symbols=BRK.B"] {
        let answer = stage.call("GET", target, &none, "").await;
        assert!(answer.status == 403 && !answer.body.contains(MARK), "{target}: {answer:?}");
    }
    let mut cold = stage.page("/test/page", &none, 0).await;
    cold.send(r#"{"do":"add","symbols":["BRK.B"]}"#).await;
    let received = json!(cold.received().await).to_string();
    assert!(received.contains("forbidden") && !received.contains(MARK), "{received}");
    let of_alice = stage.call("GET", "/stats", &alice(), "").await;
    assert_eq!(of_alice.json(), json!({ "items": { "page": ["BRK.B"] } }));
    assert_eq!(stage.call("GET", "/stats", &none, "").await.json(), json!({ "items": {} }));
}

#[tokio::test]
async fn statistics_count_errors_and_refusals_and_know_the_latency() {
    let seer = |name: &str, subscribe: &[&str], stats| Role { stats, ..role(name, subscribe, &[], &[]) };
    let names = ["prices.*", "prices.*.*"];
    let stage =
        stage(vec![seer("user", &names, StatsAccess::All), seer("none", &["prices.*"], StatsAccess::Counts)])
            .await;
    let none = json!({ "sub": "bob", "role": "none" });
    let figures = async || stage.call("GET", "/figures", &none, "").await.json();
    assert_eq!(figures().await, json!({ "errors": 0, "refused": 0, "p99": null }));
    assert_eq!(stage.call("GET", "/last/BRK.B", &none, "").await.status, 403);
    let mut cold = stage.page("/test/page", &none, 0).await;
    cold.send(r#"{"do":"add","symbols":["BRK.B"]}"#).await;
    assert!(json!(cold.received().await).to_string().contains("forbidden"));
    let mut warm = stage.page("/test/page", &alice(), 0).await;
    warm.send(r#"{"do":"add","symbols":["BRK.B"]}"#).await;
    eventually("alice has joined", || async { stage.joined() == 1 }).await;
    stage.edge.publish("prices.BRK.B", json!(MARK).to_string()).await;
    warm.until(MARK).await;
    let figures = figures().await;
    assert_eq!((&figures["errors"], &figures["refused"]), (&json!(2), &json!(1)), "{figures}");
    assert!(figures["p99"].as_f64().is_some_and(|p99| p99 > 0.0), "{figures}");
}
