//! The faults between a node and its NATS server, and how long each lasts.

use std::time::Duration;

use crate::support::proxy::Fault;
use crate::support::proxy::Way;
use crate::support::proxy::Whose;

/// One fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// A fault of the proxy.
    Wire(Fault, Whose),
    /// nats-server is killed and restarted.
    Kill,
    /// nats-server is stopped (SIGSTOP) and continues.
    Pause,
    /// nats-server revokes subscription permissions of the node, and grants them again.
    Denial,
    /// nats-server accepts only shorter messages for a while.
    Payload,
}

/// When the fault ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// When the node has noticed it: `/readyz` is 503.
    Noticed,
    /// Soon, whether it was noticed or not.
    Soon,
}

/// Bytes that no server or client sends: binary data, unknown commands, a truncated command, an invalid reply, and
/// enormous sizes.
const GARBAGE: [&[u8]; 6] = [
    b"\x00\xff\xfe\x80\r\n",
    b"{\"type\":\"message\"}\r\n",
    b"MSG ",
    b"-ERR 'no",
    b"MSG prices.s0 1 18446744073709551615\r\n",
    b"HMSG prices.s0 1 4294967295 4294967295\r\n",
];

const SECOND: Duration = Duration::from_millis(30);

/// All faults, the most frequent first.
pub(crate) const TROUBLES: [(Trouble, Until); 27] = [
    (Trouble::Wire(Fault::Cut, Whose::All), Until::Noticed),
    (Trouble::Kill, Until::Noticed),
    (Trouble::Wire(Fault::Stall(Way::Down), Whose::All), Until::Noticed),
    (Trouble::Wire(Fault::Slice, Whose::All), Until::Soon),
    (Trouble::Wire(Fault::Garbage(Way::Down, GARBAGE[0]), Whose::All), Until::Soon),
    (Trouble::Wire(Fault::Cut, Whose::Feeds), Until::Noticed),
    (Trouble::Denial, Until::Noticed),
    (Trouble::Pause, Until::Noticed),
    (Trouble::Wire(Fault::Stall(Way::Up), Whose::All), Until::Noticed),
    (Trouble::Wire(Fault::Delay(SECOND), Whose::All), Until::Soon),
    (Trouble::Wire(Fault::Garbage(Way::Up, GARBAGE[4]), Whose::All), Until::Soon),
    (Trouble::Wire(Fault::ResetAfter(1234), Whose::All), Until::Soon),
    (Trouble::Wire(Fault::Silence, Whose::All), Until::Noticed),
    (Trouble::Wire(Fault::Cut, Whose::Requests), Until::Noticed),
    (Trouble::Wire(Fault::Garbage(Way::Down, GARBAGE[2]), Whose::Feeds), Until::Soon),
    (Trouble::Wire(Fault::Stall(Way::Down), Whose::All), Until::Soon),
    (Trouble::Wire(Fault::Stall(Way::Up), Whose::All), Until::Soon),
    (Trouble::Pause, Until::Soon),
    (Trouble::Wire(Fault::Garbage(Way::Down, GARBAGE[4]), Whose::All), Until::Soon),
    (Trouble::Wire(Fault::Garbage(Way::Down, GARBAGE[5]), Whose::Feeds), Until::Soon),
    (Trouble::Wire(Fault::Garbage(Way::Down, GARBAGE[3]), Whose::All), Until::Soon),
    (Trouble::Wire(Fault::Garbage(Way::Up, GARBAGE[1]), Whose::Requests), Until::Soon),
    (Trouble::Wire(Fault::Stall(Way::Down), Whose::Requests), Until::Noticed),
    (Trouble::Wire(Fault::ResetAfter(37), Whose::Feeds), Until::Soon),
    (Trouble::Wire(Fault::Stall(Way::Up), Whose::Feeds), Until::Noticed),
    (Trouble::Wire(Fault::Stall(Way::Up), Whose::Requests), Until::Noticed),
    (Trouble::Payload, Until::Soon),
];
