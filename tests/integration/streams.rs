//! `tidegate streams` on a real nats-server: what it prints, what it creates, and that it loses nothing.

use async_nats::jetstream;
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::StorageType;
use futures_util::StreamExt;

use crate::support::command::Printed;
use crate::support::command::tidegate;
use crate::support::nats_server::NatsServer;
use crate::support::within;

/// `tidegate streams` with the login of an operator.
async fn streams(nats: &NatsServer, arguments: &[&str]) -> Printed {
    let login = NatsServer::login_of("operator");
    streams_as(nats, &nats.url(), &[arguments, &["--user", &login]].concat()).await
}

async fn streams_as(nats: &NatsServer, url: &str, arguments: &[&str]) -> Printed {
    let config = nats.file("streams.toml", &format!("nats.url = \"{url}\"\n"));
    let (first, rest) = arguments.split_first().unwrap();
    tidegate(&[&["streams", first, "--config", config.to_str().unwrap()], rest].concat(), "").await
}

/// Asserts the exit code, and that the lines are in the output.
fn assert_printed(printed: &Printed, code: i32, lines: &[&str]) {
    assert_eq!(printed.code, code, "{printed:?}");
    for line in lines {
        let is_there = printed.out.lines().any(|printed| printed.trim().starts_with(line));
        assert!(is_there, "no line {line:?}: {printed:?}");
    }
}

#[tokio::test]
async fn buckets_are_planned_and_created_once() {
    let nats = NatsServer::start().await;
    let both = ["create   tidegate_revoked", "create   tidegate_tickets"];
    assert_printed(&streams(&nats, &["plan"]).await, 1, &both);
    assert_printed(&streams(&nats, &["plan"]).await, 1, &both);
    assert_printed(&streams(&nats, &["apply"]).await, 0, &[both[0], both[1], "done:"]);
    let there = ["ok       tidegate_revoked", "ok       tidegate_tickets"];
    assert_printed(&streams(&nats, &["plan"]).await, 0, &[there[0], there[1], "nothing to do"]);
    assert_printed(&streams(&nats, &["apply"]).await, 0, &[there[0], there[1], "done:"]);
    // The node may read what is there, so that it can plan, but it may not create.
    let node = streams_as(&nats, &nats.node_url(), &["plan"]).await;
    assert_printed(&node, 0, &there);
}

#[tokio::test]
async fn the_buckets_do_what_tidegate_needs() {
    let nats = NatsServer::start().await;
    assert_printed(&streams(&nats, &["apply"]).await, 0, &["done:"]);
    let node = nats.node_client().await;
    let mut live = node.subscribe("_live.$KV.tidegate_revoked.>").await.unwrap();
    let revoked = jetstream::new(node.clone()).get_key_value("tidegate_revoked").await.unwrap();
    // An entry that ends by itself: the server tells the nodes of both.
    revoked.create_with_ttl("jti.a", "{}".into(), std::time::Duration::from_secs(1)).await.unwrap();
    let entry = within("the entry", live.next()).await.unwrap();
    let header = |message: &async_nats::Message, name: &str| {
        message.headers.as_ref().and_then(|all| all.get_last(name).map(ToString::to_string))
    };
    assert_eq!(
        (entry.subject.as_str(), &entry.payload[..]),
        ("_live.$KV.tidegate_revoked.jti.a", &b"{}"[..])
    );
    assert!(header(&entry, "Nats-Sequence").is_some());
    let marker = within("the marker", live.next()).await.unwrap();
    assert_eq!((header(&marker, "Nats-Marker-Reason").as_deref(), marker.payload.len()), (Some("MaxAge"), 0));
    // A ticket is used up once.
    let tickets = jetstream::new(node).get_key_value("tidegate_tickets").await.unwrap();
    tickets.create("t1", "".into()).await.unwrap();
    assert_eq!(tickets.create("t1", "".into()).await.unwrap_err().kind(), kv::CreateErrorKind::AlreadyExists);
}

#[tokio::test]
async fn buckets_of_others_are_updated_without_losing_an_entry() {
    let nats = NatsServer::start().await;
    let context = jetstream::new(nats.operator().await);
    let bucket =
        kv::Config { bucket: "tidegate_revoked".to_owned(), max_bytes: 100_000, ..kv::Config::default() };
    let revoked = context.create_key_value(bucket).await.unwrap();
    revoked.put("sub.ann", "1".into()).await.unwrap();
    let changes = [
        "update   tidegate_revoked",
        "republish: not set -> ",
        "allow_msg_ttl: ",
        "subject_delete_marker_ttl: ",
    ];
    assert_printed(&streams(&nats, &["plan"]).await, 1, &changes);
    assert_printed(&streams(&nats, &["apply"]).await, 0, &changes);
    assert_printed(&streams(&nats, &["plan"]).await, 0, &["nothing to do"]);
    assert_eq!(revoked.get("sub.ann").await.unwrap().as_deref(), Some(&b"1"[..]));
    let info = context.get_stream("KV_tidegate_revoked").await.unwrap().get_info().await.unwrap();
    assert_eq!(info.config.max_bytes, 100_000, "a setting that is not Tidegate's");
}

#[tokio::test]
async fn what_would_lose_entries_is_left_to_a_person() {
    let nats = NatsServer::start().await;
    let context = jetstream::new(nats.operator().await);
    let wrong = kv::Config {
        bucket: "tidegate_tickets".to_owned(),
        storage: StorageType::File,
        ..kv::Config::default()
    };
    context.create_key_value(wrong).await.unwrap();
    let history = kv::Config { bucket: "tidegate_revoked".to_owned(), history: 5, ..kv::Config::default() };
    let revoked = context.create_key_value(history).await.unwrap();
    revoked.put("sub.ann", "1".into()).await.unwrap();
    revoked.put("sub.ann", "2".into()).await.unwrap();
    let conflicts = [
        "CONFLICT tidegate_revoked",
        "max_msgs_per_subject is 5 and must be 1, which can remove entries: run `nats stream edit KV_tidegate_revoked",
        "CONFLICT tidegate_tickets",
        "storage is \"file\" and must be \"memory\": back up what you need, remove it (`nats kv rm tidegate_tickets`)",
    ];
    for command in ["plan", "apply"] {
        assert_printed(&streams(&nats, &[command]).await, 1, &conflicts);
    }
    assert_eq!(revoked.history("sub.ann").await.unwrap().count().await, 2);
}

#[tokio::test]
async fn a_stream_that_stores_republished_messages_is_a_conflict() {
    let nats = NatsServer::start().await;
    assert_printed(&streams(&nats, &["apply"]).await, 0, &["done:"]);
    let copies = jetstream::stream::Config {
        name: "COPIES".to_owned(),
        subjects: vec!["_live.prices.>".to_owned()],
        ..jetstream::stream::Config::default()
    };
    jetstream::new(nats.operator().await).create_stream(copies).await.unwrap();
    for command in ["plan", "apply"] {
        assert_printed(
            &streams(&nats, &[command]).await,
            1,
            &["CONFLICT stream COPIES", "it stores _live.>"],
        );
    }
}

#[tokio::test]
async fn what_prevents_it_is_named_with_its_fix() {
    let nats = NatsServer::start().await;
    let denied = streams_as(&nats, &nats.node_url(), &["apply"]).await;
    assert_eq!(
        (denied.code, denied.out.as_str()),
        (1, ""),
        "what it could not do is not printed: {denied:?}"
    );
    assert!(
        denied
            .err
            .contains("NATS forbids $JS.API.STREAM.CREATE.KV_tidegate_revoked: use the login of an operator"),
        "{denied:?}"
    );
    let wrong = streams_as(&nats, &nats.url(), &["plan", "--user", "operator:wrong"]).await;
    let refused = "NATS refuses the user \"operator\": Authorization Violation; check its password";
    assert!(wrong.code == 1 && wrong.err.contains(refused), "{wrong:?}");
    let usage = streams_as(&nats, &nats.url(), &["plan", "--user", "operator"]).await;
    assert!(usage.code == 64 && usage.err.contains("write USER:PASSWORD"), "{usage:?}");
    let off = NatsServer::with("jetstream: disabled").await;
    let printed = streams_as(&off, &off.url(), &["plan"]).await;
    assert!(printed.code == 1 && printed.err.contains("JetStream is not enabled"), "{printed:?}");
    let absent = streams_as(&off, &format!("nats://127.0.0.1:{}", NatsServer::free_port()), &["plan"]).await;
    assert!(absent.code == 1 && absent.err.contains("refused"), "{absent:?}");
}
