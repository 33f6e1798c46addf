//! NATS subjects as types: a `Subject` is literal, a `Pattern` may have the wildcards `*` and `>`.

pub mod overlap;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

const ANY_TOKEN: &str = "*";
const ANY_TAIL: &str = ">";

/// A literal subject with the grammar of NATS ADR-6: tokens between dots, none of them empty.
///
/// White space and control characters of all of Unicode are rejected; other UTF-8 is allowed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Subject(Arc<str>);

impl Subject {
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        match shape_of(text)? {
            Shape::Literal => Ok(Self(Arc::from(text))),
            Shape::Wild => Err(SubjectError::Wildcard),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A subject in which `*` matches any one token, and a final `>` one or more. Clones share the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Pattern(Arc<str>);

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        shape_of(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// `>`, which matches every subject.
    pub fn everything() -> Self {
        Self(Arc::from(ANY_TAIL))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text.
    pub fn text(&self) -> &Arc<str> {
        &self.0
    }

    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    pub fn is_literal(&self) -> bool {
        !self.0.contains(['*', '>'])
    }

    /// The same text as a subject, unless it has a wildcard.
    pub(crate) fn as_subject(&self) -> Option<Subject> {
        self.is_literal().then(|| Subject(Arc::clone(&self.0)))
    }

    /// Whether NATS would deliver a message on `subject`, which must be literal and valid, to this pattern.
    pub fn matches(&self, subject: &str) -> bool {
        let mut theirs = subject.split('.');
        for mine in self.tokens() {
            let Some(token) = theirs.next() else { return false };
            match mine {
                ANY_TAIL => return true,
                ANY_TOKEN => {}
                literal if literal == token => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// Whether this pattern matches every subject that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        // The first byte that differs decides, unless there is a `*` up to it.
        let (mine, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        let same = mine.iter().zip(theirs).take_while(|(one, other)| one == other).count();
        if !mine[..same].contains(&b'*') {
            match mine.get(same) {
                None => return theirs.len() == same,
                Some(b'>') => return theirs.len() > same,
                Some(b'*') => {}
                Some(_) => return false,
            }
        }
        let mut theirs = other.tokens();
        for mine in self.tokens() {
            let Some(token) = theirs.next() else { return false };
            match mine {
                ANY_TAIL => return true,
                ANY_TOKEN if token != ANY_TAIL => {}
                literal if literal == token => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// Whether there is a subject that both patterns match.
    pub fn overlaps(&self, other: &Self) -> bool {
        // Most patterns differ before any wildcard, so in a token that is literal in both.
        let (mine, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        let same = mine.iter().zip(theirs).take_while(|(one, other)| one == other).count();
        let is_wild = |byte: &u8| matches!(byte, b'*' | b'>');
        if let (Some(one), Some(other)) = (mine.get(same), theirs.get(same))
            && !is_wild(one)
            && !is_wild(other)
            && !mine[..same].contains(&b'*')
        {
            return false;
        }
        let mut theirs = other.tokens();
        for mine in self.tokens() {
            let Some(token) = theirs.next() else { return false };
            if mine == ANY_TAIL || token == ANY_TAIL {
                return true;
            }
            if mine != token && mine != ANY_TOKEN && token != ANY_TOKEN {
                return false;
            }
        }
        theirs.next().is_none()
    }

    /// A measure for choosing the best of several patterns that cover a channel. If one pattern covers another, it is
    /// more general in the first token in which they differ, so no pattern is more specific than one that it covers.
    pub(crate) fn specificity(&self) -> Specificity {
        let ranks = self.tokens().map(|token| match token {
            ANY_TAIL => Rank::Tail,
            ANY_TOKEN => Rank::Token,
            _ => Rank::Literal,
        });
        Specificity(ranks.collect())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Maps by pattern are queried with the subject of a message, which is not a `Pattern`.
impl Borrow<str> for Pattern {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<Subject> for Pattern {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

/// Compared token by token from the left: a literal is more specific than `*`, and `*` more than `>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Specificity(Vec<Rank>);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    Tail,
    Token,
    Literal,
}

/// The longest subject or pattern that a client may name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubjectLimits {
    pub max_bytes: usize,
    pub max_tokens: usize,
}

impl Default for SubjectLimits {
    fn default() -> Self {
        Self { max_bytes: 256, max_tokens: 16 }
    }
}

impl SubjectLimits {
    pub fn check(&self, pattern: &Pattern) -> Result<(), SubjectError> {
        let bytes = pattern.as_str().len();
        if bytes > self.max_bytes {
            return Err(SubjectError::TooLong { bytes, max: self.max_bytes });
        }
        let tokens = pattern.tokens().count();
        if tokens > self.max_tokens {
            return Err(SubjectError::TooManyTokens { tokens, max: self.max_tokens });
        }
        Ok(())
    }
}

/// Positions count tokens from 1. Messages do not repeat the text: it may be long or hostile.
#[derive(Error, Clone, PartialEq, Eq, Debug)]
pub enum SubjectError {
    #[error("the subject is empty; name at least one token, such as \"prices\"")]
    Empty,
    #[error("token {position} is empty; take out the leading, trailing or doubled dot")]
    EmptyToken { position: usize },
    #[error("the subject contains {character:?}; white space and control characters are not allowed")]
    BadCharacter { character: char },
    #[error(
        "the subject has a wildcard where a literal subject is needed; replace \"*\" and \">\" with names"
    )]
    Wildcard,
    #[error("token {position} mixes a wildcard with other characters; \"*\" and \">\" must be whole tokens")]
    WildcardInToken { position: usize },
    #[error("\">\" is only allowed as the last token; use \"*\" for a token in the middle")]
    TailNotLast,
    #[error("the subject has {bytes} bytes, and {max} are allowed; use shorter or fewer tokens")]
    TooLong { bytes: usize, max: usize },
    #[error("the subject has {tokens} tokens, and {max} are allowed; use fewer tokens")]
    TooManyTokens { tokens: usize, max: usize },
}

enum Shape {
    Literal,
    Wild,
}

fn shape_of(text: &str) -> Result<Shape, SubjectError> {
    if text.is_empty() {
        return Err(SubjectError::Empty);
    }
    if let Some(character) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(SubjectError::BadCharacter { character });
    }
    let mut shape = Shape::Literal;
    let mut ended = false;
    for (token, position) in text.split('.').zip(1..) {
        if ended {
            return Err(SubjectError::TailNotLast);
        }
        match token {
            "" => return Err(SubjectError::EmptyToken { position }),
            ANY_TOKEN => shape = Shape::Wild,
            ANY_TAIL => {
                shape = Shape::Wild;
                ended = true;
            }
            mixed if mixed.contains(['*', '>']) => return Err(SubjectError::WildcardInToken { position }),
            _ => {}
        }
    }
    Ok(shape)
}

#[cfg(test)]
pub(crate) mod tests;
