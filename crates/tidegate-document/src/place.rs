//! A place in a file: line and column.

use std::fmt;

/// A place in a file, counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)
    }
}

/// An index of line starts and UTF-8 continuation bytes, so that finding a place takes logarithmic time.
pub(crate) struct LineIndex<'t> {
    text: &'t str,
    starts: Vec<usize>,
    continuations: Vec<usize>,
}

impl<'t> LineIndex<'t> {
    pub(crate) fn of(text: &'t str) -> Self {
        let positions = |is: fn(u8) -> bool| {
            text.bytes().enumerate().filter(move |(_, byte)| is(*byte)).map(|(at, _)| at)
        };
        let starts = std::iter::once(0).chain(positions(|byte| byte == b'\n').map(|at| at + 1)).collect();
        Self { text, starts, continuations: positions(|byte| byte & 0xC0 == 0x80).collect() }
    }

    /// The place of a byte offset.
    pub(crate) fn place(&self, at: usize) -> Place {
        let at = self.text.floor_char_boundary(at);
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = |end: usize| self.continuations.partition_point(|position| *position < end);
        Place { line, column: at - start - (before(at) - before(start)) + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_characters() {
        let text = "aé\u{1F30A}b\n\nü = 1";
        let lines = LineIndex::of(text);
        for (at, character) in text.char_indices() {
            let before = &text[..at];
            let start = before.rfind('\n').map_or(0, |end| end + 1);
            let expected =
                Place { line: before.matches('\n').count() + 1, column: text[start..at].chars().count() + 1 };
            assert_eq!(lines.place(at), expected, "{character}");
        }
        assert_eq!(lines.place(text.len() + 7), Place { line: 3, column: 6 });
    }

    #[test]
    fn a_place_at_the_end_of_a_long_line_is_found_as_fast_as_one_at_its_start() {
        let text = "é,".repeat(300_000);
        let lines = LineIndex::of(&text);
        // If each lookup scanned the line from its start, this would take hours.
        let columns = (0..300_000).map(|at| lines.place(at * 3).column);
        assert!(columns.eq((0..300_000).map(|at| at * 2 + 1)));
    }
}
