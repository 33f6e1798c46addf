//! Nodes find each other, and the `nats` command finds them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::nats::login::NatsLogin;
use tidegate::config::secret::Secret;
use tokio::process::Command;

use crate::support::admin::json_of;
use crate::support::admin::on_loopback;
use crate::support::edge::TestEdge;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::nats_server::PASSWORD;
use crate::support::within;

/// The ids of the nodes in a list.
fn ids(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_node_knows_which_nodes_there_are_and_which_have_gone() {
    let edge = TestEdge::with(on_loopback).await;
    let _clients = edge.pair().await;
    let body = json_of(&edge, "/nodes").await;
    let own = edge.app.node.session_prefix.trim_end_matches('-').to_owned();
    assert_eq!((ids(&body["nodes"]), &body["complete"]), ([own.clone()].into(), &json!(true)), "{body}");
    let node = &body["nodes"][0];
    assert_eq!((&node["node"], &node["connections"]), (&json!(&*edge.app.node.name), &json!(2)), "{body}");
    assert_eq!((&node["ready"], &node["draining"]), (&json!(true), &json!(false)), "{body}");
    assert_eq!(
        (&node["version"], &node["address"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(edge.address()))
    );
    let other = edge.another_node().await;
    let of_other = other.node.session_prefix.trim_end_matches('-').to_owned();
    eventually("both nodes answer", async || {
        ids(&json_of(&edge, "/nodes").await["nodes"]).contains(&of_other)
    })
    .await;
    let body = json_of(&edge, "/nodes").await;
    assert_eq!(
        (ids(&body["nodes"]), &body["missing"]),
        ([own, of_other.clone()].into(), &json!([])),
        "{body}"
    );
    other.drain().await;
    for _ in 0..2 {
        let body = json_of(&edge, "/nodes").await;
        let missing = (ids(&body["missing"]), &body["complete"]);
        assert_eq!(missing, ([of_other.clone()].into(), &json!(false)), "it is expected for a while: {body}");
        assert!(body["waited_ms"].as_u64() > Some(0), "{body}");
    }
}

#[tokio::test]
async fn a_node_without_nats_or_without_rights_says_why_it_is_alone() {
    let mut edge = TestEdge::with(on_loopback).await;
    edge.lose_nats().await;
    let body = json_of(&edge, "/nodes").await;
    assert_eq!((ids(&body["nodes"]).len(), &body["complete"]), (1, &json!(false)), "{body}");
    assert!(body["error"].is_string(), "{body}");
    let denied = "authorization { users: [ { user: tidegate, password: only-in-tests, permissions: { \
                  subscribe: { allow: [\">\"], deny: [\"$SRV.>\"] } } } ] }";
    let with_login = |config: &mut Config| {
        on_loopback(config);
        let (user, password) = ("tidegate".to_owned(), Secret::new(PASSWORD));
        config.nats.login = NatsLogin::Password { user, password };
    };
    let edge = TestEdge::with_nats(NatsServer::with(denied).await, with_login, false).await;
    edge.readyz(200).await;
    let body = json_of(&edge, "/nodes").await;
    assert_eq!((ids(&body["nodes"]).len(), &body["complete"]), (1, &json!(false)), "{body}");
    assert!(body["error"].as_str().unwrap().contains("nats/server.conf"), "{body}");
}

#[tokio::test]
async fn nodes_answer_the_questions_of_adr_32_with_counts_only() {
    let edge = TestEdge::with(on_loopback).await;
    let mut client = edge.client("alice").await;
    client.subscribe("chat.room").await;
    let id = edge.app.node.session_prefix.trim_end_matches('-').to_owned();
    let operator = edge.nats.operator().await;
    for (verb, kind) in [("PING", "ping"), ("INFO", "info"), ("STATS", "stats")] {
        for subject in
            [format!("$SRV.{verb}"), format!("$SRV.{verb}.tidegate"), format!("$SRV.{verb}.tidegate.{id}")]
        {
            let answer = within("an answer", operator.request(subject.clone(), "".into())).await.unwrap();
            let body: Value = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(body["type"], format!("io.nats.micro.v1.{kind}_response"), "{subject}: {body}");
            assert_eq!((&body["name"], &body["id"]), (&json!("tidegate"), &json!(id)), "{subject}: {body}");
            assert_eq!(body["metadata"], json!({ "node": &*edge.app.node.name }), "{subject}: {body}");
            let text = body.to_string();
            assert!(!text.contains("alice") && !text.contains("chat."), "{text}");
        }
        for other in ["orders", "tidegate.another"] {
            let asked = operator.request(format!("$SRV.{verb}.{other}"), "".into()).await;
            assert!(asked.is_err(), "another service or node is asked: {asked:?}");
        }
    }
}

/// The real command. It is optional here, because it is not part of Tidegate; `tests/setup.sh` gets it.
#[tokio::test]
async fn nats_micro_lists_all_nodes() {
    let found =
        Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/nats/get-nats-cli.sh")).arg("--cached").output();
    let found = found.await.unwrap();
    if !found.status.success() {
        // The test harness hides the output of tests that pass, but it must be visible that a test was skipped.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: the nats command is not there (tests/setup.sh gets it)");
        return;
    }
    let program = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    let edge = TestEdge::start().await;
    let other = edge.another_node().await;
    let url = edge.nats.operator_url();
    let nats = async |arguments: &[&str]| {
        let output = Command::new(&program).args(["--server", &url, "micro"]).args(arguments).output();
        let output = within("the end of the command", output).await.unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let nodes = [&edge.app, &other].map(|app| app.node.session_prefix.trim_end_matches('-').to_owned());
    eventually("both nodes are listed", async || {
        let printed = nats(&["ls"]).await;
        nodes.iter().all(|id| printed.contains(id.as_str()))
    })
    .await;
    for arguments in [&["info", "tidegate", &*nodes[0]][..], &["stats", "tidegate"]] {
        let printed = nats(arguments).await;
        assert!(printed.contains(&nodes[0]), "{arguments:?}: {printed}");
    }
}

#[tokio::test]
async fn a_flood_of_questions_leaves_a_node_able_to_answer() {
    let edge = TestEdge::with(on_loopback).await;
    let operator = edge.nats.operator().await;
    let inbox = operator.new_inbox();
    let mut answers = operator.subscribe(format!("{inbox}.*")).await.unwrap();
    for number in 0..500 {
        let inbox = format!("{inbox}.{number}");
        operator.publish_with_reply("$SRV.STATS.tidegate", inbox, "".into()).await.unwrap();
    }
    operator.flush().await.unwrap();
    for _ in 0..500 {
        within("an answer", answers.next()).await.unwrap();
    }
    let body = within("the nodes", json_of(&edge, "/nodes")).await;
    assert_eq!(body["complete"], true, "{body}");
    assert!(Duration::from_millis(body["waited_ms"].as_u64().unwrap()) < crate::support::PATIENCE);
}
