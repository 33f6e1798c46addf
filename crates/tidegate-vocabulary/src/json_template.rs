//! Shape: a message as a vocabulary describes it: JSON with placeholders, compiled so that whatever the placeholders hold it stays
//! JSON, and so that all text between two placeholders is written already.

pub(super) mod compiler;

use std::borrow::Cow;

use thiserror::Error;
use tidegate_protocol::json;
use tidegate_protocol::slots::Slots;
use tidegate_protocol::writer::put_string;

use crate::placeholder::Placeholder;
use crate::placeholder::PlaceholderError;
use crate::placeholder::Resolve;
use crate::placeholder::Value;
use crate::placeholder::WhenAbsent;

/// The member of an object that represents the members of a value.
const SPREAD: &str = "...";
/// Placeholders and bytes of text in one shape, and how deep it may be.
const MAX_HOLES: usize = 64;
const MAX_BYTES: usize = 16 * 1024;
const MAX_DEPTH: usize = 32;

/// A message as it is written in the file of a vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// A text, with or without placeholders.
    Text(String),
    /// A number or a truth value, as JSON.
    Plain(String),
    /// A list.
    List(Vec<Self>),
    /// An object, its members in the order of the file.
    Table(Vec<(String, Self)>),
}

/// What is wrong with a shape.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum JsonTemplateError {
    /// A brace too much.
    #[error("\"{text}\" has a brace that belongs to no placeholder: write {{{{ or }}}} for a brace")]
    Brace { text: String },
    /// What a placeholder says makes no sense.
    #[error(transparent)]
    Placeholder(#[from] PlaceholderError),
    /// `optional` in the middle of a text.
    #[error(
        "\"{text}\" has an optional placeholder: that must be all of a member or element, not a part of a text"
    )]
    OptionalInText { text: String },
    /// JSON in a text, put together by hand.
    #[error(
        "a text that is JSON itself has the placeholder {{{placeholder}}}, whose value is not escaped for that: it could add members"
    )]
    JsonByHand { placeholder: String },
    /// A spread that is no placeholder.
    #[error("\"...\" stands for the members of an object: \"...\" = \"{{data}}\"")]
    Spread,
    /// Too much of it.
    #[error("a message may have 64 placeholders, 16 KiB of text and 32 levels")]
    TooLarge,
}

/// What is missing to write a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfilled<'s> {
    /// This placeholder has no value.
    Missing(&'s Placeholder),
    /// This placeholder has one that is no object, and is to be spread.
    NoObject(&'s Placeholder),
}

/// What a placeholder without a value becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnMissing {
    /// It is a mistake of whoever gives the values.
    AreMistakes,
    /// `null`; nothing within a text.
    AreNull,
}

/// A compiled message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JsonTemplate {
    pieces: Box<[Piece]>,
}

/// A placeholder that each client's own value is put into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateSlot {
    placeholder: Placeholder,
    /// Whether it is a part of a string.
    within: bool,
}

impl TemplateSlot {
    /// What goes there.
    pub(crate) fn insert(&self, fill: &impl Resolve) -> Box<[u8]> {
        let mut out = Vec::new();
        // A gap becomes `null` or nothing, so this does not fail.
        if self.within {
            put_text(&self.placeholder, fill, OnMissing::AreNull, &mut out).ok();
        } else {
            put_value(&self.placeholder, fill, OnMissing::AreNull, &mut out).ok();
        }
        out.into()
    }
}

/// A message that is being written.
struct Writing<'w> {
    gaps: OnMissing,
    out: &'w mut Vec<u8>,
    /// Where it began.
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
    /// What is each client's own: the cut of this number.
    Slot(u8),
    /// An object whose members depend on what there is.
    Object(Box<[TemplateMember]>),
    /// A list whose elements do.
    List(Box<[Element]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplateMember {
    /// `"key":` and what follows.
    Always {
        key: Box<[u8]>,
        value: JsonTemplate,
    },
    Optional {
        key: Box<[u8]>,
        placeholder: Placeholder,
    },
    /// The members of a value, but for these, which are next to it.
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
    /// Bytes of text in it.
    fn bytes(&self) -> usize {
        let bytes = self.pieces.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Value(_) | Piece::InText(_) | Piece::Slot(_) => 0,
            Piece::Object(members) => members.iter().map(TemplateMember::bytes).sum(),
            Piece::List(elements) => elements.iter().map(Element::bytes).sum(),
        });
        bytes.sum()
    }

    /// Its placeholders, in no order.
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

    /// Appends the message with its placeholders filled: JSON, whatever they hold. After an error `out` is as it was.
    pub(crate) fn render<'s>(
        &'s self,
        fill: &impl Resolve,
        gaps: OnMissing,
        out: &mut Vec<u8>,
    ) -> Result<(), Unfilled<'s>> {
        self.render_with_slots(fill, gaps, out).map(drop)
    }

    /// The same, with the places of its cuts, which are left empty.
    pub(crate) fn render_with_slots<'s>(
        &'s self,
        fill: &impl Resolve,
        gaps: OnMissing,
        out: &mut Vec<u8>,
    ) -> Result<Slots, Unfilled<'s>> {
        let start = out.len();
        let mut writing = Writing { gaps, out, start, slots: Slots::default() };
        let rendered = self.put(fill, &mut writing);
        let Writing { slots, .. } = writing;
        if rendered.is_err() {
            out.truncate(start);
        }
        rendered.map(|()| slots)
    }

    /// The message as a text: of a JSON string what is in it, of other JSON the JSON.
    pub(crate) fn text<'s>(&'s self, fill: &impl Resolve, gaps: OnMissing) -> Result<String, Unfilled<'s>> {
        let mut out = Vec::new();
        self.render(fill, gaps, &mut out)?;
        let json = String::from_utf8_lossy(&out);
        Ok(json::text(&json).map_or_else(|| json.clone().into_owned(), Cow::into_owned))
    }

    /// Replaces each placeholder that differs between clients by a slot of the cut's number. The cuts are added to `cuts`. False if one of them is optional or spread, or there are too many.
    pub(crate) fn cut(&mut self, cuts: &mut Vec<TemplateSlot>) -> bool {
        let mut sound = true;
        for piece in &mut self.pieces {
            let (placeholder, within) = match piece {
                Piece::Bytes(_) | Piece::Slot(_) => continue,
                Piece::Value(placeholder) => (placeholder, false),
                Piece::InText(placeholder) => (placeholder, true),
                Piece::Object(members) => {
                    for member in members {
                        sound &= match member {
                            TemplateMember::Always { value, .. } => value.cut(cuts),
                            TemplateMember::Optional { placeholder, .. }
                            | TemplateMember::Spread { placeholder, .. } => !placeholder.source.is_personal(),
                        };
                    }
                    continue;
                }
                Piece::List(elements) => {
                    for element in elements {
                        sound &= match element {
                            Element::Always(value) => value.cut(cuts),
                            Element::Optional(placeholder) => !placeholder.source.is_personal(),
                        };
                    }
                    continue;
                }
            };
            if placeholder.source.is_personal() {
                let Ok(number) = u8::try_from(cuts.len() + 1) else { return false };
                cuts.push(TemplateSlot { placeholder: placeholder.clone(), within });
                *piece = Piece::Slot(number);
            }
        }
        sound
    }

    fn put<'s>(&'s self, fill: &impl Resolve, writing: &mut Writing<'_>) -> Result<(), Unfilled<'s>> {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => writing.out.extend_from_slice(bytes),
                Piece::Value(placeholder) => put_value(placeholder, fill, writing.gaps, writing.out)?,
                Piece::InText(placeholder) => put_text(placeholder, fill, writing.gaps, writing.out)?,
                Piece::Slot(number) => writing.slots.add(writing.out.len() - writing.start, *number),
                Piece::Object(members) => put_object(members, fill, writing)?,
                Piece::List(elements) => put_list(elements, fill, writing)?,
            }
        }
        Ok(())
    }
}

fn put_value<'s>(
    placeholder: &'s Placeholder,
    fill: &impl Resolve,
    gaps: OnMissing,
    out: &mut Vec<u8>,
) -> Result<(), Unfilled<'s>> {
    match (placeholder.value(fill), &placeholder.absent, gaps) {
        (Some(value), ..) => put_known(&value, out),
        (None, WhenAbsent::Default(json), _) => out.extend_from_slice(json.as_bytes()),
        (None, _, OnMissing::AreNull) => out.extend_from_slice(b"null"),
        (None, _, OnMissing::AreMistakes) => return Err(Unfilled::Missing(placeholder)),
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
    gaps: OnMissing,
    out: &mut Vec<u8>,
) -> Result<(), Unfilled<'s>> {
    let value = placeholder.value(fill);
    match (value.as_ref().and_then(Value::as_text), &placeholder.absent, gaps) {
        (Some(text), ..) => put_inner(&text, out),
        (None, WhenAbsent::Default(default), _) => {
            put_inner(&Value::Json(Cow::Borrowed(default)).as_text().unwrap_or_default(), out);
        }
        (None, _, OnMissing::AreNull) => {}
        (None, _, OnMissing::AreMistakes) => return Err(Unfilled::Missing(placeholder)),
    }
    Ok(())
}

fn put_object<'s>(
    members: &'s [TemplateMember],
    fill: &impl Resolve,
    writing: &mut Writing<'_>,
) -> Result<(), Unfilled<'s>> {
    writing.out.push(b'{');
    let mut is_first = true;
    for member in members {
        match member {
            TemplateMember::Always { key, value } => {
                put_comma(&mut is_first, writing.out);
                writing.out.extend_from_slice(key);
                value.put(fill, writing)?;
            }
            TemplateMember::Optional { key, placeholder } => {
                if let Some(value) = placeholder.value(fill) {
                    put_comma(&mut is_first, writing.out);
                    writing.out.extend_from_slice(key);
                    put_known(&value, writing.out);
                }
            }
            TemplateMember::Spread { placeholder, except } => {
                let Some(Value::Json(json)) = placeholder.value(fill) else {
                    return Err(Unfilled::NoObject(placeholder));
                };
                let Some(spread) = json::members(&json) else { return Err(Unfilled::NoObject(placeholder)) };
                for (key, value) in spread {
                    if !except.iter().any(|except| **except == *key) {
                        put_comma(&mut is_first, writing.out);
                        put_string(writing.out, &key);
                        writing.out.push(b':');
                        writing.out.extend_from_slice(value.as_bytes());
                    }
                }
            }
        }
    }
    writing.out.push(b'}');
    Ok(())
}

fn put_list<'s>(
    elements: &'s [Element],
    fill: &impl Resolve,
    writing: &mut Writing<'_>,
) -> Result<(), Unfilled<'s>> {
    writing.out.push(b'[');
    let mut is_first = true;
    for element in elements {
        match element {
            Element::Always(json_template) => {
                put_comma(&mut is_first, writing.out);
                json_template.put(fill, writing)?;
            }
            Element::Optional(placeholder) => {
                if let Some(value) = placeholder.value(fill) {
                    put_comma(&mut is_first, writing.out);
                    put_known(&value, writing.out);
                }
            }
        }
    }
    writing.out.push(b']');
    Ok(())
}

/// Between two members or elements, of which the first may be a slot, and so empty.
fn put_comma(is_first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::take(is_first) {
        out.push(b',');
    }
}

/// A JSON string without its quotes.
fn put_inner(text: &str, out: &mut Vec<u8>) {
    let plain = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\';
    if text.as_bytes().iter().all(plain) {
        return out.extend_from_slice(text.as_bytes());
    }
    let quoted = json::string(text);
    let inner = quoted.strip_prefix('"').and_then(|quoted| quoted.strip_suffix('"'));
    out.extend_from_slice(inner.unwrap_or_default().as_bytes());
}

#[cfg(test)]
mod tests;
