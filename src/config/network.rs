//! Network: a range of IP addresses, as `10.0.0.0/8`.

use std::net::IpAddr;
use std::net::Ipv6Addr;

/// All addresses whose first bits are these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Whether an address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && first(address, self.bits) == first(self.address, self.bits)
    }

    /// Whether all addresses are in it.
    pub fn is_everybody(&self) -> bool {
        self.bits == 0
    }

    /// One address, or a range; or what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const NONE: &str = "is no IP address and no range of them";
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| NONE)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().map_err(|_| NONE)?,
            Some(_) => return Err(NONE),
        };
        if bits > most {
            return Err("has more bits than an address");
        }
        if number(address) != first(address, bits) {
            return Err("has an address that is not the first of its range");
        }
        Ok(Self { address, bits })
    }
}

/// The address as a number, those bits of it that are not among the first ones zero.
fn first(address: IpAddr, bits: u32) -> u128 {
    let most = if address.is_ipv4() { 32 } else { 128 };
    let rest = most - bits.min(most);
    number(address).checked_shr(rest).map_or(0, |number| number << rest)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The address of a peer as people write it: one of IPv4 that came over a socket for both is one of IPv4.
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
    fn a_range_has_the_addresses_with_its_first_bits_and_no_others() {
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
    fn what_is_no_range_is_refused() {
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
