//! What a client, or somebody in its place, may send, frames and messages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::native::decode;
use tidegate_protocol::websocket::Assembler;
use tidegate_protocol::websocket::AssemblerLimits;
use tidegate_protocol::websocket::Event;

const LIMITS: AssemblerLimits = AssemblerLimits { max_message: 4096, max_fragments: 8 };

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = events(bytes, bytes.len());
    assert_eq!(whole, events(bytes, usize::from(piece)), "pieces of {piece}");
});

fn events(bytes: &[u8], piece: usize) -> Vec<String> {
    let (mut assembler, mut words) = (Assembler::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        let (mut piece, mut at) = (piece.to_vec(), 0);
        loop {
            match assembler.next_event(&mut piece, &mut at, LIMITS) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    words.push(format!("{event:?}"));
                    let _ = decode::command(&event);
                    if matches!(event, Event::Close(_)) {
                        return words;
                    }
                }
                Err(violation) => {
                    words.push(format!("{violation:?}"));
                    return words;
                }
            }
        }
    }
    words
}
