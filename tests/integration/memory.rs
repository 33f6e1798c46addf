//! The memory that the node allocates for an idle socket, counted by the allocator. This test runs itself in a process
//! without other tests.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;

use peak_alloc::PeakAlloc;
use serde_json::json;

use crate::support::edge::TestEdge;
use crate::support::edge::token;
use crate::support::eventually;
use crate::support::raw::frame;
use crate::support::raw::handshake;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The bytes that one more socket may allocate, with a subscription that it shares with all others. The allocator's own
/// bytes come on top: `tidegate bench idle` measures all.
///
/// If a change needs more, find out what has grown, and make it smaller or rare. If every socket needs it, raise the
/// budget in the same commit, and say in its message why. If a change needs less, lower it: at most 32 bytes may be left.
const BUDGET: usize = 2504;
/// How much of the budget may be left.
const LEFT: usize = 32;

/// Sockets that are connected before memory is measured, and again until it is measured a second time.
const SOCKETS: usize = 1000;
/// Set in the process that measures.
const MEASURES: &str = "TIDEGATE_TEST_MEASURES_MEMORY";

#[test]
fn an_idle_socket_keeps_its_memory_budget() {
    if std::env::var_os(MEASURES).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(measure());
    }
    let test = std::env::current_exe().unwrap();
    let arguments = ["--exact", "memory::an_idle_socket_keeps_its_memory_budget", "--nocapture"];
    let output = Command::new(test).args(arguments).env(MEASURES, "").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn measure() {
    let bytes = bytes_per_socket().await;
    assert!(bytes <= BUDGET, "{bytes} bytes for each socket, more than {BUDGET}: what has grown?");
    assert!(BUDGET - bytes <= LEFT, "{bytes} bytes for each socket: lower the budget of {BUDGET}");
}

/// The bytes that one more socket allocates, on a new node.
async fn bytes_per_socket() -> usize {
    let edge = TestEdge::start().await;
    let mut sockets = Vec::with_capacity(2 * SOCKETS);
    // Made before, because the tests keep each token that they make (`support/secrets.rs`).
    let requests: Vec<_> = (0..2 * SOCKETS).map(|number| request(number, "chat.all")).collect();
    let mut used = [0; 2];
    for used in &mut used {
        for _ in 0..SOCKETS {
            let request = requests[sockets.len()].clone();
            sockets.push(connect(edge.address(), request).await);
        }
        *used = settled().await;
    }
    (used[1] - used[0]) / SOCKETS
}

fn user(number: usize) -> String {
    format!("user-{number:05}")
}

/// A handshake and a subscription, to be sent at once.
fn request(number: usize, channel: &str) -> Vec<u8> {
    let mut request = handshake("/ws", &format!("Authorization: Bearer {}\r\n", token(&user(number))));
    let message = json!({ "type": "subscribe", "id": 1, "channel": channel }).to_string();
    request.extend(frame(0x81, message.as_bytes()));
    request
}

/// Connects a socket and waits until it is subscribed. What this allocates is freed again.
async fn connect(address: String, request: Vec<u8>) -> TcpStream {
    let connect = move || {
        let (mut stream, mut buffer, mut length) = (TcpStream::connect(address).unwrap(), [0; 2048], 0);
        stream.write_all(&request).unwrap();
        while !buffer[..length].windows(10).any(|window| window == b"subscribed") {
            let count = stream.read(&mut buffer[length..]).unwrap();
            assert!(count > 0, "not subscribed: {}", String::from_utf8_lossy(&buffer[..length]));
            length += count;
        }
        stream
    };
    tokio::task::spawn_blocking(connect).await.unwrap()
}

/// The bytes in use, when the node has freed what it only needed for handshakes: it rests.
async fn settled() -> usize {
    let mut before = 0;
    eventually("memory no longer changes", || {
        let is_settled = std::mem::replace(&mut before, ALLOCATOR.current_usage()) == before;
        async move { is_settled }
    })
    .await;
    before
}
