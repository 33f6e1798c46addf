//! Echo: answers of the vocabulary `echo`, as the client agreed to be sent them: deflated if it agreed to that, so that
//! conformance tests see what publications go through.

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

/// What deflates the echoes of a shard, once there is one.
#[derive(Default)]
pub(super) struct Echoes(RefCell<Option<(Echo, Encoder)>>);

impl Echoes {
    /// An echo as a client with this encoding is sent it.
    pub(super) fn encode(&self, echo: Echo, plain: Frame, encoding: Encoding) -> Frame {
        if !encoding.deflate.is_some_and(|window_bits| encoder::fits(&plain, window_bits)) {
            return plain;
        }
        let settings = CompressionSettings { min_bytes: 0, level: 1 };
        let mut echoes = self.0.borrow_mut();
        let (_, encoder) = echoes.get_or_insert_with(|| (echo, Encoder::new(Renderers::default(), settings)));
        encoder.deflate(&plain).unwrap_or(plain)
    }
}
