//! Encoder: one publication → one frame for each format that some shard asked for; rendered once, deflated once.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::hooks::Hooks;
use crate::hooks::fault_point;
use crate::protocol::deflate::Deflater;
use crate::protocol::deflate::MAX_WINDOW_BITS;
use crate::protocol::frame::Encoding;
use crate::protocol::frame::Format;
use crate::protocol::frame::Frame;
use crate::protocol::publication::Publication;
use crate::protocol::vocabulary::Vocabularies;
use crate::protocol::vocabulary::described::Shown;

/// By which figures messages are deflated.
#[derive(Clone, Copy, Debug)]
pub struct CompressionSettings {
    /// Shorter messages are not deflated, in bytes.
    pub min_bytes: usize,
    /// 1, the fastest, to 9.
    pub level: u32,
}

/// Encodes what one lane reads. Its deflater is made when it is needed first.
pub struct Encoder {
    vocabularies: Vocabularies,
    settings: CompressionSettings,
    deflater: Option<Deflater>,
    hooks: Hooks,
}

/// What a publication has become.
#[derive(Debug, Default)]
pub struct Encoded {
    /// Its frames, by format.
    pub frames: SmallVec<[(Format, Frame); 1]>,
    /// The formats that it cannot be said in.
    pub unfit: SmallVec<[Format; 1]>,
}

/// A message as rendered, and deflated if it was asked for and pays.
struct Rendered {
    format: Format,
    plain: Frame,
    deflated: Option<Option<Frame>>,
}

impl Encoder {
    /// An encoder that deflates by these figures.
    pub fn new(vocabularies: Vocabularies, settings: CompressionSettings) -> Self {
        Self { vocabularies, settings, deflater: None, hooks: Hooks::default() }
    }

    /// The same, where tests count what it deflates.
    pub fn with_hooks(self, hooks: Hooks) -> Self {
        Self { hooks, ..self }
    }

    /// The vocabularies that it writes.
    pub fn vocabularies(&self) -> &Vocabularies {
        &self.vocabularies
    }

    /// Encodes a publication as a message of `channel`, for those formats that have words for it. `None` after a fault of ours: the publication is lost, the
    /// lane is not.
    pub fn encode(
        &mut self,
        formats: &[Format],
        channel: &Arc<str>,
        publication: &Publication,
    ) -> Option<Encoded> {
        let mut rendered = SmallVec::new();
        let encode = || {
            let mut encoded = Encoded::default();
            for &format in formats {
                match self.frame(format, channel, publication, &mut rendered) {
                    Shown::Frame(frame) => encoded.frames.push((format, frame)),
                    Shown::Nothing => {}
                    Shown::Unfit => encoded.unfit.push(format),
                }
            }
            encoded
        };
        catch_unwind(AssertUnwindSafe(encode)).ok()
    }

    /// The deflated frame of the same message. `None` where it does not pay.
    pub fn deflate(&mut self, plain: &Frame) -> Option<Frame> {
        if plain.message().len() < self.settings.min_bytes {
            return None;
        }
        self.hooks.count_deflated();
        // After a fault in it there is none, and so the next message has a new one.
        let mut deflater = self.deflater.take().unwrap_or_else(|| Deflater::new(self.settings.level));
        let frame = deflater.deflate(plain.message()).map(|deflated| plain.deflated(deflated));
        self.deflater = Some(deflater);
        frame
    }

    fn frame(
        &mut self,
        format: Format,
        channel: &Arc<str>,
        publication: &Publication,
        rendered: &mut SmallVec<[Rendered; 1]>,
    ) -> Shown {
        let at = match rendered.iter().position(|rendered| rendered.format == format.plain()) {
            Some(at) => at,
            None => {
                let plain = match plain(&self.vocabularies, format, channel, publication) {
                    Shown::Frame(plain) => plain,
                    none @ (Shown::Nothing | Shown::Unfit) => return none,
                };
                rendered.push(Rendered { format: format.plain(), plain, deflated: None });
                rendered.len() - 1
            }
        };
        let Rendered { plain, deflated, .. } = &mut rendered[at];
        Shown::Frame(match format.encoding {
            Encoding::JsonText => plain.clone(),
            Encoding::JsonTextDeflated { window_bits } if !fits(plain, window_bits) => plain.clone(),
            Encoding::JsonTextDeflated { .. } => {
                let deflated = deflated.get_or_insert_with(|| self.deflate(plain));
                deflated.as_ref().unwrap_or(plain).clone()
            }
        })
    }
}

/// Encodes a publication for the snapshot of a subscription.
pub fn encode_plain(
    vocabularies: &Vocabularies,
    format: Format,
    channel: &Arc<str>,
    publication: &Publication,
) -> Option<Frame> {
    let encode = || plain(vocabularies, format, channel, publication);
    match catch_unwind(AssertUnwindSafe(encode)).ok()? {
        Shown::Frame(frame) => Some(frame),
        Shown::Nothing | Shown::Unfit => None,
    }
}

/// Whether a client with this window can inflate what ours becomes: we refer as far back as the largest window reaches,
/// and in a message that is no longer than a smaller one, no farther than that.
pub fn fits(plain: &Frame, window_bits: u8) -> bool {
    window_bits >= MAX_WINDOW_BITS || plain.message().len() <= 1 << window_bits
}

fn plain(
    vocabularies: &Vocabularies,
    format: Format,
    channel: &Arc<str>,
    publication: &Publication,
) -> Shown {
    fault_point!("panic in encode", publication.payload.bytes());
    vocabularies.publication(format.plain(), channel, publication)
}

#[cfg(test)]
mod tests;
