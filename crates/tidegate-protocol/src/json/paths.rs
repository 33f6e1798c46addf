//! JSON paths: a compiled set of paths, whose parts of a JSON text are all found in one pass.

use std::cell::OnceCell;

use crate::json::Step;
use crate::json::find;
use crate::json::text;

/// More nodes than the paths of any vocabulary need. Further paths are looked up one by one.
const MAX_NODES: usize = 512;
/// The span of a node without a part. Real parts are never empty.
const NO_PART: (usize, usize) = (0, 0);

/// A set of paths as a tree. Each node is a step on one of the paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonPaths {
    /// The root, which is the whole text, then all nodes in preorder.
    nodes: Box<[Node]>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// The index after the last descendant.
    end: usize,
    /// The child nodes by field name.
    fields: Vec<(Box<str>, usize)>,
    /// The child nodes by element number.
    elements: Vec<(usize, usize)>,
}

impl JsonPaths {
    /// Compiles these paths, in any order.
    pub fn new<'p>(paths: impl IntoIterator<Item = &'p [Step]>) -> Self {
        let mut paths: Vec<&[Step]> = paths.into_iter().filter(|path| is_plain(path)).collect();
        paths.sort_by(|one, other| one.iter().map(Step::name).cmp(other.iter().map(Step::name)));
        let mut nodes = vec![Node { end: 1, ..Node::default() }];
        for path in paths {
            let (mut at, mut above) = (0, vec![0]);
            for step in path {
                at = match field(&nodes[at], &step.field) {
                    Some(known) => known,
                    None if nodes.len() == MAX_NODES => break,
                    None => add(&mut nodes, &above, step),
                };
                above.push(at);
            }
        }
        nodes.iter_mut().for_each(|node| node.elements.sort_unstable());
        Self { nodes: nodes.into() }
    }

    fn node(&self, path: &[Step]) -> Option<usize> {
        let (first, rest) = path.split_first()?;
        let first = field(self.nodes.first()?, &first.field)?;
        rest.iter().try_fold(first, |at, step| field(&self.nodes[at], &step.field))
    }

    /// The span of each node's part.
    fn spans(&self, json: &str) -> Box<[(usize, usize)]> {
        let mut pass = Pass {
            nodes: &self.nodes,
            spans: vec![NO_PART; self.nodes.len()],
            scanner: Scanner { text: json, at: 0, open: Vec::new() },
        };
        if pass.run().is_none() {
            pass.spans.fill(NO_PART);
        }
        pass.spans.into()
    }
}

/// Whether all numbers in the path are written canonically, as lookups by element require.
fn is_plain(path: &[Step]) -> bool {
    path.iter().all(|step| step.element.is_none_or(|element| element.to_string() == *step.field))
}

fn field(node: &Node, name: &str) -> Option<usize> {
    let at = node.fields.binary_search_by(|(field, _)| (**field).cmp(name)).ok()?;
    Some(node.fields[at].1)
}

fn element(node: &Node, number: usize) -> Option<usize> {
    let at = node.elements.binary_search_by_key(&number, |(element, _)| *element).ok()?;
    Some(node.elements[at].1)
}

/// Adds a node below the last of `above`. Paths are sorted, so it becomes the last node.
fn add(nodes: &mut Vec<Node>, above: &[usize], step: &Step) -> usize {
    let at = nodes.len();
    nodes.push(Node::default());
    for above in above.iter().chain([&at]) {
        nodes[*above].end = at + 1;
    }
    if let Some(parent) = above.last().map(|last| &mut nodes[*last]) {
        parent.fields.push((step.field.clone(), at));
        parent.elements.extend(step.element.map(|element| (element, at)));
    }
    at
}

/// The spans of one text's parts, computed on first use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonSpans(OnceCell<Box<[(usize, usize)]>>);

/// A JSON text and its parts. The first lookup scans the text.
#[derive(Clone, Copy, Debug)]
pub struct JsonParts<'j> {
    json: &'j str,
    paths: &'j JsonPaths,
    spans: &'j JsonSpans,
}

impl<'j> JsonParts<'j> {
    /// The parts of `json` at these paths. Use `spans` only with the same text and paths.
    pub fn new(json: &'j str, paths: &'j JsonPaths, spans: &'j JsonSpans) -> Self {
        Self { json, paths, spans }
    }

    pub fn json(self) -> &'j str {
        self.json
    }

    /// The part at a path, as [`find`] returns it. A path that is not in the set is searched separately.
    pub fn at(self, path: &[Step]) -> Option<&'j str> {
        let Some(node) = self.paths.node(path) else { return find(self.json, path) };
        let (start, end) = self.spans.0.get_or_init(|| self.paths.spans(self.json))[node];
        self.json.get(start..end).filter(|part| !part.is_empty())
    }
}

/// One pass over a text. Its memory is one entry per level of the tree, and one byte per open bracket in values that
/// no path enters.
struct Pass<'p> {
    nodes: &'p [Node],
    spans: Vec<(usize, usize)>,
    scanner: Scanner<'p>,
}

/// An object or array that a path enters, while the scanner is in it.
struct Container {
    node: usize,
    start: usize,
    close: u8,
    /// Members or elements so far.
    count: usize,
    /// Whether all names so far are valid strings; an escape may be invalid.
    is_sound: bool,
}

impl Pass<'_> {
    /// Fills the spans. `None` if the text does not begin with a JSON value; anything after that is ignored.
    fn run(&mut self) -> Option<()> {
        let mut containers: Vec<Container> = Vec::new();
        let mut node = Some(0);
        loop {
            match self.enter(node)? {
                Some(container) => containers.push(container),
                None => self.skip(node)?,
            }
            node = loop {
                let Some(container) = containers.last_mut() else { return Some(()) };
                if self.scanner.peek()? != container.close {
                    break self.next(container)?;
                }
                self.scanner.at += 1;
                self.leave(container);
                containers.pop();
            };
        }
    }

    /// Enters the current value if a path leads further into it.
    fn enter(&mut self, node: Option<usize>) -> Option<Option<Container>> {
        let first = self.scanner.peek()?;
        let Some(node) = node else { return Some(None) };
        // If a member occurs twice, the last one counts.
        if self.spans[node] != NO_PART {
            self.spans[node..self.nodes[node].end].fill(NO_PART);
        }
        let close = match first {
            b'{' if !self.nodes[node].fields.is_empty() => b'}',
            b'[' if !self.nodes[node].elements.is_empty() => b']',
            _ => return Some(None),
        };
        let start = self.scanner.at;
        self.scanner.at += 1;
        Some(Some(Container { node, start, close, count: 0, is_sound: true }))
    }

    /// Skips the current value, and stores its span if a path ends here.
    fn skip(&mut self, node: Option<usize>) -> Option<()> {
        let start = self.scanner.at;
        self.scanner.value()?;
        if let Some(node) = node {
            self.spans[node] = (start, self.scanner.at);
        }
        Some(())
    }

    /// Advances to the next value in a container, and returns its node, if any.
    fn next(&mut self, container: &mut Container) -> Option<Option<usize>> {
        if container.count > 0 {
            self.scanner.expect(b',')?;
        }
        container.count += 1;
        let node = &self.nodes[container.node];
        if container.close == b']' {
            return Some(element(node, container.count - 1));
        }
        let (name, has_escapes) = self.scanner.name()?;
        if !has_escapes {
            return Some(field(node, name.trim_matches('"')));
        }
        // An escape may be half of a surrogate pair.
        let name = text(name);
        container.is_sound &= name.is_some();
        Some(name.filter(|_| container.is_sound).and_then(|name| field(node, &name)))
    }

    /// Stores the span of a container at its end.
    fn leave(&mut self, container: &Container) {
        self.spans[container.node] = (container.start, self.scanner.at);
        if !container.is_sound {
            self.spans[container.node + 1..self.nodes[container.node].end].fill(NO_PART);
        }
    }
}

/// Scans JSON text from left to right. `None` means that the text is not JSON.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
    /// The closing brackets of the open arrays and objects in the skipped value.
    open: Vec<u8>,
}

impl<'t> Scanner<'t> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte after white space.
    fn peek(&mut self) -> Option<u8> {
        while let b' ' | b'\n' | b'\t' | b'\r' = self.byte()? {
            self.at += 1;
        }
        self.byte()
    }

    /// Skips white space and this byte.
    fn expect(&mut self, byte: u8) -> Option<()> {
        let is_there = self.peek()? == byte;
        self.at += 1;
        is_there.then_some(())
    }

    /// Skips a name and its colon. Returns the name as written, with its quotes, and whether it has escapes.
    fn name(&mut self) -> Option<(&'t str, bool)> {
        self.expect(b'"')?;
        let start = self.at - 1;
        let has_escapes = self.string()?;
        let name = self.text.get(start..self.at)?;
        self.expect(b':')?;
        Some((name, has_escapes))
    }

    /// Skips the rest of a string after its first quote. Returns whether it has escapes.
    fn string(&mut self) -> Option<bool> {
        let mut has_escapes = false;
        loop {
            let rest = self.text.as_bytes().get(self.at..)?;
            self.at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '))?;
            let special = self.byte()?;
            self.at += 1;
            match special {
                b'"' => return Some(has_escapes),
                b'\\' => self.escape()?,
                _ => return None,
            }
            has_escapes = true;
        }
    }

    fn escape(&mut self) -> Option<()> {
        let kind = self.byte()?;
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
                self.at += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    fn value(&mut self) -> Option<()> {
        self.open.clear();
        loop {
            let close = match self.peek()? {
                b'{' => Some(b'}'),
                b'[' => Some(b']'),
                _ => None,
            };
            if let Some(close) = close {
                self.at += 1;
                self.open.push(close);
                if self.peek()? != close {
                    self.begin(close)?;
                    continue;
                }
            } else {
                self.scalar()?;
            }
            // The open container continues or ends.
            loop {
                let Some(&close) = self.open.last() else { return Some(()) };
                if self.peek()? != close {
                    self.expect(b',')?;
                    self.begin(close)?;
                    break;
                }
                self.at += 1;
                self.open.pop();
            }
        }
    }

    /// Advances to the next value of the container that ends with `close`.
    fn begin(&mut self, close: u8) -> Option<()> {
        if close == b'}' {
            self.name()?;
        }
        Some(())
    }

    fn scalar(&mut self) -> Option<()> {
        match self.byte()? {
            b'"' => {
                self.at += 1;
                self.string().map(|_| ())
            }
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let is_there = self.text.as_bytes().get(self.at..)?.starts_with(word.as_bytes());
        self.at += word.len();
        is_there.then_some(())
    }

    fn number(&mut self) -> Option<()> {
        self.at += usize::from(self.byte()? == b'-');
        let has_zero = self.byte()? == b'0';
        if self.digits()? > 1 && has_zero {
            return None;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            self.at += usize::from(matches!(self.byte()?, b'+' | b'-'));
            self.digits()?;
        }
        Some(())
    }

    /// Skips digits, at least one. Returns how many.
    fn digits(&mut self) -> Option<usize> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        (digits > 0).then_some(digits)
    }
}

#[cfg(test)]
mod tests;
