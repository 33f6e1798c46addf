//! Runs the Autobahn test suite against the production code: handshake, decoder, limits and shard.

use std::process::Stdio;

use tidegate::config::endpoint::EndpointConfig;
use tokio::process::Command;

use crate::support::edge::TestEdge;

/// The exit code of `run.sh` if the suite cannot be installed, because it needs Python 2.7.
const SKIPPED: i32 = 77;

#[tokio::test]
async fn ws_06_autobahn_passes_and_every_close_is_clean() {
    let echo = EndpointConfig {
        path: "/_echo".to_owned(),
        vocabulary: "echo".to_owned(),
        ..EndpointConfig::default()
    };
    let edge = TestEdge::with(|config| {
        config.endpoints.push(echo);
        // Cases of 12 and 13 send a thousand messages of up to 128 KiB, in fragments of 256 bytes, as fast as
        // the echoes arrive.
        config.limits.max_message_bytes = 1 << 20;
        config.limits.max_fragments = 1024;
        config.limits.inbound_bytes_per_s = 1 << 30;
        config.limits.inbound_burst_bytes = 1 << 30;
        config.limits.commands_per_s = 100_000;
        config.limits.commands_burst = 100_000;
    })
    .await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/autobahn/run.sh");
    let mut command = Command::new(script);
    command.arg(format!("ws://{}/_echo", edge.address())).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let output_text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    // The test harness hides the output of tests that pass, but it must be visible that a test was skipped.
    if output.status.code() == Some(SKIPPED) {
        std::io::Write::write_all(&mut std::io::stderr(), output_text.as_bytes()).unwrap();
        return;
    }
    assert!(output.status.success(), "{output_text}");
}
