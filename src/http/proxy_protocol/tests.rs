//! The cases of nats-server's tests of its PROXY protocol are here with their names in comments.

use proptest::prelude::*;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::UnixStream;

use super::*;
use crate::net::stream::Stream;

fn parse(bytes: &[u8]) -> Result<ProxyHeader, String> {
    ProxyHeader::parse(bytes).map_err(|error| error.to_string())
}

/// The client of a whole header.
fn client_of(bytes: &[u8]) -> String {
    match parse(bytes) {
        Ok(ProxyHeader::Complete { length, client }) => {
            assert_eq!(length, bytes.len());
            match client {
                ProxiedClient::Proxy => "the proxy".to_owned(),
                ProxiedClient::Unknown => "unknown".to_owned(),
                ProxiedClient::Address(client) => client.to_string(),
            }
        }
        other => panic!("{other:?}"),
    }
}

fn error_of(bytes: &[u8]) -> String {
    parse(bytes).expect_err("it is malformed")
}

/// A header of version 2 with this command, family and rest.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
}

/// From 192.168.1.50:12345 to 10.0.0.1:4222.
const INET: [u8; 12] = [192, 168, 1, 50, 10, 0, 0, 1, 0x30, 0x39, 0x10, 0x7e];

fn inet6(source: &str) -> Vec<u8> {
    let ends = [source, "2001:db8::2"].map(|text| text.parse::<Ipv6Addr>().unwrap().octets());
    [ends.concat(), vec![0xd4, 0x31, 0x10, 0x7e]].concat()
}

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], length.as_slice(), value].concat()
}

#[test]
fn xff_01_both_versions_of_the_proxy_protocol_name_the_client() {
    // ProxyProtoV1ParseTCP4, ProxyProtoV1ParseTCP6, ProxyProtoV1ParseUnknown, and IPv4-mapped addresses from a proxy
    // with sockets for both families.
    for (line, client) in [
        ("PROXY TCP4 192.168.1.50 10.0.0.1 12345 4222\r\n", "192.168.1.50:12345"),
        ("PROXY TCP6 2001:db8::1 2001:db8::2 54321 4222\r\n", "[2001:db8::1]:54321"),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:10.0.0.1 1 0\r\n", "192.0.2.1:1"),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        ),
        ("PROXY UNKNOWN\r\n", "unknown"),
        ("PROXY UNKNOWN ff:: anything at all\r\n", "unknown"),
    ] {
        assert_eq!(client_of(line.as_bytes()), client, "{line:?}");
    }
    // ProxyProtoV2ParseIPv4, ProxyProtoV2ParseIPv6, ProxyProtoV2ParseLocalCommand.
    assert_eq!(client_of(&v2(0x21, 0x11, &INET)), "192.168.1.50:12345");
    assert_eq!(client_of(&v2(0x21, 0x21, &inet6("2001:db8::1"))), "[2001:db8::1]:54321");
    assert_eq!(client_of(&v2(0x21, 0x21, &inet6("::ffff:192.0.2.1"))), "192.0.2.1:54321");
    assert_eq!(client_of(&v2(0x20, 0x00, &[])), "the proxy");
    // A proxy may send more with LOCAL, and addresses that are none of IP.
    assert_eq!(client_of(&v2(0x20, 0x11, &INET)), "the proxy");
    assert_eq!(client_of(&v2(0x20, 0xff, b"whatever")), "the proxy");
    assert_eq!(client_of(&v2(0x21, 0x00, b"whatever")), "unknown");
    assert_eq!(client_of(&v2(0x21, 0x31, &[b'/'; 216])), "unknown");
}

#[test]
fn xff_01_malformed_proxy_headers_are_refused() {
    // ProxyProtoV1InvalidFormat, …InvalidIP, …MismatchedProtocol, …InvalidPort.
    for (line, reason) in [
        ("PROXY TCP4 192.168.1.1\r\n", "too few fields"),
        ("PROXY TCP4 192.168.1.1 10.0.0.1 1 2 3\r\n", "too many fields"),
        ("PROXY TCP4 not.an.ip.addr 10.0.0.1 12345 443\r\n", "does not fit"),
        ("PROXY TCP4 2001:db8::1 2001:db8::2 12345 443\r\n", "does not fit"),
        ("PROXY TCP6 192.168.1.1 10.0.0.1 12345 443\r\n", "does not fit"),
        ("PROXY TCP6 2001:db8::1 10.0.0.1 12345 443\r\n", "does not fit"),
        ("PROXY TCP6 fe80::1%eth0 fe80::2 12345 443\r\n", "does not fit"),
        ("PROXY TCP4 192.168.1.01 10.0.0.1 12345 443\r\n", "does not fit"),
        ("PROXY TCP4 192.168.1.1 10.0.0.1 99999 443\r\n", "a port"),
        ("PROXY TCP4 192.168.1.1 10.0.0.1 -1 443\r\n", "a port"),
        ("PROXY TCP4 192.168.1.1 10.0.0.1 +1 443\r\n", "a port"),
        ("PROXY TCP4 192.168.1.1 10.0.0.1 1 0443\r\n", "a port"),
        ("PROXY TCP4  192.168.1.1 10.0.0.1 1 2\r\n", "too many fields"),
        ("PROXY TCP4 192.168.1.1 10.0.0.1 1 2\n", "CR LF"),
        ("PROXY UDP4 192.168.1.1 10.0.0.1 1 2\r\n", "its protocol"),
        ("PROXY tcp4 192.168.1.1 10.0.0.1 1 2\r\n", "its protocol"),
        ("PROXY UNKNOWNX 1 2 3 4\r\n", "its protocol"),
        ("PROXY \u{e9}\r\n", "too few fields"),
        // ProxyProtoUnrecognizedVersion.
        ("HELLO WORLD\r\n", "not a PROXY header"),
        ("GET / HTTP/1.1\r\n", "not a PROXY header"),
        ("PROXYTCP4 ", "not a PROXY header"),
        ("\r\n\r\n\0\r\nQUIT\r", "not a PROXY header"),
    ] {
        let error = error_of(line.as_bytes());
        assert!(error.contains(reason), "{line:?}: {error}");
    }
    let mut not_text = b"PROXY TCP4 \xff 10.0.0.1 1 2\r\n".to_vec();
    assert!(error_of(&not_text).contains("not ASCII"));
    not_text.truncate(12);
    assert_eq!(parse(&not_text), Ok(ProxyHeader::Incomplete), "its line may still become longer");
    // ProxyProtoV2InvalidVersion, …UnsupportedProtocol, and …ShortAddressData with a length that is too short.
    for (header, reason) in [
        (v2(0x11, 0x11, &INET), "version or command"),
        (v2(0x22, 0x11, &INET), "version or command"),
        (v2(0x21, 0x12, &INET), "datagrams"),
        (v2(0x21, 0x32, &[0; 216]), "datagrams"),
        (v2(0x21, 0x10, &INET), "family or protocol"),
        (v2(0x21, 0x41, &INET), "family or protocol"),
        (v2(0x21, 0x11, &INET[..11]), "no room"),
        (v2(0x21, 0x21, &INET), "no room"),
        (v2(0x21, 0x31, &[0; 215]), "no room"),
    ] {
        let error = error_of(&header);
        assert!(error.contains(reason), "{header:?}: {error}");
    }
}

#[test]
fn xff_01_the_length_of_a_proxy_header_is_bounded() {
    // ProxyProtoV1LineTooLong, and the longest line that is allowed.
    let line = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
    assert_eq!(client_of(line(V1_MAX).as_bytes()), "unknown");
    assert!(error_of(line(V1_MAX + 1).as_bytes()).contains("longer than 107 bytes"));
    assert_eq!(parse(&line(V1_MAX + 1).as_bytes()[..V1_MAX - 1]), Ok(ProxyHeader::Incomplete));
    assert!(error_of(&line(V1_MAX + 1).as_bytes()[..V1_MAX]).contains("longer"));
    let filled = |length: usize| {
        let fields = field(0xe0, &vec![0; length - V2_FIXED - INET.len() - 3]);
        v2(0x21, 0x11, &[INET.as_slice(), &fields].concat())
    };
    assert_eq!(client_of(&filled(V2_MAX)), "192.168.1.50:12345");
    let too_long = &filled(V2_MAX + 1)[..V2_FIXED];
    assert!(error_of(too_long).contains("longer than 4096 bytes"), "before the rest has come");
}

#[test]
fn xff_01_fields_are_skipped_within_bounds_and_a_checksum_must_be_right() {
    // §2.2.4 of the specification names these types; a receiver skips those that it does not know.
    let others =
        [field(0x01, b"h2"), field(0x02, b"edge.example.com"), field(0x04, b""), field(0xea, &[1; 300])];
    let with = |fields: &[u8]| v2(0x21, 0x11, &[INET.as_slice(), fields].concat());
    assert_eq!(client_of(&with(&others.concat())), "192.168.1.50:12345");
    for cut in 1..3 {
        assert!(error_of(&with(&field(0x04, b"")[..cut])).contains("cut off"));
    }
    assert!(error_of(&with(&[0x02, 0x00, 0x05, b'a'])).contains("longer than the header"));
    assert!(error_of(&with(&[0x02, 0xff, 0xff])).contains("longer than the header"));
    let with_sum =
        |sum: &[u8]| with(&[field(0x01, b"h2"), field(TYPE_CRC32C, sum), field(0x04, b"x")].concat());
    let blank = with_sum(&[0; 4]);
    let at = blank.len() - 8;
    let sum = crc32c_without(&blank, at);
    assert_eq!(client_of(&with_sum(&sum.to_be_bytes())), "192.168.1.50:12345");
    for wrong in [(sum ^ 1).to_be_bytes().as_slice(), &sum.to_le_bytes(), &[0; 3], &[0; 5]] {
        assert!(error_of(&with_sum(wrong)).contains("checksum"), "{wrong:?}");
    }
}

#[test]
fn the_checksum_is_crc32c() {
    // RFC 3720 §B.4, and the usual check value.
    for (bytes, sum) in
        [(&b"123456789"[..], 0xE306_9283), (&[0; 32], 0x8A91_36AA), (&[0xff; 32], 0x62A8_AB43)]
    {
        assert_eq!(crc32c_without(bytes, usize::MAX - 4), sum);
    }
}

fn fifty() -> ProxiedClient {
    ProxiedClient::Address("192.168.1.50:12345".parse().unwrap())
}

/// Both ends of a TCP socket and of a Unix socket: the proxy and Tidegate.
async fn pairs() -> [(Box<dyn AsyncWrite + Unpin>, RegisteredSocket); 2] {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let client = client.unwrap();
    client.set_nodelay(true).unwrap();
    let (unix_client, unix) = UnixStream::pair().unwrap();
    [
        (Box::new(client), RegisteredSocket::Tcp(accepted.unwrap().0)),
        (Box::new(unix_client), RegisteredSocket::Unix(unix)),
    ]
}

/// `ProxyProtoV1PreservesCoalescedClientBytes`, and the same for version 2: nothing behind a header is lost.
#[tokio::test]
async fn xff_01_bytes_behind_a_proxy_header_stay_in_the_socket() {
    let scratch = RefCell::new(vec![0; 16 * 1024]);
    for header in [b"PROXY TCP4 192.168.1.50 10.0.0.1 12345 4222\r\n".to_vec(), v2(0x21, 0x11, &INET)] {
        for (mut client, server) in pairs().await {
            let behind = b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n\r\n\r\n\0\r\nQUIT\n";
            client.write_all(&[header.as_slice(), behind].concat()).await.unwrap();
            assert_eq!(read_header(&server, &scratch).await.unwrap(), fifty());
            client.shutdown().await.unwrap();
            let mut rest = Vec::new();
            Stream::from(server).read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, behind);
        }
    }
}

#[tokio::test]
async fn xff_01_a_proxy_header_may_arrive_byte_by_byte() {
    let scratch = RefCell::new(vec![0; 16 * 1024]);
    for header in [b"PROXY TCP4 192.168.1.50 10.0.0.1 12345 4222\r\n".to_vec(), v2(0x21, 0x11, &INET)] {
        for (mut client, server) in pairs().await {
            let written = async {
                for byte in header.iter().chain(b"GET") {
                    client.write_all(&[*byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
                client.shutdown().await.unwrap();
            };
            let (client, ()) = tokio::join!(read_header(&server, &scratch), written);
            assert_eq!(client.unwrap(), fifty());
            let mut rest = Vec::new();
            Stream::from(server).read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"GET");
        }
    }
}

/// `ProxyProtoV2TruncatedHeader`, `ProxyProtoV2ShortAddressData`.
#[tokio::test]
async fn xff_01_a_socket_that_ends_within_its_proxy_header_is_an_error() {
    let scratch = RefCell::new(vec![0; 16 * 1024]);
    let header = v2(0x21, 0x11, &INET);
    for length in [0, 10, 16, 21, header.len() - 1] {
        for (mut client, server) in pairs().await {
            client.write_all(&header[..length]).await.unwrap();
            client.shutdown().await.unwrap();
            let ended = read_header(&server, &scratch).await;
            assert!(matches!(ended, Err(ProxyHeaderError::Ended(_))), "{length}: {ended:?}");
        }
    }
}

/// Bytes that are headers, nearly headers, or anything.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let v1 = "PROXY (TCP4|TCP6|UNKNOWN|UDP4) [0-9a-f:. ]{0,40} [0-9.: ]{0,40} [0-9]{0,6} [0-9]{0,6}\r?\n?"
        .prop_map(String::into_bytes);
    let rest = prop::collection::vec(any::<u8>(), 0..300);
    let family = prop::sample::select(vec![0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32, 0x99]);
    let v2 = (0x1f_u8..0x23, family, rest, any::<Option<u8>>()).prop_map(|(command, family, rest, cut)| {
        let mut header = v2(command, family, &rest);
        header.truncate(header.len().saturating_sub(usize::from(cut.unwrap_or_default())));
        header
    });
    prop_oneof![v1, v2, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn a_header_is_parsed_alike_however_much_has_come(mut bytes in bytes(), behind in prop::collection::vec(any::<u8>(), 0..20)) {
        let whole = parse(&bytes);
        if let Ok(ProxyHeader::Complete { length, .. }) = whole {
            prop_assert!(length <= bytes.len() && length <= V2_MAX);
            for cut in 0..length {
                prop_assert_eq!(parse(&bytes[..cut]), Ok(ProxyHeader::Incomplete));
            }
            bytes.extend(behind);
            prop_assert_eq!(parse(&bytes), whole);
        }
    }
}
