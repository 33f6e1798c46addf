//! The rate limits of HTTP calls, by identity and by address, and that callers do not affect each other.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;
use tidegate::config::network::Network;

use crate::support::edge::role;
use crate::support::eventually;
use crate::support::raw::Answer;
use crate::support::raw::RawClient;
use crate::support::raw::ask;
use crate::support::within;
use crate::vocabularies::stage::Stage;
use crate::vocabularies::stage::authorization;

const LAST: &str = "/api/v1/dashboard/market-data?symbols=AAPL";

async fn stage(per_identity: usize, per_address: usize, proxies: &[&str]) -> Stage {
    Stage::changed("sentio", |config| {
        config.limits.calls_per_s = usize::from(per_identity > 0);
        config.limits.calls_burst = per_identity.max(1);
        config.limits.address_calls_per_s = usize::from(per_address > 0);
        config.limits.address_calls_burst = per_address.max(1);
        config.server.feed_linger = Duration::from_secs(60);
        config.http.trusted_proxies = proxies.iter().map(|text| Network::parse(text).unwrap()).collect();
    })
    .await
}

fn user(name: &str) -> Value {
    json!({ "sub": name, "role": "user" })
}

fn is_refused(answer: &Answer) -> bool {
    if answer.status == 429 {
        assert_eq!(answer.json()["code"], "rate_limited");
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{answer:?}");
        return true;
    }
    assert!(answer.status == 200 || answer.status == 404, "{answer:?}");
    false
}

#[tokio::test]
async fn a_caller_above_its_rate_gets_retry_after_and_others_are_served() {
    let stage = stage(5, 0, &[]).await;
    let alice = user("alice");
    let answers = join_all((0..40).map(|_| stage.call("GET", LAST, &alice, ""))).await;
    let refused = answers.iter().filter(|answer| is_refused(answer)).count();
    assert!((10..=35).contains(&refused), "{refused}");
    assert!(!is_refused(&stage.call("GET", LAST, &user("bob"), "").await));
}

#[tokio::test]
async fn many_channels_in_one_call_count_as_several() {
    let stage = stage(20, 0, &[]).await;
    let symbols: Vec<_> = (10..50).map(|number| number.to_string()).collect();
    let many = format!("/api/v1/dashboard/market-data?symbols={}", symbols.join(","));
    let alice = user("alice");
    let answers = join_all((0..30).map(|_| stage.call("GET", &many, &alice, ""))).await;
    let taken = answers.iter().filter(|answer| !is_refused(answer)).count();
    assert!((10..20).contains(&taken), "{taken}");
    assert!(!is_refused(&stage.call("GET", LAST, &user("bob"), "").await));
}

/// A call for all prices.
const ALL: &str = "/api/v1/dashboard/market-data";

/// Publishes prices of `bytes` bytes each until a call shows all of them.
async fn publish_prices(stage: &Stage, count: usize, bytes: usize) {
    let text = format!("\"{}\"", "x".repeat(bytes));
    eventually("all prices are known", || async {
        for number in 0..count {
            stage.nats.publish(format!("prices.S{number}"), text.clone().into()).await.unwrap();
        }
        stage.nats.flush().await.unwrap();
        let answer = stage.call("GET", ALL, &user("reader"), "").await;
        answer.status == 200 && answer.json()["count"] == count
    })
    .await;
}

#[tokio::test]
async fn a_call_for_many_last_values_counts_as_several_and_its_caller_waits() {
    let stage = stage(4, 0, &[]).await;
    // Readers of other names are not affected.
    publish_prices_as(&stage, 500).await;
    let alice = user("alice");
    let first = stage.call("GET", ALL, &alice, "").await;
    assert_eq!((first.status, &first.json()["count"]), (200, &json!(500)));
    let second = stage.call("GET", ALL, &alice, "").await;
    assert_eq!(second.status, 429, "{second:?}");
    let seconds: u64 = second.header("retry-after").unwrap().parse().unwrap();
    assert!((5..=12).contains(&seconds), "the values counted as ten calls: {seconds}");
    assert_eq!(stage.call("GET", ALL, &user("bob"), "").await.status, 200);
}

/// Publishes prices until a call shows all of them. Each call is of another user.
async fn publish_prices_as(stage: &Stage, count: usize) {
    let number = AtomicUsize::new(0);
    eventually("all prices are known", || async {
        for symbol in 0..count {
            stage.nats.publish(format!("prices.S{symbol}"), "1".into()).await.unwrap();
        }
        stage.nats.flush().await.unwrap();
        let reader = user(&format!("reader-{}", number.fetch_add(1, Ordering::Relaxed)));
        let answer = stage.call("GET", ALL, &reader, "").await;
        answer.status == 200 && answer.json()["count"] == count
    })
    .await;
}

#[tokio::test]
async fn answers_that_callers_do_not_read_are_bounded_in_bytes_and_freed_when_the_callers_go() {
    for (of_address, status, code) in [(true, 429, "rate_limited"), (false, 503, "busy")] {
        let stage = Stage::changed("sentio", |config| {
            config.limits.calls_per_s = 0;
            config.limits.address_calls_per_s = 0;
            config.limits.feed_value_bytes = 64 * 1024 * 1024;
            config.server.feed_linger = Duration::from_secs(60);
            let limits = &mut config.limits;
            *(if of_address { &mut limits.address_answer_bytes } else { &mut limits.answer_bytes }) =
                1024 * 1024;
        })
        .await;
        publish_prices(&stage, 16, 500_000).await;
        let mut silent = RawClient::connect_small(&stage.edge.address()).await;
        let authorization = authorization(&user("alice"));
        let request = format!("GET {ALL} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n");
        silent.send(request.as_bytes()).await;
        let head = silent.head().await;
        assert!(head.starts_with("HTTP/1.1 200"), "one answer always has room: {head}");
        let refused = stage.call("GET", ALL, &user("bob"), "").await;
        assert_eq!((refused.status, &refused.json()["code"]), (status, &json!(code)));
        assert_eq!(refused.header("retry-after"), Some("1"));
        drop(silent);
        eventually("the bytes are free again", || async {
            stage.call("GET", ALL, &user("bob"), "").await.status == 200
        })
        .await;
    }
}

#[tokio::test]
async fn calls_without_a_credential_count_by_address_whatever_user_they_claim() {
    let stage = stage(0, 5, &[]).await;
    let stage = &stage;
    let answers = join_all((0..40).map(|number| async move {
        // `X-Forwarded-For` of an untrusted peer is ignored, and invalid tokens are counted before they are verified.
        let headers =
            format!("X-Forwarded-For: 203.0.113.{number}\r\nAuthorization: Bearer a.b.c{number}\r\n");
        stage.call_with(&headers, "GET", LAST, &Value::Null, "").await.status
    }));
    let refused = answers.await.iter().filter(|status| **status == 429).count();
    assert!((10..=35).contains(&refused), "{refused}");
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_address() {
    let stage = stage(0, 5, &["127.0.0.0/8"]).await;
    let from = async |address: &str| {
        let headers = format!("X-Forwarded-For: 198.51.100.9, {address}\r\n");
        is_refused(&stage.call_with(&headers, "GET", LAST, &user("alice"), "").await)
    };
    let refused = join_all((0..40).map(|_| from("203.0.113.1"))).await;
    assert!(refused.iter().filter(|refused| **refused).count() >= 10);
    assert!(!from("203.0.113.2").await);
}

/// Calls whose service decides when they end.
const SLOW: &str = r#"
    name = "slow"
    [[path]]
    name = "page"
    path = "/page"
    [[http]]
    method = "POST"
    path = "/ask"
    do = "request"
    subject = "svc.slow"
    data = "{msg.text}"
    send = { answer = "{reply}" }
    [[http]]
    method = "POST"
    path = "/say"
    do = "publish"
    subject = "chat.a"
    data = "{msg.text}"
    send = { said = true }
"#;

async fn slow_stage(handshake_timeout: Duration) -> Stage {
    Stage::start("slow", SLOW, move |config| {
        config.roles = vec![role("user", &[], &["chat.a"], &["svc.slow"])];
        config.nats.request_timeout = Duration::from_mins(5);
        config.limits.request_timeout_max = Duration::from_mins(5);
        config.limits.handshake_timeout = handshake_timeout;
        config.limits.handshake_wait = Duration::ZERO;
    })
    .await
}

/// The calls that the node works on.
fn in_progress(stage: &Stage) -> usize {
    // Each has room for its answer, and the node itself refers to all.
    Arc::strong_count(&stage.edge.app.node.answer_budget) - 1
}

fn post(path: &str, more: &str, body: &str) -> Vec<u8> {
    let authorization = authorization(&user("alice"));
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}{more}\r\n{body}").into_bytes()
}

#[tokio::test]
async fn ex_04_a_call_does_not_outlive_its_caller() {
    let stage = slow_stage(Duration::from_mins(1)).await;
    let mut requests = stage.nats.subscribe("svc.slow").await.unwrap();
    stage.nats.flush().await.unwrap();
    let (body, mut callers) = (r#"{"text":"x"}"#, Vec::new());
    for _ in 0..3 {
        let mut caller = RawClient::connect(&stage.edge.address()).await;
        caller.send(&post("/ask", &format!("Content-Length: {}\r\n", body.len()), body)).await;
        callers.push(caller);
    }
    for _ in 0..3 {
        within("a request", requests.next()).await.unwrap();
    }
    assert_eq!(in_progress(&stage), 3);
    drop(callers);
    eventually("the calls end with their callers", || async { in_progress(&stage) == 0 }).await;
}

#[tokio::test]
async fn ex_04_a_slow_or_endless_body_is_refused() {
    let stage = slow_stage(Duration::from_secs(1)).await;
    let address = stage.edge.address();
    let slow = ask(&address, post("/say", "Content-Length: 100\r\n", r#"{"text":"#)).await;
    assert_eq!((slow.status, &slow.json()["code"]), (408, &json!("timeout")), "{slow:?}");
    let silent = ask(&address, post("/say", "Transfer-Encoding: chunked\r\n", "")).await;
    assert_eq!(silent.status, 408, "{silent:?}");
    // One byte less than the limit is accepted, as far as its size is concerned.
    let max = 65_536;
    for (bytes, status) in [(max, 400), (max + 1, 413)] {
        let body = "x".repeat(bytes);
        let answer = ask(&address, post("/say", &format!("Content-Length: {bytes}\r\n"), &body)).await;
        assert_eq!(answer.status, status, "{bytes}: {answer:?}");
        let chunked = format!("{bytes:x}\r\n{body}\r\n0\r\n\r\n");
        let answer = ask(&address, post("/say", "Transfer-Encoding: chunked\r\n", &chunked)).await;
        assert_eq!(answer.status, status, "{bytes} in chunks: {answer:?}");
    }
    // A stream without end is refused as soon as it is too long.
    let mut endless = RawClient::connect(&address).await;
    endless.send(&post("/say", "Transfer-Encoding: chunked\r\n", "")).await;
    for _ in 0..max / 1024 + 1 {
        endless.send(format!("400\r\n{}\r\n", "x".repeat(1024)).as_bytes()).await;
    }
    assert_eq!(within("an answer", endless.answer()).await.status, 413);
    assert_eq!(in_progress(&stage), 0);
}
