//! The users of `nats/server.conf`: nodes have no more rights than they need, and producers cannot speak in their name.

use async_nats::jetstream;

use crate::support::command::create_buckets;
use crate::support::command::tidegate;
use crate::support::edge::TestEdge;
use crate::support::nats_server::NatsServer;
use crate::support::nats_server::RawUser;
use crate::support::process::Process;

/// A publish of this text.
fn publish(subject: &str, data: &str) -> String {
    format!("PUB {subject} {}\r\n{data}\r\n", data.len())
}

async fn assert_denied(user: &mut RawUser, commands: &[String]) {
    for command in commands {
        let error = user.send(command).await.unwrap_or_default();
        assert!(error.contains("Permissions Violation"), "{command}: {error}");
    }
}

async fn assert_allowed(user: &mut RawUser, commands: &[String]) {
    for command in commands {
        assert_eq!(user.send(command).await, None, "{command}");
    }
}

/// A server with the streams `ORDERS`, `KV_tidegate_revoked` and `KV_tidegate_tickets`.
async fn with_streams() -> NatsServer {
    let nats = NatsServer::start().await;
    let context = jetstream::new(nats.operator().await);
    let orders = jetstream::stream::Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        ..jetstream::stream::Config::default()
    };
    context.create_stream(orders).await.unwrap();
    create_buckets(&nats).await;
    nats
}

#[tokio::test]
async fn nat_01_the_nodes_of_these_tests_have_the_rights_of_the_shipped_user() {
    let edge = TestEdge::start().await;
    edge.readyz(200).await;
    let node = Process::serve(&edge.nats.node_url(), "").await;
    node.ready().await;
    assert_eq!(edge.nats.users("tidegate/").await, ["tidegate".to_owned()].into());
    // Two nodes with two lanes each.
    assert_eq!(edge.nats.connections("tidegate/").await, 8);
}

#[tokio::test]
async fn nat_01_the_login_of_a_node_can_delete_no_stream() {
    let nats = with_streams().await;
    let mut node = RawUser::connect(&nats, "tidegate").await;
    let verbs =
        ["DELETE", "PURGE", "UPDATE", "CREATE", "MSG.DELETE", "SNAPSHOT", "RESTORE", "LEADER.STEPDOWN"];
    let streams = verbs.iter().flat_map(|verb| {
        ["ORDERS", "KV_tidegate_revoked"]
            .map(|stream| publish(&format!("$JS.API.STREAM.{verb}.{stream}"), ""))
    });
    assert_denied(&mut node, &streams.collect::<Vec<_>>()).await;
    let others =
        ["$JS.API.CONSUMER.CREATE.ORDERS", "$JS.API.CONSUMER.DELETE.ORDERS.c", "$SYS.REQ.SERVER.PING"]
            .into_iter()
            .chain(["$SYS.REQ.ACCOUNT.PING.CONNZ", "$JS.API.META.LEADER.STEPDOWN", "$JS.API.ACCOUNT.PURGE.x"])
            .chain(["prices.AAPL.x.y.", "_live.prices.AAPL", "$KV.other.key", "_INBOX.someone"]);
    let others = others.filter(|subject| !subject.ends_with('.')).map(|subject| publish(subject, ""));
    assert_denied(&mut node, &others.collect::<Vec<_>>()).await;
    let spied = [">", "*.>", "_INBOX.>", "$JS.>", "$SYS.>", "$KV.>", "*.prices.A"]
        .map(|subject| format!("SUB {subject} 1\r\n"));
    assert_denied(&mut node, &spied).await;
    // The streams are still there, and the same request of the operator deletes one.
    let context = jetstream::new(nats.operator().await);
    context.get_stream("ORDERS").await.unwrap();
    context.delete_stream("ORDERS").await.unwrap();
}

#[tokio::test]
async fn nat_01_the_login_of_a_node_reads_streams_and_writes_its_buckets() {
    let nats = with_streams().await;
    let mut node = RawUser::connect(&nats, "tidegate").await;
    let reads = [
        "STREAM.INFO.ORDERS",
        "STREAM.NAMES",
        "STREAM.MSG.GET.ORDERS",
        "DIRECT.GET.ORDERS",
        "DIRECT.GET.ORDERS.orders.7",
    ];
    let reads = reads.map(|api| publish(&format!("$JS.API.{api}"), ""));
    let writes =
        ["$KV.tidegate_revoked.sub.ann", "$KV.tidegate_tickets.t1"].map(|subject| publish(subject, "{}"));
    let nodes = ["tidegate.nodes", "_INBOX_tidegate.a"].map(|subject| publish(subject, ""));
    let subscribed = [
        "_INBOX_tidegate.>",
        "tidegate.nodes",
        "_live.$KV.tidegate_revoked.>",
        "_live.prices.>",
        "$SRV.PING",
    ]
    .map(|subject| format!("SUB {subject} 1\r\n"));
    for commands in [&reads[..], &writes, &nodes, &subscribed] {
        assert_allowed(&mut node, commands).await;
    }
    let context = jetstream::new(nats.operator().await);
    let revoked = context.get_key_value("tidegate_revoked").await.unwrap();
    assert_eq!(revoked.get("sub.ann").await.unwrap().as_deref(), Some(&b"{}"[..]));
}

#[tokio::test]
async fn nat_01_producers_cannot_speak_as_tidegate_or_jetstream_nor_read_its_replies() {
    let nats = with_streams().await;
    let mut producer = RawUser::connect(&nats, "producer").await;
    let forged = [
        "tidegate.nodes",
        "tidegate.revoked",
        "_INBOX_tidegate.a",
        "_live.prices.AAPL",
        "$KV.tidegate_revoked.sub.ann",
        "$KV.tidegate_tickets.t1",
        "$JS.API.STREAM.DELETE.ORDERS",
        "$JS.API.STREAM.CREATE.OTHER",
        "$JS.ACK.ORDERS.c.1.1.1.1.0",
        "$SRV.STATS.tidegate",
    ]
    .map(|subject| publish(subject, ""));
    assert_denied(&mut producer, &forged).await;
    let spied = [
        "_INBOX_tidegate.>",
        "_INBOX_tidegate.a",
        "tidegate.>",
        "_live.$KV.tidegate_revoked.>",
        "$KV.tidegate_tickets.>",
        "$SRV.STATS.tidegate",
        "$SRV.PING.tidegate.a1",
    ]
    .map(|subject| format!("SUB {subject} 1\r\n"));
    assert_denied(&mut producer, &spied).await;
    assert_allowed(&mut producer, &["prices.AAPL", "user.ann.notifications"].map(|to| publish(to, "1")))
        .await;
    assert_allowed(&mut producer, &["SUB svc.> 7\r\n".to_owned(), "SUB _INBOX.a 8\r\n".to_owned()]).await;
}

/// `tidegate check --connect` on this server, with these arguments.
async fn check(nats: &NatsServer, url: &str, arguments: &[&str]) -> String {
    let config = nats
        .file("check.toml", &format!("nats.url = \"{url}\"\nauth.hmac_secret = \"{}\"\n", "k".repeat(32)));
    let all = [&["check", "--connect", "--config", config.to_str().unwrap()], arguments].concat();
    let printed = tidegate(&all, "").await;
    assert_eq!(printed.code, 0, "{printed:?}");
    printed.out
}

#[tokio::test]
async fn check_finds_nothing_wrong_with_the_shipped_users() {
    let nats = with_streams().await;
    let (producer, file) =
        (NatsServer::login_of("producer"), nats.file("producer.txt", &NatsServer::login_of("producer")));
    let file = format!("@{}", file.display());
    for login in [&producer, &file] {
        let printed = check(&nats, &nats.node_url(), &["--producer", login]).await;
        for warning in ["warning ", "untested ", "FAILED "] {
            assert!(!printed.contains(warning), "{printed}");
        }
        assert!(
            printed.contains("ok       user producer may neither speak as Tidegate or JetStream, nor read"),
            "{printed}"
        );
    }
    let operator = check(&nats, &nats.node_url(), &["--producer", &NatsServer::login_of("operator")]).await;
    for found in [
        "subscribe to _INBOX_tidegate.>: it could read the replies",
        "publish on _INBOX_tidegate.>: it could forge",
        "publish on tidegate.>: it could close connections",
        "publish on _live.>: it could forge",
        "publish on $KV.tidegate_revoked.>: it could change",
        "publish on $JS.API.STREAM.DELETE.KV_tidegate_tickets: it could delete",
    ] {
        assert!(operator.contains(&format!("warning  user operator may {found}")), "{found}: {operator}");
    }
    assert!(operator.contains("as nats/server.conf does for its user `producer`"), "{operator}");
}

#[tokio::test]
async fn check_tries_what_a_user_may_do_who_cannot_ask_for_its_permissions() {
    let users = "authorization { users: [ { user: node, password: pw }, \
                 { user: weak, password: pw, permissions: { publish: { deny: [\"$SYS.>\", \"_live.>\", \"$KV.tidegate_tickets.>\"] }, \
                 subscribe: { deny: \"tidegate.>\" } } }, \
                 { user: good, password: pw, permissions: { publish: { allow: \"prices.>\" }, subscribe: \"_INBOX.>\" } } ] }";
    let nats = NatsServer::with(users).await;
    let operator = nats.client_as("node", "pw").await;
    let context = jetstream::new(operator);
    let bucket =
        jetstream::kv::Config { bucket: "tidegate_revoked".to_owned(), ..jetstream::kv::Config::default() };
    let revoked = context.create_key_value(bucket).await.unwrap();
    let url = nats.url().replace("//", "//node:pw@");
    let printed = check(&nats, &url, &["--producer", "weak:pw", "--producer", "good:pw"]).await;
    let expected = [
        ("subscribe to _INBOX_tidegate.>", true),
        ("publish on _INBOX_tidegate.>", true),
        ("publish on tidegate.>", true),
        ("publish on _live.>", false),
        ("publish on $KV.tidegate_revoked.>", true),
        ("publish on $KV.tidegate_tickets.>", false),
        ("publish on $JS.API.STREAM.UPDATE.KV_tidegate_revoked", true),
    ];
    for (right, is_warning) in expected {
        assert_eq!(
            printed.contains(&format!("warning  user weak may {right}:")),
            is_warning,
            "{right}: {printed}"
        );
    }
    assert!(printed.contains("ok       user good may neither speak"), "{printed}");
    assert!(
        printed.contains("Tidegate's NATS user may also publish on $JS.API.STREAM.DELETE.>"),
        "{printed}"
    );
    let status = revoked.status().await.unwrap();
    assert_eq!((status.values(), status.history()), (0, 1), "the attempts stored and changed nothing");
}

#[tokio::test]
async fn check_says_what_it_could_not_test_and_warns_of_a_nats_without_users() {
    let nats = NatsServer::with("authorization { user: ann, password: pw }").await;
    let printed = check(&nats, &nats.url().replace("//", "//ann:pw@"), &[]).await;
    assert!(printed.contains("what other NATS users may do was not tested"), "{printed}");
    assert!(
        printed.contains("help: run the check with the login of such a user: --producer USER:PASSWORD"),
        "{printed}"
    );
    let open = NatsServer::open().await;
    let printed = check(&open, &open.url(), &[]).await;
    assert!(
        printed.contains("warning  ")
            && printed.contains("a client without a login may do what only Tidegate may"),
        "{printed}"
    );
    assert!(printed.contains("nats/server.conf is an example"), "{printed}");
}
