//! Waits for something only as long as its client is there, so that the work for a client that has gone is let go.

use std::io::ErrorKind;
use std::pin::Pin;

use crate::net::stream::Stream;

/// The most bytes that a client may send meanwhile. With more, it is not watched any longer.
const MAX_EARLY_BYTES: usize = 4096;

/// What a read says of the client.
enum EarlyRead {
    Nothing,
    Some,
    End,
}

/// The result of `work`; `None` if the client goes first. What it sends meanwhile is added to `early`.
pub(super) async fn while_connected<T>(
    stream: &Stream,
    early: &mut Vec<u8>,
    work: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    tokio::select! {
        // A client that has sent its request and no more gets an answer that is there at once.
        biased;
        done = work => Some(done),
        () = gone(stream, early) => None,
    }
}

async fn gone(stream: &Stream, early: &mut Vec<u8>) {
    while early.len() < MAX_EARLY_BYTES {
        stream.readable().await;
        match read(stream, early) {
            EarlyRead::Nothing | EarlyRead::Some => {}
            EarlyRead::End => return,
        }
    }
    std::future::pending().await
}

/// Not part of the future, which would be larger by the buffer.
fn read(stream: &Stream, early: &mut Vec<u8>) -> EarlyRead {
    let mut buffer = [0; 1024];
    match stream.try_read(&mut buffer) {
        Ok(0) => EarlyRead::End,
        Ok(count) => {
            early.extend_from_slice(&buffer[..count]);
            EarlyRead::Some
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => EarlyRead::Nothing,
        Err(_) => EarlyRead::End,
    }
}
