//! Regression tests: the shortest inputs that once stopped a node or misled its clients. Each name begins with the id
//! of the bug.

mod abuse;
mod promises;
mod sessions;

use std::ops::Range;

use serde_json::Value;
use serde_json::json;

use crate::support::edge::TestEdge;
use crate::support::process::Process;

/// `prices.s0` and so on.
fn names(prefix: &str, numbers: Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{prefix}{number}")).collect()
}

/// A node that serves simple pages of Stock Agent. Clients without a token are guests.
///
/// With the default rate, the node would read a client's lists over a minute. Here it reads all at once.
async fn stock_agent(nats_url: &str) -> Process {
    const COMMANDS: u32 = 100_000;
    let vocabulary = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vocabularies/dialects/stock-agent.toml");
    let config = format!(
        "limits.commands_per_s = {COMMANDS}\nlimits.commands_burst = {COMMANDS}\n\
         [[class]]\npattern = \"prices.*\"\nkind = \"latest\"\nsnapshot = true\n\
         [[role]]\nname = \"guest\"\nsubscribe = {{ allow = [\"prices.*\", \"alerts\"] }}\n\
         [[endpoint]]\nvocabulary = \"{vocabulary}\"\nanonymous_role = \"guest\"\n"
    );
    Process::serve(nats_url, &config).await
}

/// A `subscribe` or `unsubscribe` of Stock Agent for these symbols.
fn prices(kind: &str, symbols: &[String]) -> String {
    json!({ "type": kind, "channel": "prices", "symbols": symbols }).to_string()
}

/// Publishes a JSON value.
async fn publish(edge: &TestEdge, subject: &str, value: &Value) {
    edge.publish(subject, value.to_string()).await;
}
