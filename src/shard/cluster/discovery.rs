//! Node discovery: each node is an instance of the service `tidegate` (ADR-32 of NATS), which `nats micro` shows, and
//! asks the others for `/nodes` in the same way.
//!
//! Nothing is decided by these answers: they are for people.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::join;
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::timestamp::Timestamp;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tracing::debug;

use crate::connection::context::Context;
use crate::nats::micro::SERVICE;
use crate::nats::micro::Verb;
use crate::nats::scatter_gather::PeerReply;
use crate::nats::scatter_gather::Query;
use crate::shard::cluster::gather::KnownNodes;
use crate::shard::cluster::gather::NodeAnswer;
use crate::shard::cluster::gather::NodeAnswers;
use crate::shard::cluster::gather::Patience;
use crate::shard::cluster::gather::ReplyPart;
use crate::shard::cluster::local_node::LocalNode;
use crate::shard::job::ShardJob;

/// How long to wait for answers.
const PATIENCE: Patience = Patience { known: Duration::from_secs(1), unknown: Duration::from_millis(250) };
/// Numbers this young are not collected again, however many ask.
const FRESH: Duration = Duration::from_millis(50);
/// A longer answer than any node gives.
const MAX_ANSWER: usize = 4096;

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeReport {
    pub id: Box<str>,
    pub node: Box<str>,
    pub version: Box<str>,
    /// When it started, as in RFC 3339.
    pub started: Box<str>,
    pub uptime_s: u64,
    /// The address of `http.listen`.
    pub address: Box<str>,
    pub connections: u64,
    pub ready: bool,
    pub draining: bool,
}

/// The nodes that have answered, this one first, and those that have not.
#[derive(Debug, Default)]
pub struct FoundNodes {
    pub nodes: Vec<NodeReport>,
    /// The nodes that answered a question in the last ten minutes, but not this one, and did not drain then.
    pub missing: Vec<NodeReport>,
    pub waited: Duration,
    /// Why the other nodes could not be asked.
    pub error: Option<String>,
}

/// A call for all nodes.
pub(super) type NodesCall = oneshot::Sender<FoundNodes>;

/// The nodes that answered in the last ten minutes, and what they said last.
#[derive(Debug, Default)]
struct EarlierReports {
    known: KnownNodes,
    reports: RefCell<BTreeMap<Box<str>, NodeReport>>,
}

impl EarlierReports {
    /// What these nodes said last. A node that drained has ended as it should.
    fn of(&self, missing: &[Box<str>]) -> Vec<NodeReport> {
        let reports = self.reports.borrow();
        let found = missing.iter().filter_map(|id| reports.get(id));
        found.filter(|report| !report.draining).cloned().collect()
    }

    /// Replaces the reports of nodes that have answered, and forgets those of nodes that are not expected any more.
    fn replace(&self, answers: &BTreeMap<Box<str>, NodeReport>, missing: &[Box<str>]) {
        let mut reports = self.reports.borrow_mut();
        reports.retain(|id, _| missing.contains(id));
        reports.extend(answers.iter().map(|(id, report)| (id.clone(), report.clone())));
    }
}

/// Answers what others ask, and serves calls for all nodes, until the connection to NATS ends.
pub(super) async fn run(context: &Context, local: &LocalNode, calls: mpsc::Receiver<NodesCall>) {
    join(answer(context, local), serve_calls(context, local, calls)).await;
}

/// The numbers that the last answer had, and when they were collected.
type LastConnections = Cell<Option<(Instant, u64)>>;

async fn answer(context: &Context, local: &LocalNode) {
    let last = LastConnections::default();
    let id = service_id(local);
    let listeners = Verb::ALL.into_iter().flat_map(|verb| verb.subjects(&id).map(|subject| (verb, subject)));
    let listeners = listeners.filter_map(|(verb, subject)| Some((verb, Pattern::parse(&subject).ok()?)));
    join_all(listeners.map(|(verb, subject)| {
        let last = &last;
        async move {
            let mut requests = context.nats.optional_responder(subject);
            while let Some(request) = requests.next().await {
                let body = match verb {
                    Verb::Ping => ping(context, local),
                    Verb::Info => info(context, local),
                    Verb::Stats => match report(context, local, last).await {
                        Some(report) => stats(&report),
                        None => continue,
                    },
                };
                reply(&request, &body.to_string());
            }
        }
    }))
    .await;
}

fn reply(request: &Query, body: &str) {
    if let Err(error) = request.reply(body.as_bytes(), &[]) {
        debug!(%error, "cannot answer a question about this node");
    }
}

async fn serve_calls(context: &Context, local: &LocalNode, mut calls: mpsc::Receiver<NodesCall>) {
    let (last, earlier) = (LastConnections::default(), EarlierReports::default());
    while let Some(call) = calls.recv().await {
        // An error means that the caller has gone.
        let _ = call.send(find(context, local, &last, &earlier).await);
    }
}

/// All nodes that answer in time.
async fn find(
    context: &Context,
    local: &LocalNode,
    last: &LastConnections,
    earlier: &EarlierReports,
) -> FoundNodes {
    let started = Instant::now();
    let mut found = FoundNodes {
        nodes: report(context, local, last).await.into_iter().collect(),
        ..FoundNodes::default()
    };
    let replies = match context.nats.scatter_gather(&Verb::Stats.subject_of_all(), &[]) {
        Ok(replies) => replies,
        Err(error) => {
            found.missing = earlier.of(&earlier.known.expected(started));
            return FoundNodes { error: Some(error.to_string()), ..found };
        }
    };
    let own = service_id(local);
    let read = |reply: &PeerReply| {
        let report = NodeReport::decode(&reply.data())?;
        Some(NodeAnswer { node: report.id.clone(), content: ReplyPart::Last(report) })
    };
    // It also answers itself, over NATS: that shows that questions and answers arrive.
    let NodeAnswers { mut answers, missing } =
        earlier.known.gather(replies, Some(&own), PATIENCE, read).await;
    if answers.remove(&*own).is_none() {
        let help = "NATS must allow this node what nats/server.conf has for $SRV";
        found.error = Some(format!("the question has not come back to this node: {help}"));
    }
    found.missing = earlier.of(&missing);
    earlier.replace(&answers, &missing);
    found.nodes.extend(answers.into_values());
    found.waited = started.elapsed();
    found
}

/// The id of this node as an instance of the service.
fn service_id(local: &LocalNode) -> String {
    local.id.trim_end_matches('-').to_owned()
}

/// What this node says about itself. `None` if a shard is overloaded.
async fn report(context: &Context, local: &LocalNode, last: &LastConnections) -> Option<NodeReport> {
    let (node, now) = (&context.node, Instant::now());
    let connections = match last.get() {
        Some((at, connections)) if now.saturating_duration_since(at) < FRESH => connections,
        _ => {
            let count = |answer| ShardJob::Count { answer };
            let reports = join_all(local.shards.iter().map(|shard| shard.run(count))).await;
            let reports = reports.into_iter().collect::<Option<Vec<_>>>()?;
            let connections = reports.iter().flat_map(|report| report.counts.open).sum();
            last.set(Some((now, connections)));
            connections
        }
    };
    let (started, at) = node.started;
    Some(NodeReport {
        id: service_id(local).into(),
        node: (*node.name).into(),
        version: env!("CARGO_PKG_VERSION").into(),
        started: Timestamp::new(at).as_str().into(),
        uptime_s: now.saturating_duration_since(started).as_secs(),
        address: node.address.clone(),
        connections,
        ready: node.readiness.is_ready(),
        draining: node.readiness.is_draining(),
    })
}

/// What each answer begins with.
fn identity(context: &Context, local: &LocalNode, kind: &str) -> serde_json::Value {
    json!({
        "type": format!("io.nats.micro.v1.{kind}_response"),
        "name": SERVICE,
        "id": service_id(local),
        "version": env!("CARGO_PKG_VERSION"),
        "metadata": { "node": &*context.node.name },
    })
}

fn ping(context: &Context, local: &LocalNode) -> serde_json::Value {
    identity(context, local, "ping")
}

fn info(context: &Context, local: &LocalNode) -> serde_json::Value {
    let mut info = identity(context, local, "info");
    info["description"] = "Tidegate: WebSockets for NATS".into();
    info["endpoints"] = json!([{
        "name": ENDPOINT,
        "subject": Verb::Stats.subject_of(&service_id(local)),
        "queue_group": "",
        "metadata": null,
    }]);
    info
}

/// The one endpoint of the service: the question about its numbers.
const ENDPOINT: &str = "node";

/// Counts only.
fn stats(report: &NodeReport) -> serde_json::Value {
    json!({
        "type": "io.nats.micro.v1.stats_response",
        "name": SERVICE,
        "id": &*report.id,
        "version": &*report.version,
        "metadata": { "node": &*report.node },
        "started": &*report.started,
        "endpoints": [{
            "name": ENDPOINT,
            "subject": Verb::Stats.subject_of(&report.id),
            "queue_group": "",
            "num_requests": 0,
            "num_errors": 0,
            "last_error": "",
            "processing_time": 0,
            "average_processing_time": 0,
            "data": {
                "uptime_s": report.uptime_s,
                "address": &*report.address,
                "connections": report.connections,
                "ready": report.ready,
                "draining": report.draining,
            },
        }],
    })
}

/// The parts of an answer that are read.
#[derive(Deserialize)]
struct StatsAnswer {
    name: Box<str>,
    id: Box<str>,
    version: Box<str>,
    metadata: StatsMetadata,
    started: Box<str>,
    endpoints: Vec<StatsEndpoint>,
}

#[derive(Deserialize)]
struct StatsMetadata {
    node: Box<str>,
}

#[derive(Deserialize)]
struct StatsEndpoint {
    data: StatsData,
}

#[derive(Deserialize)]
struct StatsData {
    uptime_s: u64,
    address: Box<str>,
    connections: u64,
    ready: bool,
    draining: bool,
}

impl NodeReport {
    /// `None` if it is not the answer of a node.
    fn decode(answer: &[u8]) -> Option<Self> {
        if answer.len() > MAX_ANSWER {
            return None;
        }
        let StatsAnswer { name, id, version, metadata, started, endpoints } =
            serde_json::from_slice(answer).ok()?;
        let StatsEndpoint { data } = endpoints.into_iter().next()?;
        let StatsData { uptime_s, address, connections, ready, draining } = data;
        let node = metadata.node;
        let is_own = *name == *SERVICE;
        is_own.then_some(Self { id, node, version, started, uptime_s, address, connections, ready, draining })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written_and_others_are_ignored() {
        let report = NodeReport {
            id: "0a1b2c3d".into(),
            node: "edge-1".into(),
            version: "0.1.0".into(),
            started: "2026-01-01T00:00:00.000Z".into(),
            uptime_s: 7,
            address: "127.0.0.1:8080".into(),
            connections: 3,
            ready: true,
            draining: false,
        };
        let written = stats(&report).to_string();
        assert_eq!(NodeReport::decode(written.as_bytes()), Some(report));
        let long = written.replace("edge-1", &"x".repeat(MAX_ANSWER));
        for other in ["", "{}", "[]", &written.replace("\"tidegate\"", "\"orders\""), &long] {
            assert_eq!(NodeReport::decode(other.as_bytes()), None, "{other}");
        }
    }
}
