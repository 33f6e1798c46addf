//! Feeds any bytes to the NATS parser, whole and in pieces: as nats-server, or an attacker in its place, could send
//! them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::nats::fuzz;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = fuzz::link(bytes, bytes.len());
    let pieces = fuzz::link(bytes, usize::from(piece));
    assert_eq!(whole, pieces, "pieces of {piece}");
});
