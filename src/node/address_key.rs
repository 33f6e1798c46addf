//! `AddressKey`: what counts as one address for limits.

use std::net::IpAddr;

use crate::config::network;

/// An IPv4 address, or an IPv6 network of 64 bits, since one customer has all of it. An IPv4-mapped IPv6 address is the
/// IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AddressKey {
    is_ipv4: bool,
    network: u64,
}

impl AddressKey {
    pub fn of(address: IpAddr) -> Self {
        match network::plain(address) {
            IpAddr::V4(four) => Self { is_ipv4: true, network: u64::from(u32::from(four)) },
            IpAddr::V6(six) => {
                let network = u64::try_from(u128::from(six) >> 64).unwrap_or_default();
                Self { is_ipv4: false, network }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ex_01_an_ipv6_network_of_64_bits_is_one_address() {
        let at = |text: &str| AddressKey::of(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_eq!(at("2001:db8::1"), at("2001:db8:0:0:ffff:ffff:ffff:ffff"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_ne!(at("0.0.0.0"), at("::"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("::192.0.2.1"), at("192.0.2.1"), "an IPv4-compatible address is not a mapped one");
    }
}
