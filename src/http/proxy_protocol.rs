//! The PROXY protocol, versions 1 and 2 (haproxy.org, `doc/proxy-protocol.txt`): a proxy for TCP sends the client's
//! address before the client's first byte, also before TLS.

use std::cell::RefCell;
use std::io;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use thiserror::Error;

use crate::config::network;
use crate::net::socket::RegisteredSocket;

/// The longest header of version 1, with CR LF (§2.1).
const V1_MAX: usize = 107;
/// The first bytes of version 1.
const V1_START: &[u8] = b"PROXY ";
/// The first bytes of version 2 (§2.2).
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, the version with the command, the family with the protocol, and the length of the rest.
const V2_FIXED: usize = 16;
/// The longest header of version 2: room for the addresses of Unix sockets (216 bytes) and for the certificate that a
/// proxy may add.
const V2_MAX: usize = 4096;
/// The type of the field with the checksum of the whole header (§2.2.3).
const TYPE_CRC32C: u8 = 0x03;

/// What the first bytes of a socket are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The beginning of a header. All bytes so far belong to it.
    Incomplete,
    /// A header of this length.
    Complete { length: usize, client: ProxiedClient },
}

/// Whose connection a proxy forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxiedClient {
    /// Its own, such as a health check.
    Proxy,
    /// That of a client whose address is unknown or no IP address.
    Unknown,
    /// That of this client.
    Address(SocketAddr),
}

/// Why a socket has no usable header.
#[derive(Debug, Error)]
pub enum ProxyHeaderError {
    #[error("the first bytes are not a PROXY header")]
    Absent,
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
    #[error("the PROXY header is longer than {0} bytes")]
    TooLong(usize),
    /// The socket has failed, or its peer has closed it.
    #[error("the socket ended before the end of its PROXY header: {0}")]
    Ended(io::Error),
}

use ProxyHeaderError::Malformed;

impl ProxyHeader {
    /// Parses the first bytes of a socket. Takes time linear in their number, at most 4096.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProxyHeaderError> {
        let starts_as = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
        if starts_as(V1_START) {
            parse_v1(bytes)
        } else if starts_as(V2_SIGNATURE) {
            parse_v2(bytes)
        } else {
            Err(ProxyHeaderError::Absent)
        }
    }
}

/// Whether these first bytes of a socket begin a header. No request and no TLS session begins so.
pub fn is_header(first: &[u8]) -> bool {
    first.starts_with(V1_START) || first.starts_with(V2_SIGNATURE)
}

/// Waits for the first bytes of a fresh socket, and returns whether they begin a header. Reads nothing. The caller sets
/// the deadline.
pub async fn begins_with_header(socket: &RegisteredSocket) -> io::Result<bool> {
    let mut first = [0; V2_SIGNATURE.len()];
    loop {
        socket.readable().await?;
        match socket.try_peek(&mut first) {
            Ok(count) => return Ok(is_header(&first[..count])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads the header of a fresh socket, and nothing after it. The caller sets the deadline. `scratch` must have
/// room for a header.
pub async fn read_header(
    socket: &RegisteredSocket,
    scratch: &RefCell<Vec<u8>>,
) -> Result<ProxiedClient, ProxyHeaderError> {
    let mut start = Vec::new();
    loop {
        // Look at the bytes first: what follows the header is for TLS or HTTP. A silent socket holds no buffer.
        socket.readable().await.map_err(ProxyHeaderError::Ended)?;
        let mut scratch = scratch.borrow_mut();
        let peeked = match socket.try_peek(&mut scratch) {
            Ok(0) => return Err(ProxyHeaderError::Ended(ErrorKind::UnexpectedEof.into())),
            Ok(peeked) => peeked,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(ProxyHeaderError::Ended(error)),
        };
        let before = start.len();
        start.extend_from_slice(&scratch[..peeked.min(V2_MAX)]);
        let header = ProxyHeader::parse(&start)?;
        let (own, client) = match header {
            ProxyHeader::Incomplete => (start.len() - before, None),
            ProxyHeader::Complete { length, client } => (length.saturating_sub(before), Some(client)),
        };
        let read = socket.try_read(&mut scratch[..own]).map_err(ProxyHeaderError::Ended)?;
        if let Some(client) = client {
            return Ok(client);
        }
        start.truncate(before + read);
    }
}

/// §2.1: `PROXY TCP4 <source> <destination> <source port> <destination port>` and CR LF, with single spaces; or
/// `PROXY UNKNOWN`, after which everything up to CR LF is ignored.
fn parse_v1(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let Some(end) = bytes.iter().take(V1_MAX).position(|byte| *byte == b'\n') else {
        let is_too_long = bytes.len() >= V1_MAX;
        return if is_too_long {
            Err(ProxyHeaderError::TooLong(V1_MAX))
        } else {
            Ok(ProxyHeader::Incomplete)
        };
    };
    let line = bytes.get(V1_START.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.ok_or(Malformed("its line does not end with CR LF"))?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed("it is not ASCII"))?;
    let length = end + 1;
    let mut words = line.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(ProxyHeader::Complete { length, client: ProxiedClient::Unknown });
    }
    let mut word = || words.next().ok_or(Malformed("it has too few fields"));
    let (source, destination, source_port, destination_port) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(Malformed("it has too many fields"));
    }
    let source = match family {
        Some("TCP4") => both::<Ipv4Addr>(source, destination).map(IpAddr::from),
        Some("TCP6") => both::<Ipv6Addr>(source, destination).map(IpAddr::from),
        Some(_) | None => return Err(Malformed("its protocol is not TCP4, TCP6 or UNKNOWN")),
    };
    let source = source.ok_or(Malformed("an address does not fit its protocol"))?;
    let port = |text| parse_port(text).ok_or(Malformed("a port is not a number up to 65535"));
    let (source_port, _) = (port(source_port)?, port(destination_port)?);
    Ok(ProxyHeader::Complete { length, client: client(source, source_port) })
}

/// The source, if both addresses are of one family.
fn both<A: std::str::FromStr>(source: &str, destination: &str) -> Option<A> {
    destination.parse::<A>().ok()?;
    source.parse().ok()
}

fn parse_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn client(address: IpAddr, port: u16) -> ProxiedClient {
    ProxiedClient::Address(SocketAddr::new(network::plain(address), port))
}

/// §2.2: a fixed part, the addresses, and fields of any type, whose checksum is verified.
fn parse_v2(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let Some([version_and_command, family, long, short]) = bytes.get(V2_SIGNATURE.len()..V2_FIXED) else {
        return Ok(ProxyHeader::Incomplete);
    };
    let is_local = match *version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("its version or command is unknown")),
    };
    let length = V2_FIXED + usize::from(u16::from_be_bytes([*long, *short]));
    if length > V2_MAX {
        return Err(ProxyHeaderError::TooLong(V2_MAX));
    }
    let Some(header) = bytes.get(..length) else { return Ok(ProxyHeader::Incomplete) };
    let rest = header.get(V2_FIXED..).unwrap_or_default();
    // §2.2: with LOCAL, the family and all that follows is ignored; so are the addresses without a family.
    if is_local {
        return Ok(ProxyHeader::Complete { length, client: ProxiedClient::Proxy });
    }
    let (client, fields) = match *family {
        0x00 => (Some(ProxiedClient::Unknown), Some(&[][..])),
        0x11 => (ipv4(rest), rest.get(12..)),
        0x21 => (ipv6(rest), rest.get(36..)),
        0x31 => (Some(ProxiedClient::Unknown), rest.get(216..)),
        0x12 | 0x22 | 0x32 => return Err(Malformed("it is for datagrams, and this is a TCP socket")),
        _ => return Err(Malformed("its family or protocol is unknown")),
    };
    let no_room = Malformed("its length has no room for the addresses");
    let (client, fields) = client.zip(fields).ok_or(no_room)?;
    check_fields(header, fields)?;
    Ok(ProxyHeader::Complete { length, client })
}

fn ipv4(rest: &[u8]) -> Option<ProxiedClient> {
    let [a, b, c, d, _, _, _, _, high, low, ..] = *rest else { return None };
    Some(client(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
}

fn ipv6(rest: &[u8]) -> Option<ProxiedClient> {
    let source: [u8; 16] = *rest.first_chunk()?;
    let port: [u8; 2] = *rest.get(32..)?.first_chunk()?;
    Some(client(Ipv6Addr::from(source).into(), u16::from_be_bytes(port)))
}

/// Checks that the fields fill the header, and its checksum if there is one (§2.2.3: with a wrong one, the connection
/// must be dropped).
fn check_fields(header: &[u8], mut fields: &[u8]) -> Result<(), ProxyHeaderError> {
    while let [kind, long, short, rest @ ..] = fields {
        let length = usize::from(u16::from_be_bytes([*long, *short]));
        let Some((value, next)) = rest.split_at_checked(length) else {
            return Err(Malformed("a field is longer than the header"));
        };
        if *kind == TYPE_CRC32C {
            let at = header.len() - rest.len();
            let sum = value.first_chunk().filter(|_| length == 4).map(|sum| u32::from_be_bytes(*sum));
            if sum != Some(crc32c_without(header, at)) {
                return Err(Malformed("its checksum is wrong"));
            }
        }
        fields = next;
    }
    if fields.is_empty() { Ok(()) } else { Err(Malformed("its last field is cut off")) }
}

/// The checksum (CRC-32C) of the header, with zeros in place of the four bytes of the checksum.
fn crc32c_without(header: &[u8], checksum: usize) -> u32 {
    let bytes = header.iter().enumerate();
    let bytes = bytes.map(|(at, byte)| if (checksum..checksum + 4).contains(&at) { 0 } else { *byte });
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| sum >> 1 ^ (sum & 1).wrapping_neg() & 0x82F6_3B78)
    })
}

#[cfg(test)]
mod tests;
