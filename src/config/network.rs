//! A range of IP addresses, such as `10.0.0.0/8`.

use std::net::IpAddr;
use std::net::Ipv6Addr;

/// All addresses whose first `bits` bits are those of `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && first(address, self.bits) == first(self.address, self.bits)
    }

    /// Whether it contains every address.
    pub fn is_everything(&self) -> bool {
        self.bits == 0
    }

    /// Parses an address or a range. The error continues a sentence that starts with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const INVALID: &str = "is neither an IP address nor a range of IP addresses";
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| INVALID)?;
        let max_bits = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => max_bits,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| INVALID)?
            }
            Some(_) => return Err(INVALID),
        };
        if bits > max_bits {
            return Err("has a prefix length that is longer than an address");
        }
        if number(address) != first(address, bits) {
            return Err("has an address that is not the first one of its range");
        }
        Ok(Self { address, bits })
    }
}

/// The address as a number, with all but the first `bits` bits set to zero.
fn first(address: IpAddr, bits: u32) -> u128 {
    let max_bits = if address.is_ipv4() { 32 } else { 128 };
    let rest = max_bits - bits.min(max_bits);
    number(address).checked_shr(rest).map_or(0, |number| number << rest)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// Converts an IPv4-mapped IPv6 address to IPv4. A socket for both reports IPv4 peers that way.
pub fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => Ipv6Addr::to_ipv4_mapped(&six).map_or(address, IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_range_contains_the_addresses_with_its_prefix_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.2"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("::/0", "ff::", "0.0.0.0"),
            ("fd00::/8", "fdff:ffff::1", "fe00::"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
        ] {
            assert!(contains(network, inside) && !contains(network, outside), "{network}");
        }
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "",
            "x",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/x",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "10.0.0.0/8/8",
            "fe80::1%eth0",
        ] {
            assert!(Network::parse(text).is_err(), "{text:?}");
        }
    }
}
