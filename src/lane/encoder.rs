//! Encodes publications: one frame for each format that some shard wants. Each message is rendered once and deflated
//! once.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;
use tidegate_protocol::deflate::Deflater;
use tidegate_protocol::deflate::MAX_WINDOW_BITS;
use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::elements::Element;
use tidegate_protocol::elements::MAX_ELEMENT_BYTES;
use tidegate_protocol::elements::MAX_ELEMENTS;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::scratch::Scratch;
use tracing::warn;

use crate::hooks::Hooks;
use crate::hooks::fault_point;
use crate::lane::counts::LaneCounts;
use crate::lane::unshown_log::Unshown;
use crate::lane::unshown_log::UnshownLog;
use crate::telemetry::limit::LogLimit;

static TOO_MANY_ELEMENTS: LogLimit = LogLimit::per_second(1);

#[derive(Clone, Copy, Debug)]
pub struct CompressionSettings {
    /// Shorter messages are not compressed, in bytes.
    pub min_bytes: usize,
    /// The compression level, from 1, the fastest, to 9.
    pub level: u32,
}

/// Encodes what one lane reads. The deflater is created when it is first needed.
pub struct Encoder {
    renderers: Renderers,
    settings: CompressionSettings,
    scratch: Scratch,
    deflater: Option<Deflater>,
    unshown_log: UnshownLog,
    counts: Rc<LaneCounts>,
    hooks: Hooks,
}

/// The result of encoding a publication.
#[derive(Debug, Default)]
pub struct Encoded {
    /// The frames, by format.
    pub frames: SmallVec<[(Format, Frame); 1]>,
    /// The elements, by format, where a vocabulary takes publications apart.
    pub elements: Vec<(Format, Vec<Arc<Element>>)>,
    /// The formats whose vocabulary cannot express the publication, or not all of it.
    pub unrenderable: SmallVec<[Format; 1]>,
}

/// A rendered message, and its compressed frame if one was needed and is smaller.
struct Prepared {
    format: Format,
    plain: Frame,
    deflated: Option<Option<Frame>>,
}

impl Encoder {
    pub fn new(renderers: Renderers, settings: CompressionSettings) -> Self {
        Self {
            renderers,
            settings,
            scratch: Scratch::default(),
            deflater: None,
            unshown_log: UnshownLog::default(),
            counts: Rc::default(),
            hooks: Hooks::default(),
        }
    }

    /// The same encoder, with hooks that count what it compresses.
    pub fn with_hooks(self, hooks: Hooks) -> Self {
        Self { hooks, ..self }
    }

    /// The same encoder, which counts here.
    pub fn with_counts(self, counts: Rc<LaneCounts>) -> Self {
        Self { counts, ..self }
    }

    /// What its lane counts.
    pub fn counts(&self) -> &Rc<LaneCounts> {
        &self.counts
    }

    /// Renders with these from now on.
    pub fn change_renderers(&mut self, renderers: Renderers) {
        self.renderers = renderers;
    }

    pub fn renderers(&self) -> &Renderers {
        &self.renderers
    }

    /// Encodes a publication as a message of `channel`, in each format that can express it. `None` after a panic in our
    /// code: the publication is lost, and the lane continues.
    pub fn encode(
        &mut self,
        formats: &[Format],
        channel: &str,
        publication: &Publication,
    ) -> Option<Encoded> {
        let mut rendered = SmallVec::new();
        let encode = || {
            let mut encoded = Encoded::default();
            let (mut unmatched, mut unrenderable) = (SmallVec::new(), SmallVec::new());
            for &format in formats {
                // Nearly always there is one, and nothing to keep for the next.
                let is_only = formats.len() == 1 && format.encoding.deflate.is_none();
                let outcome = if is_only {
                    plain(&self.renderers, format, channel, publication, &mut self.scratch)
                } else {
                    self.frame(format, channel, publication, &mut rendered)
                };
                match outcome {
                    Rendered::Frame(frame) => encoded.frames.push((format, frame)),
                    Rendered::Elements { list, is_complete } => {
                        if !is_complete {
                            encoded.unrenderable.push(format);
                            unrenderable.push(format.vocabulary);
                        }
                        encoded.elements.push((format, list));
                    }
                    Rendered::Nothing => unmatched.push(format.vocabulary),
                    Rendered::Unrenderable => {
                        encoded.unrenderable.push(format);
                        unrenderable.push(format.vocabulary);
                    }
                    // This has been logged.
                    Rendered::TooManyElements => encoded.unrenderable.push(format),
                }
            }
            self.log_unshown(&encoded, unmatched, unrenderable, publication);
            self.counts.count_frames(encoded.frames.len());
            encoded
        };
        catch_unwind(AssertUnwindSafe(encode)).ok()
    }

    /// Logs a publication that a vocabulary does not show to any client, or cannot show to some.
    fn log_unshown(
        &mut self,
        encoded: &Encoded,
        mut unmatched: SmallVec<[VocabularyId; 1]>,
        mut unrenderable: SmallVec<[VocabularyId; 1]>,
        publication: &Publication,
    ) {
        if unmatched.is_empty() && unrenderable.is_empty() {
            return;
        }
        let shows = |vocabulary| encoded.frames.iter().any(|(format, _)| format.vocabulary == vocabulary);
        unmatched.retain(|vocabulary| !shows(*vocabulary));
        for (why, vocabularies) in
            [(Unshown::Unmatched, &mut unmatched), (Unshown::Unrenderable, &mut unrenderable)]
        {
            vocabularies.dedup();
            for &vocabulary in vocabularies.iter() {
                self.unshown_log.record(why, vocabulary, publication, &self.renderers);
            }
        }
    }

    /// The compressed frame of the same message. `None` if compression saves nothing.
    pub fn deflate(&mut self, plain: &Frame) -> Option<Frame> {
        if plain.message().len() < self.settings.min_bytes {
            return None;
        }
        self.hooks.count_deflated();
        // After a panic here `deflater` stays empty, and the next message gets a new one.
        let mut deflater = self.deflater.take().unwrap_or_else(|| Deflater::new(self.settings.level));
        let frame = deflater.deflate(plain.message()).map(|deflated| plain.deflated(deflated));
        self.deflater = Some(deflater);
        frame
    }

    fn frame(
        &mut self,
        format: Format,
        channel: &str,
        publication: &Publication,
        rendered: &mut SmallVec<[Prepared; 1]>,
    ) -> Rendered {
        let at = match rendered.iter().position(|rendered| rendered.format == format.plain()) {
            Some(at) => at,
            None => {
                let plain = match plain(&self.renderers, format, channel, publication, &mut self.scratch) {
                    Rendered::Frame(plain) => plain,
                    other @ (Rendered::Elements { .. }
                    | Rendered::Nothing
                    | Rendered::Unrenderable
                    | Rendered::TooManyElements) => return other,
                };
                rendered.push(Prepared { format: format.plain(), plain, deflated: None });
                rendered.len() - 1
            }
        };
        let Prepared { plain, deflated, .. } = &mut rendered[at];
        if !format.encoding.deflate.is_some_and(|window_bits| fits(plain, window_bits)) {
            return Rendered::Frame(plain.clone());
        }
        let deflated = deflated.get_or_insert_with(|| self.deflate(plain));
        Rendered::Frame(deflated.as_ref().unwrap_or(plain).clone())
    }
}

/// Encodes a publication for the snapshot of a subscription. After a panic, it is not rendered.
pub fn encode_plain(
    renderers: &Renderers,
    format: Format,
    channel: &str,
    publication: &Publication,
    scratch: &mut Scratch,
) -> Rendered {
    let encode = || plain(renderers, format, channel, publication, scratch);
    catch_unwind(AssertUnwindSafe(encode)).unwrap_or(Rendered::Nothing)
}

/// Whether a client with this window can inflate our frames. We compress with the largest window, but in a message that
/// is no longer than a smaller window no reference reaches farther than that.
pub fn fits(plain: &Frame, window_bits: u8) -> bool {
    window_bits >= MAX_WINDOW_BITS || plain.message().len() <= 1 << window_bits
}

fn plain(
    renderers: &Renderers,
    format: Format,
    channel: &str,
    publication: &Publication,
    scratch: &mut Scratch,
) -> Rendered {
    fault_point!("panic in encode", publication.payload.bytes());
    let rendered = renderers.publication(format.plain(), channel, publication, scratch);
    if matches!(rendered, Rendered::TooManyElements)
        && let Some(suppressed) = TOO_MANY_ELEMENTS.pass()
    {
        let subject = &*publication.subject;
        let vocabulary = renderers.dialect_name(format.vocabulary);
        warn!(
            subject,
            vocabulary,
            suppressed,
            "a publication is too large for a rule with `each`, so no client gets any of its elements: publish at most \
             {MAX_ELEMENTS} elements of together {MAX_ELEMENT_BYTES} bytes at once"
        );
    }
    rendered
}

#[cfg(test)]
mod tests;
