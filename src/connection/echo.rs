//! `EchoEncoder`: compresses the replies of the test vocabulary `echo`, if the handshake has agreed on compression. So
//! conformance tests exercise the encoder of publications.

use std::cell::RefCell;

use tidegate_protocol::echo::Echo;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::renderers::Renderers;

use crate::hooks::ARE_ON;
use crate::lane::encoder;
use crate::lane::encoder::CompressionSettings;
use crate::lane::encoder::Encoder;

const _: () = assert!(ARE_ON || size_of::<Option<Echo>>() == 0, "without the feature there are no echoes");

/// Compresses the echoes of a shard. The inner encoder is created for the first echo.
#[derive(Default)]
pub(super) struct EchoEncoder(RefCell<Option<(Echo, Encoder)>>);

impl EchoEncoder {
    /// Encodes an echo for a client with this encoding.
    pub(super) fn encode(&self, echo: Echo, plain: Frame, encoding: Encoding) -> Frame {
        if !encoding.deflate.is_some_and(|window_bits| encoder::fits(&plain, window_bits)) {
            return plain;
        }
        let settings = CompressionSettings { min_bytes: 0, level: 1 };
        let mut encoder = self.0.borrow_mut();
        let (_, encoder) =
            encoder.get_or_insert_with(|| (echo, Encoder::new(Renderers::default(), settings)));
        encoder.deflate(&plain).unwrap_or(plain)
    }
}
