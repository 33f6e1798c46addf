//! The connection for publishing and requests: it survives bad replies and denied permissions, and after each fault it
//! works again as soon as the fault is over.

use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::nats::login::NatsLogin;
use tidegate::config::secret::Secret;
use tidegate::lane::LaneStatus;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::nats_server::RawProducer;
use crate::support::proxy::Fault;
use crate::support::proxy::Proxy;
use crate::support::proxy::Way;
use crate::support::proxy::Whose;

/// Malformed header blocks that a service may send.
const MALFORMED: [&[u8]; 6] = [
    b"NATS/1.0\r\nno colon here\r\n\r\n",
    b"NATS/1.0\r\nbad name: x\r\n\r\n",
    b"NATS/1.0\r\nname: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\nNats-Service-Error: \xff\xfe\r\n\r\n",
    b"NATS/1.0 abc\r\nname: x\r\n\r\n",
    b"what is this\r\n\r\n",
];

async fn answer_to(client: &mut Client, message: Value) -> Value {
    client.send(&message).await;
    client.next().await.expect("an answer")
}

fn publish(data: impl Into<Value>) -> Value {
    json!({ "type": "publish", "id": 1, "channel": "chat.general", "data": data.into() })
}

/// A request whose time limit is longer than any test.
fn request(subject: &str) -> Value {
    json!({ "type": "request", "id": 2, "channel": subject, "data": 1, "timeout_ms": 30_000 })
}

/// Users of a NATS server: `edge` with these permissions, and `any` with all.
fn users(permissions: &str) -> String {
    format!(
        "authorization {{ users: [ {{ user: edge, password: edge, permissions: {{ {permissions} }} }}, \
         {{ user: any, password: any }} ] }}\nno_auth_user: any"
    )
}

/// A node whose NATS user has these permissions.
async fn limited(permissions: &str) -> TestEdge {
    let login = NatsLogin::Password { user: "edge".to_owned(), password: Secret::new("edge") };
    let nats = NatsServer::with(&users(permissions)).await;
    TestEdge::with_nats(nats, |config| config.nats.login = login, false).await
}

/// A service that replies with what it receives.
async fn echo(edge: &TestEdge, subject: &'static str) {
    let (nats, mut requests) = edge.nats.subscribe(subject).await;
    tokio::spawn(async move {
        while let Some(request_message) = requests.next().await {
            nats.publish(request_message.reply.unwrap(), request_message.payload).await.unwrap();
        }
    });
}

#[tokio::test]
async fn a_malformed_reply_does_not_end_the_connection() {
    let edge = TestEdge::with(|config| config.server.shards = 1).await;
    let (_nats, mut requests) = edge.nats.subscribe("svc.bad").await;
    let mut service = RawProducer::connect(&edge.nats).await;
    let (mut requester, mut other) = (edge.client("alice").await, edge.client("bob").await);
    let connections = edge.nats.connections_made().await;
    for headers in MALFORMED {
        requester.send(&request("svc.bad")).await;
        let reply = requests.next().await.unwrap().reply.unwrap();
        for number in 0..3 {
            other.send(&publish(number)).await;
        }
        // One reply, one that is too late, and one to an unknown request.
        for subject in [reply.as_str(), reply.as_str(), &format!("{reply}x")] {
            service.publish(subject.as_bytes(), Some(headers), b"\"answer\"").await;
        }
        assert_eq!(requester.expect("reply").await["data"], "answer", "{headers:?}");
        for _ in 0..3 {
            other.expect("published").await;
        }
    }
    assert_eq!(edge.nats.connections_made().await, connections, "no link was made anew");
}

#[tokio::test]
async fn a_node_with_a_denied_inbox_publishes_but_is_not_ready() {
    let edge = limited("").await;
    edge.readyz(200).await;
    echo(&edge, "svc.echo").await;
    let mut client = edge.client("alice").await;
    assert_eq!(answer_to(&mut client, request("svc.echo")).await["type"], "reply");
    edge.nats.reload(&users("subscribe: { deny: \"_INBOX_tidegate.>\" }"));
    edge.readyz(503).await;
    // The server has received the message, so this is not an error.
    assert_eq!(answer_to(&mut client, publish(1)).await["type"], "published");
    assert_eq!(answer_to(&mut client, request("svc.echo")).await["code"], "unavailable", "and at once");
    edge.nats.reload(&users(""));
    edge.readyz(200).await;
    assert_eq!(answer_to(&mut client, request("svc.echo")).await["type"], "reply");
}

#[tokio::test]
async fn a_node_is_ready_once_its_inbox_is_allowed() {
    let edge = limited("subscribe: { deny: \"_INBOX_tidegate.>\" }").await;
    edge.readyz(503).await;
    let mut client = edge.client("alice").await;
    eventually("it publishes", || async { edge.nats.connections("tidegate/").await == 4 }).await;
    assert_eq!(answer_to(&mut client, publish(1)).await["type"], "published");
    edge.nats.reload(&users(""));
    edge.readyz(200).await;
    echo(&edge, "svc.echo").await;
    assert_eq!(answer_to(&mut client, request("svc.echo")).await["type"], "reply");
}

#[tokio::test]
async fn denied_messages_fail_at_once_and_others_are_not_disturbed() {
    let edge = limited("").await;
    edge.readyz(200).await;
    echo(&edge, "svc.echo").await;
    echo(&edge, "svc.no").await;
    let (mut one, mut other) = edge.pair().await;
    assert_eq!(answer_to(&mut one, request("svc.no")).await["type"], "reply");
    edge.nats.reload(&users("publish: { deny: [\"svc.no\", \"chat.no\"] }"));
    eventually("it is forbidden", || {
        let address = edge.address();
        async move {
            let mut client = Client::connect(&address, &crate::support::edge::token("bob")).await;
            answer_to(&mut client, request("svc.no")).await["code"] == "forbidden"
        }
    })
    .await;
    for client in [&mut one, &mut other] {
        let denied = json!({ "type": "publish", "id": 3, "channel": "chat.no", "data": 1 });
        for message in [request("svc.no"), denied, request("svc.echo"), publish(1)] {
            client.send(&message).await;
        }
        let mut answers = BTreeSet::new();
        for _ in 0..4 {
            let answer = client.next().await.unwrap();
            answers.insert(format!("{} {} {}", answer["id"], answer["type"], answer["code"]));
        }
        let expected = [
            "1 \"published\" null",
            "2 \"error\" \"forbidden\"",
            "2 \"reply\" null",
            "3 \"error\" \"forbidden\"",
        ];
        assert_eq!(answers, expected.map(str::to_owned).into());
    }
}

#[tokio::test]
async fn publishing_works_again_after_each_fault_of_its_link() {
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(&nats).await;
    let change = |config: &mut Config| {
        config.nats.urls = vec![proxy.url()];
        config.nats.ping_interval = Duration::from_secs(1);
        config.nats.request_timeout = Duration::from_millis(300);
    };
    let edge = TestEdge::with_nats(nats, change, false).await;
    edge.readyz(200).await;
    echo(&edge, "svc.echo").await;
    let (mut one, mut other) = edge.pair().await;
    for fault in [Fault::Silence, Fault::Stall(Way::Up), Fault::Stall(Way::Down), Fault::ResetAfter(3)] {
        proxy.does_to(Whose::Requests, fault);
        for client in [&mut one, &mut other] {
            let error = answer_to(client, publish(1)).await;
            assert_eq!(error["type"], "error", "{fault:?}");
            let is_known = error["message"].as_str().unwrap().contains("nothing was sent");
            let is_unknown = error["message"].as_str().unwrap().contains("the outcome is unknown");
            assert!(is_known != is_unknown, "{fault:?}: {error}");
        }
        edge.disconnected().await;
        edge.readyz(503).await;
        proxy.does(Fault::None);
        edge.readyz(200).await;
        for client in [&mut one, &mut other] {
            assert_eq!(answer_to(client, publish(1)).await["type"], "published", "{fault:?}");
            assert_eq!(answer_to(client, request("svc.echo")).await["type"], "reply", "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_feed_link_whose_server_sends_but_does_not_read_is_ended() {
    let nats = NatsServer::start().await;
    let proxy = Proxy::start(&nats).await;
    let change = |config: &mut Config| {
        config.nats.urls = vec![proxy.url()];
        config.nats.ping_interval = Duration::from_secs(1);
    };
    let edge = TestEdge::with_nats(nats, change, false).await;
    edge.readyz(200).await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.a").await;
    proxy.does_to(Whose::Feeds, Fault::Stall(Way::Up));
    let nats = edge.nats.client().await;
    let mut kinds = BTreeSet::new();
    let until = Instant::now() + crate::support::PATIENCE;
    while !kinds.contains("gap") {
        assert!(Instant::now() < until, "the link was never left: {kinds:?}");
        nats.publish("chat.a", "1".into()).await.unwrap();
        nats.flush().await.unwrap();
        kinds.insert(client.next().await.unwrap()["type"].as_str().unwrap().to_owned());
    }
    assert!(kinds.contains("message"), "it brought data all the time");
    proxy.does(Fault::None);
    edge.readyz(200).await;
}

/// The configuration of a server whose largest message has this many bytes.
fn largest(bytes: u32) -> String {
    format!("max_payload: {bytes}")
}

#[tokio::test]
async fn a_changed_max_payload_is_detected() {
    let nats = NatsServer::with(&largest(10_000)).await;
    let change = |config: &mut Config| {
        config.limits.publish_max_bytes = 60_000;
        config.limits.max_errors = 10_000;
        config.limits.inbound_bytes_per_s = 10_000_000;
        config.limits.inbound_burst_bytes = 10_000_000;
    };
    let edge = TestEdge::with_nats(nats, change, false).await;
    edge.readyz(200).await;
    let mut client = edge.client("alice").await;
    let answer =
        async |client: &mut Client, bytes: usize| answer_to(client, publish("x".repeat(bytes))).await;
    assert_eq!(answer(&mut client, 5000).await["type"], "published");
    assert_eq!(answer(&mut client, 20_000).await["code"], "bad_data");
    edge.nats.reload(&largest(30_000));
    let mut last = json!(null);
    let until = Instant::now() + crate::support::PATIENCE;
    while last["type"] != "published" {
        assert!(Instant::now() < until, "{last}");
        last = answer(&mut client, 20_000).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    edge.nats.reload(&largest(1000));
    // The message that finds the new limit is not published, and its client gets an error.
    while last["code"] != "bad_data" {
        assert!(Instant::now() < until, "{last}");
        last = answer(&mut client, 20_000).await;
    }
    edge.readyz(200).await;
    assert_eq!(answer(&mut client, 500).await["type"], "published");
    assert_eq!(answer(&mut client, 20_000).await["code"], "bad_data", "{last}");
}

/// A fake nats-server of this version on this port. It answers the `PING` after `CONNECT` and then closes; the receiver
/// gets the time of each such connection.
async fn fake_server(port: u16, version: &'static str) -> tokio::sync::mpsc::UnboundedReceiver<Instant> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (came, greeted) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let info = format!("INFO {{\"version\":\"{version}\",\"max_payload\":1000}}\r\n");
            stream.write_all(info.as_bytes()).await.unwrap();
            let mut received = Vec::new();
            while let Ok(1..) = stream.read_buf(&mut received).await {
                if received.ends_with(b"PING\r\n") {
                    stream.write_all(b"PONG\r\n").await.unwrap();
                    break;
                }
            }
            if came.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    greeted
}

#[tokio::test]
async fn an_old_server_that_replaces_a_good_one_is_detected() {
    let mut edge = TestEdge::start().await;
    edge.readyz(200).await;
    edge.nats.kill();
    let greeted = fake_server(edge.nats.port(), "2.9.10").await;
    eventually("the node reports the old server", || async {
        let is_old = |lane: &LaneStatus| !lane.connected && lane.server.as_deref() == Some("2.9.10");
        edge.app.node.readiness.lanes().iter().any(is_old) && edge.get("/readyz").await.0 == 503
    })
    .await;
    drop(greeted);
    // The fake server stops when it next sends a time.
    eventually("its port is free", || async {
        TcpListener::bind(("127.0.0.1", edge.nats.port())).await.is_ok()
    })
    .await;
    edge.nats.restart().await;
    edge.readyz(200).await;
}

#[tokio::test]
async fn a_server_that_accepts_and_closes_is_retried_with_pauses() {
    let port = NatsServer::free_port();
    let mut greeted = fake_server(port, "2.15.1").await;
    let urls = vec![format!("nats://127.0.0.1:{port}")];
    let change = |config: &mut Config| (config.nats.urls, config.server.shards) = (urls, 1);
    let _edge = TestEdge::with_nats(NatsServer::absent(), change, false).await;
    let first = greeted.recv().await.unwrap();
    let mut last = first;
    // Two links of one lane, eight attempts each: the pauses double from 10 ms up to 2 s, and at least half of each is
    // fixed.
    for _ in 1..16 {
        last = greeted.recv().await.unwrap();
    }
    assert!(last - first >= Duration::from_millis(500), "{:?}", last - first);
}

#[tokio::test]
async fn nat_01_only_the_service_that_got_a_request_can_reply() {
    let edge = TestEdge::start().await;
    edge.readyz(200).await;
    echo(&edge, "svc.echo").await;
    let mut client = edge.client("alice").await;
    assert_eq!(answer_to(&mut client, request("svc.echo")).await["type"], "reply");
    assert_eq!(answer_to(&mut client, publish(1)).await["type"], "published");
    // Producers may be other users.
    client.subscribe("chat.general").await;
    edge.publish("chat.general", "1").await;
    assert_eq!(client.expect("message").await["data"], 1);
    // A thief that has seen a reply subject, and a service that takes its time.
    let (nats, thief) = (edge.nats.producer().await, edge.nats.producer().await);
    let mut requests = nats.subscribe("svc.slow").await.unwrap();
    eventually("the service is known", || async { edge.nats.subscriptions("svc.slow").await > 0 }).await;
    client.send(&request("svc.slow")).await;
    let request_message = requests.next().await.unwrap();
    let reply = request_message.reply.unwrap();
    thief.publish(reply.clone(), "\"stolen\"".into()).await.unwrap();
    // When this request fails, the server has read everything before it.
    thief.request("nobody.serves.this", "".into()).await.unwrap_err();
    nats.publish(reply, "\"answer\"".into()).await.unwrap();
    assert_eq!(client.expect("reply").await["data"], "answer");
}

#[tokio::test]
async fn messages_and_replies_that_are_too_large_block_no_one() {
    let nats = NatsServer::with(&largest(8_000_000)).await;
    let change = |config: &mut Config| config.limits.delivery_max_bytes = 1000;
    let edge = TestEdge::with_nats(nats, change, false).await;
    edge.readyz(200).await;
    echo(&edge, "svc.echo").await;
    let (nats, mut requests) = edge.nats.subscribe("svc.large").await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.a").await;
    for size in [1000, 1001, 7_000_000, 1000] {
        edge.publish("chat.a", vec![b'x'; size]).await;
        let message = client.next().await.unwrap();
        if size > 1000 {
            let expected = json!({ "type": "gap", "channel": "chat.a", "cause": "too_large", "dropped": 1 });
            assert_eq!(message, expected);
        } else {
            assert_eq!(message["type"], "message");
        }
    }
    for (size, expected) in [(1000, "reply"), (7_000_000, "error")] {
        client.send(&request("svc.large")).await;
        let reply = requests.next().await.unwrap().reply.unwrap();
        nats.publish(reply, vec![b'x'; size].into()).await.unwrap();
        let answer = client.next().await.unwrap();
        assert_eq!(answer["type"], expected);
        assert!(expected == "reply" || answer["code"] == "service", "{answer}");
    }
}
