//! Runs the Autobahn test suite against the production code: handshake, decoder, limits and shard.

use std::process::Stdio;

use tidegate::config::Config;
use tidegate::config::endpoint::EndpointConfig;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::edge::TestEdge;
use crate::support::tls::TlsClient;

/// The exit code of `run.sh` if the suite cannot be installed, because it needs Python 2.7.
const SKIPPED: i32 = 77;

#[tokio::test]
async fn ws_06_autobahn_passes_and_every_close_is_clean() {
    let edge = TestEdge::with(with_echo).await;
    judge(&edge.address(), None).await;
}

/// Fewer cases, because what differs from the above is the stream alone. `TIDEGATE_AUTOBAHN` chooses more.
#[tokio::test]
async fn ws_06_autobahn_passes_over_tls() {
    let edge = TestEdge::with_tls(with_echo).await;
    let address = edge.address();
    // The suite has no TLS: it connects to this listener, and what it sends goes over TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = listener.local_addr().unwrap().to_string();
    let forwarding = tokio::spawn(async move {
        let tls = TlsClient::new(include_str!("support/tls/ca.pem"));
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let (tls, address) = (tls.clone(), address.clone());
            tokio::spawn(async move {
                let node = TcpStream::connect(address).await.unwrap();
                let mut node = tls.over("localhost", node).await;
                let _ = copy_bidirectional(&mut client, &mut node).await;
            });
        }
    });
    judge(&plain, Some("short")).await;
    forwarding.abort();
}

fn with_echo(config: &mut Config) {
    let echo = EndpointConfig {
        path: "/_echo".to_owned(),
        vocabulary: "echo".to_owned(),
        ..EndpointConfig::default()
    };
    config.endpoints.push(echo);
    // Cases of 12 and 13 send a thousand messages of up to 128 KiB, in fragments of 256 bytes, as fast as the echoes
    // arrive.
    config.limits.max_message_bytes = 1 << 20;
    config.limits.max_fragments = 1024;
    config.limits.inbound_bytes_per_s = 1 << 30;
    config.limits.inbound_burst_bytes = 1 << 30;
    config.limits.commands_per_s = 100_000;
    config.limits.commands_burst = 100_000;
}

/// Runs the suite, with these cases if the environment chooses none.
async fn judge(address: &str, cases: Option<&str>) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/autobahn/run.sh");
    let mut command = Command::new(script);
    command.arg(format!("ws://{address}/_echo")).stdin(Stdio::null()).kill_on_drop(true);
    if let Some(cases) = cases.filter(|_| std::env::var_os("TIDEGATE_AUTOBAHN").is_none()) {
        command.env("TIDEGATE_AUTOBAHN", cases);
    }
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
