//! JSON template: a message with placeholders, compiled into pieces. The rendered message is valid JSON whatever the
//! values are, and fixed text is encoded at compile time.

pub(super) mod compiler;

use std::borrow::Cow;

use thiserror::Error;
use tidegate_protocol::frame::Frame;
use tidegate_protocol::json;
use tidegate_protocol::scratch::Scratch;
use tidegate_protocol::slots::Slots;
use tidegate_protocol::writer::is_plain;
use tidegate_protocol::writer::put_string;

use crate::placeholder::Fallback;
use crate::placeholder::Placeholder;
use crate::placeholder::PlaceholderError;
use crate::placeholder::Resolve;
use crate::placeholder::Value;

/// The key that spreads the members of a value into an object.
const SPREAD: &str = "...";
/// Limits of one template: placeholders, bytes of text, and depth.
const MAX_PLACEHOLDERS: usize = 64;
const MAX_BYTES: usize = 16 * 1024;
const MAX_DEPTH: usize = 32;

/// A template as in the file of a vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// A text, with or without placeholders.
    Text(String),
    /// A number or boolean, as JSON.
    Plain(String),
    List(Vec<Self>),
    /// An object, with members in the order of the file.
    Table(Vec<(String, Self)>),
}

/// What is wrong with a template.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum JsonTemplateError {
    /// A brace is unmatched.
    #[error("\"{text}\" has a brace that belongs to no placeholder: write {{{{ or }}}} for a brace")]
    Brace { text: String },
    /// A placeholder is invalid.
    #[error(transparent)]
    Placeholder(#[from] PlaceholderError),
    /// An optional placeholder is a part of a text.
    #[error(
        "\"{text}\" has an optional placeholder: that must be all of a member or element, not a part of a text"
    )]
    OptionalInText { text: String },
    /// A text contains JSON with a placeholder in it.
    #[error(
        "a text that is JSON itself has the placeholder {{{placeholder}}}, whose value is not escaped for that: it could add members"
    )]
    JsonByHand { placeholder: String },
    /// The value of `"..."` is not a placeholder.
    #[error("\"...\" copies the members of an object: \"...\" = \"{{data}}\"")]
    Spread,
    /// A placeholder has the filter for the last place of a subject.
    #[error("{{{name}|dotted}} is not a part of a subject")]
    Dotted { name: Box<str> },
    #[error("a message may have 64 placeholders, 16 KiB of text and 32 levels")]
    TooLarge,
}

/// Why a template cannot be rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RenderError<'s> {
    /// This placeholder has no value.
    Missing(&'s Placeholder),
    /// This placeholder spreads a value that is not an object.
    NotAnObject(&'s Placeholder),
}

/// What to do with a placeholder that has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnMissing {
    /// Fail: the client did not send a value.
    Fail,
    /// Write `null`, or nothing within a text.
    Null,
}

/// A compiled template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JsonTemplate {
    pieces: Box<[Piece]>,
}

/// A placeholder whose value differs by client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateSlot {
    placeholder: Placeholder,
    /// Whether it is a part of a text.
    within: bool,
}

impl TemplateSlot {
    /// The value for one client, as the bytes to insert.
    pub(crate) fn insert(&self, fill: &impl Resolve) -> Box<[u8]> {
        let mut out = Vec::new();
        // Missing values become `null` or nothing, so this cannot fail.
        if self.within {
            put_text(&self.placeholder, fill, OnMissing::Null, &mut out).ok();
        } else {
            put_value(&self.placeholder, fill, OnMissing::Null, &mut out).ok();
        }
        out.into()
    }
}

/// A message while it is rendered.
struct RenderState<'w> {
    on_missing: OnMissing,
    out: &'w mut Vec<u8>,
    /// Where it begins in `out`.
    start: usize,
    slots: Slots,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// JSON text.
    Bytes(Box<[u8]>),
    /// A value.
    Value(Placeholder),
    /// A value as a part of a string.
    InText(Placeholder),
    /// A value that differs by client: the slot with this number.
    Slot(u8),
    /// An object with optional or spread members.
    Object(Box<[TemplateMember]>),
    /// A list with optional elements.
    List(Box<[Element]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplateMember {
    /// `"key":` and a template for the value.
    Always {
        key: Box<[u8]>,
        value: JsonTemplate,
    },
    Optional {
        key: Box<[u8]>,
        placeholder: Placeholder,
    },
    /// The members of a value, except those that the object has itself.
    Spread {
        placeholder: Placeholder,
        except: Box<[Box<str>]>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    Always(JsonTemplate),
    Optional(Placeholder),
}

impl TemplateMember {
    fn bytes(&self) -> usize {
        match self {
            Self::Always { key, value } => key.len() + value.bytes(),
            Self::Optional { key, .. } => key.len(),
            Self::Spread { .. } => 0,
        }
    }
}

impl Element {
    fn bytes(&self) -> usize {
        match self {
            Self::Always(json_template) => json_template.bytes(),
            Self::Optional(_) => 0,
        }
    }
}

impl JsonTemplate {
    /// The length of its fixed text in bytes.
    fn bytes(&self) -> usize {
        let bytes = self.pieces.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Value(_) | Piece::InText(_) | Piece::Slot(_) => 0,
            Piece::Object(members) => members.iter().map(TemplateMember::bytes).sum(),
            Piece::List(elements) => elements.iter().map(Element::bytes).sum(),
        });
        bytes.sum()
    }

    /// Its placeholders, in any order.
    pub(crate) fn placeholders(&self) -> Vec<&Placeholder> {
        let mut placeholders = Vec::new();
        self.collect(&mut placeholders);
        placeholders
    }

    fn collect<'s>(&'s self, placeholders: &mut Vec<&'s Placeholder>) {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(_) | Piece::Slot(_) => {}
                Piece::Value(placeholder) | Piece::InText(placeholder) => placeholders.push(placeholder),
                Piece::Object(members) => members.iter().for_each(|member| match member {
                    TemplateMember::Always { value, .. } => value.collect(placeholders),
                    TemplateMember::Optional { placeholder, .. }
                    | TemplateMember::Spread { placeholder, .. } => placeholders.push(placeholder),
                }),
                Piece::List(elements) => elements.iter().for_each(|element| match element {
                    Element::Always(json_template) => json_template.collect(placeholders),
                    Element::Optional(placeholder) => placeholders.push(placeholder),
                }),
            }
        }
    }

    /// The placeholders whose values must be objects. A template fails if one of them is not.
    pub(crate) fn spreads(&self) -> impl Iterator<Item = &Placeholder> {
        let mut spreads = Vec::new();
        self.collect_spreads(&mut spreads);
        spreads.into_iter()
    }

    fn collect_spreads<'s>(&'s self, spreads: &mut Vec<&'s Placeholder>) {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(_) | Piece::Value(_) | Piece::InText(_) | Piece::Slot(_) => {}
                Piece::Object(members) => members.iter().for_each(|member| match member {
                    TemplateMember::Always { value, .. } => value.collect_spreads(spreads),
                    TemplateMember::Optional { .. } => {}
                    TemplateMember::Spread { placeholder, .. } => spreads.push(placeholder),
                }),
                Piece::List(elements) => elements.iter().for_each(|element| match element {
                    Element::Always(json_template) => json_template.collect_spreads(spreads),
                    Element::Optional(_) => {}
                }),
            }
        }
    }

    /// Appends the rendered message. After an error, `out` is unchanged.
    pub(crate) fn render<'s>(
        &'s self,
        fill: &impl Resolve,
        on_missing: OnMissing,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError<'s>> {
        self.render_with_slots(fill, on_missing, out).map(drop)
    }

    /// Renders with empty slots, and returns their places.
    pub(crate) fn render_with_slots<'s>(
        &'s self,
        fill: &impl Resolve,
        on_missing: OnMissing,
        out: &mut Vec<u8>,
    ) -> Result<Slots, RenderError<'s>> {
        let start = out.len();
        let mut state = RenderState { on_missing, out, start, slots: Slots::default() };
        let rendered = self.put(fill, &mut state);
        let RenderState { slots, .. } = state;
        if rendered.is_err() {
            out.truncate(start);
        }
        rendered.map(|()| slots)
    }

    /// The message in a frame with slots and a note. Missing values become `null`. `None` if a value cannot be spread.
    pub(crate) fn frame(
        &self,
        scratch: &mut Scratch,
        capacity: usize,
        fill: &impl Resolve,
        note: &[u8],
    ) -> Option<Frame> {
        let mut is_fit = false;
        let write = |out: &mut Vec<u8>| {
            let slots = self.render_with_slots(fill, OnMissing::Null, out);
            is_fit = slots.is_ok();
            slots.unwrap_or_default()
        };
        let frame = scratch.frame(capacity, write, note);
        is_fit.then_some(frame)
    }

    /// The rendered message as text: the content of a JSON string, or else the JSON.
    pub(crate) fn text<'s>(
        &'s self,
        fill: &impl Resolve,
        on_missing: OnMissing,
    ) -> Result<String, RenderError<'s>> {
        let mut out = Vec::new();
        self.render(fill, on_missing, &mut out)?;
        let json = String::from_utf8_lossy(&out);
        Ok(json::text(&json).map_or_else(|| json.clone().into_owned(), Cow::into_owned))
    }

    /// Replaces each placeholder whose value differs by client with a slot, and adds it to `slots`. False if one of
    /// them is optional or spread, or if there are more than 255.
    pub(crate) fn extract_slots(&mut self, slots: &mut Vec<TemplateSlot>) -> bool {
        let mut sound = true;
        for piece in &mut self.pieces {
            let (placeholder, within) = match piece {
                Piece::Bytes(_) | Piece::Slot(_) => continue,
                Piece::Value(placeholder) => (placeholder, false),
                Piece::InText(placeholder) => (placeholder, true),
                Piece::Object(members) => {
                    for member in members {
                        sound &= match member {
                            TemplateMember::Always { value, .. } => value.extract_slots(slots),
                            TemplateMember::Optional { placeholder, .. }
                            | TemplateMember::Spread { placeholder, .. } => !placeholder.source.is_personal(),
                        };
                    }
                    continue;
                }
                Piece::List(elements) => {
                    for element in elements {
                        sound &= match element {
                            Element::Always(value) => value.extract_slots(slots),
                            Element::Optional(placeholder) => !placeholder.source.is_personal(),
                        };
                    }
                    continue;
                }
            };
            if placeholder.source.is_personal() {
                let Ok(number) = u8::try_from(slots.len() + 1) else { return false };
                slots.push(TemplateSlot { placeholder: placeholder.clone(), within });
                *piece = Piece::Slot(number);
            }
        }
        sound
    }

    fn put<'s>(&'s self, fill: &impl Resolve, state: &mut RenderState<'_>) -> Result<(), RenderError<'s>> {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => state.out.extend_from_slice(bytes),
                Piece::Value(placeholder) => put_value(placeholder, fill, state.on_missing, state.out)?,
                Piece::InText(placeholder) => put_text(placeholder, fill, state.on_missing, state.out)?,
                Piece::Slot(number) => state.slots.add(state.out.len() - state.start, *number),
                Piece::Object(members) => put_object(members, fill, state)?,
                Piece::List(elements) => put_list(elements, fill, state)?,
            }
        }
        Ok(())
    }
}

fn put_value<'s>(
    placeholder: &'s Placeholder,
    fill: &impl Resolve,
    on_missing: OnMissing,
    out: &mut Vec<u8>,
) -> Result<(), RenderError<'s>> {
    match (placeholder.value(fill), &placeholder.fallback, on_missing) {
        (Some(value), ..) => put_known(&value, out),
        (None, Fallback::Default(json), _) => out.extend_from_slice(json.as_bytes()),
        (None, _, OnMissing::Null) => out.extend_from_slice(b"null"),
        (None, _, OnMissing::Fail) => return Err(RenderError::Missing(placeholder)),
    }
    Ok(())
}

fn put_known(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => put_string(out, text),
        Value::Json(json) => out.extend_from_slice(json.as_bytes()),
    }
}

fn put_text<'s>(
    placeholder: &'s Placeholder,
    fill: &impl Resolve,
    on_missing: OnMissing,
    out: &mut Vec<u8>,
) -> Result<(), RenderError<'s>> {
    let value = placeholder.value(fill);
    match (value.as_ref().and_then(Value::as_text), &placeholder.fallback, on_missing) {
        (Some(text), ..) => put_inner(&text, out),
        (None, Fallback::Default(default), _) => {
            put_inner(&Value::Json(Cow::Borrowed(default)).as_text().unwrap_or_default(), out);
        }
        (None, _, OnMissing::Null) => {}
        (None, _, OnMissing::Fail) => return Err(RenderError::Missing(placeholder)),
    }
    Ok(())
}

fn put_object<'s>(
    members: &'s [TemplateMember],
    fill: &impl Resolve,
    state: &mut RenderState<'_>,
) -> Result<(), RenderError<'s>> {
    state.out.push(b'{');
    let mut is_first = true;
    for member in members {
        match member {
            TemplateMember::Always { key, value } => {
                put_comma(&mut is_first, state.out);
                state.out.extend_from_slice(key);
                value.put(fill, state)?;
            }
            TemplateMember::Optional { key, placeholder } => {
                if let Some(value) = placeholder.value(fill) {
                    put_comma(&mut is_first, state.out);
                    state.out.extend_from_slice(key);
                    put_known(&value, state.out);
                }
            }
            TemplateMember::Spread { placeholder, except } => {
                let Some(Value::Json(json)) = placeholder.value(fill) else {
                    return Err(RenderError::NotAnObject(placeholder));
                };
                let Some(spread) = json::members(&json) else {
                    return Err(RenderError::NotAnObject(placeholder));
                };
                for (key, value) in spread {
                    if !except.iter().any(|except| **except == *key) {
                        put_comma(&mut is_first, state.out);
                        put_string(state.out, &key);
                        state.out.push(b':');
                        state.out.extend_from_slice(value.as_bytes());
                    }
                }
            }
        }
    }
    state.out.push(b'}');
    Ok(())
}

fn put_list<'s>(
    elements: &'s [Element],
    fill: &impl Resolve,
    state: &mut RenderState<'_>,
) -> Result<(), RenderError<'s>> {
    state.out.push(b'[');
    let mut is_first = true;
    for element in elements {
        match element {
            Element::Always(json_template) => {
                put_comma(&mut is_first, state.out);
                json_template.put(fill, state)?;
            }
            Element::Optional(placeholder) => {
                if let Some(value) = placeholder.value(fill) {
                    put_comma(&mut is_first, state.out);
                    put_known(&value, state.out);
                }
            }
        }
    }
    state.out.push(b']');
    Ok(())
}

/// Writes the comma between members or elements. It does not look at `out`, because the first may be an empty slot.
fn put_comma(is_first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::take(is_first) {
        out.push(b',');
    }
}

/// Writes a JSON string without its quotes.
fn put_inner(text: &str, out: &mut Vec<u8>) {
    if is_plain(text.as_bytes()) {
        return out.extend_from_slice(text.as_bytes());
    }
    let quoted = json::string(text);
    let inner = quoted.strip_prefix('"').and_then(|quoted| quoted.strip_suffix('"'));
    out.extend_from_slice(inner.unwrap_or_default().as_bytes());
}

#[cfg(test)]
mod tests;
