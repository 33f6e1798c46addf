//! Encoder: one publication → one frame for each format that some shard asked for.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;

use crate::protocol::frame::Format;
use crate::protocol::frame::Frame;
use crate::protocol::publication::Publication;
use crate::protocol::vocabulary;

/// Encodes a publication as a message of `channel`. `None` after a fault of ours: the publication is lost, the lane
/// is not.
pub fn encode(
    formats: &[Format],
    channel: &Arc<str>,
    publication: &Publication,
) -> Option<Vec<(Format, Frame)>> {
    let encode = || {
        #[cfg(feature = "test-hooks")]
        crate::hooks::panic_on(publication.payload.bytes(), "panic in encode");
        formats
            .iter()
            .map(|&format| (format, vocabulary::publication(format, channel, publication)))
            .collect()
    };
    catch_unwind(AssertUnwindSafe(encode)).ok()
}
