//! Runs pages in a real Chromium: scripts of `tests/browser`, run by Node.js.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Output;

use tokio::process::Command;

use crate::support::nats_server;

/// Runs a script, and prints its output if it fails.
pub(crate) async fn check(script: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script);
    let mut node = Command::new("node");
    node.arg(script).args(args).env("TIDEGATE_NATS_SERVER", nats_server::program());
    let output =
        node.output().await.expect("Node.js was not found: run `make test`, which explains what to install");
    assert!(output.status.success(), "{}", text(&output));
}

/// The whole output of a process.
pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
