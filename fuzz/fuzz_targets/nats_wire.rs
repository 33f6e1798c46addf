//! What a nats-server, or somebody in its place, may send.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::nats::fuzz;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = fuzz::link(bytes, bytes.len());
    let pieces = fuzz::link(bytes, usize::from(piece));
    assert_eq!(whole, pieces, "pieces of {piece}");
});
