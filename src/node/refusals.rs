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
    /// `limits.calls_per_s`.
    Calls,
    /// `limits.address_calls_per_s`.
    AddressCalls,
    /// `limits.answer_bytes`.
    Answers,
    /// `limits.address_answer_bytes`.
    AddressAnswers,
}

impl Refused {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 13] = [
        Self::Sockets,
        Self::Connections,
        Self::Handshakes,
        Self::AddressConnections,
        Self::AddressHandshakes,
        Self::OriginConnections,
        Self::UserConnections,
        Self::Listeners,
        Self::ProxyHeader,
        Self::Calls,
        Self::AddressCalls,
        Self::Answers,
        Self::AddressAnswers,
    ];

    /// Whether [`Refusals`] has them. Calls and their answers are counted as rejected requests.
    pub fn is_counted(self) -> bool {
        !matches!(self, Self::Calls | Self::AddressCalls | Self::Answers | Self::AddressAnswers)
    }

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
            Self::Calls => "calls",
            Self::AddressCalls => "address_calls",
            Self::Answers => "answers",
            Self::AddressAnswers => "address_answers",
        }
    }

    /// The configuration key of the limit, for the field `limit` of logs. `None`: it is no limit.
    pub fn limit(self) -> Option<&'static str> {
        match self {
            Self::Sockets | Self::Connections => Some("limits.connections"),
            Self::Handshakes => Some("limits.handshakes_per_s"),
            Self::AddressConnections => Some("limits.connections_per_address"),
            Self::AddressHandshakes => Some("limits.address_handshakes_per_s"),
            Self::OriginConnections => Some("limits.connections_per_origin"),
            Self::UserConnections => Some("limits.connections_per_user"),
            Self::Listeners => Some("class.max_listeners"),
            Self::ProxyHeader => None,
            Self::Calls => Some("limits.calls_per_s"),
            Self::AddressCalls => Some("limits.address_calls_per_s"),
            Self::Answers => Some("limits.answer_bytes"),
            Self::AddressAnswers => Some("limits.address_answer_bytes"),
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

    #[test]
    fn every_limit_is_a_key_of_the_configuration() {
        let shipped = include_str!("../../config.toml");
        for refused in Refused::ALL {
            let Some((section, key)) = refused.limit().and_then(|limit| limit.split_once('.')) else {
                continue;
            };
            let of_section =
                shipped.split("\n[").find(|text| text.trim_start_matches('[').starts_with(section));
            let has_key = of_section.is_some_and(|text| text.contains(&format!("{key} = ")));
            assert!(has_key || shipped.contains(&format!("#{key} = ")), "{section}.{key}");
        }
    }
}
