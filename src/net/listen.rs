//! Opens a TCP listener whose queue holds a storm of reconnects.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::net::TcpSocket;

/// How many sockets may wait for a listener to accept them. The kernel drops the SYN of each further one, and the client
/// repeats it after one second. The usual 128 are too few when all clients of a node reconnect at once.
pub const BACKLOG: u32 = 4096;

/// The file with the kernel's limit on the queues of listeners, for this network namespace.
const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";

/// Listens on an address. The kernel shortens the queue to its limit ([`short_queue`]). Call this in a tokio runtime.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A node can start again while connections of its predecessor are still in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Says that the kernel's limit is lower than [`BACKLOG`], and how to raise it. `None` if it is not, or if this system
/// has no such file.
pub fn short_queue() -> Option<String> {
    short_queue_of(&std::fs::read_to_string(SOMAXCONN).ok()?)
}

fn short_queue_of(somaxconn: &str) -> Option<String> {
    let limit: u32 = somaxconn.trim().parse().ok().filter(|limit| *limit < BACKLOG)?;
    Some(format!(
        "net.core.somaxconn is {limit}, so only {limit} clients at a time can wait to be accepted, and when many reconnect \
         at once, the others wait for a second or more: raise it to {BACKLOG} (sysctl net.core.somaxconn={BACKLOG}; in a \
         container `--sysctl`, or `sysctls` in Compose)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_kernel_below_the_backlog_is_named_with_its_remedy() {
        for enough in ["4096\n", "65535\n", "", "unknown"] {
            assert_eq!(short_queue_of(enough), None, "{enough:?}");
        }
        let short = short_queue_of("4095\n").unwrap();
        assert!(
            short.starts_with("net.core.somaxconn is 4095, ") && short.contains("raise it to 4096"),
            "{short}"
        );
        assert_eq!(short_queue_of("128").unwrap().matches("128").count(), 2);
    }

    #[tokio::test]
    async fn an_address_can_be_used_again_at_once_and_only_one_listener_has_it() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listen(any.parse().unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            assert_eq!(listen(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            let client = std::net::TcpStream::connect(address).unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            // The side that closes first keeps the address in TIME_WAIT.
            drop(accepted);
            drop(client);
            drop(listener);
            listen(address).unwrap();
        }
    }
}
