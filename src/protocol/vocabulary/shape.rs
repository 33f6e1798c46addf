//! Shape: a message as a vocabulary describes it: JSON with holes, compiled so that whatever the holes hold it stays
//! JSON, and so that all text between two holes is written already.

use std::borrow::Cow;

use thiserror::Error;

use crate::protocol::vocabulary::hole::Absent;
use crate::protocol::vocabulary::hole::Fill;
use crate::protocol::vocabulary::hole::Hole;
use crate::protocol::vocabulary::hole::HoleError;
use crate::protocol::vocabulary::hole::TimeFormat;
use crate::protocol::vocabulary::hole::Value;
use crate::protocol::vocabulary::json;
use crate::protocol::vocabulary::writer::put_string;

/// The member of an object that stands for the members of a value.
const SPREAD: &str = "...";
/// Holes and bytes of text in one shape, and how deep it may be.
const MAX_HOLES: usize = 64;
const MAX_BYTES: usize = 16 * 1024;
const MAX_DEPTH: usize = 32;

/// A message as it is written in the file of a vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
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
pub enum ShapeError {
    /// A brace too much.
    #[error("\"{text}\" has a brace that belongs to no hole: write {{{{ or }}}} for a brace")]
    Brace { text: String },
    /// What a hole says makes no sense.
    #[error(transparent)]
    Hole(#[from] HoleError),
    /// `optional` in the middle of a text.
    #[error("\"{text}\" has an optional hole: that must be all of a member or element, not a part of a text")]
    OptionalInText { text: String },
    /// A spread that is no hole.
    #[error("\"...\" stands for the members of an object: \"...\" = \"{{data}}\"")]
    Spread,
    /// Too much of it.
    #[error("a message may have 64 holes, 16 KiB of text and 32 levels")]
    TooLarge,
}

/// What is missing to write a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfilled<'s> {
    /// This hole has no value.
    Missing(&'s Hole),
    /// This hole has one that is no object, and is to be spread.
    NoObject(&'s Hole),
}

/// What a hole without a value becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// It is a mistake of whoever gives the values.
    AreMistakes,
    /// `null`; nothing within a text.
    AreNull,
}

/// A compiled message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pieces: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// JSON text.
    Bytes(Box<[u8]>),
    /// A value.
    Value(Hole),
    /// A value as a part of a string.
    InText(Hole),
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
    /// Compiles a message. Instants without a filter are written as `time`.
    pub fn compile(tree: &Tree, time: TimeFormat) -> Result<Self, ShapeError> {
        let shape = Compiler { time }.shape(tree, 0)?;
        if shape.holes().len() > MAX_HOLES || shape.bytes() > MAX_BYTES {
            return Err(ShapeError::TooLarge);
        }
        Ok(shape)
    }

    /// Bytes of text in it.
    fn bytes(&self) -> usize {
        let bytes = self.pieces.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Value(_) | Piece::InText(_) => 0,
            Piece::Object(members) => members.iter().map(Member::bytes).sum(),
            Piece::List(elements) => elements.iter().map(Element::bytes).sum(),
        });
        bytes.sum()
    }

    /// Its holes, in no order.
    pub fn holes(&self) -> Vec<&Hole> {
        let mut holes = Vec::new();
        self.collect(&mut holes);
        holes
    }

    fn collect<'s>(&'s self, holes: &mut Vec<&'s Hole>) {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(_) => {}
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
    pub fn render<'s>(&'s self, fill: &impl Fill, gaps: Gaps, out: &mut Vec<u8>) -> Result<(), Unfilled<'s>> {
        let before = out.len();
        let rendered = self.put(fill, gaps, out);
        if rendered.is_err() {
            out.truncate(before);
        }
        rendered
    }

    fn put<'s>(&'s self, fill: &impl Fill, gaps: Gaps, out: &mut Vec<u8>) -> Result<(), Unfilled<'s>> {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => out.extend_from_slice(bytes),
                Piece::Value(hole) => put_value(hole, fill, gaps, out)?,
                Piece::InText(hole) => put_text(hole, fill, gaps, out)?,
                Piece::Object(members) => put_object(members, fill, gaps, out)?,
                Piece::List(elements) => put_list(elements, fill, gaps, out)?,
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
    gaps: Gaps,
    out: &mut Vec<u8>,
) -> Result<(), Unfilled<'s>> {
    out.push(b'{');
    let start = out.len();
    for member in members {
        match member {
            Member::Always { key, value } => {
                put_comma(start, out);
                out.extend_from_slice(key);
                value.put(fill, gaps, out)?;
            }
            Member::Optional { key, hole } => {
                if let Some(value) = hole.value(fill) {
                    put_comma(start, out);
                    out.extend_from_slice(key);
                    put_known(&value, out);
                }
            }
            Member::Spread { hole, except } => {
                let Some(Value::Json(json)) = hole.value(fill) else { return Err(Unfilled::NoObject(hole)) };
                let Some(spread) = json::members(&json) else { return Err(Unfilled::NoObject(hole)) };
                for (key, value) in spread {
                    if !except.iter().any(|except| **except == *key) {
                        put_comma(start, out);
                        put_string(out, &key);
                        out.push(b':');
                        out.extend_from_slice(value.as_bytes());
                    }
                }
            }
        }
    }
    out.push(b'}');
    Ok(())
}

fn put_list<'s>(
    elements: &'s [Element],
    fill: &impl Fill,
    gaps: Gaps,
    out: &mut Vec<u8>,
) -> Result<(), Unfilled<'s>> {
    out.push(b'[');
    let start = out.len();
    for element in elements {
        match element {
            Element::Always(shape) => {
                put_comma(start, out);
                shape.put(fill, gaps, out)?;
            }
            Element::Optional(hole) => {
                if let Some(value) = hole.value(fill) {
                    put_comma(start, out);
                    put_known(&value, out);
                }
            }
        }
    }
    out.push(b']');
    Ok(())
}

/// Between what was written since `start`, if anything was, and what comes.
fn put_comma(start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
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

/// A part of a text.
enum Part {
    Plain(String),
    Hole(Hole),
}

#[derive(Clone, Copy)]
struct Compiler {
    time: TimeFormat,
}

impl Compiler {
    fn shape(self, tree: &Tree, depth: usize) -> Result<Shape, ShapeError> {
        let mut pieces = Pieces::default();
        self.tree(tree, depth, &mut pieces)?;
        Ok(pieces.end())
    }

    fn tree(self, tree: &Tree, depth: usize, pieces: &mut Pieces) -> Result<(), ShapeError> {
        if depth > MAX_DEPTH {
            return Err(ShapeError::TooLarge);
        }
        match tree {
            Tree::Plain(json) => pieces.bytes(json.as_bytes()),
            Tree::Text(text) => self.text(text, pieces)?,
            Tree::List(list) => self.list(list, depth, pieces)?,
            Tree::Table(table) => self.table(table, depth, pieces)?,
        }
        Ok(())
    }

    fn text(self, text: &str, pieces: &mut Pieces) -> Result<(), ShapeError> {
        let mut parts = self.parts(text)?;
        if let [Part::Hole(_)] = parts[..]
            && let Some(Part::Hole(hole)) = parts.pop()
        {
            pieces.piece(Piece::Value(hole));
            return Ok(());
        }
        pieces.bytes(b"\"");
        for part in parts {
            match part {
                Part::Plain(text) => put_inner(&text, &mut pieces.written),
                Part::Hole(hole) if hole.absent == Absent::LeftOut => {
                    return Err(ShapeError::OptionalInText { text: text.to_owned() });
                }
                Part::Hole(hole) => pieces.piece(Piece::InText(hole)),
            }
        }
        pieces.bytes(b"\"");
        Ok(())
    }

    fn list(self, list: &[Tree], depth: usize, pieces: &mut Pieces) -> Result<(), ShapeError> {
        let mut elements = Vec::new();
        let mut is_fixed = true;
        for element in list {
            elements.push(match self.optional(element)? {
                Some(hole) => {
                    is_fixed = false;
                    Element::Optional(hole)
                }
                None => Element::Always(self.shape(element, depth + 1)?),
            });
        }
        if !is_fixed {
            pieces.piece(Piece::List(elements.into()));
            return Ok(());
        }
        pieces.bytes(b"[");
        for (at, element) in elements.into_iter().enumerate() {
            if at > 0 {
                pieces.bytes(b",");
            }
            if let Element::Always(shape) = element {
                pieces.shape(shape);
            }
        }
        pieces.bytes(b"]");
        Ok(())
    }

    fn table(self, table: &[(String, Tree)], depth: usize, pieces: &mut Pieces) -> Result<(), ShapeError> {
        let mut members = Vec::new();
        let mut is_fixed = true;
        for (name, tree) in table {
            let mut key = Vec::new();
            put_string(&mut key, name);
            key.push(b':');
            let key = key.into();
            members.push(if name == SPREAD {
                is_fixed = false;
                let except = table.iter().filter(|(name, _)| name != SPREAD);
                let except = except.map(|(name, _)| name.as_str().into()).collect();
                Member::Spread { hole: self.whole(tree)?.ok_or(ShapeError::Spread)?, except }
            } else if let Some(hole) = self.optional(tree)? {
                is_fixed = false;
                Member::Optional { key, hole }
            } else {
                Member::Always { key, value: self.shape(tree, depth + 1)? }
            });
        }
        if !is_fixed {
            pieces.piece(Piece::Object(members.into()));
            return Ok(());
        }
        pieces.bytes(b"{");
        for (at, member) in members.into_iter().enumerate() {
            if at > 0 {
                pieces.bytes(b",");
            }
            if let Member::Always { key, value } = member {
                pieces.bytes(&key);
                pieces.shape(value);
            }
        }
        pieces.bytes(b"}");
        Ok(())
    }

    /// The hole that a value is, if it is one and nothing else.
    fn whole(self, tree: &Tree) -> Result<Option<Hole>, ShapeError> {
        let Tree::Text(text) = tree else { return Ok(None) };
        let mut parts = self.parts(text)?;
        let last = parts.pop();
        Ok(match last {
            Some(Part::Hole(hole)) if parts.is_empty() => Some(hole),
            Some(Part::Hole(_) | Part::Plain(_)) | None => None,
        })
    }

    /// The same, if it may be left out.
    fn optional(self, tree: &Tree) -> Result<Option<Hole>, ShapeError> {
        Ok(self.whole(tree)?.filter(|hole| hole.absent == Absent::LeftOut))
    }

    /// What a text consists of: `{…}` is a hole, `{{` and `}}` are braces.
    fn parts(self, text: &str) -> Result<Vec<Part>, ShapeError> {
        let brace = || ShapeError::Brace { text: text.to_owned() };
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain += before;
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                plain += &from[..1];
                rest = after;
                continue;
            }
            let (hole, after) =
                from.strip_prefix('{').and_then(|from| from.split_once('}')).ok_or_else(brace)?;
            if hole.contains('{') {
                return Err(brace());
            }
            if !plain.is_empty() {
                parts.push(Part::Plain(std::mem::take(&mut plain)));
            }
            parts.push(Part::Hole(Hole::parse(hole, self.time)?));
            rest = after;
        }
        plain += rest;
        if !plain.is_empty() {
            parts.push(Part::Plain(plain));
        }
        Ok(parts)
    }
}

/// Pieces being put together; text that follows text is one.
#[derive(Default)]
struct Pieces {
    pieces: Vec<Piece>,
    written: Vec<u8>,
}

impl Pieces {
    fn bytes(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
    }

    fn piece(&mut self, piece: Piece) {
        if !self.written.is_empty() {
            self.pieces.push(Piece::Bytes(std::mem::take(&mut self.written).into()));
        }
        self.pieces.push(piece);
    }

    fn shape(&mut self, shape: Shape) {
        for piece in shape.pieces {
            match piece {
                Piece::Bytes(bytes) => self.bytes(&bytes),
                piece @ (Piece::Value(_) | Piece::InText(_) | Piece::Object(_) | Piece::List(_)) => {
                    self.piece(piece);
                }
            }
        }
    }

    fn end(mut self) -> Shape {
        if !self.written.is_empty() {
            self.pieces.push(Piece::Bytes(self.written.into()));
        }
        Shape { pieces: self.pieces.into() }
    }
}

#[cfg(test)]
mod tests;
