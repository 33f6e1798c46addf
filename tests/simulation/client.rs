//! A client: sends commands, and reads what the node sends, as WebSocket frames.

use std::rc::Rc;

use tidegate::connection::Connection;
use tidegate::net::memory::MemoryClient;

/// What the node has sent.
#[derive(Debug)]
pub(crate) enum ServerFrame {
    Text(Vec<u8>),
    Ping,
    Pong,
    /// With its code; 1005 if it has none.
    Close(u16),
}

/// One client, and the connection that it has, if any.
#[derive(Default)]
pub(crate) struct SimClient {
    pub(crate) shard: usize,
    /// The node's end. It may exist for a while after the client has gone.
    pub(crate) connection: Option<Rc<Connection>>,
    pub(crate) socket: Option<MemoryClient>,
    received: Vec<u8>,
    last_id: u64,
}

impl SimClient {
    /// Begins a connection.
    pub(crate) fn connect(&mut self, shard: usize, connection: Rc<Connection>, socket: MemoryClient) {
        (self.shard, self.connection, self.socket) = (shard, Some(connection), Some(socket));
        self.received.clear();
    }

    /// Closes the connection at once.
    pub(crate) fn hang_up(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.close();
        }
    }

    /// The id of the next command.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn send_text(&self, text: &str) {
        self.send(0x81, text.as_bytes());
    }

    pub(crate) fn send_pong(&self) {
        self.send(0x8a, b"");
    }

    pub(crate) fn send_close(&self) {
        self.send(0x88, &1000_u16.to_be_bytes());
    }

    /// Sends a frame with this first byte. Its mask is zero.
    pub(crate) fn send(&self, first: u8, payload: &[u8]) {
        let Some(socket) = &self.socket else { return };
        let length = u16::try_from(payload.len()).unwrap();
        let mut frame = vec![first];
        match u8::try_from(length) {
            Ok(short) if short < 126 => frame.push(0x80 | short),
            Ok(_) | Err(_) => {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        socket.send(&frame);
    }

    /// Reads up to `max` bytes. Returns the frames that are whole now.
    pub(crate) fn read(&mut self, max: usize) -> Result<Vec<ServerFrame>, String> {
        let Some(socket) = &self.socket else { return Ok(Vec::new()) };
        socket.receive(max, &mut self.received);
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some((frame, length)) = parse(&self.received[at..])? {
            frames.push(frame);
            at += length;
        }
        self.received.drain(..at);
        Ok(frames)
    }

    /// Whether the node has closed the connection and everything is read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.is_ended() && socket.arrived() == 0)
    }
}

/// The first frame in these bytes, with its length. `None` if it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(ServerFrame, usize)>, String> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let (size, at) = match (second, rest) {
        (..126, _) => (usize::from(*second), 2),
        (126, [high, low, ..]) => (usize::from(u16::from_be_bytes([*high, *low])), 4),
        (126, _) => return Ok(None),
        (127.., _) => return Err(format!("a frame with the length {second}")),
    };
    let Some(payload) = bytes.get(at..at + size) else { return Ok(None) };
    let frame = match first {
        0x81 => ServerFrame::Text(payload.to_vec()),
        0x89 => ServerFrame::Ping,
        0x8a => ServerFrame::Pong,
        0x88 => ServerFrame::Close(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))),
        _ => return Err(format!("a frame that begins with {first:#x}")),
    };
    Ok(Some((frame, at + size)))
}
