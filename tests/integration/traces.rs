//! Traces: trace contexts from clients to NATS and from producers to clients, in logs, and the spans that a collector gets.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::Message;
use async_nats::Subscriber;
use futures_util::StreamExt as _;
use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::http_url::HttpUrl;
use tidegate_protocol::class::Class;

use crate::support::admin;
use crate::support::collector::CollectedSpan;
use crate::support::collector::Collector;
use crate::support::edge::TestEdge;
use crate::support::edge::class;
use crate::support::edge::role;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw::Answer;
use crate::support::raw::ask;
use crate::support::within;
use crate::vocabularies::stage::Stage;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// `POST /v1/publish` of alice, with more headers.
async fn call(address: &str, headers: &str, body: &Value) -> Answer {
    let (body, token) = (body.to_string(), token("alice"));
    let head = format!(
        "POST /v1/publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    ask(address, format!("{head}{body}")).await
}

async fn next(subscriber: &mut Subscriber) -> Message {
    within("a message on NATS", subscriber.next()).await.unwrap()
}

/// The values of both headers.
fn context(message: &Message) -> (Option<&str>, Option<&str>) {
    let value = |name: &str| Some(message.headers.as_ref()?.get(name)?.as_str());
    (value("traceparent"), value("tracestate"))
}

#[tokio::test]
async fn a_message_has_its_own_trace_or_that_of_its_call() {
    let edge = TestEdge::start().await;
    let (_client, mut plain) = edge.nats.subscribe("chat.a").await;
    let of_call = format!("traceparent: {SAMPLED}\r\ntracestate: a=1\r\ntracestate: b=2\r\n");
    let message = |data: u8, headers: Value| json!({ "channel": "chat.a", "data": data, "headers": headers });
    let messages = json!({ "messages": [
        message(1, json!({})),
        message(2, json!({ "TraceParent": OTHER })),
        message(3, json!({ "traceparent": "00-1", "tracestate": "c=3" })),
    ] });
    assert_eq!(call(&edge.address(), &of_call, &messages).await.status, 200);
    assert_eq!(context(&next(&mut plain).await), (Some(SAMPLED), Some("a=1,b=2")));
    assert_eq!(context(&next(&mut plain).await), (Some(OTHER), None));
    assert_eq!(context(&next(&mut plain).await), (Some(SAMPLED), Some("a=1,b=2")));
    // W3C Trace Context §2.3: a malformed context is no mistake.
    for malformed in ["traceparent: 00-1\r\n", &format!("traceparent: {SAMPLED}\r\n{of_call}")] {
        assert_eq!(call(&edge.address(), malformed, &message(4, Value::Null)).await.status, 200);
        assert_eq!(context(&next(&mut plain).await), (None, None), "{malformed}");
    }
}

#[tokio::test]
async fn a_request_takes_its_trace_to_the_service() {
    let edge = TestEdge::start().await;
    let (service, mut requests) = edge.nats.subscribe("svc.echo").await;
    let mut alice = edge.client("alice").await;
    for (traceparent, expected) in [(SAMPLED, Some(SAMPLED)), ("00-1", None)] {
        let headers = json!({ "traceparent": traceparent });
        alice
            .send(
                &json!({ "type": "request", "id": 1, "channel": "svc.echo", "data": 1, "headers": headers }),
            )
            .await;
        let request = next(&mut requests).await;
        assert_eq!(context(&request).0, expected);
        service.publish(request.reply.unwrap(), "2".into()).await.unwrap();
        assert_eq!(alice.expect("reply").await["data"], 2);
    }
}

/// A class that shows the trace to clients.
fn shown(pattern: &str) -> Class {
    Class { headers: vec!["traceparent".to_owned(), "tracestate".to_owned()], ..class(pattern) }
}

#[tokio::test]
async fn a_client_gets_the_trace_of_the_producer_unchanged() {
    let edge = TestEdge::with(|config| config.classes.push(shown("chat.>"))).await;
    let (mut alice, mut bob) = (edge.client("alice").await, edge.client("bob").await);
    alice.subscribe("chat.a").await;
    let mut headers = HeaderMap::new();
    headers.insert("Traceparent", SAMPLED);
    let nats = edge.nats.client().await;
    nats.publish_with_headers("chat.a", headers, "1".into()).await.unwrap();
    assert_eq!(alice.expect("message").await["headers"], json!({ "traceparent": SAMPLED }));
    // From one client to another.
    let headers = json!({ "traceparent": UNSAMPLED, "tracestate": "a=1" });
    bob.send(&json!({ "type": "publish", "channel": "chat.a", "data": 2, "headers": headers })).await;
    assert_eq!(alice.expect("message").await["headers"], headers);
}

const VOCABULARY: &str = r#"
    name = "traced"
    [[path]]
    name = "traced"
    path = "/traced"
    [[receive]]
    when = { do = "join" }
    do = "subscribe"
    channel = "chat.a"
    confirm = { joined = true }
    [[receive]]
    when = { do = "ask" }
    do = "request"
    subject = "svc.echo"
    data = 1
    headers = { traceparent = "{msg.trace}" }
    send = { answer = "{reply}" }
    [[deliver]]
    pattern = "chat.*"
    send = { data = "{data}", trace = "{nats.traceparent}" }
    [error]
    send = { type = "error", code = "{code}", message = "{message}" }
    [[http]]
    method = "POST"
    path = "/say"
    do = "publish"
    subject = "chat.a"
    data = 1
    send = { said = true }
    [[http]]
    method = "POST"
    path = "/ask"
    do = "request"
    subject = "svc.echo"
    data = 1
    send = { answer = "{reply}" }
"#;

#[tokio::test]
async fn vocabularies_pass_traces_on_in_both_directions() {
    let stage = Stage::start("traced", VOCABULARY, |config| {
        config.roles = vec![role("user", &["chat.>"], &["chat.>"], &["svc.>"])];
        config.classes = vec![shown("chat.>")];
    })
    .await;
    let (service, mut requests) = stage.edge.nats.subscribe("svc.echo").await;
    let alice = json!({ "sub": "alice", "role": "user" });
    let mut page = stage.page("/traced", &alice, 0).await;
    page.send(r#"{"do":"join"}"#).await;
    page.until("joined").await;
    let headers = format!("traceparent: {SAMPLED}\r\n");
    let said = stage.call_with(&headers, "POST", "/say", &alice, "{}").await;
    assert_eq!(said.status, 200, "{said:?}");
    assert_eq!(page.until("trace").await, json!({ "data": 1, "trace": SAMPLED }));
    let mut answer = async |expected: &str| {
        let request = next(&mut requests).await;
        assert_eq!(context(&request).0, Some(expected));
        service.publish(request.reply.unwrap(), "2".into()).await.unwrap();
    };
    let ask = stage.call_with(&headers, "POST", "/ask", &alice, "{}");
    let (asked, ()) = tokio::join!(ask, answer(SAMPLED));
    assert_eq!((asked.status, asked.json()), (200, json!({ "answer": 2 })));
    page.send(&json!({ "do": "ask", "trace": OTHER }).to_string()).await;
    answer(OTHER).await;
    assert_eq!(page.until("answer").await, json!({ "answer": 2 }));
}

#[tokio::test]
async fn log_lines_of_requests_and_of_messages_that_nats_refuses_name_the_trace() {
    let mut nats = NatsServer::start().await;
    let config = "log.filter = \"info,tidegate::connection=debug\"";
    let node = Process::serve(&nats.node_url(), config).await;
    node.ready().await;
    let headers = format!("traceparent: {SAMPLED}\r\n");
    let answer = call(&node.address, &headers, &json!({ "channel": "prices.AAPL", "data": 1 })).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let line = node.logged("publish rejected", |line| line["status"] == 403).await;
    assert_eq!(line["trace_id"], TRACE, "{line}");
    let without = call(&node.address, "", &json!({ "channel": "prices.AAPL", "data": 1 })).await;
    let id = without.header("x-request-id").unwrap().to_owned();
    let line = node.logged("publish rejected", |line| line["request"] == id.as_str()).await;
    assert_eq!(line["trace_id"], Value::Null, "{line}");
    nats.kill();
    node.disconnected().await;
    let answer = call(&node.address, &headers, &json!({ "channel": "chat.a", "data": 1 })).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    let line = node.logged("publish rejected", |line| line["status"] == 503).await;
    assert_eq!(line["trace_id"], TRACE, "{line}");
}

/// A node that exports to this collector.
async fn exporting(collector: &Collector, change: impl FnOnce(&mut Config)) -> TestEdge {
    let url = HttpUrl::parse(&collector.url()).unwrap();
    TestEdge::with(|config| {
        config.server.node = "edge-1".to_owned();
        config.traces.endpoint = Some(url);
        config.traces.export_interval = Duration::from_millis(100);
        config.traces.sample_one_in = 0;
        config.classes.push(shown("chat.>"));
        change(config);
    })
    .await
}

fn kind(span: &CollectedSpan) -> u64 {
    span.json["kind"].as_u64().unwrap()
}

#[tokio::test]
async fn a_publish_is_a_span_between_its_sender_and_its_receivers() {
    let collector = Collector::start().await;
    let edge = exporting(&collector, |_| {}).await;
    let (_client, mut plain) = edge.nats.subscribe("chat.a").await;
    let mut alice = edge.client("alice").await;
    let headers = json!({ "traceparent": SAMPLED, "tracestate": "a=1" });
    alice
        .send(&json!({ "type": "publish", "id": 1, "channel": "chat.a", "data": 1, "headers": headers }))
        .await;
    alice.expect("published").await;
    let message = next(&mut plain).await;
    let [span] = &collector.spans(1).await[..] else { panic!("one span") };
    let own = span.text("spanId");
    assert_ne!(own, SPAN);
    assert_eq!(context(&message), (Some(format!("00-{TRACE}-{own}-01").as_str()), Some("a=1")));
    assert_eq!((span.text("traceId"), span.text("parentSpanId")), (TRACE, SPAN));
    assert_eq!((span.text("name"), kind(span), span.text("traceState")), ("send chat.>", 4, "a=1"));
    assert_eq!((&span.json["links"], &span.json["status"]), (&Value::Null, &Value::Null));
    let nanos = |member: &str| span.text(member).parse::<u128>().unwrap();
    assert!(nanos("startTimeUnixNano") > 0 && nanos("endTimeUnixNano") >= nanos("startTimeUnixNano"));
    let expected = [
        ("messaging.destination.name", "chat.a"),
        ("messaging.destination.template", "chat.>"),
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
        ("messaging.system", "nats"),
    ];
    let attributes: Vec<_> =
        span.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(attributes, expected);
    assert_eq!(span.resource["service.name"], "tidegate");
    assert_eq!(span.resource["service.instance.id"], "edge-1");
    let [export] = &collector.exports(1).await[..] else { panic!("one request") };
    let head = export.head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
}

#[tokio::test]
async fn a_request_is_a_span_that_says_whether_it_failed() {
    let collector = Collector::start().await;
    let edge = exporting(&collector, |_| {}).await;
    let (service, mut requests) = edge.nats.subscribe("svc.echo").await;
    let mut alice = edge.client("alice").await;
    let request = |channel: &str| json!({ "type": "request", "channel": channel, "data": 1, "headers": { "traceparent": SAMPLED } });
    alice.send(&request("svc.nobody")).await;
    assert_eq!(alice.expect("error").await["code"], "no_responders");
    let failed = &collector.spans(1).await[0];
    assert_eq!((failed.text("name"), kind(failed)), ("request", 3));
    assert_eq!(failed.attributes["error.type"], "no_responders");
    assert_eq!(failed.json["status"], json!({ "code": 2 }));
    alice.send(&request("svc.echo")).await;
    let received = next(&mut requests).await;
    service.publish(received.reply.clone().unwrap(), "2".into()).await.unwrap();
    alice.expect("reply").await;
    let span = &collector.spans(2).await[1];
    assert_eq!((span.text("parentSpanId"), &span.json["status"]), (SPAN, &Value::Null));
    assert_eq!(context(&received).0, Some(format!("00-{TRACE}-{}-01", span.text("spanId")).as_str()));
    assert_eq!(span.attributes["messaging.operation.type"], "send");
    assert_eq!(span.attributes["messaging.operation.name"], "request");
}

#[tokio::test]
async fn a_delivery_is_a_trace_of_its_own_that_links_to_the_producer() {
    let collector = Collector::start().await;
    let edge = exporting(&collector, |config| config.traces.deliveries = true).await;
    let (mut alice, mut bob) = (edge.client("alice").await, edge.client("bob").await);
    for client in [&mut alice, &mut bob] {
        client.subscribe("chat.a").await;
    }
    let publish = |data: u8, parent: &str| json!({ "type": "publish", "channel": "chat.a", "data": data, "headers": { "traceparent": parent } });
    alice.send(&publish(1, UNSAMPLED)).await;
    alice.send(&publish(2, SAMPLED)).await;
    for client in [&mut alice, &mut bob] {
        let first = client.until("message").await.pop().unwrap();
        assert_eq!(first["headers"]["traceparent"], UNSAMPLED, "no one records it");
    }
    let message = bob.expect("message").await;
    let spans = collector.spans(2).await;
    let of = |wanted: u64| spans.iter().find(|span| kind(span) == wanted).unwrap();
    let (sent, delivered) = (of(4), of(5));
    assert_eq!(message["headers"]["traceparent"], format!("00-{TRACE}-{}-01", sent.text("spanId")));
    assert_eq!(delivered.text("name"), "process chat.>");
    assert_eq!(delivered.attributes["messaging.operation.type"], "process");
    let link = &delivered.json["links"];
    assert_eq!((&link[0]["traceId"], &link[0]["spanId"]), (&sent.json["traceId"], &sent.json["spanId"]));
    assert_eq!(link.as_array().unwrap().len(), 1);
    assert_ne!(delivered.text("traceId"), TRACE);
    assert_eq!(delivered.json["parentSpanId"], Value::Null);
}

#[tokio::test]
async fn messages_without_a_trace_begin_one_if_the_configuration_says_so() {
    let collector = Collector::start().await;
    let edge = exporting(&collector, |config| config.traces.sample_one_in = 1).await;
    let (_client, mut plain) = edge.nats.subscribe("chat.a").await;
    let answer = call(&edge.address(), "", &json!({ "channel": "chat.a", "data": 1 })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let span = &collector.spans(1).await[0];
    let (trace, own) = (span.text("traceId"), span.text("spanId"));
    assert_eq!(context(&next(&mut plain).await).0, Some(format!("00-{trace}-{own}-01").as_str()));
    assert_eq!(span.json["parentSpanId"], Value::Null);
}

/// The value of a counter of the node.
async fn counted(edge: &TestEdge, name: &str) -> f64 {
    let text = admin::get(&admin::address(edge), "/metrics", "Host: localhost\r\n").await.body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    line.unwrap_or_default()
}

#[tokio::test]
async fn a_collector_that_fails_costs_spans_and_nothing_else() {
    let collector = Collector::start().await;
    let edge = exporting(&collector, |config| {
        admin::on_loopback(config);
        config.traces.sample_one_in = 1;
    })
    .await;
    let publish = async |data: u8| {
        let answer = call(&edge.address(), "", &json!({ "channel": "chat.a", "data": data })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    // A batch that the collector refuses for good is lost.
    collector.answer(400);
    publish(1).await;
    eventually("the span is lost", || async { counted(&edge, "tidegate_spans_dropped_total").await == 1.0 })
        .await;
    // One that it may accept later is sent again.
    collector.answer(503);
    publish(2).await;
    let exports = collector.exports(3).await;
    assert_eq!(exports[1].body, exports[2].body);
    collector.answer(200);
    eventually("the span is accepted", || async {
        counted(&edge, "tidegate_spans_exported_total").await == 1.0
    })
    .await;
    assert_eq!(counted(&edge, "tidegate_spans_dropped_total").await, 1.0);
}

#[tokio::test]
async fn a_node_that_shuts_down_exports_what_is_left() {
    let collector = Collector::start().await;
    let edge = exporting(&collector, |config| {
        config.traces.sample_one_in = 1;
        config.traces.export_interval = Duration::from_mins(1);
    })
    .await;
    assert_eq!(call(&edge.address(), "", &json!({ "channel": "chat.a", "data": 1 })).await.status, 200);
    edge.app.drain().await;
    assert_eq!(collector.spans(1).await.len(), 1);
}

#[tokio::test]
async fn a_shutdown_during_an_export_exports_each_span_once() {
    let collector = Collector::start().await;
    let edge = exporting(&collector, |config| config.traces.sample_one_in = 1).await;
    collector.be_silent(true);
    let publish = async |data: u8| {
        let body = json!({ "channel": "chat.a", "data": data });
        assert_eq!(call(&edge.address(), "", &body).await.status, 200);
    };
    publish(1).await;
    collector.exports(1).await;
    // It ends during the request, and is exported after it.
    publish(2).await;
    let node = std::sync::Arc::clone(&edge.app.node);
    let answer = async {
        node.readiness.draining().await;
        // A node that sends the spans again does so within this time.
        tokio::time::sleep(Duration::from_millis(300)).await;
        collector.be_silent(false);
    };
    tokio::join!(edge.app.drain(), answer);
    let spans = collector.spans(2).await;
    let ids: Vec<_> = spans.iter().map(|span| span.text("spanId").to_owned()).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert_ne!(ids[0], ids[1]);
}
