//! Clients of three dialects while the connection to NATS suffers all kinds of faults: no message is lost without a
//! gap, no stale value is called current, and every subscription recovers.

mod troubles;
mod world;

use fastrand::Rng;
use serde_json::json;

use crate::faults::troubles::TROUBLES;
use crate::faults::world::World;
use crate::support::client::Client;
use crate::support::dialect::Dialect;
use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::ledger::audit;
use crate::support::nats_server::NatsServer;
use crate::support::process::Process;
use crate::support::raw::RawClient;
use crate::support::recorder::Received;
use crate::support::recorder::Recorder;

/// How many faults each dialect gets by default. With the number of seeds in `TIDEGATE_FAULT_SEEDS`, or the seed in
/// `TIDEGATE_FAULT_SEED`, each gets all of them, in the order of the seed.
const TROUBLES_EACH: usize = 8;

#[expect(clippy::print_stdout, reason = "the log names the seed, to repeat a failed run")]
async fn assert_survives(dialect: Dialect) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match (number("TIDEGATE_FAULT_SEED"), number("TIDEGATE_FAULT_SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, Some(seeds)) => 1..=seeds,
        (None, None) => {
            let from = [Dialect::Native, Dialect::StockAgent, Dialect::Sentio]
                .iter()
                .position(|other| *other == dialect)
                .unwrap();
            let mut world = World::begin(dialect, 0).await;
            // Each fault is applied to one dialect, and the first one to all.
            let mine = TROUBLES.iter().skip(from).step_by(TROUBLES.len() / TROUBLES_EACH);
            for (trouble, until) in [TROUBLES[0]].iter().chain(mine) {
                world.apply(*trouble, *until).await;
            }
            return world.end().await;
        }
    };
    for seed in seeds {
        println!("{}: TIDEGATE_FAULT_SEED={seed}", dialect.name());
        let mut order = Rng::with_seed(seed);
        let mut world = World::begin(dialect, seed).await;
        for _ in 0..TROUBLES.len() {
            let (trouble, until) = TROUBLES[order.usize(..TROUBLES.len())];
            world.apply(trouble, until).await;
        }
        world.end().await;
    }
}

#[tokio::test]
async fn native_clients_survive_every_fault() {
    assert_survives(Dialect::Native).await;
}

#[tokio::test]
async fn stock_agent_clients_survive_every_fault() {
    assert_survives(Dialect::StockAgent).await;
}

#[tokio::test]
async fn sentio_clients_survive_every_fault() {
    assert_survives(Dialect::Sentio).await;
}

/// A client that subscribes before NATS is reachable for the first time. It gets an error after five seconds, and
/// messages once NATS is up.
async fn a_client_that_subscribes_before_nats_is_up_is_served(dialect: Dialect) {
    let change = |config: &mut tidegate::config::Config| dialect.configure(config);
    let mut edge = TestEdge::with_nats(NatsServer::absent(), change, false).await;
    let authorization = format!("Bearer {}", token("alice"));
    let headers = [("authorization", authorization.as_str())];
    let client = Client::open_with(&edge.address(), dialect.path(), &headers).await;
    let mut page = Recorder::with_dialect(dialect, client);
    let subject = format!("{}.first", dialect.latest());
    page.subscribe(&subject).await;
    let is_error = |received: &Received| match received {
        Received::Refused { .. } => true,
        Received::Other(message) => message.contains("error"),
        Received::Subscribed { .. }
        | Received::Unsubscribed { .. }
        | Received::Message { .. }
        | Received::Gap { .. } => false,
    };
    page.until("an error", |log| log.received.iter().any(is_error)).await;
    edge.nats.restart().await;
    edge.readyz(200).await;
    eventually(&format!("{}: a message", dialect.name()), || async {
        edge.publish(&subject, json!({ "n": 1, "of": subject }).to_string()).await;
        page.so_far().newest(&subject, &subject) == 1
    })
    .await;
}

#[tokio::test]
async fn a_native_client_that_subscribes_before_nats_is_up_is_served() {
    a_client_that_subscribes_before_nats_is_up_is_served(Dialect::Native).await;
}

#[tokio::test]
async fn a_stock_agent_client_that_subscribes_before_nats_is_up_is_served() {
    a_client_that_subscribes_before_nats_is_up_is_served(Dialect::StockAgent).await;
}

#[tokio::test]
async fn a_sentio_client_that_subscribes_before_nats_is_up_is_served() {
    a_client_that_subscribes_before_nats_is_up_is_served(Dialect::Sentio).await;
}

#[tokio::test]
async fn at_the_descriptor_limit_subscriptions_recover_after_a_nats_outage() {
    const FILES: u32 = 160;
    let mut nats = NatsServer::start().await;
    let node = Process::serve_with_files(
        FILES,
        &nats.node_url(),
        "limits.handshake_timeout_s = 300\nhttp.keep_alive_s = 300",
    )
    .await;
    let mut page = Recorder::start(Client::connect(&node.address, &token("alice")).await);
    page.join("chat.a").await;
    let mut silent = Vec::new();
    for _ in 0..FILES * 2 {
        silent.push(RawClient::connect(&node.address).await);
    }
    nats.kill();
    page.until("a gap", |log| log.gaps("chat.a") == 1).await;
    page.subscribe("chat.b").await;
    nats.restart().await;
    let mut number = 0;
    eventually("both channels deliver messages", || {
        number += 1;
        let (nats, page) = (&nats, &page);
        async move {
            let client = nats.client().await;
            for channel in ["chat.a", "chat.b"] {
                client.publish(channel, json!({ "n": number }).to_string().into()).await.unwrap();
            }
            client.flush().await.unwrap();
            let log = page.so_far();
            log.newest("chat.a", "chat.a") > 0 && log.newest("chat.b", "chat.b") > 0
        }
    })
    .await;
    drop(silent);
    audit(&page.stop().await, "chat.a");
}
