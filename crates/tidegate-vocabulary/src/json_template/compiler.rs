//! Compiles a template of a vocabulary's file into a [`JsonTemplate`].

use tidegate_protocol::payload::is_json;
use tidegate_protocol::writer::put_string;

use crate::json_template::Element;
use crate::json_template::JsonTemplate;
use crate::json_template::JsonTemplateError;
use crate::json_template::MAX_BYTES;
use crate::json_template::MAX_DEPTH;
use crate::json_template::MAX_PLACEHOLDERS;
use crate::json_template::Piece;
use crate::json_template::SPREAD;
use crate::json_template::TemplateMember;
use crate::json_template::Tree;
use crate::json_template::put_inner;
use crate::placeholder::Fallback;
use crate::placeholder::Placeholder;
use crate::time_format::TimeFormat;

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Plain(String),
    Placeholder(Placeholder),
}

/// Splits a text: `{…}` is a placeholder, `{{` and `}}` are braces. `time` is the format of instants without a time
/// filter.
pub(crate) fn parts(text: &str, time: TimeFormat) -> Result<Vec<Part>, JsonTemplateError> {
    let brace = || JsonTemplateError::Brace { text: text.to_owned() };
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        plain += before;
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            plain += &from[..1];
            rest = after;
            continue;
        }
        let (placeholder, after) =
            from.strip_prefix('{').and_then(|from| from.split_once('}')).ok_or_else(brace)?;
        if placeholder.contains('{') {
            return Err(brace());
        }
        if !plain.is_empty() {
            parts.push(Part::Plain(std::mem::take(&mut plain)));
        }
        parts.push(Part::Placeholder(Placeholder::parse(placeholder, time)?));
        rest = after;
    }
    plain += rest;
    if !plain.is_empty() {
        parts.push(Part::Plain(plain));
    }
    Ok(parts)
}

/// A placeholder in a text that is itself JSON. Its value would be escaped for the text, but not for the JSON in it, so
/// a client could end a string and add members.
fn json_by_hand(parts: &[Part]) -> Option<&str> {
    let placeholder = parts.iter().find_map(|part| match part {
        Part::Placeholder(placeholder) if placeholder.may_hold_quotes() => Some(&*placeholder.name),
        Part::Placeholder(_) | Part::Plain(_) => None,
    })?;
    // A digit is valid JSON both within a string and outside of one.
    let filled: String = parts
        .iter()
        .map(|part| match part {
            Part::Plain(text) => text.as_str(),
            Part::Placeholder(_) => "0",
        })
        .collect();
    let is_composed = filled.trim_start().starts_with(['{', '[']) && filled.contains('"');
    (is_composed && is_json(&filled)).then_some(placeholder)
}

#[derive(Clone, Copy)]
pub(super) struct TemplateCompiler {
    pub(super) time: TimeFormat,
}

impl TemplateCompiler {
    pub(super) fn json_template(self, tree: &Tree, depth: usize) -> Result<JsonTemplate, JsonTemplateError> {
        let mut pieces = Pieces::default();
        self.tree(tree, depth, &mut pieces)?;
        Ok(pieces.end())
    }

    fn tree(self, tree: &Tree, depth: usize, pieces: &mut Pieces) -> Result<(), JsonTemplateError> {
        if depth > MAX_DEPTH {
            return Err(JsonTemplateError::TooLarge);
        }
        match tree {
            Tree::Plain(json) => pieces.bytes(json.as_bytes()),
            Tree::Text(text) => self.text(text, pieces)?,
            Tree::List(list) => self.list(list, depth, pieces)?,
            Tree::Table(table) => self.table(table, depth, pieces)?,
        }
        Ok(())
    }

    fn text(self, text: &str, pieces: &mut Pieces) -> Result<(), JsonTemplateError> {
        let mut found = parts(text, self.time)?;
        if let [Part::Placeholder(_)] = found[..]
            && let Some(Part::Placeholder(placeholder)) = found.pop()
        {
            pieces.piece(Piece::Value(placeholder));
            return Ok(());
        }
        if let Some(placeholder) = json_by_hand(&found) {
            return Err(JsonTemplateError::JsonByHand { placeholder: placeholder.to_owned() });
        }
        pieces.bytes(b"\"");
        for part in found {
            match part {
                Part::Plain(text) => put_inner(&text, &mut pieces.written),
                Part::Placeholder(placeholder) if placeholder.fallback == Fallback::Omit => {
                    return Err(JsonTemplateError::OptionalInText { text: text.to_owned() });
                }
                Part::Placeholder(placeholder) => pieces.piece(Piece::InText(placeholder)),
            }
        }
        pieces.bytes(b"\"");
        Ok(())
    }

    fn list(self, list: &[Tree], depth: usize, pieces: &mut Pieces) -> Result<(), JsonTemplateError> {
        let mut elements = Vec::new();
        let mut is_fixed = true;
        for element in list {
            elements.push(match self.optional(element)? {
                Some(placeholder) => {
                    is_fixed = false;
                    Element::Optional(placeholder)
                }
                None => Element::Always(self.json_template(element, depth + 1)?),
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
            if let Element::Always(json_template) = element {
                pieces.json_template(json_template);
            }
        }
        pieces.bytes(b"]");
        Ok(())
    }

    fn table(
        self,
        table: &[(String, Tree)],
        depth: usize,
        pieces: &mut Pieces,
    ) -> Result<(), JsonTemplateError> {
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
                TemplateMember::Spread {
                    placeholder: self.whole(tree)?.ok_or(JsonTemplateError::Spread)?,
                    except,
                }
            } else if let Some(placeholder) = self.optional(tree)? {
                is_fixed = false;
                TemplateMember::Optional { key, placeholder }
            } else {
                TemplateMember::Always { key, value: self.json_template(tree, depth + 1)? }
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
            if let TemplateMember::Always { key, value } = member {
                pieces.bytes(&key);
                pieces.json_template(value);
            }
        }
        pieces.bytes(b"}");
        Ok(())
    }

    /// The placeholder of a text that consists of one placeholder.
    fn whole(self, tree: &Tree) -> Result<Option<Placeholder>, JsonTemplateError> {
        let Tree::Text(text) = tree else { return Ok(None) };
        let mut found = parts(text, self.time)?;
        let last = found.pop();
        Ok(match last {
            Some(Part::Placeholder(placeholder)) if found.is_empty() => Some(placeholder),
            Some(Part::Placeholder(_) | Part::Plain(_)) | None => None,
        })
    }

    /// The same, if the placeholder is optional.
    fn optional(self, tree: &Tree) -> Result<Option<Placeholder>, JsonTemplateError> {
        Ok(self.whole(tree)?.filter(|placeholder| placeholder.fallback == Fallback::Omit))
    }
}

/// Collects pieces. Adjacent text becomes one piece.
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

    fn json_template(&mut self, json_template: JsonTemplate) {
        for piece in json_template.pieces {
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

    fn end(mut self) -> JsonTemplate {
        if !self.written.is_empty() {
            self.pieces.push(Piece::Bytes(self.written.into()));
        }
        JsonTemplate { pieces: self.pieces.into() }
    }
}

impl JsonTemplate {
    /// Compiles a template. `time` is the format of instants without a time filter.
    pub(crate) fn compile(tree: &Tree, time: TimeFormat) -> Result<Self, JsonTemplateError> {
        let json_template = TemplateCompiler { time }.json_template(tree, 0)?;
        if json_template.placeholders().len() > MAX_PLACEHOLDERS || json_template.bytes() > MAX_BYTES {
            return Err(JsonTemplateError::TooLarge);
        }
        if let Some(placeholder) =
            json_template.placeholders().iter().find(|placeholder| placeholder.is_dotted)
        {
            return Err(JsonTemplateError::Dotted { name: placeholder.name.clone() });
        }
        Ok(json_template)
    }
}
