//! Feeds any bytes to the WebSocket assembler and the native decoder, whole and in pieces, as a client could send them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_protocol::deflate::Inflater;
use tidegate_protocol::native::decode;
use tidegate_protocol::websocket::Assembler;
use tidegate_protocol::websocket::AssemblerLimits;
use tidegate_protocol::websocket::Event;

const LIMITS: AssemblerLimits = AssemblerLimits { max_message: 4096, max_fragments: 8 };

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    // Without compression, and with negotiated compression.
    for inflater in [|| None, || Some(Inflater::default())] {
        let whole = events(bytes, bytes.len(), inflater());
        assert_eq!(whole, events(bytes, usize::from(piece), inflater()), "pieces of {piece}");
    }
});

fn events(bytes: &[u8], piece: usize, mut inflater: Option<Inflater>) -> Vec<String> {
    let (mut assembler, mut events) = (Assembler::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        let (mut piece, mut at) = (piece.to_vec(), 0);
        loop {
            match assembler.next_event(&mut piece, &mut at, LIMITS, inflater.as_mut()) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    events.push(format!("{event:?}"));
                    match event {
                        Event::Message(message) => drop(decode::command(&message)),
                        Event::Close(_) => return events,
                        Event::Ping(_) | Event::Pong(_) => {}
                    }
                }
                Err(violation) => {
                    events.push(format!("{violation:?}"));
                    return events;
                }
            }
        }
    }
    events
}
