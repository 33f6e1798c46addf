//! Reads messages from bytes without a connection, to count instructions only.

use bytes::BytesMut;

use crate::nats::wire::ServerOp;
use crate::nats::wire::WireParser;

/// The reading half of a connection.
#[derive(Debug, Default)]
pub struct Reader {
    wire: WireParser,
    buffer: BytesMut,
}

impl Reader {
    /// Adds these bytes to those that have been read. Calls `visit` with the subject and payload of each complete message.
    pub fn read(&mut self, bytes: &[u8], mut visit: impl FnMut(&str, &[u8])) {
        self.buffer.extend_from_slice(bytes);
        while let Ok(Some(op)) = self.wire.next(&mut self.buffer) {
            if let ServerOp::Message(_, message) = op {
                visit(message.subject(), &message.payload());
            }
        }
    }
}
