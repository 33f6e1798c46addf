//! The program `tidegate` as a command that ends.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::nats_server::NatsServer;
use crate::support::within;

/// What a command printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

/// Runs the command with this text as its standard input.
pub(crate) async fn tidegate(arguments: &[&str], input: &str) -> Printed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"TIDEGATE_") || name.as_encoded_bytes().starts_with(b"NATS_")
        {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads no input may have ended already.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = within("the end of the command", child.wait_with_output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Printed { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Creates the buckets of Tidegate, as an operator does.
pub(crate) async fn create_buckets(nats: &NatsServer) {
    let url = format!("nats.url={}", nats.operator_url());
    let printed = tidegate(&["streams", "apply", "--set", &url], "").await;
    assert_eq!(printed.code, 0, "{printed:?}");
}
