//! Shape: a message as a vocabulary describes it: JSON with holes, compiled so that whatever the holes hold it stays
//! JSON, and so that all text between two holes is written already.

pub(super) mod compiler;

use std::borrow::Cow;

use thiserror::Error;
use tidegate_protocol::json;
use tidegate_protocol::slots::Slots;
use tidegate_protocol::writer::put_string;

use crate::hole::Absent;
use crate::hole::Fill;
use crate::hole::Hole;
use crate::hole::HoleError;
use crate::hole::Value;

/// The member of an object that stands for the members of a value.
const SPREAD: &str = "...";
/// Holes and bytes of text in one shape, and how deep it may be.
const MAX_HOLES: usize = 64;
const MAX_BYTES: usize = 16 * 1024;
const MAX_DEPTH: usize = 32;

/// A message as it is written in the file of a vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// A text, with or without holes.
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
pub(crate) enum ShapeError {
    /// A brace too much.
    #[error("\"{text}\" has a brace that belongs to no hole: write {{{{ or }}}} for a brace")]
    Brace { text: String },
    /// What a hole says makes no sense.
    #[error(transparent)]
    Hole(#[from] HoleError),
    /// `optional` in the middle of a text.
    #[error("\"{text}\" has an optional hole: that must be all of a member or element, not a part of a text")]
    OptionalInText { text: String },
    /// JSON in a text, put together by hand.
    #[error(
        "a text that is JSON itself has the hole {{{hole}}}, whose value is not escaped for that: it could add members"
    )]
    JsonByHand { hole: String },
    /// A spread that is no hole.
    #[error("\"...\" stands for the members of an object: \"...\" = \"{{data}}\"")]
    Spread,
    /// Too much of it.
    #[error("a message may have 64 holes, 16 KiB of text and 32 levels")]
    TooLarge,
}

/// What is missing to write a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfilled<'s> {
    /// This hole has no value.
    Missing(&'s Hole),
    /// This hole has one that is no object, and is to be spread.
    NoObject(&'s Hole),
}

/// What a hole without a value becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// It is a mistake of whoever gives the values.
    AreMistakes,
    /// `null`; nothing within a text.
    AreNull,
}

/// A compiled message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pieces: Box<[Piece]>,
}

/// A hole that each client's own value is put into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    hole: Hole,
    /// Whether it is a part of a string.
    within: bool,
}

impl Cut {
    /// What goes there.
    pub(crate) fn insert(&self, fill: &impl Fill) -> Box<[u8]> {
        let mut out = Vec::new();
        // A gap becomes `null` or nothing, so this does not fail.
        if self.within {
            put_text(&self.hole, fill, Gaps::AreNull, &mut out).ok();
        } else {
            put_value(&self.hole, fill, Gaps::AreNull, &mut out).ok();
        }
        out.into()
    }
}

/// A message that is being written.
struct Writing<'w> {
    gaps: Gaps,
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
    Value(Hole),
    /// A value as a part of a string.
    InText(Hole),
    /// What is each client's own: the cut of this number.
    Slot(u8),
    /// An object whose members depend on what there is.
    Object(Box<[Member]>),
    /// A list whose elements do.
    List(Box<[Element]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    /// `"key":` and what follows.
    Always {
        key: Box<[u8]>,
        value: Shape,
    },
    Optional {
        key: Box<[u8]>,
        hole: Hole,
    },
    /// The members of a value, but for these, which stand beside it.
    Spread {
        hole: Hole,
        except: Box<[Box<str>]>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    Always(Shape),
    Optional(Hole),
}

impl Member {
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
            Self::Always(shape) => shape.bytes(),
            Self::Optional(_) => 0,
        }
    }
}

impl Shape {
    /// Bytes of text in it.
    fn bytes(&self) -> usize {
        let bytes = self.pieces.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Value(_) | Piece::InText(_) | Piece::Slot(_) => 0,
            Piece::Object(members) => members.iter().map(Member::bytes).sum(),
            Piece::List(elements) => elements.iter().map(Element::bytes).sum(),
        });
        bytes.sum()
    }

    /// Its holes, in no order.
    pub(crate) fn holes(&self) -> Vec<&Hole> {
        let mut holes = Vec::new();
        self.collect(&mut holes);
        holes
    }

    fn collect<'s>(&'s self, holes: &mut Vec<&'s Hole>) {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(_) | Piece::Slot(_) => {}
                Piece::Value(hole) | Piece::InText(hole) => holes.push(hole),
                Piece::Object(members) => members.iter().for_each(|member| match member {
                    Member::Always { value, .. } => value.collect(holes),
                    Member::Optional { hole, .. } | Member::Spread { hole, .. } => holes.push(hole),
                }),
                Piece::List(elements) => elements.iter().for_each(|element| match element {
                    Element::Always(shape) => shape.collect(holes),
                    Element::Optional(hole) => holes.push(hole),
                }),
            }
        }
    }

    /// Appends the message with its holes filled: JSON, whatever they hold. After an error `out` is as it was.
    pub(crate) fn render<'s>(
        &'s self,
        fill: &impl Fill,
        gaps: Gaps,
        out: &mut Vec<u8>,
    ) -> Result<(), Unfilled<'s>> {
        self.render_with_slots(fill, gaps, out).map(drop)
    }

    /// The same, with the places of its cuts, which are left empty.
    pub(crate) fn render_with_slots<'s>(
        &'s self,
        fill: &impl Fill,
        gaps: Gaps,
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
    pub(crate) fn text<'s>(&'s self, fill: &impl Fill, gaps: Gaps) -> Result<String, Unfilled<'s>> {
        let mut out = Vec::new();
        self.render(fill, gaps, &mut out)?;
        let json = String::from_utf8_lossy(&out);
        Ok(json::text(&json).map_or_else(|| json.clone().into_owned(), Cow::into_owned))
    }

    /// Replaces each hole that differs between clients by a slot of the cut's number. The cuts are added to `cuts`. False if one of them is optional or spread, or there are too many.
    pub(crate) fn cut(&mut self, cuts: &mut Vec<Cut>) -> bool {
        let mut sound = true;
        for piece in &mut self.pieces {
            let (hole, within) = match piece {
                Piece::Bytes(_) | Piece::Slot(_) => continue,
                Piece::Value(hole) => (hole, false),
                Piece::InText(hole) => (hole, true),
                Piece::Object(members) => {
                    for member in members {
                        sound &= match member {
                            Member::Always { value, .. } => value.cut(cuts),
                            Member::Optional { hole, .. } | Member::Spread { hole, .. } => {
                                !hole.source.is_personal()
                            }
                        };
                    }
                    continue;
                }
                Piece::List(elements) => {
                    for element in elements {
                        sound &= match element {
                            Element::Always(value) => value.cut(cuts),
                            Element::Optional(hole) => !hole.source.is_personal(),
                        };
                    }
                    continue;
                }
            };
            if hole.source.is_personal() {
                let Ok(number) = u8::try_from(cuts.len() + 1) else { return false };
                cuts.push(Cut { hole: hole.clone(), within });
                *piece = Piece::Slot(number);
            }
        }
        sound
    }

    fn put<'s>(&'s self, fill: &impl Fill, writing: &mut Writing<'_>) -> Result<(), Unfilled<'s>> {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => writing.out.extend_from_slice(bytes),
                Piece::Value(hole) => put_value(hole, fill, writing.gaps, writing.out)?,
                Piece::InText(hole) => put_text(hole, fill, writing.gaps, writing.out)?,
                Piece::Slot(number) => writing.slots.add(writing.out.len() - writing.start, *number),
                Piece::Object(members) => put_object(members, fill, writing)?,
                Piece::List(elements) => put_list(elements, fill, writing)?,
            }
        }
        Ok(())
    }
}

fn put_value<'s>(
    hole: &'s Hole,
    fill: &impl Fill,
    gaps: Gaps,
    out: &mut Vec<u8>,
) -> Result<(), Unfilled<'s>> {
    match (hole.value(fill), &hole.absent, gaps) {
        (Some(value), ..) => put_known(&value, out),
        (None, Absent::Default(json), _) => out.extend_from_slice(json.as_bytes()),
        (None, _, Gaps::AreNull) => out.extend_from_slice(b"null"),
        (None, _, Gaps::AreMistakes) => return Err(Unfilled::Missing(hole)),
    }
    Ok(())
}

fn put_known(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => put_string(out, text),
        Value::Json(json) => out.extend_from_slice(json.as_bytes()),
    }
}

fn put_text<'s>(hole: &'s Hole, fill: &impl Fill, gaps: Gaps, out: &mut Vec<u8>) -> Result<(), Unfilled<'s>> {
    let value = hole.value(fill);
    match (value.as_ref().and_then(Value::as_text), &hole.absent, gaps) {
        (Some(text), ..) => put_inner(&text, out),
        (None, Absent::Default(default), _) => {
            put_inner(&Value::Json(Cow::Borrowed(default)).as_text().unwrap_or_default(), out);
        }
        (None, _, Gaps::AreNull) => {}
        (None, _, Gaps::AreMistakes) => return Err(Unfilled::Missing(hole)),
    }
    Ok(())
}

fn put_object<'s>(
    members: &'s [Member],
    fill: &impl Fill,
    writing: &mut Writing<'_>,
) -> Result<(), Unfilled<'s>> {
    writing.out.push(b'{');
    let mut is_first = true;
    for member in members {
        match member {
            Member::Always { key, value } => {
                put_comma(&mut is_first, writing.out);
                writing.out.extend_from_slice(key);
                value.put(fill, writing)?;
            }
            Member::Optional { key, hole } => {
                if let Some(value) = hole.value(fill) {
                    put_comma(&mut is_first, writing.out);
                    writing.out.extend_from_slice(key);
                    put_known(&value, writing.out);
                }
            }
            Member::Spread { hole, except } => {
                let Some(Value::Json(json)) = hole.value(fill) else { return Err(Unfilled::NoObject(hole)) };
                let Some(spread) = json::members(&json) else { return Err(Unfilled::NoObject(hole)) };
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
    fill: &impl Fill,
    writing: &mut Writing<'_>,
) -> Result<(), Unfilled<'s>> {
    writing.out.push(b'[');
    let mut is_first = true;
    for element in elements {
        match element {
            Element::Always(shape) => {
                put_comma(&mut is_first, writing.out);
                shape.put(fill, writing)?;
            }
            Element::Optional(hole) => {
                if let Some(value) = hole.value(fill) {
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
