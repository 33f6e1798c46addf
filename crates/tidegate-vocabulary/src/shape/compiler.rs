//! From a message as the file has it to a [`Shape`]: what is fixed is written, what is not is a hole.

use tidegate_protocol::payload::is_json;
use tidegate_protocol::writer::put_string;

use crate::hole::Absent;
use crate::hole::Hole;
use crate::hole::TimeFormat;
use crate::shape::Element;
use crate::shape::MAX_BYTES;
use crate::shape::MAX_DEPTH;
use crate::shape::MAX_HOLES;
use crate::shape::Member;
use crate::shape::Piece;
use crate::shape::SPREAD;
use crate::shape::Shape;
use crate::shape::ShapeError;
use crate::shape::Tree;
use crate::shape::put_inner;

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Plain(String),
    Hole(Hole),
}

/// What a text consists of: `{…}` is a hole, `{{` and `}}` are braces. Instants without a filter are written as `time`.
pub(crate) fn parts(text: &str, time: TimeFormat) -> Result<Vec<Part>, ShapeError> {
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
        let (hole, after) = from.strip_prefix('{').and_then(|from| from.split_once('}')).ok_or_else(brace)?;
        if hole.contains('{') {
            return Err(brace());
        }
        if !plain.is_empty() {
            parts.push(Part::Plain(std::mem::take(&mut plain)));
        }
        parts.push(Part::Hole(Hole::parse(hole, time)?));
        rest = after;
    }
    plain += rest;
    if !plain.is_empty() {
        parts.push(Part::Plain(plain));
    }
    Ok(parts)
}

/// The hole in a text that is JSON by itself. What goes there is escaped for the text, not for the JSON in it, so whoever
/// gives the value could end a string in it and add members.
fn json_by_hand(parts: &[Part]) -> Option<&str> {
    let hole = parts.iter().find_map(|part| match part {
        Part::Hole(hole) if hole.may_hold_quotes() => Some(&*hole.name),
        Part::Hole(_) | Part::Plain(_) => None,
    })?;
    // A digit stands for a value within a string, and outside.
    let filled: String = parts
        .iter()
        .map(|part| match part {
            Part::Plain(text) => text.as_str(),
            Part::Hole(_) => "0",
        })
        .collect();
    let is_composed = filled.trim_start().starts_with(['{', '[']) && filled.contains('"');
    (is_composed && is_json(&filled)).then_some(hole)
}

#[derive(Clone, Copy)]
pub(super) struct Compiler {
    pub(super) time: TimeFormat,
}

impl Compiler {
    pub(super) fn shape(self, tree: &Tree, depth: usize) -> Result<Shape, ShapeError> {
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
        let mut found = parts(text, self.time)?;
        if let [Part::Hole(_)] = found[..]
            && let Some(Part::Hole(hole)) = found.pop()
        {
            pieces.piece(Piece::Value(hole));
            return Ok(());
        }
        if let Some(hole) = json_by_hand(&found) {
            return Err(ShapeError::JsonByHand { hole: hole.to_owned() });
        }
        pieces.bytes(b"\"");
        for part in found {
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
        let mut found = parts(text, self.time)?;
        let last = found.pop();
        Ok(match last {
            Some(Part::Hole(hole)) if found.is_empty() => Some(hole),
            Some(Part::Hole(_) | Part::Plain(_)) | None => None,
        })
    }

    /// The same, if it may be left out.
    fn optional(self, tree: &Tree) -> Result<Option<Hole>, ShapeError> {
        Ok(self.whole(tree)?.filter(|hole| hole.absent == Absent::LeftOut))
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
                piece @ (Piece::Value(_)
                | Piece::InText(_)
                | Piece::Slot(_)
                | Piece::Object(_)
                | Piece::List(_)) => {
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

impl Shape {
    /// Compiles a message. Instants without a filter are written as `time`.
    pub(crate) fn compile(tree: &Tree, time: TimeFormat) -> Result<Self, ShapeError> {
        let shape = Compiler { time }.shape(tree, 0)?;
        if shape.holes().len() > MAX_HOLES || shape.bytes() > MAX_BYTES {
            return Err(ShapeError::TooLarge);
        }
        Ok(shape)
    }
}
