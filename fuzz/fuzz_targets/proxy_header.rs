//! Feeds any bytes to the parser of PROXY headers, as a proxy, or an attacker in its place, could send them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::http::proxy_protocol::ProxyHeader;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ProxyHeader::Complete { length, .. }) = ProxyHeader::parse(bytes) {
        assert!(length <= bytes.len() && length <= 4096);
        for cut in 0..length {
            assert!(matches!(ProxyHeader::parse(&bytes[..cut]), Ok(ProxyHeader::Incomplete)));
        }
        let alone = ProxyHeader::parse(&bytes[..length]);
        assert_eq!(alone.ok(), ProxyHeader::parse(bytes).ok());
    }
});
