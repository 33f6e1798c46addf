//! `Refusals`: counts what the node has refused, by the limit that was reached.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// A limit that refuses clients. The names are those of [`Refused::name`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No room for more sockets on this node.
    Sockets,
    /// `limits.connections`.
    Connections,
    /// `limits.handshakes_per_s`.
    Handshakes,
    /// `limits.connections_per_address`.
    AddressConnections,
    /// `limits.address_handshakes_per_s`.
    AddressHandshakes,
    /// `limits.connections_per_origin`.
    OriginConnections,
    /// `limits.connections_per_user`.
    UserConnections,
    /// `max_listeners` of a class.
    Listeners,
    /// A trusted proxy sent no PROXY header, or a malformed one.
    ProxyHeader,
}

impl Refused {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::Sockets,
        Self::Connections,
        Self::Handshakes,
        Self::AddressConnections,
        Self::AddressHandshakes,
        Self::OriginConnections,
        Self::UserConnections,
        Self::Listeners,
        Self::ProxyHeader,
    ];

    /// The word in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sockets => "sockets",
            Self::Connections => "connections",
            Self::Handshakes => "handshakes",
            Self::AddressConnections => "address_connections",
            Self::AddressHandshakes => "address_handshakes",
            Self::OriginConnections => "origin_connections",
            Self::UserConnections => "user_connections",
            Self::Listeners => "listeners",
            Self::ProxyHeader => "proxy_header",
        }
    }
}

/// The number of refusals since the start of the node.
#[derive(Debug, Default)]
pub struct Refusals([AtomicU64; Refused::ALL.len()]);

impl Refusals {
    /// Counts one more.
    pub fn count(&self, refused: Refused) {
        self.counter(refused).fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn of(&self, refused: Refused) -> u64 {
        self.counter(refused).load(Ordering::Relaxed)
    }

    fn counter(&self, refused: Refused) -> &AtomicU64 {
        &self.0[refused as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_own_counter_and_name() {
        let refusals = Refusals::default();
        for (times, refused) in (1..).zip(Refused::ALL) {
            for _ in 0..times {
                refusals.count(refused);
            }
        }
        for (times, refused) in (1..).zip(Refused::ALL) {
            assert_eq!(refusals.of(refused), times, "{refused:?}");
        }
        let names: std::collections::BTreeSet<_> =
            Refused::ALL.iter().map(|refused| refused.name()).collect();
        assert_eq!(names.len(), Refused::ALL.len());
    }
}
